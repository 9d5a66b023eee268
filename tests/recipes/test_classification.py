"""Classification: which columns mean what, how labels are read, and what is refused in which words."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftkit.commands import chosen_here
from ftkit.config import LabelsSection, Recipe
from ftkit.data.files import ReadOptions, Row, open_rows
from ftkit.data.load import Table
from ftkit.errors import UserError
from ftkit.recipes import RECIPES, find
from ftkit.recipes.base import GUESS_ROWS, Examples, text_of
from ftkit.recipes.classification import Classification
from ftkit.recipes.labelled import LabelAnswers, LabelMap, LabelsRecord

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")

TASK = Classification()
RECORD = LabelsRecord(task="classification", columns={"text": "text", "label": "label"})
FIND_OUT = LabelsSection()


def table(**columns: Sequence[Any]) -> list[Row]:
    """Rows of a file with these columns, the first on line 2."""
    cells = zip(*columns.values(), strict=True)
    return [Row(n, n + 1, dict(zip(columns, row, strict=True))) for n, row in enumerate(cells, start=1)]


def labelled(labels: Sequence[Any]) -> list[Row]:
    return table(text=[f"text {n}" for n in range(len(labels))], label=labels)


def guess(rows: list[Row], *, labelled: bool = True, **given: str) -> dict[str, str]:
    return TASK.columns(given, list(rows[0].cells), rows, labelled=labelled)


def read(labels: Sequence[Any], settings: LabelsSection = FIND_OUT) -> tuple[list[Any], LabelMap]:
    """The labels of the rows as they are read, and their map."""
    rows = labelled(labels)
    several, separator = TASK.find_separator(rows, "label", settings)
    examples = TASK.examples("reviews.csv", rows, replace(RECORD, multi_label=several, separator=separator))
    return examples.labels, TASK.label_map(examples, several, separator)


def names(labels: Sequence[Any], settings: LabelsSection = FIND_OUT) -> tuple[str, ...]:
    return read(labels, settings)[1].names


def refusal(labels: Sequence[Any], settings: LabelsSection = FIND_OUT) -> str:
    with pytest.raises(UserError) as caught:
        read(labels, settings)
    return str(caught.value)


def shared(name: str) -> tuple[tuple[str, ...], list[Row]]:
    source, rows = open_rows(SHARED / name, ReadOptions())
    return source.columns, list(rows)


# Columns, on the headers of real files.


@needs_shared
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sst2/dev.tsv", {"text": "sentence", "label": "label"}),
        ("chnsenticorp/dev.tsv", {"text": "text_a", "label": "label"}),
        ("imdb/test.csv", {"text": "review", "label": "sentiment"}),
        ("trec/train.csv", {"text": "text", "label": "label"}),
        ("banking77/val.csv", {"text": "text", "label": "category"}),
        ("tnews_fewclue/dev_0.json", {"text": "sentence", "label": "label"}),
        ("messy/spam_kaggle_unnamed_columns.csv", {"text": "v2", "label": "v1"}),
        ("messy/chnsenticorp_excel_utf8_bom_crlf.csv", {"text": "评论", "label": "标签"}),
        ("messy/hotel_reviews_with_empty_row.csv", {"text": "review", "label": "label"}),
        # Without a header: the label has the fewest different values, the text the longest cells.
        ("sms_spam/val.tsv", {"text": "column2", "label": "column1"}),
        ("ag_news_testfile/test.csv", {"text": "column3", "label": "column1"}),
        ("goemotions/dev.tsv", {"text": "column1", "label": "column2"}),
        ("csl_cls_ctg/dev.tsv", {"text": "column2", "label": "column3"}),
    ],
)
def test_columns_of_real_files(name: str, expected: dict[str, str]) -> None:
    columns, rows = shared(name)
    assert TASK.columns({}, columns, rows) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["sentence1", "sentence2", "label"], {"text": "sentence1", "pair": "sentence2", "label": "label"}),
        (["question1", "question2", "label"], {"text": "question1", "pair": "question2", "label": "label"}),
        (["premise", "hypothesis", "label"], {"text": "premise", "pair": "hypothesis", "label": "label"}),
        (["Text", "LABEL"], {"text": "Text", "label": "LABEL"}),
        ([" text ", "label"], {"text": " text ", "label": "label"}),
    ],
)
def test_usual_names_are_known_however_they_are_written(columns: list[str], expected: dict[str, str]) -> None:
    rows = table(**{name: ["a", "b", "a", "b"] for name in columns})
    assert guess(rows) == expected


def test_a_named_column_is_taken_before_a_usual_name() -> None:
    rows = table(text=["a", "b"], summary=["c", "d"], label=["0", "1"], mood=["0", "1"])
    assert guess(rows, text="summary", label="mood") == {"text": "summary", "label": "mood"}


def test_a_column_named_as_the_text_is_not_the_label_too() -> None:
    rows = table(label=["a good day", "a bad day"] * 2, mood=["0", "1"] * 2)
    assert guess(rows, text="label") == {"text": "label", "label": "mood"}


def test_an_identifier_is_neither_text_nor_label() -> None:
    rows = table(
        number=[str(n) for n in range(40)],
        remark=[f"it was day {n} of the journey" for n in range(40)],
        verdict=["yes", "no"] * 20,
    )
    assert guess(rows) == {"text": "remark", "label": "verdict"}


def test_an_identifier_is_no_label_however_many_rows_there_are() -> None:
    """Only the first rows are looked at, so they are what the number of values is compared with."""
    count = 3 * GUESS_ROWS
    rows = table(number=[str(n) for n in range(count)], remark=[f"it was day {n}" for n in range(count)])
    with pytest.raises(UserError, match="no label column was found among: number"):
        guess(rows)


def test_a_column_of_one_value_is_no_label() -> None:
    rows = table(kind=["review"] * 6, remark=[f"it was day {n}" for n in range(6)], verdict=["y", "n"] * 3)
    assert guess(rows) == {"text": "remark", "label": "verdict"}


def test_no_label_is_needed_to_predict() -> None:
    rows = table(number=["1", "2"], remark=["a good day", "a bad day"])
    assert guess(rows, labelled=False) == {"text": "remark"}


def test_a_label_that_is_there_is_not_needed_to_predict() -> None:
    assert guess(labelled(["a", "b"]), labelled=False) == {"text": "text"}


def test_a_column_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        guess(table(review=["a"], sentiment=["b"]), text="reviews")
    assert str(caught.value) == (
        "there is no column 'reviews'; the columns are review, sentiment\ndid you mean review?"
    )


def test_a_column_like_no_other_is_refused_with_the_option() -> None:
    with pytest.raises(UserError) as caught:
        guess(table(review=["a"], sentiment=["b"]), label="klasse")
    assert str(caught.value) == (
        "there is no column 'klasse'; the columns are review, sentiment\n--label NAME takes one of them"
    )


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        TASK.columns({"txt": "review"}, ["review"], [])
    assert str(caught.value) == "data.columns has 'txt'; this task knows label, pair, text"


def test_a_file_without_a_label_is_refused_with_its_columns() -> None:
    with pytest.raises(UserError) as caught:
        guess(table(remark=[f"day {n} of a very long and winding road to here" for n in range(5)], place=["x"] * 5))
    assert str(caught.value) == (
        "no label column was found among: remark (day 0 of a very long and winding road t…), place (x)\n"
        "--label NAME names it; --set data.header=false if the first row is data"
    )


def test_case_25_a_header_of_another_separator_shows_what_was_found() -> None:
    """A file cut at the wrong places has one column, whose name says so."""
    with pytest.raises(UserError) as caught:
        guess(table(**{"text;label": ["good;1", "bad;0"]}))
    assert "text;label (good;1)" in str(caught.value)
    assert "--label NAME" in str(caught.value)


# Texts.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("NA", "NA"),
        ("", ""),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (None, None),
        (float("nan"), None),
        (["a"], None),
        ({"a": 1}, None),
    ],
)
def test_a_cell_as_text(value: Any, expected: str | None) -> None:
    assert text_of(value) == expected


def test_a_pair_is_two_texts() -> None:
    rows = table(premise=["it rains"], hypothesis=["it is wet"], label=["yes"])
    record = replace(RECORD, columns={"text": "premise", "pair": "hypothesis", "label": "label"})
    assert TASK.examples("pairs.csv", rows, record).texts == [("it rains", "it is wet")]


def test_case_21_na_null_and_empty_cells_are_texts_and_the_empty_ones_are_counted() -> None:
    rows = table(text=["NA", "null", "None", "nan", "", "  "], label=["a", "b"] * 3)
    examples = TASK.examples("reviews.csv", rows, RECORD)
    assert [text for (text,) in examples.texts] == ["NA", "null", "None", "nan", "", "  "]
    assert examples.counts == {"read": 6, "empty texts": 2}


def test_case_29_rows_without_the_text_are_refused_with_their_lines() -> None:
    rows = labelled(["a", "b", "a"])
    del rows[0].cells["text"]
    rows[2].cells["text"] = None
    with pytest.raises(UserError) as caught:
        TASK.examples("reviews.jsonl", rows, RECORD)
    assert str(caught.value) == (
        "2 of 3 rows of reviews.jsonl have no value for the text (line 2, line 4)\n"
        "Fill in or remove these rows; `ftkit predict` answers the others and marks these"
    )


def test_a_list_is_no_text() -> None:
    with pytest.raises(UserError, match="column 'text' holds a list where a text is expected"):
        TASK.examples("a.jsonl", table(text=[["a"]], label=["x"]), RECORD)


@pytest.mark.parametrize("value", [b"bytes", datetime.date(2026, 1, 2), Decimal("1.5"), {"a": 1}])
def test_cells_that_are_no_texts_are_refused_or_marked(value: Any) -> None:
    rows = table(text=[value], label=["x"])
    with pytest.raises(UserError, match=f"holds a {type(value).__name__} where a text is expected"):
        TASK.examples("a.parquet", rows, RECORD)
    assert TASK.problem(rows[0], RECORD) == "no text in column text"


def test_examples_know_where_they_stand() -> None:
    examples = TASK.examples("reviews.csv", labelled(["a", "b", "c"]), RECORD).take([2])
    assert (examples.texts, examples.labels, examples.place(0)) == ([("text 2",)], ["c"], "reviews.csv:4")


def test_rows_of_files_without_lines_are_placed_by_their_number() -> None:
    assert Examples("a.parquet", [("x",)], ["a"], [7], [0]).place(0) == "a.parquet, row 7"


# Labels.


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["spam", "ham", "spam", "ham"], ("ham", "spam")),
        (["0", "1"], ("0", "1")),
        ([1, 0], ("0", "1")),
        ([1.0, 0.0], ("0", "1")),  # whole numbers of a column that once had gaps
        ([0.5, 1.5], ("0.5", "1.5")),
        ([True, False], ("false", "true")),
        (["10", "9", "2"] * 2, ("2", "9", "10")),
        (["-1", "0", "1"] * 2, ("-1", "0", "1")),
        (["1", "2", "3", "4", "5"] * 2, ("1", "2", "3", "4", "5")),
        (["4 stars", "1 star"], ("1 star", "4 stars")),
        ([" good ", "good", "bad", "bad\t"], ("bad", "good")),
        (["好", "差"], ("好", "差")),
        ([["good"], ["bad"]], ("bad", "good")),  # lists of one label each
    ],
)
def test_kinds_of_labels_and_their_order(labels: list[Any], expected: tuple[str, ...]) -> None:
    assert names(labels) == expected


def test_case_27_labels_are_the_strings_of_the_file() -> None:
    assert names(["007", "7", "1e3", "1000", "12345678901234567", "007"] * 2) == (
        "007",
        "1000",
        "12345678901234567",
        "1e3",
        "7",
    )


@pytest.mark.parametrize("count", [7, 10_051])
@pytest.mark.parametrize("odd", [0, -1])
def test_case_26_an_odd_label_is_read_alike_early_and_late_in_small_files_and_large(count: int, odd: int) -> None:
    labels = ["0", "1"] * (count // 2) + ["1"]
    labels[odd] = "unclear"
    assert names(labels) == ("0", "1", "unclear")


def test_the_order_of_a_model_that_training_goes_on_from_stays() -> None:
    examples = TASK.examples("reviews.csv", labelled(["a", "b", "c"] * 2), RECORD)
    assert TASK.label_map(examples, False, None, ["c", "a", "b"]).names == ("c", "a", "b")
    assert TASK.label_map(examples, False, None, ["c", "a"]).names == ("a", "b", "c")


# Several labels a row.


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_a_separator_is_found_where_its_parts_also_stand_alone(separator: str) -> None:
    labels, label_map = read(["red", f"red{separator}blue", "blue", f"blue{separator} green", "green", "red"])
    assert labels == [("red",), ("red", "blue"), ("blue",), ("blue", "green"), ("green",), ("red",)]
    assert label_map == LabelMap(("blue", "green", "red"), True, separator)


@pytest.mark.parametrize(
    "labels",
    [
        ["Bolton, Lancashire", "York", "Leeds, Yorkshire", "York"] * 2,
        ["Yes, I do", "No"] * 3,
        ["1,5", "2,5", "3,5"] * 3,  # decimal commas
        [f"{colour},{size}" for colour in ("red", "blue", "green") for size in ("small", "medium", "large")] * 2,
    ],
)
def test_a_comma_inside_labels_separates_nothing(labels: list[str]) -> None:
    assert read(labels)[1].multi_label is False


def test_lists_are_several_labels() -> None:
    labels, label_map = read([["a", "b"], ["b"], [], ["a", "a"]])
    assert labels == [("a", "b"), ("b",), (), ("a",)]
    assert label_map == LabelMap(("a", "b"), True, None)


def test_lists_of_numbers_are_several_labels() -> None:
    assert names([[2, 10], [10], [1.0]] * 2) == ("1", "2", "10")


def test_an_empty_cell_among_several_labels_is_the_empty_set() -> None:
    labels, label_map = read(["red", "", "red,blue", "blue", None])
    assert labels == [("red",), (), ("red", "blue"), ("blue",), ()]
    assert label_map.names == ("blue", "red")


def test_labels_keep_the_places_that_the_model_gives_them_whatever_their_capitals() -> None:
    examples = TASK.examples("a.csv", labelled(["entailment", "neutral", "contradiction"] * 2), RECORD)
    known = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
    assert TASK.label_map(examples, False, None, known).names == ("contradiction", "neutral", "entailment")
    assert TASK.label_map(examples, False, None, ["a", "b", "c"]).names == ("contradiction", "entailment", "neutral")


def test_decimal_commas_separate_no_labels() -> None:
    labels, label_map = read(["1", "1,5", "2", "2,5", "5", "1,5"] * 3)
    assert (labels[1], label_map.multi_label) == ("1,5", False)


def test_numbers_of_labels_are_several_a_row() -> None:
    labels, label_map = read(["27", "2,27", "0,3,5", "0", "2", "3", "5", "27"] * 3)
    assert (labels[1], label_map.multi_label, label_map.separator) == (("2", "27"), True, ",")
    assert read(["27", "2,27", "2", "27"] * 3)[1].multi_label


def test_a_double_minus_is_no_number() -> None:
    assert read(["--1", "2", "--1", "2"])[1].names == ("--1", "2")


def test_marks_of_missing_labels_are_counted_within_lists_too() -> None:
    assert refusal([["a"], ["b", "-100"], ["a", "b"], ["-100"]]).startswith("2 rows have the label -100")


def test_the_same_labels_in_another_order_are_no_conflict() -> None:
    record = replace(RECORD, labels=["a", "b"], multi_label=True)
    same = Examples("a.csv", [("x",), ("x",)], [("a", "b"), ("b", "a")], [1, 2], [2, 3])
    assert TASK.split_facts(same, [("x",), ("x",)], record)["conflicting_rows"] == 0


def test_a_separator_that_is_named_is_used() -> None:
    labels, label_map = read(["a/b", "a", "b"], LabelsSection(separator="/"))
    assert (labels, label_map.separator) == ([("a", "b"), ("a",), ("b",)], "/")


def test_one_label_a_row_as_asked_keeps_the_separators() -> None:
    labels = ["red", "red,blue", "blue", "red"]
    assert read(labels * 2, LabelsSection(multi_label=False))[1] == LabelMap(("blue", "red", "red,blue"), False, None)


def test_several_labels_as_asked_are_separated_by_commas() -> None:
    assert read(["a,b", "a,b"], LabelsSection(multi_label=True))[1] == LabelMap(("a", "b"), True, ",")


def test_an_empty_list_where_one_label_is_asked_for_is_refused() -> None:
    assert refusal([["a"], ["b"], []], LabelsSection(multi_label=False)) == (
        "some rows have several labels or none\n--set labels.multi_label=true allows that"
    )


# What cannot be learned.


def test_case_32_one_label_is_refused() -> None:
    assert refusal(["good"] * 5) == (
        "reviews.csv has only one label, 'good' in its 5 rows: there is nothing to tell apart\n"
        "Is it the right column? --label NAME chooses it"
    )


@pytest.mark.parametrize("empty", ["", " ", None, float("nan")])
def test_no_labels_at_all_are_refused(empty: Any) -> None:
    assert refusal([empty] * 5) == (
        "reviews.csv has no labels in its 5 rows: there is nothing to tell apart\n"
        "Is it the right column? --label NAME chooses it"
    )


@pytest.mark.parametrize(("mark", "others"), [("-100", ["0", "1"]), ("-1", ["0", "1", "2"]), ("-100", ["-1", "1"])])
def test_case_33_numbers_that_usually_mark_a_missing_label_are_refused(mark: str, others: list[str]) -> None:
    problem, remedy = refusal([mark, mark, *others, *others]).splitlines()
    assert re.fullmatch(rf"2 rows .*have the label {mark}, which usually marks a missing one", problem)
    assert remedy == "Remove these rows, or give the label another name"


@pytest.mark.parametrize("labels", [["-1", "1"], ["-1", "0", "1"]])
def test_case_33_minus_one_beside_one_is_a_label(labels: list[str]) -> None:
    assert names(labels * 2) == tuple(labels)


def test_case_33_labels_from_one_to_five_are_numbered_from_zero() -> None:
    rows = labelled(["5", "1", "3", "2", "4"])
    examples = TASK.examples("reviews.csv", rows, RECORD)
    label_map = LabelMap(("1", "2", "3", "4", "5"), False, None)
    assert label_map.targets(examples).tolist() == [4, 0, 2, 1, 3]


def test_nearly_as_many_labels_as_rows_are_refused() -> None:
    message = refusal([f"label {n}" for n in range(6)])
    assert message == (
        "6 different labels in 6 rows of reviews.csv: for example label 0, label 1, label 2\n"
        "Is it the right column? --label NAME chooses it"
    )


# The label map.


def examples_of(labels: Sequence[Any]) -> Examples:
    count = len(labels)
    return Examples("test.csv", [("t",)] * count, list(labels), list(range(1, count + 1)), list(range(2, count + 2)))


def test_targets_are_the_places_of_the_labels() -> None:
    targets = LabelMap(("b", "a"), False, None).targets(examples_of(["a", "b", "a"]))
    assert targets.dtype == np.int64
    assert targets.tolist() == [1, 0, 1]


def test_targets_of_several_labels_are_a_table() -> None:
    targets = LabelMap(("a", "b", "c"), True, ",").targets(examples_of([("c", "a"), (), ("b",)]))
    assert targets.dtype == np.bool_
    assert targets.tolist() == [[True, False, True], [False] * 3, [False, True, False]]


def test_case_31_a_file_that_lacks_a_label_has_the_same_targets() -> None:
    """Training knew a, b, c; a test file of a and c only must not number c as the second label."""
    assert LabelMap(("a", "b", "c"), False, None).targets(examples_of(["c", "a"])).tolist() == [2, 0]


def test_case_31_labels_that_training_does_not_know_are_refused_with_their_counts() -> None:
    with pytest.raises(UserError) as caught:
        LabelMap(("a", "b"), False, None).targets(examples_of(["a", "d", "c", "d"]))
    assert str(caught.value) == (
        "test.csv has labels that training does not know: 'd' (2 rows), 'c' (1 rows). It knows: a, b\n"
        "Correct the labels, or train on rows that have them"
    )


def test_case_29_missing_labels_are_refused_with_their_count_and_lines() -> None:
    with pytest.raises(UserError) as caught:
        LabelMap(("a", "b"), False, None).targets(examples_of(["a", None, "b", *[None] * 6]))
    assert str(caught.value) == (
        "7 of 9 rows of test.csv have no label (test.csv:3, test.csv:5, test.csv:6, test.csv:7, test.csv:8)\n"
        "Fill in or remove these rows; `ftkit predict` answers rows without labels"
    )


# Other systems.


def test_labels_that_were_written_to_a_table_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('label\n"a,b"\na\n', encoding="utf-8")
    record = replace(RECORD, labels=["a", "b"], multi_label=True, separator=None)
    truth = examples_of([("a",), ("b",)])
    assert TASK.foreign_answers(str(tmp_path / "x.csv"), ReadOptions(), truth, record).chosen.tolist() == [
        [True, True],
        [True, False],
    ]


def test_lists_are_answers_where_they_hold_one_label(tmp_path: Path) -> None:
    record, truth = replace(RECORD, labels=["a", "b"]), examples_of(["a", "b"])
    path = tmp_path / "x.jsonl"
    path.write_text('{"label": ["b"]}\n{"label": []}\n', encoding="utf-8")
    assert TASK.foreign_answers(str(path), ReadOptions(), truth, record).chosen.tolist() == [1, -1]
    path.write_text('{"label": ["b"]}\n{"label": ["a", "b"]}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"none of the labels: \('a', 'b'\) \(1 rows\)"):
        TASK.foreign_answers(str(path), ReadOptions(), truth, record)


def test_a_review_is_the_text_and_not_its_title_however_it_is_written() -> None:
    for name in ("review_text", "Review Text", "review-text", "Body text"):
        rows = table(Title=["t"] * 4, **{name: ["a longer text"] * 4}, label=["x", "y"] * 2)
        assert TASK.columns({}, ["Title", name, "label"], rows) == {"text": name, "label": "label"}


def test_the_label_of_rows_to_be_scored_is_not_guessed() -> None:
    rows = table(text=["a text"] * 9, verified=["0", "1", "0"] * 3, gold=["1", "0", "1"] * 3)
    assert TASK.columns({}, ["text", "verified", "gold"], rows)["label"] == "verified"
    with pytest.raises(UserError, match="no label column was found"):
        TASK.columns({}, ["text", "verified", "gold"], rows, record=RECORD)
    data = Table("a.csv", ("text", "verified", "gold"), rows, (), "")
    with pytest.raises(UserError, match="no label column was found"):
        TASK.foreign_record(data, Recipe())
    assert TASK.foreign_record(data, Recipe(data={"columns": {"label": "gold"}})).columns["label"] == "gold"
    found = TASK.columns({"label": "gold"}, ["text", "verified", "gold"], rows, record=RECORD)
    assert found == {"text": "text", "label": "gold"}


# Thresholds.


def test_scores_of_rows_that_chose_a_threshold_are_marked_whichever_it_was() -> None:
    """0.5 is what several labels begin with, and often what is best."""
    record = replace(RECORD, labels=["a", "b"], multi_label=True, separator=",", threshold=0.5)
    sure = LabelAnswers(np.asarray([[True, False]]), np.asarray([[0.9, 0.1]], dtype=np.float32))
    chosen = TASK.choose(sure, examples_of([("a",)]), Recipe(), record)
    assert chosen == record
    assert chosen_here("validation", chosen.chooses_threshold, {"epochs": 3}) == ["the best epoch", "the threshold"]
    assert chosen_here("validation", RECORD.chooses_threshold, {"epochs": 3}) == ["the best epoch"]


# The list of tasks.


def test_tasks_are_found_by_their_names() -> None:
    assert (find("classification").name, find("sentiment").name) == ("classification", "sentiment")


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        find("sentimnt")
    assert str(caught.value) == (
        "there is no task 'sentimnt'; there are " + ", ".join(RECIPES) + "\nDid you mean sentiment?"
    )


@pytest.mark.parametrize(
    ("rows", "labels", "epochs"),
    [(60_557, 2, 3), (4_445, 6, 5), (8_059, 77, 7), (199, 6, 40), (392, 77, 40), (1, 2, 40)],
)
def test_few_rows_and_many_labels_are_gone_through_more_often(rows: int, labels: int, epochs: int) -> None:
    record = replace(RECORD, labels=tuple(map(str, range(labels))))
    assert Classification().default_epochs(rows, 32, record)[0] == epochs
