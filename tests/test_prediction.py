"""Rows are read and tokenized while the model computes; the answers do not tell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftkit import prediction
from ftkit.data.files import Row
from ftkit.errors import UserError
from tests import tiny
from tests.conftest import Learned


def test_parts_come_in_their_order_made_by_another_thread() -> None:
    makers = []

    def parts() -> Iterator[int]:
        for number in range(20):
            makers.append(threading.current_thread())
            yield number

    assert list(prediction.ahead(parts())) == list(range(20))
    assert threading.main_thread() not in makers


def test_at_most_one_part_is_made_ahead() -> None:
    made = []

    def parts() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    found = prediction.ahead(parts())
    seen = []
    for part in found:
        seen.append(part)
        assert len(made) <= len(seen) + 1
    assert seen == made == list(range(5))


def test_an_error_comes_where_its_part_would_have_come() -> None:
    def parts() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("row 3")

    found = prediction.ahead(parts())
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="row 3"):
        next(found)


def test_a_consumer_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    found = prediction.ahead(iter(range(1, 1000)))
    assert next(found) == 1
    found.close()  # type: ignore[attr-defined]

    assert threading.active_count() == before


def test_answers_are_those_of_one_part_after_the_other(
    run_of: Callable[[str], Learned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("bert")
    monkeypatch.setattr(prediction, "CHUNK_ROWS", 7)
    answers = []
    for name, ahead in (("ahead", prediction.ahead), ("plain", iter)):
        monkeypatch.setattr(prediction, "ahead", ahead)
        done = tiny.ftkit("predict", run.folder, run.test, "-o", tmp_path / f"{name}.jsonl", "--all-scores", *tiny.FP32)
        assert done.code == 0, done.err
        answers.append((tmp_path / f"{name}.jsonl").read_bytes())

    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == 100


def test_what_a_late_row_calls_as_the_answer_is_not_overwritten() -> None:
    added = prediction.AddedColumns.beside(["text"], ["label", "score"], "jsonl")
    answer = {"label": "x", "score": 0.5}
    assert added.row(Row(1, 1, {"text": "a"}), answer, None) == {"text": "a", "label": "x", "score": 0.5}
    with pytest.raises(UserError, match=r"row 2 \(line 3\) has a value under 'label'"):
        added.row(Row(2, 3, {"text": "a", "label": "mine"}), answer, None)
