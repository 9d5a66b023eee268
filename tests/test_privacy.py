"""Tokens, and texts of rows, are nowhere in what a run writes and says, but where its card says that they are.

Canaries stand in every text; they are looked for in every byte of every file and of every output.
"""

from __future__ import annotations

import csv
import functools
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ftkit.errors import UserError
from tests import tiny

TOKEN = "hf_tokencanary"
CANARIES = ("textcanary", "notecanary", "contextcanary", "questioncanary", "sourcecanary", "targetcanary", TOKEN)
QUICK = (*tiny.FP32, "--epochs", "1", "--batch-size", "16")


def labelled(count: int) -> list[tiny.Row]:
    return [{**row, "text": f"{row['text']} textcanary", "note": "notecanary"} for row in tiny.rows(count, seed=count)]


def questions(count: int) -> list[tiny.Row]:
    found = tiny.questions(count, seed=count)
    return [
        {**row, "context": f"{row['context']} contextcanary", "question": f"{row['question']} questioncanary"}
        for row in found
    ]


def pairs(count: int) -> list[tiny.Row]:
    return [
        {"en": f"{row['en']} sourcecanary", "de": f"{row['de']} targetcanary"} for row in tiny.pairs(count, seed=count)
    ]


TASKS = {"classification": (labelled, "bert"), "question-answering": (questions, "bert"), "translation": (pairs, "t5")}
every_task = pytest.mark.parametrize("task", TASKS)


@dataclass(frozen=True)
class Written:
    """Where a run and its cache lie, and what training, scoring and answering printed."""

    run: Path
    cache: Path
    printed: str


@pytest.fixture(scope="module")
def written_by(
    tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[[str], Path]
) -> Callable[[str], Written]:
    @functools.cache
    def written(task: str) -> Written:
        rows, family = TASKS[task]
        folder = tmp_path_factory.mktemp(task)
        train, test = (tiny.write_csv(folder / f"{name}.csv", rows(count)) for name, count in (("a", 48), ("b", 12)))
        run = folder / "run"
        commands = [
            ["train", train, "--test", test, "--model", checkpoint_of(family), "--out", run, "--task", task, *QUICK],
            ["eval", run, test, *tiny.FP32, "--json"],
            ["predict", run, test, "-o", folder / "answers.jsonl", *tiny.FP32],
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", TOKEN)
            patch.setenv("FTKIT_CACHE", str(folder / "cache"))
            done = [tiny.ftkit(*map(str, command)) for command in commands]
        assert [finished.code for finished in done] == [0, 0, 0], done
        return Written(run, folder / "cache", "".join(finished.out + finished.err for finished in done))

    return written


def told_in(folder: Path) -> dict[str, set[str]]:
    """The files of a folder in which a canary stands."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found[path.relative_to(folder).as_posix()] = {c for c in CANARIES if c.encode() in content}
    return {name: canaries for name, canaries in found.items() if canaries}


@every_task
def test_no_text_is_in_a_run_but_below_eval(written_by: Callable[[str], Written], task: str) -> None:
    written = written_by(task)
    beside = {name for name in told_in(written.run) if not name.startswith("eval/")}
    assert beside == set()
    assert told_in(written.cache) == {}


@every_task
def test_reports_and_scores_hold_no_text(written_by: Callable[[str], Written], task: str) -> None:
    found = told_in(written_by(task).run)
    assert not any(name.endswith(("metrics.json", ".html", ".md")) for name in found)


def test_a_classification_writes_no_text_at_all(written_by: Callable[[str], Written]) -> None:
    written = written_by("classification")
    assert told_in(written.run) == {}
    assert "No text of a row is in this folder" in (written.run / "README.md").read_text()


@pytest.mark.parametrize("task", ["question-answering", "translation"])
def test_no_question_context_or_source_is_below_eval(written_by: Callable[[str], Written], task: str) -> None:
    written = written_by(task)
    allowed = {"targetcanary"} if task == "translation" else {"contextcanary"}  # an answer is cut out of a context
    assert set().union(*told_in(written.run).values()) <= allowed
    assert "`eval/` holds answers and references" in (written.run / "README.md").read_text()


@every_task
def test_training_scoring_and_answering_print_no_text_and_no_token(
    written_by: Callable[[str], Written], task: str
) -> None:
    assert [canary for canary in CANARIES if canary in written_by(task).printed] == []


def test_the_doctor_says_that_there_is_a_token_and_not_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = tiny.ftkit("doctor", "--json")
    assert done.json["hub"]["token"] is True
    assert TOKEN not in done.out + done.err + tiny.ftkit("doctor").out


LONG = "it was a day textcanary and then " + "some other day " * 5
FAULTS = {
    "ragged.csv": f'text,label\n"{LONG}",a\n"{LONG}",a,b\n',
    "open.csv": f'text,label\n"{LONG}",a\n"{LONG},b\n',
    "after.csv": f'text,label\n"{LONG}" x,a\n',
    "one_label.csv": f"text,label\n{LONG},a\n{LONG} 2,a\n",
    "no_label.csv": f"text,label\n{LONG},\n{LONG} 2,a\n",
    "cut.jsonl": json.dumps({"text": LONG, "label": "a"}) + '\n{"text": "' + LONG,
    "twice.jsonl": f'{{"text": "{LONG}", "text": "{LONG}", "label": "a"}}\n',
    "cut.json": f'[{{"text": "{LONG}", "label": "a"}}, {{"text": "{LONG}"',
    "squad.json": json.dumps({"data": [{"paragraphs": [{"context": LONG, "qas": [{"question": 5}]}]}]}),
    "list.jsonl": json.dumps({"text": [LONG], "label": "a"}) + "\n",
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_and_their_tracebacks_say_where_and_not_what(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_of: Callable[[str], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTKIT_DEBUG", "")
    Path(name).write_text(FAULTS[name], encoding="utf-8")
    with pytest.raises(UserError) as caught:
        tiny.ftkit("--debug", "check", name, "--model", str(checkpoint_of("bert")), "--no-forecast")
    told = "".join(traceback.format_exception(caught.value))
    assert name in told or "column 'text'" in told
    assert "textcanary" not in told


def test_answers_for_spreadsheets_are_safe_and_say_so(
    written_by: Callable[[str], Written], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = written_by("classification").run
    cells = ["=HYPERLINK(1)", "+1", "-1", "@x", "\t=1", "plain"]
    tiny.write_csv(tmp_path / "new.csv", [{"text": cell} for cell in cells])
    done = tiny.ftkit("predict", run, tmp_path / "new.csv", "-o", tmp_path / "o.csv", "--spreadsheet-safe", *tiny.FP32)
    assert "5 cells made safe for spreadsheets" in done.err
    with (tmp_path / "o.csv").open(newline="", encoding="utf-8") as file:
        assert [row["text"] for row in csv.DictReader(file)] == [*(f"'{cell}" for cell in cells[:-1]), "plain"]
