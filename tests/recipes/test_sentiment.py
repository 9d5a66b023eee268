"""Sentiment: however a file spells it, a label means the same in training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ftkit.config import LabelsSection
from ftkit.data.files import Row
from ftkit.errors import UserError
from ftkit.recipes.base import Examples
from ftkit.recipes.classification import LabelMap
from ftkit.recipes.sentiment import Sentiment

TASK = Sentiment()
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")


def examples(labels: Sequence[Any]) -> Examples:
    rows = [Row(n, n + 1, {"text": f"text {n}", "label": label}) for n, label in enumerate(labels, start=1)]
    several, separator = TASK.find_separator(rows, "label", LabelsSection())
    return TASK.examples("reviews.csv", rows, {"text": "text", "label": "label"}, separator, several)


def learned(labels: Sequence[Any], known: Sequence[str] = ()) -> tuple[tuple[str, ...], list[Any]]:
    """The names of the outputs, and the labels of the rows in these terms."""
    found = examples(labels)
    return TASK.label_map(found, False, None, known).names, found.labels


def aligned(labels: Sequence[Any], names: tuple[str, ...]) -> list[Any]:
    """The labels of another file in the terms of a run that answers with `names`."""
    found = examples(labels)
    TASK.align(found, LabelMap(names, False, None))
    return found.labels


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
    assert TASK.recognises(labels, column) is expected


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
    labels = LabelMap(("negative", "positive"), False, None)
    TASK.align(found, labels)
    with pytest.raises(UserError, match="labels that training does not know: 'neutral'"):
        labels.targets(found)
