"""Question answering: how answers are read and placed, which of them are given, and how they are scored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit import recipes
from ftkit.config import Recipe
from ftkit.data import load
from ftkit.data.files import ReadOptions, Row, open_rows
from ftkit.errors import UserError
from ftkit.metrics import answers as metrics
from ftkit.recipes.base import Examples
from ftkit.recipes.question_answering import (
    Candidate,
    QuestionAnswering,
    QuestionAnswers,
    QuestionsRecord,
    _cut_out,
    most_alike_sentence,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
steady = settings(deadline=None, derandomize=True)

TASK = QuestionAnswering()
COLUMNS = {"question": "question", "context": "context", "answer": "answers"}
CONTEXT = "Ann met Bob in Bonn. Bob left."
BOB = {"text": "Bob", "answer_start": 8}


def record(**changes: Any) -> QuestionsRecord:
    return QuestionsRecord(**{"task": TASK.name, "columns": COLUMNS, **changes})


def table(*cells: dict[str, Any]) -> list[Row]:
    """Rows of a file, the first on line 2; what a row lacks is usual."""
    usual = {"question": "Whom?", "context": CONTEXT}
    return [Row(n, n + 1, usual | row) for n, row in enumerate(cells, start=1)]


def examples(*cells: dict[str, Any], **columns: str) -> Examples:
    names = {name for row in cells for name in row}
    roles = {name: name for name in ("id", "start") if name in names}
    roles |= {"impossible": "is_impossible"} if "is_impossible" in names else {}
    return TASK.examples("a.csv", table(*cells), record(columns=COLUMNS | roles | columns))


def read(answers: Any, context: str = CONTEXT, **cells: Any) -> Any:
    """The answers of one row."""
    [found] = examples({"answers": answers, "context": context, **cells}).labels
    return found


def refusal(*cells: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        examples(*cells)
    return str(caught.value)


def counts(*cells: dict[str, Any]) -> dict[str, int]:
    return {what: count for what, count in examples(*cells).counts.items() if what != "read"}


# Columns.


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("id", "title", "context", "question", "answers", "is_impossible"), {"impossible": "is_impossible"}),
        (("id", "question", "context", "answer", "start"), {"answer": "answer", "start": "start"}),
        (("Question", "Passage", "Answer"), {"question": "Question", "context": "Passage", "answer": "Answer"}),
        (("问题", "文章", "答案"), {"question": "问题", "context": "文章", "answer": "答案"}),
    ],
)
def test_usual_names_are_known(names: Sequence[str], expected: dict[str, str]) -> None:
    rows = [Row(1, 2, dict.fromkeys(names, "x"))]
    found = TASK.columns({}, names, rows)
    assert expected.items() <= found.items()
    assert {"question", "context", "answer"} <= set(found)
    assert TASK.recognises(Recipe(), names, rows)


def test_columns_that_are_missing_are_named() -> None:
    with pytest.raises(UserError) as caught:
        TASK.columns({}, ["q", "context"], [Row(1, 2, {"q": "Whom?", "context": CONTEXT})])
    assert str(caught.value) == (
        f"no question and no answer column was found among: q (Whom?), context ({CONTEXT})\n"
        "--column question=NAME --column answer=NAME names it"
    )


def test_to_predict_needs_no_answers() -> None:
    names = ["id", "question", "context", "answers"]
    found = TASK.columns({}, names, [Row(1, 2, dict.fromkeys(names, "x"))], labelled=False)
    assert found == {"id": "id", "question": "question", "context": "context"}


def test_it_is_recognised_before_the_other_tasks() -> None:
    rows = table({"answers": [BOB], "id": "a"})
    assert recipes.recognise(Recipe(), list(rows[0].cells), rows).name == TASK.name


# Reading answers.


@pytest.mark.parametrize(
    "answers",
    [
        "Bob",
        ["Bob"],
        [BOB],
        [{"text": "Bob"}],
        {"text": ["Bob"], "answer_start": [8]},
        {"text": ["Bob"], "answer_start": []},
        '["Bob"]',
        '[{"text": "Bob", "answer_start": 8}]',
        '{"text": ["Bob"], "answer_start": [8]}',
        " Bob ",
    ],
)
def test_every_way_of_writing_an_answer_is_read(answers: Any) -> None:
    [(text, start)] = read(answers)
    assert CONTEXT[start : start + len(text)] == text
    assert (text.strip(), start + text.index("B")) == ("Bob", 8)


def test_a_start_in_a_column_of_its_own_is_read() -> None:
    assert read("Bob", start="21") == (("Bob", 21),)
    assert read("Bob", start=21.0) == (("Bob", 21),)
    assert read("Bob", start="") == (("Bob", 8),)
    assert read(["Ann", "Bob"], start=[0, 21]) == (("Ann", 0), ("Bob", 21))
    assert read('["Ann", "Bob"]', start="[0, 21]") == (("Ann", 0), ("Bob", 21))


@pytest.mark.parametrize("answers", [["Ann", "Bob"], [{"text": "Ann"}, BOB], {"text": ["Ann", "Bob"]}])
def test_several_answers_are_kept_in_their_order(answers: Any) -> None:
    assert read(answers) == (("Ann", 0), ("Bob", 8))


@pytest.mark.parametrize("answers", [None, "", "  ", [], [None], [""], {"text": [], "answer_start": []}, "[]"])
def test_a_question_may_have_no_answer(answers: Any) -> None:
    assert read(answers) == ()


@pytest.mark.parametrize("impossible", [True, 1, "1", "true", "True "])
def test_an_impossible_question_has_no_answer(impossible: Any) -> None:
    assert read([BOB], is_impossible=impossible) == ()


@pytest.mark.parametrize("impossible", [False, 0, "0", "false", "", None])
def test_a_possible_question_has_its_answer(impossible: Any) -> None:
    assert read([BOB], is_impossible=impossible) == (("Bob", 8),)


def test_brackets_may_be_an_answer() -> None:
    assert read("[sic]", "he wrote [sic]") == (("[sic]", 9),)
    assert read("[12]", "see [12]") == (("[12]", 4),)
    assert read('{"a": 1}', 'is {"a": 1}') == (('{"a": 1}', 3),)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"answers": [["Bob"]]}, "a.csv, line 2: an answer is list, not a text"),
        ({"answers": {"text": ["Bob"], "answer_start": [1, 2]}}, "a.csv, line 2: 1 answers and 2 starts"),
        ({"answers": ["Bob"], "start": [1, 2]}, "a.csv, line 2: 1 answers and 2 starts"),
        ({"answers": "Bob", "start": "eight"}, "a.csv, line 2: the answer's start 'eight' is no whole number"),
        ({"answers": "Bob", "start": "inf"}, "a.csv, line 2: the answer's start 'inf' is no whole number"),
        ({"answers": "Bob", "start": 1.5}, "a.csv, line 2: the answer's start 1.5 is no whole number"),
    ],
)
def test_answers_that_cannot_be_read_are_refused_with_their_line(cells: dict[str, Any], message: str) -> None:
    assert refusal(cells).startswith(message)


def test_rows_without_a_question_or_a_context_are_refused_with_their_lines() -> None:
    assert refusal({"answers": "Bob"}, {"answers": "Bob", "context": None}, {"answers": "x", "question": []}) == (
        "2 of 3 rows of a.csv have no question or no context (line 3, line 4)\n"
        "Fill in or remove these rows; `ftkit predict` answers the others and marks these"
    )


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "parquet"])
def test_the_same_questions_are_read_from_every_format(tmp_path: Path, suffix: str) -> None:
    context = 'Ann met  Bob\r\nin "Bonn" 🙂, 波恩.'
    rows = [
        {"id": "a", "question": "Where?", "context": context, "answer": "波恩", "start": context.index("波恩")},
        {"id": "b", "question": "Whom?", "context": context, "answer": "Bob\r\nin", "start": 9},
    ]
    path = tmp_path / f"a.{suffix}"
    if suffix == "json":
        asked = [
            {"id": r["id"], "question": r["question"], "answers": [{"text": r["answer"], "answer_start": r["start"]}]}
            for r in rows
        ]
        path.write_text(json.dumps({"data": [{"title": "T", "paragraphs": [{"context": context, "qas": asked}]}]}))
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == "csv":
        from tests.tiny import write_csv

        write_csv(path, rows)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)

    found = load.load(str(path), ReadOptions())
    columns = TASK.columns({}, found.columns, found.rows)
    read_rows = TASK.examples("a", found.rows, record(columns=columns))

    assert read_rows.ids == ["a", "b"]
    assert read_rows.texts == [("Where?", context), ("Whom?", context)]
    assert read_rows.labels == [(("波恩", context.index("波恩")),), (("Bob\r\nin", 9),)]
    assert read_rows.counts == {"read": 2}


def test_parquet_with_lists_of_answers_is_read(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {"question": "Whom?", "context": CONTEXT, "answers": {"text": ["Bob", "Ann"], "answer_start": [8, 0]}},
        {"question": "Whom?", "context": CONTEXT, "answers": {"text": [], "answer_start": []}},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = TASK.examples("a", list(open_rows(tmp_path / "a.parquet")[1]), record())
    assert found.labels == [(("Bob", 8), ("Ann", 0)), ()]


# Places.


def test_an_answer_at_a_wrong_place_is_found_at_the_nearest_one_and_counted() -> None:
    given = {"answers": [{"text": "Bob", "answer_start": 19}]}
    assert examples(given).labels == [(("Bob", 21),)]
    assert counts(given) == {"answers at a wrong place, found at another": 1}


def test_an_answer_without_a_place_is_found_and_counted() -> None:
    assert counts({"answers": "Bob"}, {"answers": "Ann"}) == {
        "answers without a place, found in the context": 2,
        "of them, found more than once: the first is taken": 1,
    }


def test_white_space_around_an_answer_does_not_hide_it() -> None:
    assert read("\tBob\n") == (("Bob", 8),)


def test_answers_that_the_context_does_not_hold_are_counted_with_their_ids() -> None:
    rows = [{"id": f"q{n}", "answers": ["Carl"]} for n in range(6)]
    assert counts(*rows[:1], {"id": "z", "answers": ["Ann"]}) == {
        "questions with an answer that the context does not hold (ids q0)": 1,
        "answers without a place, found in the context": 1,
    }
    assert counts(*rows) == {"questions with an answer that the context does not hold (ids q0, q1, q2, q3, q4, ...)": 6}
    assert examples(*rows).labels == [(("Carl", -1),)] * 6


def test_ids_that_occur_twice_are_counted() -> None:
    rows = [{"id": name, "answers": [BOB]} for name in ("a", "b", "a")]
    assert counts(*rows) == {"questions whose id occurs more than once (ids a)": 1}


def test_questions_without_an_id_are_called_by_their_row() -> None:
    assert examples({"answers": [BOB]}, {"answers": [BOB]}).ids == ["1", "2"]
    assert examples({"answers": [BOB], "id": "a"}, {"answers": [BOB], "id": None}).ids == ["a", "2"]


def test_empty_texts_are_counted_and_not_learned_from() -> None:
    rows = [{"answers": [BOB]}, {"answers": [], "question": " "}, {"answers": "", "context": ""}]
    assert counts(*rows) == {"questions with an empty question or context (ids 2, 3)": 2}
    for head in ("spans", "text"):
        lost = TASK.unusable(examples(*rows), record(head=head))
        assert lost["the question or the context is empty"] == [1, 2]


def test_only_cutting_out_cannot_learn_an_answer_that_the_context_does_not_hold() -> None:
    found = examples({"answers": ["Carl"]}, {"answers": ["Carl", "Bob"]}, {"answers": []})
    assert TASK.unusable(found, record())["the context does not hold the answer"] == [0]
    assert "the context does not hold the answer" not in TASK.unusable(found, record(head="text"))


@steady
@given(st.text("ab 好🙂\r\n", min_size=1, max_size=30), st.data())
def test_a_slice_of_a_context_is_always_found_again(context: str, data: Any) -> None:
    begin = data.draw(st.integers(0, len(context) - 1))
    text = context[begin : data.draw(st.integers(begin + 1, len(context)))]
    for start in (None, begin, begin + 1, -1):
        for found, at in read([{"text": text, "answer_start": start}], context):
            assert context[at : at + len(found)] == found
            assert found == text
            assert start != begin or at == begin


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({}, None),
        ({"question": None}, "no text in column question"),
        ({"context": {"a": 1}}, "no text in column context"),
        ({"question": " \n"}, "the question is empty"),
        ({"context": ""}, "the context is empty"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(cells: dict[str, Any], problem: str | None) -> None:
    assert TASK.problem(table(cells)[0], record()) == problem


# What training settles.


def settle(found: Examples, kind: str = "bert", **questions: Any) -> QuestionsRecord:
    import transformers

    config = transformers.AutoConfig.for_model(kind)

    class Words:
        cls_token_id = 0

        def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[str]]]:
            return {"input_ids": [text.split() for text in texts]}

    recipe = Recipe.model_validate({"questions": questions})
    return TASK.settle(record(), recipe, {"train": found}, config, Words(), [])


@pytest.mark.parametrize(
    ("kind", "head", "decoder"),
    [("bert", "spans", False), ("albert", "spans", False), ("gpt2", "text", True), ("t5", "text", False)],
)
def test_the_family_decides_the_head(kind: str, head: str, decoder: bool) -> None:
    found = settle(examples({"answers": [BOB]}), kind)
    assert (found.head, found.decoder) == (head, decoder)


def test_decoders_may_cut_out_and_then_know_that_they_read_forward() -> None:
    found = settle(examples({"answers": [BOB]}), "gpt2", head="spans")
    assert (found.head, found.decoder) == ("spans", True)
    assert TASK.head(found, None).reads_forward  # type: ignore[attr-defined]


def test_an_encoder_that_is_to_write_is_refused() -> None:
    with pytest.raises(UserError, match="head is text, and a bert model cannot write"):
        settle(examples({"answers": [BOB]}), "bert", head="text")


def test_questions_without_an_answer_let_the_model_say_so() -> None:
    assert not settle(examples({"answers": [BOB]})).unanswerable
    assert settle(examples({"answers": [BOB]}, {"answers": []})).unanswerable
    assert not settle(examples({"answers": [BOB]}, {"answers": []}), unanswerable=False).unanswerable


@pytest.mark.parametrize(
    ("context", "rule"),
    [(CONTEXT, "squad"), ("波恩是德国的城市。", "cmrc"), ("波恩 is a city in Germany", "squad"), ("", "squad")],
)
def test_chinese_contexts_are_scored_as_cmrc(context: str, rule: str) -> None:
    assert settle(examples({"answers": [], "context": context})).rule == rule
    assert settle(examples({"answers": [], "context": context}), rule="squad").rule == "squad"


def test_answers_may_be_as_long_as_those_of_training() -> None:
    long = " ".join(["x"] * 40)
    assert settle(examples({"answers": [BOB]})).longest == 16
    assert settle(examples({"answers": [long], "context": long})).longest == 40
    assert settle(examples({"answers": [long], "context": long}), longest_answer=9).longest == 9


def test_questions_about_one_passage_stay_together() -> None:
    found = TASK.groups(examples({"answers": []}, {"answers": [], "context": "other"}, {"answers": [BOB]}))
    assert found[0] == found[2] != found[1]


def test_a_file_without_any_answers_cannot_be_scored() -> None:
    found = TASK.examples("a.csv", table({}), record(columns={"question": "question", "context": "context"}))
    with pytest.raises(UserError, match="has no answers to compare with"):
        TASK.align(found, record())


# Which answers are given.


def answers(*scores: float, **changes: Any) -> tuple[QuestionAnswers, QuestionsRecord]:
    """One question each, whose answer "Bob" has this score against "no answer"."""
    settled = record(unanswerable=True, **changes)
    candidates = [[Candidate("Bob", 8, 11, score), Candidate("Ann", 0, 3, score - 1)] for score in scores]
    found = QuestionAnswers(candidates, -np.asarray(scores), [""] * len(scores))
    return TASK.decide(found, settled), settled


def test_an_answer_is_withheld_where_no_answer_scores_higher_by_more_than_the_threshold() -> None:
    found, settled = answers(2.0, -1.0, -3.0, threshold=1.0)
    assert found.texts == ["Bob", "Bob", ""]
    assert [found.given(row) is None for row in range(3)] == [False, False, True]
    always = TASK.decide(found, record(unanswerable=False, threshold=1.0))
    assert always.texts == ["Bob"] * 3
    assert settled.threshold == 1.0


def test_the_threshold_is_that_of_the_highest_mean_f1() -> None:
    found, settled = answers(5.0, 1.0, -1.0, -2.0)
    truth = examples(*({"answers": given} for given in ([BOB], [BOB], [BOB], [])))
    chosen = TASK.choose(found, truth, Recipe(), settled)
    assert chosen.threshold == 1.0
    assert TASK.decide(found, chosen).texts == ["Bob", "Bob", "Bob", ""]
    assert TASK.choose(found, truth, Recipe(), record()).threshold == 0.0  # every question has an answer
    written = record(unanswerable=True, head="text")
    assert TASK.choose(found, truth, Recipe(), written) == written  # says so itself


def test_scores_are_probabilities_among_the_candidates_and_no_answer() -> None:
    found, settled = answers(2.0, -2.0)
    cells = [TASK.cells(found, row, settled, True, False) for row in range(2)]
    total = np.exp([0, 2, 1]).sum()
    assert cells[0] == {
        "answer": "Bob",
        "start": 8,
        "end": 11,
        "score": round(np.exp(2) / total, 6),
        "candidates": [
            {"answer": "Bob", "start": 8, "end": 11, "score": round(np.exp(2) / total, 6)},
            {"answer": "Ann", "start": 0, "end": 3, "score": round(np.exp(1) / total, 6)},
            {"answer": "", "start": -1, "end": -1, "score": round(1 / total, 6)},
        ],
    }
    assert (cells[1]["answer"], cells[1]["start"], cells[1]["end"]) == ("", None, None)
    assert cells[1]["score"] == cells[1]["candidates"][-1]["score"]
    for row in cells:
        assert sum(c["score"] for c in row["candidates"]) == pytest.approx(1, abs=1e-5)
    flat = TASK.cells(found, 0, settled, True, True)
    assert json.loads(flat["candidates"]) == cells[0]["candidates"]
    assert list(flat) == TASK.added(settled, True)


def test_without_unanswerable_questions_the_candidates_alone_share_the_probability() -> None:
    found, _ = answers(2.0)
    cells = TASK.cells(found, 0, record(), True, False)
    assert [c["answer"] for c in cells["candidates"]] == ["Bob", "Ann"]
    assert sum(c["score"] for c in cells["candidates"]) == pytest.approx(1, abs=1e-5)


def test_a_context_without_candidates_has_no_answer() -> None:
    found = QuestionAnswers([[]], np.array([np.inf]), [""])
    for settled in (record(), record(unanswerable=True)):
        given = TASK.cells(TASK.decide(found, settled), 0, settled, False, False)
        assert given == {"answer": "", "start": None, "end": None, "score": 1.0}


def written(*windows: tuple[str, float], context: str = CONTEXT) -> dict[str, Any]:
    """The answer of a model that wrote these texts for the windows of one question."""
    whole = np.zeros(len(windows), dtype=bool)
    head = SimpleNamespace(texts=lambda _: ([t for t, _ in windows], np.array([s for _, s in windows]), whole))
    features = SimpleNamespace(first_window=np.array([0, len(windows)]))
    settled = record(head="text", unanswerable=True)
    truth = examples({"answers": [BOB], "context": context})
    found = TASK.answers(None, features, truth, head, settled)  # type: ignore[arg-type]
    return TASK.cells(found, 0, settled, True, False)


def test_the_most_probable_of_what_was_written_for_the_windows_is_the_answer() -> None:
    found = written(("Bob", np.log(0.4)), ("Bonn", np.log(0.5)), ("Bob", np.log(0.2)), ("", np.log(0.9)))
    assert {name: found[name] for name in ("answer", "start", "end", "score")} == {
        "answer": "Bonn",
        "start": 15,
        "end": 19,
        "score": 0.5,
    }
    assert [(c["answer"], c["score"]) for c in found["candidates"]] == [("Bonn", 0.5), ("Bob", 0.4)]


def test_no_answer_is_written_only_if_it_is_for_every_window() -> None:
    found = written(("", np.log(0.9)), ("", np.log(0.7)))
    assert (found["answer"], found["start"], found["score"]) == ("", None, 0.9)


def test_a_written_answer_that_is_not_in_the_context_has_no_place() -> None:
    found = written(("Carl", np.log(0.5)))
    assert (found["answer"], found["start"], found["end"]) == ("Carl", None, None)


# Scores.


def test_the_report_has_the_official_scores_the_baseline_and_the_thresholds() -> None:
    found, settled = answers(2.0, 1.0, -1.0, threshold=0.5)
    truth = examples({"answers": [BOB]}, {"answers": ["met Bob"]}, {"answers": []})
    report = TASK.score(found, truth, None, settled)

    own = metrics.score(found.texts, [["Bob"], ["met Bob"], []], rule="squad")
    assert own.items() <= report.items()
    assert found.texts == ["Bob", "Bob", ""]
    assert report["thresholds"]["stored"]["f1"] == own["scores"]["f1"]["value"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert report["thresholds"]["zero"]["threshold"] == 0.0
    assert report["thresholds"]["oracle"]["f1"] >= report["thresholds"]["stored"]["f1"]
    sentence = report["baselines"]["sentence"]
    assert sentence["difference"]["f1"]["value"] == pytest.approx(
        own["scores"]["f1"]["value"] - sentence["scores"]["f1"]["value"]
    )
    assert json.loads(json.dumps(report)) == report


def test_the_worst_errors_are_the_most_confident_ones_and_say_no_text() -> None:
    found, settled = answers(1.0, 3.0, -2.0)
    truth = examples({"answers": ["Ann"], "id": "a"}, {"answers": [], "id": "b"}, {"answers": [BOB], "id": "c"})
    listed = TASK.score(found, truth, None, settled)["worst_errors"]
    assert [(e["place"], e["reference"], e["answer"]) for e in listed] == [
        ("a.csv:4 (c)", "an answer", "no answer"),
        ("a.csv:3 (b)", "no answer", "another answer"),
        ("a.csv:2 (a)", "an answer", "another answer"),
    ]
    assert "Bob" not in json.dumps(listed)


def test_an_epoch_is_scored_with_the_threshold_that_suits_it() -> None:
    from ftkit.data.features import Features

    class Task(QuestionAnswering):
        def answers(self, *_: Any) -> QuestionAnswers:
            return answers(5.0, 1.0, -1.0, -2.0)[0]

    truth = examples(*({"answers": given} for given in ([BOB], [], [BOB], [])))
    rows = SimpleNamespace(features=Features)
    found = Task().quick_scores(np.zeros(0), rows, truth, None, record(unanswerable=True))  # type: ignore[arg-type]
    assert found["f1"] == 0.75


@pytest.mark.parametrize(
    ("question", "context", "answer"),
    [
        ("Who met Bob?", "It rained. Then Ann met Bob in Bonn. Bob left.", "Then Ann met Bob in Bonn"),
        ("谁见了他？", "下雨了。安见了他。", "安"),
        ("Who?", "", ""),
        ("left", "left. left!", "left."),
    ],
)
def test_the_trivial_answer_is_the_sentence_most_like_the_question(question: str, context: str, answer: str) -> None:
    assert most_alike_sentence(question, context) == answer


# Official files, and the answers of other systems.


def test_the_official_files_name_every_question() -> None:
    found, settled = answers(2.0, -2.0)
    truth = examples({"answers": [BOB], "id": "a"}, {"answers": [], "id": "b"})
    assert TASK.official(found, truth, settled) == {
        "predictions.json": {"a": "Bob", "b": ""},
        "na_prob.json": {"a": -2.0, "b": 2.0},
    }
    assert list(TASK.official(found, truth, record())) == ["predictions.json"]


def foreign(tmp_path: Path, name: str, content: str, *ids: str) -> list[str]:
    (tmp_path / name).write_text(content, encoding="utf-8")
    truth = examples(*({"answers": [BOB], "id": each} for each in ids))
    return TASK.foreign_answers(str(tmp_path / name), ReadOptions(), truth, record()).texts


def test_answers_of_other_systems_are_joined_by_id_or_by_order(tmp_path: Path) -> None:
    assert foreign(tmp_path, "p.json", '{"b": "", "a": "Bob", "c": "x"}', "a", "b") == ["Bob", ""]
    assert foreign(tmp_path, "p.json", '\ufeff{"a": "Bob"}', "a") == ["Bob"]
    assert foreign(tmp_path, "p.csv", "id,answer\nb,Ann\na,Bob\n", "a", "b") == ["Bob", "Ann"]
    assert foreign(tmp_path, "p.csv", "prediction,x\nBob,1\nAnn,2\n", "a", "b") == ["Bob", "Ann"]
    assert foreign(tmp_path, "p.csv", "id,answer\na,Bob\na,Ann\n", "a", "a") == ["Bob", "Ann"]
    assert foreign(tmp_path, "p.jsonl", '{"id": "a", "answer": null}\n', "a") == [""]
    assert foreign(tmp_path, "p.jsonl", '{"id": "a", "answer": ["Bob"]}\n', "a") == ["Bob"]
    assert foreign(tmp_path, "p.jsonl", '{"id": "a", "answer": []}\n', "a") == [""]


def test_the_answers_of_a_prediction_are_read_and_not_the_references_beside_them(tmp_path: Path) -> None:
    both = "id,answer,predicted_answer\na,Bob,Ann\nb,Bob,\n"
    assert foreign(tmp_path, "p.csv", both, "a", "b") == ["Ann", ""]
    assert foreign(tmp_path, "p.txt", "Ann\nBob\n", "a", "b") == ["Ann", "Bob"]


def test_a_mark_on_the_last_letter_belongs_to_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftkit.heads.spans.spans_of_rows", lambda *given: [[(1.0, 3, 7)]])
    asked = Examples("f", [("What?", "My cafe\u0301 is shut.")])
    [[found]] = _cut_out(np.zeros((1, 1)), SimpleNamespace(), asked)  # type: ignore[arg-type]
    assert (found.text, found.start, found.end) == ("cafe\u0301", 3, 8)
    monkeypatch.setattr("ftkit.heads.spans.spans_of_rows", lambda *given: [[(1.0, 0, 1)]])
    [[found]] = _cut_out(np.zeros((1, 1)), SimpleNamespace(), Examples("f", [("?", "मे")]))  # type: ignore[arg-type]
    assert found.text == "मे"


def test_written_answers_that_are_cut_short_are_counted_and_marked() -> None:
    settled, asked = record(head="text"), examples({"answers": [BOB], "id": "a"}, {"answers": [BOB], "id": "b"})
    whole, half = Candidate("Bob", 8, 11, -0.1), Candidate("half an", -1, -1, -0.2, cut=True)
    found = QuestionAnswers([[whole], [half]], None, ["Bob", "half an"])
    assert TASK.notices(found) == {"answers that met the limit of tokens": 1}
    assert TASK.score(found, asked, None, settled)["cut"] == 1
    assert [line["cut"] for line in TASK.lines(found, asked, settled)] == [False, True]
    assert [TASK.answer(found, row, asked, settled).get("cut") for row in (0, 1)] == [None, True]


def test_29_rows_that_do_not_say_whether_there_is_an_answer_are_refused() -> None:
    rows = [*table({"answers": BOB}, {"answers": ""}, {"answers": None}), *table({})]
    with pytest.raises(UserError, match=r"1 of 4 rows of a\.csv have no 'answers' at all \(line 2\)"):
        TASK.examples("a.csv", rows, record())
    assert [bool(found) for found in TASK.examples("a.csv", rows[:3], record()).labels] == [True, False, False]
    said = [*table({"answers": BOB, "is_impossible": False}), *table({"is_impossible": True})]
    assert len(TASK.examples("a.csv", said, record(columns=COLUMNS | {"impossible": "is_impossible"}))) == 2


def test_answers_are_joined_by_the_column_that_holds_the_ids(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("qid,answer\nb,Ann\na,Bob\n", encoding="utf-8")
    truth = examples({"answers": [BOB], "id": "a"}, {"answers": [BOB], "id": "b"})
    told = replace(record(), columns={**record().columns, "id": "qid"})
    assert TASK.foreign_answers(str(tmp_path / "p.csv"), ReadOptions(), truth, told).texts == ["Bob", "Ann"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", '{"a": "Bob"}', "p.json has no answer to 1 of 2 questions, for example b"),
        ("p.csv", "id,answer\na,Bob\nc,Ann\n", "p.csv has no answer to 1 of 2 questions, for example b"),
        ("p.csv", "id,answer\na,Bob\na,Ann\nb,x\n", "p.csv answers a 2 times"),
        ("p.csv", "answer,x\nBob,1\n", "p.csv has 1 answers for the 2 questions of a.csv"),
        (
            "p.jsonl",
            '{"id": "a", "answer": "x"}\n{"id": "b", "answer": {"text": "x"}}\n',
            "p.jsonl, row 2, has a dict where one text is expected",
        ),
        ("p.csv", "id,text\na,Bob\nb,Ann\n", "p.csv has no column named answer; it has id, text"),
    ],
)
def test_answers_that_do_not_fit_the_questions_are_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        foreign(tmp_path, name, content, "a", "b")
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(message)


@needs_shared
@pytest.mark.parametrize(
    ("folder", "predictions", "exact", "f1"),
    [
        ("squad_v1", "predictions_bert_ensemble.json", 88.52242744063325, 93.90560580548531),
        ("squad_v2", "predictions_bert_single.json", 82.04747774480713, 85.11917165461864),
    ],
)
def test_published_predictions_have_their_known_scores(folder: str, predictions: str, exact: float, f1: float) -> None:
    from ftkit import commands

    found = commands.evaluate(
        str(SHARED / folder / "test.json"), predictions=str(SHARED / folder / predictions), quiet=True
    )
    scores = {name: 100 * found["scores"][name]["value"] for name in ("exact_match", "f1")}
    assert scores == {"exact_match": pytest.approx(exact, rel=1e-14), "f1": pytest.approx(f1, rel=1e-14)}


def test_texts_alone_are_a_question_and_its_context() -> None:
    found = TASK.from_texts([("Whom?", CONTEXT)], record())
    assert (found.texts, found.ids) == ([("Whom?", CONTEXT)], ["1"])
    for row in (("Whom?",), ("Whom?", " "), ("", CONTEXT)):
        with pytest.raises(UserError, match="needs both"):
            TASK.from_texts([row], record())
