"""Whole runs through the command line: train, eval and predict, on every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Learned
from tests.tiny import FAMILIES, FP32, ftkit, read_jsonl, rows

RunOf = Callable[[str], Learned]
CheckpointOf = Callable[[str], Path]

every_family = pytest.mark.parametrize("family", [*FAMILIES, "llama"])


def accuracy(scores: dict[str, Any]) -> float:
    value: float = scores["scores"]["accuracy"]["value"]
    return value


def share_equal(first: list[Any], second: list[Any]) -> float:
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


@every_family
def test_every_family_learns_the_task(run_of: RunOf, family: str) -> None:
    learned = run_of(family)

    assert accuracy(learned.result["validation"]) >= 0.95
    assert accuracy(learned.result["test"]) >= 0.95


@every_family
def test_predict_gives_the_labels_that_eval_counted(run_of: RunOf, tmp_path: Path, family: str) -> None:
    learned = run_of(family)
    truth = rows(100, seed=2)

    scored = ftkit("eval", learned.folder, learned.test, *FP32, "--json").json
    answered = ftkit("predict", learned.folder, learned.test, "-o", tmp_path / "out.jsonl", *FP32)
    answers = read_jsonl(tmp_path / "out.jsonl")
    counted = read_jsonl(learned.folder / "eval/heldout/predictions.jsonl")

    assert answered.code == 0
    assert [answer["text"] for answer in answers] == [row["text"] for row in truth]
    assert [answer["predicted_label"] for answer in answers] == [line["label"] for line in counted]
    assert [line["reference"] for line in counted] == [row["label"] for row in truth]
    right = share_equal([a["predicted_label"] for a in answers], [row["label"] for row in truth])
    assert right == accuracy(scored) == accuracy(learned.result["test"])
