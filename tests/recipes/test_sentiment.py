"""Sentiment: however a file spells it, a label means the same in training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ftkit.config import LabelsSection, Recipe
from ftkit.data.files import Row
from ftkit.errors import UserError
from ftkit.recipes.base import Examples
from ftkit.recipes.labelled import LabelsRecord
from ftkit.recipes.sentiment import Sentiment

TASK = Sentiment()
RECORD = LabelsRecord(task="sentiment", columns={"text": "text", "label": "label"})
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")


def examples(labels: Sequence[Any]) -> Examples:
    rows = [Row(n, n + 1, {"text": f"text {n}", "label": label}) for n, label in enumerate(labels, start=1)]
    several, separator = TASK.find_separator(rows, "label", LabelsSection())
    return TASK.examples("reviews.csv", rows, replace(RECORD, multi_label=several, separator=separator))


def learned(labels: Sequence[Any], known: Sequence[str] = ()) -> tuple[tuple[str, ...], list[Any]]:
    """The names of the outputs, and the labels of the rows in these terms."""
    found = examples(labels)
    return TASK.label_map(found, False, None, known).names, found.labels


def aligned(labels: Sequence[Any], names: tuple[str, ...]) -> list[Any]:
    """The labels of another file in the terms of a run that answers with `names`."""
    found = examples(labels)
    TASK.align(found, replace(RECORD, labels=list(names)))
    return found.labels


def test_it_is_told_what_labels_are_called_from_here_on() -> None:
    told: list[tuple[str, str]] = []
    rows = [Row(n, n, {"text": "a", "label": label}) for n, label in enumerate(["差评", "好评"], start=1)]
    TASK.begin(RECORD, Recipe(), rows, told)
    assert told == [("labels", "好评 → positive, 差评 → negative (--task classification keeps them)")]
    told.clear()
    TASK.begin(RECORD, Recipe(), [Row(n, n, {"text": "a", "label": n}) for n in (1, 5)], told)
    assert told == [("labels", "1 → 1 star, 5 → 5 stars (--task classification keeps them)")]
    told.clear()
    TASK.begin(RECORD, Recipe(), [Row(1, 1, {"label": "negative"}), Row(2, 2, {"label": "positive"})], told)
    assert told == []


def test_numbers_keep_the_meaning_that_they_had_in_training() -> None:
    trained = examples(["-1", "0", "1"] * 2)
    record = TASK.settle(RECORD, Recipe(), {"train": trained}, SimpleNamespace(id2label=None), None, [])
    assert record.scale == {"-1": "negative", "0": "neutral", "1": "positive"}
    later = examples(["0", "1"])
    TASK.align(later, record)
    assert later.labels == ["neutral", "positive"]
    record = TASK.settle(
        RECORD, Recipe(), {"train": examples(["-1", "1"] * 2)}, SimpleNamespace(id2label=None), None, []
    )
    later = examples(["0", "1"])
    TASK.align(later, record)
    assert later.labels == ["negative", "positive"]


def refusal(labels: Sequence[Any]) -> str:
    with pytest.raises(UserError) as caught:
        learned(labels)
    return str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("negative", "neutral", "positive"),
        ("Negative", "NEUTRAL", "positive "),
        ("neg", "neu", "pos"),
        ("bad", "mixed", "good"),
        ("负面", "中性", "正面"),
        ("负向", "中立", "正向"),
        ("消极", "一般", "积极"),
    ],
)
def test_words_are_united_in_english_and_chinese(words: tuple[str, ...]) -> None:
    names, labels = learned([words[2], words[0], words[1]] * 2)
    assert names == ("negative", "neutral", "positive")
    assert labels == ["positive", "negative", "neutral"] * 2


@pytest.mark.parametrize(("bad", "good"), [("差评", "好评"), ("贬义", "褒义"), ("neg", "pos")])
def test_two_words_are_negative_and_positive(bad: str, good: str) -> None:
    assert learned([good, bad]) == (("negative", "positive"), ["positive", "negative"])


def test_a_file_that_mixes_spellings_has_one_label_for_each_meaning() -> None:
    assert learned(["good", "Positive", "pos", "正面", "bad", "负面"])[0] == ("negative", "positive")


@pytest.mark.parametrize(
    ("numbers", "names", "expected"),
    [
        (["1", "0"], ("negative", "positive"), ["positive", "negative"]),
        ([1, 0], ("negative", "positive"), ["positive", "negative"]),
        ([1.0, 0.0], ("negative", "positive"), ["positive", "negative"]),
        (["1", "0", "-1"], ("negative", "neutral", "positive"), ["positive", "neutral", "negative"]),
        ([1, -1], ("negative", "positive"), ["positive", "negative"]),
        (["5", "1", "3", "2", "4"], STARS, ["5 stars", "1 star", "3 stars", "2 stars", "4 stars"]),
        ([5, 1], ("1 star", "5 stars"), ["5 stars", "1 star"]),
        (["5 Stars", "1 star"], ("1 star", "5 stars"), ["5 stars", "1 star"]),
    ],
)
def test_numbers_mean_what_their_scale_says(numbers: list[Any], names: tuple[str, ...], expected: list[str]) -> None:
    assert learned(numbers * 2) == (names, expected * 2)


@pytest.mark.parametrize("labels", [["0", "1", "2"], ["1", "6"], ["good", "1"], ["joy", "anger"]])
def test_labels_that_are_no_sentiment_are_refused(labels: list[str]) -> None:
    message = refusal(labels * 2)
    assert message.startswith("these labels are no sentiment that is known here: ")
    assert message.endswith("\n--task classification takes any labels")


def test_labels_that_are_no_sentiment_are_named() -> None:
    assert refusal(["good", "bad", "so-so", "7"]).splitlines()[0] == (
        "these labels are no sentiment that is known here: 7, so-so"
    )


def test_one_sentiment_is_refused() -> None:
    assert refusal(["good", "pos", "1"][:2] * 2).startswith("reviews.csv has only one label, 'positive' in its 4 rows")


def test_several_labels_a_row_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        TASK.label_map(examples([["good"], ["bad", "good"]]), True, None)
    assert str(caught.value) == "sentiment has one label a row\n--task classification takes several"


def test_the_order_of_a_model_that_training_goes_on_from_stays() -> None:
    assert learned(["good", "bad"], known=["positive", "negative"])[0] == ("positive", "negative")
    assert learned(["good", "bad"], known=["positive", "neutral", "negative"])[0] == ("negative", "positive")


# Whether labels are sentiment, where nobody said so.


@pytest.mark.parametrize(
    ("labels", "column", "expected"),
    [
        ({"positive", "negative"}, "label", True),
        ({"好评", "差评"}, "标签", True),
        ({"pos", "neg", "neu"}, "class", True),
        ({"0", "1"}, "sentiment", True),
        ({"0", "1"}, " Sentiment ", True),
        ({"0", "1"}, "label", False),
        ({"1", "2", "3", "4", "5"}, "stars", True),
        ({"1", "2", "3", "4", "5"}, "评分", True),
        ({"1", "2", "3", "4", "5"}, "label", False),
        ({"positive", "negative", "unclear"}, "sentiment", False),
        ({"joy", "anger"}, "sentiment", False),
        ({"1"}, "rating", False),
        (set(), "sentiment", False),
    ],
)
def test_labels_and_their_column_speak_for_sentiment(labels: set[str], column: str, expected: bool) -> None:
    assert TASK.recognises_labels(labels, column) is expected


def recognised(labels: Sequence[Any], column: str = "label", **more: str) -> bool:
    """Whether a file of texts and labels, with the same further cells in every row, is recognised as sentiment."""
    rows = [Row(n, n + 1, {"text": f"text {n}", column: label, **more}) for n, label in enumerate(labels, start=1)]
    return TASK.recognises(Recipe(), list(rows[0].cells), rows)


def test_a_file_is_recognised_by_its_labels_and_the_name_of_their_column() -> None:
    assert recognised(["good", "bad", "好评"])
    assert recognised(["1", "0", "1"], "sentiment")
    assert not recognised(["1", "0", "1"])


def test_a_file_of_pairs_or_of_several_labels_a_row_is_no_sentiment() -> None:
    assert not recognised(["good", "bad"] * 2, text_b="and another")
    assert not recognised([["good"], ["good", "bad"]])


def test_a_file_without_a_label_is_no_sentiment() -> None:
    assert not TASK.recognises(Recipe(), ["text"], [Row(1, 2, {"text": "good"})])


# Other files in the terms of a run.


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["1", "0"], ("negative", "positive"), ["positive", "negative"]),
        (["-1", "1"], ("negative", "positive"), ["negative", "positive"]),
        (["好评", "Bad"], ("negative", "positive"), ["positive", "negative"]),
        (["-1", "0", "1"], ("negative", "neutral", "positive"), ["negative", "neutral", "positive"]),
        (["5", "4 Stars", 1], STARS, ["5 stars", "4 stars", "1 star"]),
        (["0", "good"], ("negative", "neutral", "positive"), ["0", "positive"]),  # negative or neutral?
    ],
)
def test_another_file_is_read_in_the_terms_of_the_run(
    labels: list[Any], names: tuple[str, ...], expected: list[str]
) -> None:
    assert aligned(labels, names) == expected


def test_a_neutral_row_is_refused_by_a_run_that_knows_none() -> None:
    found = examples(["-1", "0", "1"])
    record = replace(RECORD, labels=["negative", "positive"])
    TASK.align(found, record)
    with pytest.raises(UserError, match="labels that training does not know: 'neutral'"):
        record.label_map().targets(found)
