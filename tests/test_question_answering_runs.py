"""Whole runs of question answering through the command line: cut out of the context, or written."""

from __future__ import annotations

import functools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftkit import commands, config
from tests import tiny
from tests.tiny import CREATURES, FP32, QUESTION, Row, ftkit, questions, read_jsonl, sentence, write_csv

CheckpointOf = Callable[[str], Path]

CUT_OUT = ("bert spans", "roberta spans", "albert spans", "gpt2 spans")
WRITTEN = ("gpt2 text", "t5 text", "llama text")
every_kind = pytest.mark.parametrize("kind", [*CUT_OUT, *WRITTEN])


@dataclass(frozen=True)
class Answered:
    """A run, the questions that it never saw, and what training printed."""

    folder: Path
    test: Path
    result: dict[str, Any]


RunOf = Callable[[str], Answered]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: CheckpointOf) -> RunOf:
    """A run of a family and a head that has learned to find the creature; "unsure" also that there may be none."""

    @functools.cache
    def run(kind: str) -> Answered:
        family, head, *more = kind.split()
        folder = tmp_path_factory.mktemp(kind.replace(" ", "-"))
        share = 0.3 if "unsure" in more else 0.0
        count, epochs = (120, 4) if family == "llama" else (300, 5)
        train = write_csv(folder / "train.csv", questions(count, 1, most=25 if share else 15, unanswerable=share))
        test = write_csv(folder / "heldout.csv", questions(50, 2, unanswerable=share))
        settings = ["--set", f"questions.head={head}", "--set", f"training.epochs={epochs}"]
        settings += ["--max-length", "32"] if share else []
        done = tiny.train(train, checkpoint_of(family), folder / "run", "--test", test, "--json", *settings)
        assert done.code == 0, done.err
        return Answered(folder / "run", test, done.json)

    return run


def predict(run: Path, data: Path, *arguments: str) -> list[Row]:
    """What `ftkit predict` answers to the questions of a file."""
    out = data.with_suffix(".answers.jsonl")
    done = ftkit("predict", run, data, "-o", out, *FP32, *arguments)
    assert done.code == 0, done.err
    return read_jsonl(out)


def save(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def exact_match(scores: dict[str, Any]) -> float:
    return float(scores["scores"]["exact_match"]["value"])


# Every family.


@every_kind
def test_every_family_learns_to_answer(run_of: RunOf, kind: str) -> None:
    learned = run_of(kind)
    assert exact_match(learned.result["test"]) >= 0.9
    assert learned.result["test"]["baselines"]["sentence"]["difference"]["f1"]["low"] > 0.3


@every_kind
def test_predict_gives_the_answers_that_eval_scored_and_where_they_stand(run_of: RunOf, kind: str) -> None:
    learned, asked = run_of(kind), questions(50, 2)

    scored = ftkit("eval", learned.folder, learned.test, *FP32, "--json").json
    answered = predict(learned.folder, save(learned.test.with_name("asked.jsonl"), _without_answers(asked)))

    assert [(row["id"], row["context"]) for row in answered] == [(row["id"], row["context"]) for row in asked]
    counted = read_jsonl(learned.folder / "eval/heldout/predictions.jsonl")
    names = ("answer", "start", "end", "score")
    assert [[row[name] for name in names] for row in answered] == [[row[name] for name in names] for row in counted]
    right = [row["answer"] == truth["answer"] for row, truth in zip(answered, asked, strict=True)]
    assert sum(right) / len(right) == exact_match(scored) == exact_match(learned.result["test"])
    for row in answered:
        if row["start"] is not None:
            assert row["context"][row["start"] : row["end"]] == row["answer"]
    assert all(0 <= row["score"] <= 1 for row in answered)


def _without_answers(rows: list[Row]) -> list[Row]:
    return [{name: row[name] for name in ("id", "question", "context")} for row in rows]


@pytest.mark.parametrize("kind", ["bert spans", "t5 text"])
def test_the_official_file_of_a_run_has_the_scores_of_the_run(run_of: RunOf, kind: str) -> None:
    learned = run_of(kind)
    official = learned.folder / "eval/test/predictions.json"
    assert list(json.loads(official.read_text())) == [f"q{n}" for n in range(50)]

    done = ftkit("eval", learned.test, "--predictions", official, "--json")

    assert done.code == 0, done.err
    assert done.json["scores"] == learned.result["test"]["scores"]


def test_transformers_alone_loads_the_models(run_of: RunOf) -> None:
    import transformers

    transformers.AutoModelForQuestionAnswering.from_pretrained(run_of("bert spans").folder / "model")
    transformers.AutoModelForSeq2SeqLM.from_pretrained(run_of("t5 text").folder / "model")
    transformers.AutoModelForCausalLM.from_pretrained(run_of("gpt2 text").folder / "model")


# Files to answer.


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_any_format_is_answered(run_of: RunOf, tmp_path: Path, suffix: str) -> None:
    asked = _without_answers(questions(5, 3))
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        write_csv(path, asked)
    elif suffix == "json":
        paragraphs = [{"context": r["context"], "qas": [{"id": r["id"], "question": QUESTION}]} for r in asked]
        path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "T", "paragraphs": paragraphs}]}))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(asked), path)

    answered = predict(run_of("bert spans").folder, path)

    assert [row["id"] for row in answered] == [row["id"] for row in asked]
    assert [row["answer"] for row in answered] == [row["answer"] for row in questions(5, 3)]


@pytest.mark.parametrize("kind", ["bert spans", "t5 text", "gpt2 text"])
def test_every_question_gets_one_line_whatever_it_holds(run_of: RunOf, tmp_path: Path, kind: str) -> None:
    usual = {"id": "a", "question": QUESTION, "context": "the cat was in that"}
    bad: list[Row] = [
        usual,
        usual | {"question": ""},
        usual | {"context": " \r\n"},
        usual | {"question": None},
        {"id": "a", "question": QUESTION},
        usual | {"question": f"{QUESTION} " * 100},
        usual | {"question": "🙂 [SEP] </s> <|endoftext|>"},
        usual | {"context": "🙂🙂"},
        usual,
    ]

    answered = predict(run_of(kind).folder, save(tmp_path / "a.jsonl", bad))

    assert len(answered) == len(bad)
    errors = [row.get("error") for row in answered]
    assert errors[1:5] == [
        "the question is empty",
        "the context is empty",
        "no text in column question",
        "no text in column context",
    ]
    long = None if kind == "bert spans" else "it does not fit into a window of 128 tokens"
    assert [errors[0], *errors[5:]] == [None, long, None, None, None]
    assert answered[0]["answer"] == answered[8]["answer"] == "cat"
    assert {row["answer"] for row in answered if row.get("error")} <= {None}


def test_the_n_best_have_probabilities(run_of: RunOf, tmp_path: Path) -> None:
    asked = save(tmp_path / "a.jsonl", _without_answers(questions(3, 3)))
    for row in predict(run_of("bert spans unsure").folder, asked, "--all-scores"):
        shares = [candidate["score"] for candidate in row["candidates"]]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert shares[:-1] == sorted(shares[:-1], reverse=True)
        assert [c["answer"] for c in row["candidates"]].index("") == len(shares) - 1
        for c in row["candidates"][:-1]:
            assert row["context"][c["start"] : c["end"]] == c["answer"] != ""


# No answer, and long contexts.


def test_the_threshold_of_no_answer_is_chosen_on_validation_and_kept_in_the_run(run_of: RunOf) -> None:
    learned, asked = run_of("bert spans unsure"), questions(50, 2, unanswerable=0.3)

    record = json.loads((learned.folder / "task.json").read_text())
    chosen = learned.result["validation"]["thresholds"]
    assert record["threshold"] == chosen["stored"]["threshold"] == chosen["oracle"]["threshold"]
    assert learned.result["validation"]["chosen_on_these_rows"] == ["the best epoch", "the threshold"]
    assert learned.result["test"]["thresholds"]["stored"]["threshold"] == record["threshold"]
    assert learned.result["test"]["no_answer"]["scores"]["exact_match"]["value"] >= 0.8
    assert learned.result["test"]["has_answer"]["scores"]["exact_match"]["value"] >= 0.8

    answered = predict(learned.folder, learned.test)
    lines = read_jsonl(learned.folder / "eval/test/predictions.jsonl")
    for row, line, truth in zip(answered, lines, asked, strict=True):
        assert row["predicted_answer"] == line["answer"]
        assert (row["predicted_answer"] == "") == (line["no_answer_difference"] > record["threshold"])
        assert row["id"] == truth["id"]
    na_prob = json.loads((learned.folder / "eval/test/na_prob.json").read_text())
    assert na_prob == {line["id"]: line["no_answer_difference"] for line in lines}


LONG = 60_000  # characters


def test_the_answer_of_a_very_long_context_is_found_in_bounded_memory(run_of: RunOf, tmp_path: Path) -> None:
    generator = random.Random(5)
    filler = sentence(generator, [], 9000, 9000) + " "
    assert len(filler) * 2 > LONG
    context = (filler * 2)[:LONG] + " otter " + filler[:500]
    asked = {"id": "a", "question": QUESTION, "context": "the cat was in that"}
    short = save(tmp_path / "short.jsonl", [asked])
    long = save(tmp_path / "long.jsonl", [asked | {"context": context}])
    code = f"""
import resource
from ftkit import commands
from ftkit.config import HardwareSection
here = HardwareSection(device="cpu", precision="fp32")
for name in ({str(short)!r}, {str(long)!r}):
    commands.predict({str(run_of("bert spans unsure").folder)!r}, name, name + ".out.jsonl", hardware=here, quiet=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=tiny.environment())
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    [answer] = read_jsonl(tmp_path / "long.jsonl.out.jsonl")

    assert (answer["answer"], answer["start"]) == ("otter", LONG + 1)
    assert after - before < 64_000  # KiB


# What cannot be learned from.


def check(model: Path, data: Path, **flags: str | Path) -> dict[str, Any]:
    """The data report of a file."""
    settings = [config.setting(f"questions.head={flags.pop('head', 'auto')}")]
    given = {name: str(value) for name, value in {"data": data, "model": model, **flags}.items()}
    return commands.check(commands.recipe_of(None, given, settings), forecast=False)


@pytest.mark.parametrize(("family", "head"), [("bert", "spans"), ("t5", "text"), ("gpt2", "text")])
def test_rows_that_cannot_be_learned_from_are_left_out_and_counted(
    checkpoint_of: CheckpointOf, tmp_path: Path, family: str, head: str
) -> None:
    rows = questions(40, 1)
    far = " ".join([CREATURES[0], *["the"] * 300, CREATURES[1]])
    rows += [
        {"id": "long", "question": "which " * 200, "context": "the cat", "answer": "cat", "start": 4},
        {"id": "empty", "question": " ", "context": "the cat", "answer": "cat", "start": 4},
        {"id": "q1", "question": QUESTION, "context": "the cat", "answer": "horse", "start": ""},
        {"id": "wide", "question": QUESTION, "context": far, "answer": far, "start": 0},
    ]
    data, validation = write_csv(tmp_path / "a.csv", rows), write_csv(tmp_path / "b.csv", questions(9, 2))
    found = check(checkpoint_of(family), data, validation=validation, head=head)

    left = found["left_out"]
    assert left["the question or the context is empty"] == 1
    lost = "no window holds the whole answer"
    if head == "spans":
        assert left == {
            "the question or the context is empty": 1,
            "the context does not hold the answer": 1,
            lost: 1,
        }
    else:
        assert left == {"the question or the context is empty": 1, "longer than the window of 128 tokens": 2}
    assert found["splits"]["train"]["rows"] == len(rows) - sum(left.values())


def test_a_run_says_what_it_did_to_answers(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    rows = questions(40, 1)
    rows[0] |= {"start": 0 if rows[0]["start"] else 3}
    rows[1] |= {"start": ""}
    rows[2] |= {"id": "q3"}
    test = write_csv(tmp_path / "a.csv", rows)
    train = write_csv(tmp_path / "b.csv", questions(40, 9))
    assert check(checkpoint_of("bert"), train, test=test)["splits"]["test"]["counts"] == {
        "answers at a wrong place, found at another": 1,
        "answers without a place, found in the context": 1,
        "questions whose id occurs more than once (ids q3)": 1,
    }


def test_a_file_that_is_cut_off_is_refused(run_of: RunOf, checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    whole = json.dumps({"data": [{"paragraphs": [{"context": "the cat", "qas": [{"id": "a", "question": "q"}]}]}]})
    path = tmp_path / "cut.json"
    path.write_text(whole[:70])
    for done in (
        ftkit("train", path, "--model", checkpoint_of("bert"), "--out", tmp_path / "run"),
        ftkit("predict", run_of("bert spans").folder, path, "-o", tmp_path / "out.csv"),
    ):
        assert done.code == 2
        assert "the file is cut off" in " ".join(done.err.split())
    assert not (tmp_path / "run").exists()
