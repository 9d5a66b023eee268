"""The command line: quick to answer, helpful when wrong, and its examples run as they stand."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ftkit import cli, config
from ftkit.errors import UserError
from ftkit.recipes import RECIPES
from tests import tiny

COMMANDS = ("train", "eval", "predict", "check", "init", "new-model", "doctor")
SECONDS_OF_HELP = 0.4  # in a fresh process, the best of several: what a person does not wait for
HEAVY = {
    "accelerate",
    "datasets",
    "evaluate",
    "huggingface_hub",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch",
    "transformers",
    "yaml",
}


@pytest.fixture(scope="module")
def model(checkpoint_of: Callable[[str], Path]) -> Path:
    return checkpoint_of("bert")


@pytest.fixture(scope="module")
def template(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the examples of the help name."""
    folder = tmp_path_factory.mktemp("template")
    for name, rows in {"reviews.csv": 60, "test.csv": 12, "more.csv": 40, "train.csv": 40, "dev.csv": 12}.items():
        tiny.write_csv(folder / name, tiny.rows(rows, seed=rows))
    for name in ("train", "dev"):
        text = (folder / f"{name}.csv").read_text()
        (folder / f"{name}.tsv").write_text(text.replace(",", "\t"))
        (folder / f"{name}.csv").unlink()
    texts = [{"id": f"R-{n}", "text": row["text"]} for n, row in enumerate(tiny.rows(12, seed=5))]
    tiny.write_csv(folder / "new.csv", texts)
    (folder / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    tiny.write_csv(folder / "answers.csv", [{"label": row["label"]} for row in tiny.rows(12, seed=12)])
    (folder / "questions.json").write_text(json.dumps(tiny.questions(40, seed=6)))
    (folder / "page.txt").write_text(tiny.questions(1, seed=7)[0]["context"])
    for name, count in {"pairs": 40, "test": 12}.items():
        lines = [f"{row['en']}\t{row['de']}\n" for row in tiny.pairs(count, seed=count)]
        (folder / f"{name}.tsv").write_text("".join(["en\tde\n", *lines]))
    for name, language in {"ours.de": "de", "theirs.de": "en", "new.en": "en"}.items():
        (folder / name).write_text("".join(row[language] + "\n" for row in tiny.pairs(12, seed=12)))
    (folder / "sst2").mkdir()
    shutil.copy(folder / "dev.tsv", folder / "sst2" / "dev.tsv")
    with contextlib.chdir(folder):
        for data, run in {"reviews.csv": "reviews", "questions.json": "squad", "pairs.tsv": "multi30k"}.items():
            trained = tiny.ftkit("train", data, "--model", model, "--out", f"runs/{run}", *QUICK)
            assert trained.code == 0, trained.err
    return folder


QUICK = ("--epochs", "1", "--precision", "fp32", "--quiet")


@pytest.fixture(autouse=True)
def debugging_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_DEBUG", "")  # which a test of --debug sets; it is put back afterwards


@pytest.fixture
def workplace(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, to work in."""
    folder = tmp_path / "work"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def fresh(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """ftkit in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ftkit.cli", *arguments],
        cwd=cwd,
        env=tiny.environment(**environment),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time."""
    return {str(p.relative_to(folder)): (s.st_size, s.st_mtime_ns) for p in folder.rglob("*") if (s := p.stat())}


def refusal(*arguments: str | Path) -> str:
    """The message of a command that cannot go on; standard output stays empty."""
    done = tiny.ftkit(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    return done.err.removeprefix("error: ").rstrip("\n")


# Help.


def test_help_comes_at_once() -> None:
    """Measured in seconds of the processor, which other work on the machine does not lengthen."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    seconds = []
    for _ in range(5):
        before = used()
        assert fresh("--help").returncode == 0
        seconds.append(used() - before)
    assert min(seconds) < SECONDS_OF_HELP


def test_help_imports_nothing_heavy() -> None:
    """Neither of ftkit nor of any command, nor where a command or an option is misspelled."""
    script = """
import json, sys
from ftkit import cli
imported = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["ftkit", *arguments]
    try:
        cli.main()
    except SystemExit:
        imported.append(sorted({name.partition(".")[0] for name in sys.modules}))
print(json.dumps(imported), file=sys.stderr)
"""
    calls = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS), ["trian"], ["train", "--epoch", "1"]]
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(calls)], env=tiny.environment(), capture_output=True, text=True
    )
    imported = [set(names) for names in json.loads(done.stderr.splitlines()[-1])]
    assert len(imported) == len(calls)
    assert imported[0] & HEAVY == set()
    assert imported[-1] & HEAVY <= {"pydantic"}  # with which Typer checks the options of a command


def test_the_help_lists_every_command_with_what_it_does() -> None:
    done = tiny.ftkit("--help")
    listed = re.findall(r"^  ([\w-]+) +(\S.*)$", done.out.partition("Commands:")[2], re.MULTILINE)
    assert [name for name, _ in listed] == list(COMMANDS)
    assert [what for _, what in listed if not what.endswith(".") or what.endswith("...")] == []
    assert done.code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_in_examples(command: str) -> None:
    _, found, ending = tiny.ftkit(command, "--help").out.rpartition("Examples:\n")
    assert found
    assert [line.strip() for line in ending.splitlines()] == examples_of(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_for(command: str) -> None:
    group: Any = typer.main.get_command(cli.app)
    nameless = [p.name for p in group.commands[command].params if not getattr(p, "help", None)]
    assert nameless == []


def test_the_version_is_printed() -> None:
    from ftkit import __version__

    assert tiny.ftkit("--version") == tiny.Finished(0, f"ftkit {__version__}\n", "")


# The examples of the help.


def examples_of(command: str) -> list[str]:
    """The examples of a command's help, as they were written."""
    [found] = [c for c in cli.app.registered_commands if (c.name or c.callback.__name__) == command]  # type: ignore[union-attr]
    return [line.strip() for line in str(found.epilog).partition("Examples:\n")[2].splitlines()]


EXAMPLES = [line for command in COMMANDS for line in examples_of(command)]
# What needs the hub runs with something local in its place, and trainings are kept short.
HUB = ("google-bert/bert-base-uncased", "distilbert/distilbert-base-uncased", "google-t5/t5-small")
LOCAL = dict.fromkeys(HUB, "{model}") | {"--benchmark sst2": "--benchmark sst2 --benchmark-dir sst2"}
PREPARED = {  # what an example needs to find, or not to find
    "ftkit train reviews.csv": "rm -r runs",
    "ftkit train reviews.csv --model google-bert/bert-base-uncased --epochs 4 --out runs/bert": "true",
    "ftkit train --resume runs/reviews": "rm -r runs/reviews/model runs/reviews/metrics.json",
}


def run_example(line: str) -> tiny.Finished:
    """Runs `[cat FILE |] ftkit ... [| head] [> FILE]` in this process."""
    line, _, target = line.partition(" > ")
    source, piped, rest = line.partition(" | ")
    stdin = b""
    if piped and source.startswith("cat "):
        stdin, line = Path(source.removeprefix("cat ")).read_bytes(), rest.removesuffix(" | head")
    program, *arguments = shlex.split(line)
    assert program == "ftkit"
    done = tiny.ftkit(*arguments, stdin=stdin)
    if target:
        Path(target).write_text(done.out)
    return done


@pytest.fixture
def local_defaults(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default models of the tasks are the tiny one."""
    from ftkit.recipes.classification import Classification
    from ftkit.recipes.sentiment import Sentiment

    for task in (Classification, Sentiment):
        monkeypatch.setattr(task, "default_models", (str(model),))


@pytest.mark.usefixtures("local_defaults")
@pytest.mark.parametrize("line", EXAMPLES)
def test_the_examples_of_the_help_run(line: str, workplace: Path, model: Path) -> None:
    subprocess.run(PREPARED.get(line, "true"), shell=True, check=True)
    for hub, local in LOCAL.items():
        line = line.replace(hub, local.format(model=model))
    done = run_example(line)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("local_defaults")
def test_the_examples_leave_what_they_name(workplace: Path) -> None:
    for line in ("ftkit predict runs/reviews new.csv -o answers.csv", "ftkit init reviews.csv > recipe.yaml"):
        assert line in EXAMPLES
        run_example(line)
    with open("answers.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"R-{n}" for n in range(12)]
    assert {row["label"] for row in rows} <= set(tiny.LABELS)
    assert tiny.ftkit("train", "--recipe", "recipe.yaml", *QUICK).code == 0
    assert Path("runs/recipe/model/config.json").is_file()


# Mistakes.

BESIDE = "Runs beside it: runs/multi30k, runs/reviews, runs/squad"


def test_an_unknown_command_is_refused_with_the_nearest() -> None:
    assert "No such command 'trian'. Did you mean 'train'?" in refusal("trian")


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    assert "No such option: --epoch (Possible options: --epochs)" in refusal("train", "--epoch", "3")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train", "no data to train on\nftkit train reviews.csv, or data: {train: ...} in the recipe"),
        (
            "train review.csv --out runs/x",
            "review.csv does not exist\nDid you mean reviews.csv or new.csv or more.csv?",
        ),
        (
            "train reviews.csv",
            "the run runs/reviews exists already\n"
            "Go on with it if it was stopped: ftkit train --resume runs/reviews\n"
            "Replace it: --overwrite\nKeep it: --out runs/reviews-2",
        ),
        (
            "train reviews.csv --out new.csv",
            "new.csv exists and is no run directory\nChoose another one: --out runs/OTHER",
        ),
        (
            "train reviews.csv --out runs/x --task sentimant",
            f"there is no task 'sentimant'; there are {', '.join(RECIPES)}\nDid you mean sentiment?",
        ),
        (
            "train reviews.csv --out runs/x --device gpu",
            "1 error in the recipe:\n"
            "  --device: hardware.device: 'gpu': input should be 'auto', 'cpu', 'cuda' or 'mps'\n"
            "All keys: ftkit init --keys",
        ),
        (
            "train reviews.csv --out runs/x --validation 2",
            "1 error in the recipe:\n"
            "  --validation: data.validation: 2.0: as a number it is the share of training rows: between 0 and 1\n"
            "All keys: ftkit init --keys",
        ),
        (
            "train --resume runs/none",
            "runs/none is not a run directory (it has no recipe.yaml)\n" + BESIDE,
        ),
        ("train --resume runs/reviews", "the training in runs/reviews has finished\nftkit eval runs/reviews DATA"),
        ("eval test.csv", "nothing to evaluate\nftkit eval RUN DATA, or ftkit eval DATA --predictions FILE"),
        ("eval runs/reviews", "nothing to evaluate on\nftkit eval RUN DATA, or ftkit eval RUN --benchmark sst2"),
        ("eval runs/reviews tests.csv", "tests.csv does not exist\nDid you mean test.csv or test.tsv or new.csv?"),
        (
            "eval runs/reviews --benchmark sst",
            "there is no benchmark 'sst'; there are sst2, imdb, ag_news, emotion, goemotions, banking77, tnews, trec, "
            "squad, squad2, cmrc2018, multi30k, wmt16_en_ro\n"
            "Did you mean --benchmark sst2?",
        ),
        (
            "eval runs/reviews test.csv --set training.epochs=3",
            "--set training.epochs=3 has no effect here\n"
            "Only keys of the section data can be set: --set data.header=false",
        ),
        (
            "eval test.csv --predictions new.csv",
            "new.csv has no column named label; it has id, text\nRename the column that holds the answers to `label`",
        ),
        (
            "predict runs/reviews",
            'nothing to answer\nftkit predict RUN DATA -o OUT, or ftkit predict RUN --text "..."',
        ),
        (
            "predict runs/none new.csv",
            "runs/none is not a run directory (it has no recipe.yaml)\n" + BESIDE,
        ),
        ("predict runs/reviews new.csv --column text", "--column text has no '='\nWrite it as --column text=review"),
        (
            "predict runs/reviews new.csv --column text=review",
            "there is no column 'review'; the columns are id, text\n--column text=NAME takes one of them",
        ),
        (
            "predict runs/reviews --text A --pair B",
            "this run answers 1 texts a row and was given 2\n--text A --pair B",
        ),
        (
            "init",
            "no data to write a recipe for\nftkit init reviews.csv > recipe.yaml, or ftkit init --keys",
        ),
    ],
)
def test_a_mistake_is_told_with_what_was_found_and_what_to_type(line: str, message: str) -> None:
    assert refusal(*shlex.split(line)) == message


@pytest.mark.parametrize(
    "line",
    [
        "predict runs/reviews --text A --text B --pair C",
        "predict runs/reviews new.csv -o x.csv --processes -1",
        "predict runs/reviews new.csv -o x.csv --processes 0",
        "predict runs/reviews new.csv -o x.csv --device gpu",
        "predict runs/reviews new.csv -o x.csv --precision fp8",
        "predict runs/reviews new.csv -o x.csv --column txt=text",
        "eval runs/reviews test.csv --name ../../outside",
        "eval runs/reviews test.csv --metric foo",
        "eval runs/reviews test.csv --benchmark sst2 --benchmark-dir sst2",
        "train reviews.csv --out runs/x --set training.metric=f2",
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(line: str, workplace: Path) -> None:
    before = set(files(workplace))
    refusal(*shlex.split(line))
    assert set(files(workplace)) - {"runs/x"} == before


@pytest.mark.parametrize("name", ["2", "1e5", "yes", "a: b", "#1", "[a]"])
def test_a_column_is_named_as_it_stands_in_the_file(workplace: Path, name: str) -> None:
    tiny.write_csv(Path("odd.csv"), [{"id": "x", name: "the cat"}])
    line = ["odd.csv", "--column", f"text={name}", "--set", "data.header=true", "-o", "out.csv"]
    assert tiny.ftkit("predict", "runs/reviews", *line).code == 0


def test_an_output_format_that_is_unknown_is_refused_with_its_own_option(workplace: Path) -> None:
    message = refusal("predict", "runs/reviews", "new.csv", "-o", "answers.xyz")
    assert "answers.xyz ends in .xyz" in message
    assert "--output-format" in message


def test_debug_shows_the_traceback_of_an_error(workplace: Path) -> None:
    """The error goes through to Python, which shows where it comes from."""
    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        tiny.ftkit("--debug", "check", "none.csv")


def test_a_refusal_is_raised_for_python(workplace: Path) -> None:
    import ftkit

    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        ftkit.train("none.csv")


# Exit codes.


def test_an_interruption_from_the_keyboard_ends_with_130(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftkit import commands

    def interrupted(*arguments: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "check", interrupted)
    assert tiny.ftkit("check", "reviews.csv").code == 130


def test_a_reader_that_has_seen_enough_ends_the_answers_quietly(workplace: Path) -> None:
    """`| head -1`, on more answers than the pipe between them holds."""
    tiny.write_csv(Path("many.csv"), [{"text": "cat", "note": "x" * 100}] * 1500)
    line = (
        f"{shlex.quote(sys.executable)} -m ftkit.cli predict runs/reviews many.csv | head -1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", line], env=tiny.environment(), capture_output=True, text=True)
    assert done.stdout.splitlines() == ["text,note,label,score,error", "1"]
    assert done.stderr == ""


# Output for programs.


def test_json_is_all_of_the_standard_output(workplace: Path) -> None:
    calls: dict[str, set[str]] = {
        "check reviews.csv --model runs/reviews --no-forecast --json": {"columns", "labels", "splits", "left_out"},
        "eval runs/reviews test.csv --json": {"scores", "classes", "confusion", "baselines"},
        "predict runs/reviews new.csv -o answers.csv --json": {"rows", "errors", "seconds"},
        "predict runs/reviews --text A --json": {"text", "label", "score", "scores"},
        "new-model --family bert --size tiny --corpus new.csv --vocab-size 200 --out x --json": {"model", "vocabulary"},
        "doctor --json": {"machine", "devices", "versions", "cache", "hub"},
    }
    for line, expected in calls.items():
        done = tiny.ftkit(*line.split())
        assert (done.code, done.err) == (0, "")
        assert expected <= set(done.json)


def test_quiet_prints_results_only(workplace: Path) -> None:
    done = tiny.ftkit("predict", "runs/reviews", "new.csv", "-o", "answers.csv", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_doctor_says_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    facts = tiny.ftkit("doctor", "--json").json
    import torch

    assert facts["versions"]["torch"] == torch.__version__
    assert facts["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert str(tmp_path / "cache") in facts["cache"]["tokenized_rows"]
    assert facts["cache"]["writable"] is True


# What commands leave.


def test_check_writes_nothing_outside_the_cache(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(workplace.parent / "cache"))
    monkeypatch.setenv("HOME", str(workplace))
    monkeypatch.setenv("TMPDIR", str(workplace))
    before = files(workplace)
    done = tiny.ftkit("check", "reviews.csv", "--model", "runs/reviews")
    assert (done.code, done.err) == (0, "")
    assert "Training on this machine would take about" in done.out
    assert files(workplace) == before
    assert {path.name for path in workplace.parent.iterdir()} == {"work", "cache"}


def test_eval_writes_its_folder_of_results_only(workplace: Path) -> None:
    before = set(files(workplace))
    assert tiny.ftkit("eval", "runs/reviews", "test.csv").code == 0
    new = sorted(set(files(workplace)) - before)
    assert new == [
        f"runs/reviews/eval/test{rest}" for rest in ("", "/metrics.json", "/predictions.jsonl", "/report.html")
    ]


def test_predict_writes_its_output_only(workplace: Path) -> None:
    before = set(files(workplace))
    assert tiny.ftkit("predict", "runs/reviews", "new.csv", "-o", "out.csv").code == 0
    assert set(files(workplace)) - before == {"out.csv"}


def test_a_run_that_is_overwritten_keeps_nothing_of_the_old_one(workplace: Path, model: Path) -> None:
    tiny.ftkit("eval", "runs/reviews", "test.csv")
    again = tiny.ftkit("train", "more.csv", "--model", model, "--out", "runs/reviews", "--overwrite", *QUICK)
    assert again.code == 0
    assert not Path("runs/reviews/eval/test").exists()
    assert config.resolve(config.read("runs/reviews/recipe.yaml")).data.train == "more.csv"


# Odd places.


@pytest.fixture(scope="module")
def odd_place(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with blanks and Chinese in its name; no home, no locale, and a terminal of 20 columns."""
    folder = tmp_path_factory.mktemp("odd") / "评论 (2024) über 'alles'"
    folder.mkdir()
    shutil.copy(template / "reviews.csv", folder / "评论 1.csv")
    shutil.copytree(template / "runs", folder / "运行 runs")
    text = (folder / "评论 1.csv").read_text()
    (folder / "评论 1.csv").write_text(text.replace("animal", "动物").replace("text,", "正文,"))
    yield folder, {"LC_ALL": "C", "LANG": "C", "COLUMNS": "20"}


def without_home(environment: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tiny.environment(**environment).items() if key != "HOME"}


def test_help_fits_any_terminal_and_locale(odd_place: tuple[Path, dict[str, str]]) -> None:
    folder, environment = odd_place
    done = subprocess.run(
        [sys.executable, "-m", "ftkit.cli", "predict", "--help"],
        cwd=folder,
        env=without_home(environment),
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    options, _, ending = done.stdout.decode("utf-8", "replace").partition("Examples:")
    assert max(map(len, options.splitlines())) <= 50  # no narrower; examples stay whole, to be copied
    assert ending.splitlines()[-1].strip() == examples_of("predict")[-1]


def test_commands_work_in_any_place_and_locale(odd_place: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Training in one process, and then answering into a file; their messages come out, whatever the locale."""
    folder, environment = odd_place
    script = """
import sys
from ftkit import cli
calls = [
    ["check", "评论 1.csv", "--model", "运行 runs/reviews", "--no-forecast"],
    ["train", "评论 1.csv", "--model", "运行 runs/reviews", "--out", "运行 runs/更多", "--epochs", "1"],
    ["eval", "运行 runs/更多", "评论 1.csv"],
    ["predict", "运行 runs/更多", "评论 1.csv", "-o", "答案 1.csv"],
]
for arguments in calls:
    sys.argv = ["ftkit", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        print("code", stop.code, file=sys.stderr)
"""
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        cwd=folder,
        env=without_home(environment | {"FTKIT_CACHE": str(tmp_path / "cache")}),
        capture_output=True,
    )
    shown = done.stderr.decode("utf-8", "replace")
    assert re.findall(r"^code (\S+)", shown, re.MULTILINE) == ["0"] * 4, shown
    with open(folder / "答案 1.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert {row["predicted_label"] for row in rows} <= {"动物", "fruit", "tool"}
