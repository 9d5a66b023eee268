"""Whole runs through the command line: train, eval and predict, on every family."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftkit import evaluate, predict
from ftkit.errors import UserError
from tests import tiny
from tests.conftest import Learned
from tests.tiny import (
    FAMILIES,
    FP32,
    KEYWORDS,
    LABELS,
    LEARN,
    MORE_ENCODERS,
    Row,
    ftkit,
    read_jsonl,
    rows,
    sentence,
    write_csv,
)

RunOf = Callable[[str], Learned]
CheckpointOf = Callable[[str], Path]

every_family = pytest.mark.parametrize("family", [*FAMILIES, "llama"])
and_more = pytest.mark.parametrize("family", [*FAMILIES, "llama", *MORE_ENCODERS])
SHORT = ("--set", "training.epochs=2")  # for runs that need not have learned well

RUN_FILES = {
    ".lock",
    "README.md",
    "baselines",
    "baselines/baselines.json",
    "baselines/baselines.safetensors",
    "data.json",
    "environment.json",
    "eval",
    "eval/validation",
    "eval/validation/metrics.json",
    "eval/validation/predictions.jsonl",
    "log.jsonl",
    "metrics.json",
    "model",
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "recipe.yaml",
    "report.html",
    "task.json",
    "training.json",
}


def accuracy(scores: dict[str, Any]) -> float:
    return float(scores["scores"]["accuracy"]["value"])


def share_equal(first: list[Any], second: list[Any]) -> float:
    return [a == b for a, b in zip(first, second, strict=True)].count(True) / len(first)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def answers(run: Path, data: Path, *arguments: str) -> list[Row]:
    """What `ftkit predict` answers to the rows of a file."""
    out = data.with_suffix(".answers.jsonl")
    done = ftkit("predict", run, data, "-o", out, *FP32, *arguments)
    assert done.code == 0, done.err
    return read_jsonl(out)


# Every family


@and_more
def test_every_family_learns_the_task(run_of: RunOf, family: str) -> None:
    learned = run_of(family)

    assert accuracy(learned.result["validation"]) >= 0.95
    assert accuracy(learned.result["test"]) >= 0.95


@and_more
def test_predict_gives_the_labels_that_eval_counted(run_of: RunOf, family: str) -> None:
    learned = run_of(family)
    truth = rows(100, seed=2)

    scored = ftkit("eval", learned.folder, learned.test, *FP32, "--json").json
    answered = answers(learned.folder, learned.test)
    counted = read_jsonl(learned.folder / "eval/heldout/predictions.jsonl")

    assert [row["text"] for row in answered] == [row["text"] for row in truth]
    assert [row["predicted_label"] for row in answered] == [line["label"] for line in counted]
    assert [line["reference"] for line in counted] == [row["label"] for row in truth]
    right = share_equal([row["predicted_label"] for row in answered], [row["label"] for row in truth])
    assert right == accuracy(scored) == accuracy(learned.result["test"])


@and_more
def test_transformers_alone_loads_the_model_and_gives_the_same_labels(run_of: RunOf, family: str) -> None:
    import torch
    import transformers

    learned = run_of(family)
    texts = [row["text"] for row in rows(100, seed=2)]

    tokenizer = transformers.AutoTokenizer.from_pretrained(learned.folder / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(learned.folder / "model").eval()
    with torch.inference_mode():
        numbers = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.argmax(1).tolist()

    expected = [row["predicted_label"] for row in answers(learned.folder, learned.test)]
    assert [model.config.id2label[number] for number in numbers] == expected


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_a_family_without_a_head_for_labels_is_refused(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "train.csv", rows(40, seed=1))

    done = tiny.train(data, checkpoint_of("marian"), tmp_path / "run")

    assert done.code == 2
    assert "models of type marian have no head for SequenceClassification" in done.err
    assert not (tmp_path / "run/model").exists()


def test_the_three_commands_work_as_processes_of_their_own(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows(700, seed=1))
    heldout = rows(50, seed=2)
    write_csv(tmp_path / "heldout.csv", heldout)
    commands = [
        ["train", "train.csv", "--model", str(checkpoint_of("distilbert")), "--out", "runs/x", *LEARN],
        ["eval", "runs/x", "heldout.csv", *FP32],
        ["predict", "runs/x", "heldout.csv", "-o", "answers.jsonl", *FP32],
    ]

    done = [
        subprocess.run(
            [sys.executable, "-m", "ftkit.cli", *command],
            cwd=tmp_path,
            env=tiny.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        for command in commands
    ]

    assert [process.returncode for process in done] == [0, 0, 0], done[-1].stderr
    answered = [row["predicted_label"] for row in read_jsonl(tmp_path / "answers.jsonl")]
    assert share_equal(answered, [row["label"] for row in heldout]) >= 0.95
    assert "runs/x" in done[0].stdout
    assert "accuracy" in done[1].stdout
    assert done[2].stdout == ""


# The run directory


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: CheckpointOf) -> tuple[Path, Path]:
    """A short run with dropout, and the run that its recipe.yaml makes of it."""
    folder = tmp_path_factory.mktemp("twins")
    data = write_csv(folder / "train.csv", rows(200, seed=1))
    first = tiny.train(
        data, checkpoint_of("distilbert"), folder / "first", *SHORT, "--set", "training.dropout=0.1", "--seed", "5"
    )
    second = ftkit("train", "--recipe", folder / "first/recipe.yaml", "--out", folder / "second")
    assert (first.code, second.code) == (0, 0), first.err + second.err
    return folder / "first", folder / "second"


def test_a_recipe_repeats_its_run_to_the_bit(twins: tuple[Path, Path]) -> None:
    first, second = twins

    assert sha256(first / "model/model.safetensors") == sha256(second / "model/model.safetensors")
    assert json.loads((first / "task.json").read_text()) == json.loads((second / "task.json").read_text())


def test_another_seed_gives_other_weights(twins: tuple[Path, Path], tmp_path: Path) -> None:
    done = ftkit("train", "--recipe", twins[0] / "recipe.yaml", "--seed", "6", "--out", tmp_path / "run")

    assert done.code == 0, done.err
    assert sha256(tmp_path / "run/model/model.safetensors") != sha256(twins[0] / "model/model.safetensors")


def test_a_run_directory_holds_its_product_and_no_leftovers(twins: tuple[Path, Path]) -> None:
    assert {str(path.relative_to(twins[0])) for path in twins[0].rglob("*")} == RUN_FILES


def test_whoever_may_read_the_recipe_may_read_the_model(twins: tuple[Path, Path]) -> None:
    modes = {str(path.relative_to(twins[0])): path.stat().st_mode for path in twins[0].rglob("*") if path.is_file()}

    assert modes == dict.fromkeys(modes, modes["recipe.yaml"])


def test_the_log_has_a_line_for_every_update_and_every_epoch(twins: tuple[Path, Path]) -> None:
    log = read_jsonl(twins[0] / "log.jsonl")

    # 180 of the 200 rows are learned from, 16 an update: 12 updates an epoch.
    facts = json.loads((twins[0] / "data.json").read_text())
    assert facts["splits"]["train"]["rows"] + facts["splits"]["validation"]["rows"] == 200
    updates = -(-facts["splits"]["train"]["rows"] // 16)
    assert [line["update"] for line in log if "loss" in line] == list(range(1, 2 * updates + 1))
    assert sum(line["rows"] for line in log if "loss" in line) == 2 * facts["splits"]["train"]["rows"]
    assert [line["evaluation"] for line in log if "evaluation" in line] == [1, 2]


def test_a_name_that_exists_is_refused_and_left_as_it_is(
    twins: tuple[Path, Path], checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(twins[0], run)
    data = write_csv(tmp_path / "train.csv", rows(40, seed=1))

    done = tiny.train(data, checkpoint_of("distilbert"), run)

    assert done.code == 2
    assert "exists already" in done.err
    assert "--overwrite" in done.err
    before, after = ({p.relative_to(f): sha256(p) for p in f.rglob("*") if p.is_file()} for f in (twins[0], run))
    assert before == after


def test_overwrite_replaces_an_earlier_run(
    twins: tuple[Path, Path], checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(twins[0], run)
    (run / "eval/old").mkdir()
    data = write_csv(tmp_path / "train.csv", rows(200, seed=7))

    done = tiny.train(data, checkpoint_of("distilbert"), run, *SHORT, "--overwrite")

    assert done.code == 0, done.err
    assert {str(path.relative_to(run)) for path in run.rglob("*")} == RUN_FILES
    assert sha256(run / "model/model.safetensors") != sha256(twins[0] / "model/model.safetensors")


# What is printed


def test_json_is_the_only_output_of_train(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "train.csv", rows(200, seed=1))

    done = tiny.train(data, checkpoint_of("distilbert"), tmp_path / "run", *SHORT, "--json")

    assert done.json == json.loads((tmp_path / "run/metrics.json").read_text())
    assert done.json["run"] == str(tmp_path / "run")
    assert done.err == ""


def test_the_report_of_train_goes_to_people(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "train.csv", rows(200, seed=1))

    done = tiny.train(data, checkpoint_of("distilbert"), tmp_path / "run", *SHORT)

    assert "accuracy" in done.out
    assert f"ftkit eval {tmp_path / 'run'} DATA" in done.out
    assert "new head" in done.err
    assert "epoch 2/2" in done.err


def test_eval_prints_what_it_writes(run_of: RunOf) -> None:
    learned = run_of("bert")

    done = ftkit("eval", learned.folder, learned.test, *FP32, "--json", "--name", "printed")

    assert done.json == json.loads((learned.folder / "eval/printed/metrics.json").read_text())


def renamed(run: Learned, folder: Path) -> Path:
    """The test rows with other names for their columns."""
    text = run.test.read_text(encoding="utf-8")
    assert text.startswith("text,label\n")
    path = folder / "other.csv"
    path.write_text(text.replace("text,label", "Review Text,verdict", 1), encoding="utf-8")
    return path


def test_eval_tells_which_columns_it_took_and_its_report_repeats_it(run_of: RunOf, tmp_path: Path) -> None:
    learned = run_of("bert")
    other = renamed(learned, tmp_path)
    refused = ftkit("eval", learned.folder, other, *FP32)
    assert refused.code == 2 and "no label column was found" in refused.err
    done = ftkit("eval", learned.folder, other, "--column", "label=verdict", "--name", "renamed", *FP32)
    assert "text column: Review Text (the run was trained on text)" in done.out
    assert "label column: verdict (the run was trained on label)" in done.out
    result = json.loads((learned.folder / "eval/renamed/metrics.json").read_text())
    assert result["columns"] == {"text": "Review Text", "label": "verdict"}
    report = (learned.folder / "eval/renamed/report.html").read_text()
    assert (
        f"ftkit eval {learned.folder} {other} --column label=verdict --device cpu --precision fp32 --name renamed"
        in report
    )
    swapped = ftkit("eval", other, learned.folder, *FP32)
    assert swapped.code == 2 and f"ftkit eval {learned.folder} {other}" in swapped.err


def test_predict_tells_which_column_it_took_and_answers_in_json_as_asked(run_of: RunOf, tmp_path: Path) -> None:
    learned = run_of("bert")
    done = ftkit("predict", learned.folder, renamed(learned, tmp_path), "--json", *FP32)
    assert [set(json.loads(line)) for line in done.out.splitlines()] == [
        {"Review Text", "verdict", "label", "score"}
    ] * 100
    done = ftkit("predict", learned.folder, renamed(learned, tmp_path), "-o", tmp_path / "x.csv", *FP32)
    assert "text column: Review Text (the run was trained on text)" in done.err


def test_python_takes_the_flags_of_the_command_line(run_of: RunOf, tmp_path: Path) -> None:
    learned = run_of("bert")
    other = renamed(learned, tmp_path)
    given = {"label": "verdict", "precision": "fp32", "device": "cpu"}
    first = evaluate(learned.folder, other, text="Review Text", name="python", **given)
    second = evaluate(learned.folder, other, columns={"text": "Review Text"}, name="python", **given)
    assert first["scores"] == second["scores"]
    predict(learned.folder, other, tmp_path / "x.csv", text="Review Text", precision="fp32", device="cpu")
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 101
    theirs = evaluate(None, other, predictions=tmp_path / "x.csv", label="verdict")
    assert theirs["scores"]["accuracy"]["value"] == first["scores"]["accuracy"]["value"]
    with pytest.raises(UserError, match="only answers to a file"):
        predict(learned.folder, ["a text"], all_scores=True)
    for idle in ({"epochs": 3}, {"set": {"training.epochs": 3}}):
        with pytest.raises(UserError, match="has no effect here"):
            evaluate(learned.folder, other, **idle)


def test_a_device_that_is_not_there_leaves_no_run(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    data = write_csv(tmp_path / "train.csv", rows(60, seed=1))
    for wrong, told in (
        (("--device", "cuda"), "no CUDA GPU"),
        (("--device", "cpu", "--precision", "fp16"), "fp16 needs"),
    ):
        done = ftkit("train", data, "--model", checkpoint_of("bert"), "--out", tmp_path / "run", *wrong)
        assert done.code == 2 and told in done.err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["eval", "predict"])
def test_a_flipped_bit_in_the_model_of_a_run_is_found_and_named(run_of: RunOf, tmp_path: Path, verb: str) -> None:
    learned = run_of("bert")
    run = Path(shutil.copytree(learned.folder, tmp_path / "run"))
    flip(run / "model/model.safetensors")
    done = ftkit(verb, run, learned.test, *FP32)
    assert (
        done.code == 2
        and "has changed since the training ended: model.safetensors is not what was written"
        in " ".join(done.err.split())
    )


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("wrong", ["text.label_smoothing=0.1", "questions.rule=cmrc", "languages.source=en"])
def test_settings_of_other_tasks_are_refused(checkpoint_of: CheckpointOf, tmp_path: Path, wrong: str) -> None:
    data = write_csv(tmp_path / "train.csv", rows(60, seed=1))
    given = ("--task", "classification", "--model", checkpoint_of("bert"), "--out", tmp_path / "run")
    done = ftkit("train", data, *given, "--set", wrong)
    assert done.code == 2 and f"{wrong.partition('=')[0]} has no effect on classification here" in done.err


def test_a_label_whose_rows_are_all_held_back_for_the_test_is_not_learned(
    checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    made = [{"text": f"{sentence(random.Random(n), [], 4, 8)} {n}", "label": "ab"[n % 2]} for n in range(40)]
    train = write_csv(tmp_path / "train.csv", made)
    test = write_csv(tmp_path / "test.csv", [row for row in made if row["label"] == "b"])
    done = ftkit("train", train, "--test", test, "--model", checkpoint_of("bert"), "--out", tmp_path / "run")
    assert done.code == 2 and "has only one label, 'a' in its 20 rows" in done.err
    assert "(left out of the training: 20 rows: text is in the test rows too)" in done.err


def test_texts_that_a_model_cannot_read_are_told_by_predict_and_eval(run_of: RunOf, tmp_path: Path) -> None:
    learned = run_of("bert")
    label = json.loads((learned.folder / "task.json").read_text())["labels"][0]
    strange = write_csv(tmp_path / "new.csv", [{"text": "北京 天气", "label": label}] * 8)
    done = ftkit("predict", learned.folder, strange, "-o", tmp_path / "x.csv", *FP32)
    assert "of the tokens are unknown to the model" in done.err
    assert "of the tokens are unknown to the model" in ftkit("eval", learned.folder, strange, *FP32).out
    done = ftkit("predict", learned.folder, learned.test, "-o", tmp_path / "y.csv", *FP32)
    assert "unknown" not in done.err


def test_predict_says_how_many_rows_it_answered(run_of: RunOf, tmp_path: Path) -> None:
    learned = run_of("bert")

    done = ftkit("predict", learned.folder, learned.test, "-o", tmp_path / "out.csv", *FP32, "--json")

    assert {key: done.json[key] for key in ("rows", "errors", "windowed", "columns")} == {
        "rows": 100,
        "errors": 0,
        "windowed": 0,
        "columns": ["predicted_label", "predicted_score", "predicted_error"],
    }


def test_a_text_on_the_command_line_is_answered(run_of: RunOf) -> None:
    done = ftkit("predict", run_of("bert").folder, "--text", "the otter and", "--text", "a saw", *FP32)

    lines = done.out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["animal", "tool"]
    scores = dict(part.split() for part in lines[0].split("\t")[1].strip("()").split(", "))
    assert list(scores) == list(LABELS)
    assert float(scores["animal"]) > 0.5


def test_a_text_on_the_command_line_is_answered_as_json(run_of: RunOf) -> None:
    done = ftkit("predict", run_of("bert").folder, "--text", "the otter and", *FP32, "--json")

    answer = done.json
    assert (answer["text"], answer["label"]) == ("the otter and", "animal")
    assert list(answer["scores"]) == list(LABELS)
    assert answer["score"] == answer["scores"]["animal"] == max(answer["scores"].values())
    assert sum(answer["scores"].values()) == pytest.approx(1, abs=2e-6)


# Prediction on files


def test_rows_from_standard_input_are_answered_on_standard_output(run_of: RunOf) -> None:
    text = "name;text\nx;the otter and\ny;a saw of\n"

    done = ftkit("predict", run_of("bert").folder, "-", "--format", "csv", "-o", "-", *FP32, stdin=text.encode())

    assert done.code == 0, done.err
    lines = [line.split(",") for line in done.out.splitlines()]
    assert lines[0] == ["name", "text", "label", "score", "error"]
    assert [line[:3] for line in lines[1:]] == [["x", "the otter and", "animal"], ["y", "a saw of", "tool"]]


def test_rows_that_cannot_be_answered_stay_in_their_place_with_an_error(run_of: RunOf, tmp_path: Path) -> None:
    data = tmp_path / "new.jsonl"
    cells: list[Any] = ["the otter and", "", None, ["a", "list"], "   ", "a saw of"]
    data.write_text("".join(json.dumps({"id": i, "text": cell}) + "\n" for i, cell in enumerate(cells)))

    answered = answers(run_of("bert").folder, data)

    assert [row["id"] for row in answered] == [0, 1, 2, 3, 4, 5]
    assert [row["text"] for row in answered] == cells
    assert [row["label"] for row in answered] == ["animal", None, None, None, None, "tool"]
    assert [row.get("error") for row in answered] == [
        None,
        "the text is empty",
        "no value in column text",
        "no text in column text",
        "the text is empty",
        None,
    ]


def test_the_scores_of_all_labels_are_added_when_asked_for(run_of: RunOf, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "new.csv", [{"text": row["text"]} for row in rows(20, seed=3)])

    answered = answers(run_of("bert").folder, data, "--all-scores")

    for row in answered:
        scores = {label: row[f"score_{label}"] for label in LABELS}
        assert (row["label"], row["score"]) == max(scores.items(), key=lambda item: item[1])
        assert sum(scores.values()) == pytest.approx(1, abs=2e-6)


# Other shapes of the task


def test_sentence_pairs_are_told_apart_by_their_second_text(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    def pairs(count: int, seed: int) -> list[Row]:
        """The keyword of the second text is the label; the first text has one of another label."""
        generator, made = random.Random(seed), []
        for _ in range(count):
            other, label = generator.sample(LABELS, 2)
            texts = [sentence(generator, [generator.choice(KEYWORDS[name])], 2, 8) for name in (other, label)]
            made.append({"premise": texts[0], "hypothesis": texts[1], "label": label})
        return made

    train, test = write_csv(tmp_path / "train.csv", pairs(800, 1)), write_csv(tmp_path / "test.csv", pairs(100, 2))
    run = tmp_path / "run"

    done = tiny.train(train, checkpoint_of("bert"), run, "--test", test, "--json")

    assert done.code == 0, done.err
    assert accuracy(done.json["test"]) >= 0.95
    assert share_equal([row["predicted_label"] for row in answers(run, test)], [r["label"] for r in pairs(100, 2)]) == (
        accuracy(done.json["test"])
    )
    one = ftkit("predict", run, "--text", "the otter and", "--pair", "a saw of", *FP32, "--json").json
    other = ftkit("predict", run, "--text", "a saw of", "--pair", "the otter and", *FP32, "--json").json
    assert (one["label"], other["label"]) == ("tool", "animal")


def multi_label_rows(count: int, seed: int) -> list[Row]:
    """Keywords of no label, one, two or three; the labels stand in one cell, separated by bars."""
    generator, made = random.Random(seed), []
    for _ in range(count):
        labels = sorted(generator.sample(LABELS, generator.randint(0, 3)))
        keywords = [generator.choice(KEYWORDS[label]) for label in labels]
        made.append({"text": sentence(generator, keywords, 3, 12), "label": "|".join(labels)})
    return made


@pytest.fixture(scope="module")
def multi_label_run(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: CheckpointOf) -> Path:
    folder = tmp_path_factory.mktemp("multi-label")
    train = write_csv(folder / "train.csv", multi_label_rows(800, seed=1))
    test = write_csv(folder / "heldout.csv", multi_label_rows(100, seed=2))
    done = tiny.train(train, checkpoint_of("bert"), folder / "run", "--test", test, "--json")
    assert done.code == 0, done.err
    assert done.json["test"]["scores"]["f1_micro"]["value"] >= 0.95
    return folder / "run"


def test_rows_may_have_several_labels_or_none(multi_label_run: Path) -> None:
    truth = multi_label_rows(100, seed=2)
    expected = [row["label"].split("|") if row["label"] else [] for row in truth]

    answered = answers(multi_label_run, multi_label_run.parent / "heldout.csv")
    counted = read_jsonl(multi_label_run / "eval/test/predictions.jsonl")

    assert [row["predicted_label"] for row in answered] == [line["label"] for line in counted]
    assert [line["reference"] for line in counted] == expected
    assert share_equal([row["predicted_label"] for row in answered], expected) >= 0.9
    assert [] in [row["predicted_label"] for row in answered]
    assert all(len(row["predicted_label"]) == len(row["predicted_score"]) for row in answered)


def test_the_threshold_of_a_multi_label_run_is_stored_and_used(multi_label_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(multi_label_run, run)
    data = write_csv(tmp_path / "new.csv", [{"text": row["text"]} for row in multi_label_rows(20, seed=3)])
    record = json.loads((run / "task.json").read_text())

    answered = answers(run, data, "--all-scores")
    for row in answered:
        assert row["label"] == [label for label in LABELS if row[f"score_{label}"] >= record["threshold"]]

    (run / "task.json").write_text(json.dumps(record | {"threshold": [0.0, 1.1, 0.0]}))
    assert [row["label"] for row in answers(run, data)] == [["animal", "tool"]] * 20


def test_a_keyword_in_a_late_window_of_a_long_document_is_found(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    generator = random.Random(2)
    labels = [generator.choice(LABELS) for _ in range(60)]
    late = [f"{sentence(generator, [], 60, 100)} {generator.choice(KEYWORDS[label])}" for label in labels]
    train = write_csv(tmp_path / "train.csv", rows(700, seed=1, most=100))
    test = write_csv(
        tmp_path / "test.csv", [{"text": t, "label": label} for t, label in zip(late, labels, strict=True)]
    )

    window = ("--max-length", "32")
    done = tiny.train(train, checkpoint_of("distilbert"), tmp_path / "run", *window, "--test", test, "--json")

    assert done.code == 0, done.err
    assert accuracy(done.json["test"]) >= 0.95
    assert done.json["test"]["reading"]["rows of more than one window"] == 60
    assert json.loads((tmp_path / "run/task.json").read_text())["max_length"] == 32


def test_stars_are_sentiment(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    stars = {"animal": 1, "fruit": 3, "tool": 5}
    made = [{"review": row["text"], "stars": stars[row["label"]]} for row in rows(700, seed=1)]
    data = write_csv(tmp_path / "train.csv", made)

    done = tiny.train(data, checkpoint_of("bert"), tmp_path / "run", "--json")

    assert accuracy(done.json["validation"]) >= 0.95
    record = json.loads((tmp_path / "run/task.json").read_text())
    assert (record["task"], record["labels"]) == ("sentiment", ["1 star", "3 stars", "5 stars"])
    assert ftkit("predict", tmp_path / "run", "--text", "a saw of", *FP32, "--json").json["label"] == "5 stars"


def test_chinese_sentiment_is_learned_and_scored_in_any_spelling(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    def reviews(count: int, seed: int, names: tuple[str, str]) -> list[Row]:
        generator, made = random.Random(seed), []
        for _ in range(count):
            bad = generator.random() < 0.5
            characters = [*generator.choices("房间服务早餐位置的是不我们酒店", k=generator.randint(5, 20))]
            characters.insert(generator.randrange(len(characters)), "差" if bad else "好")
            made.append({"评论": "".join(characters), "情感": names[0] if bad else names[1]})
        return made

    train = write_csv(tmp_path / "train.csv", reviews(600, 1, ("负面", "正面")))
    test = write_csv(tmp_path / "heldout.csv", reviews(60, 2, ("neg", "pos")))

    done = tiny.train(train, checkpoint_of("bert"), tmp_path / "run", "--json")
    scored = ftkit("eval", tmp_path / "run", test, *FP32, "--json").json

    assert done.code == 0, done.err
    record = json.loads((tmp_path / "run/task.json").read_text())
    assert (record["task"], record["labels"]) == ("sentiment", ["negative", "positive"])
    assert accuracy(scored) >= 0.95
    assert ftkit("predict", tmp_path / "run", "--text", "早餐差", *FP32, "--json").json["label"] == "negative"


def test_training_goes_on_from_a_run_that_has_learned(run_of: RunOf, tmp_path: Path) -> None:
    learned = run_of("bert")
    data = write_csv(tmp_path / "more.csv", rows(200, seed=4))

    done = tiny.train(data, learned.folder, tmp_path / "run", *SHORT, "--json")

    assert done.code == 0, done.err
    fresh, continued = (read_jsonl(folder / "log.jsonl")[0]["loss"] for folder in (learned.folder, tmp_path / "run"))
    assert fresh > 0.8
    assert continued < 0.1
    assert done.json["training"]["notes"] == []
    assert accuracy(done.json["validation"]) >= 0.95


def test_training_goes_on_with_a_new_head_for_other_labels(run_of: RunOf, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "more.csv", [r for r in rows(200, seed=4) if r["label"] != "tool"])

    done = tiny.train(data, run_of("bert").folder, tmp_path / "run", *SHORT, "--json")

    assert done.code == 0, done.err
    assert done.json["training"]["notes"] == ["new head: classifier.bias, classifier.weight begin at random"]
    assert json.loads((tmp_path / "run/task.json").read_text())["labels"] == ["animal", "fruit"]


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_second_text_of_a_pair_has_a_token_type_of_its_own(checkpoint_of: CheckpointOf, family: str) -> None:
    """Families that were pretrained with two token types are fine-tuned with them."""
    import torch

    from ftkit import models
    from ftkit.heads import windows
    from ftkit.heads.labels import LabelsHead

    tokenizer = models.load_tokenizer(checkpoint_of(family), models.load_config(checkpoint_of(family)))
    head = LabelsHead(tokenizer, False, 16, 2)

    batch = windows.pad(tokenizer, head.encode([("the cat", "a saw of")]), np.asarray([0]), 16, torch.device("cpu"))

    # [CLS] the cat [SEP] a saw of [SEP]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
