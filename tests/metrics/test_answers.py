from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ftkit.data.files import open_rows
from ftkit.errors import UserError
from ftkit.metrics.answers import SCORES, AnswerScores, best_threshold, cmrc, each, score, squad, unanswerable
from ftkit.metrics.bootstrap import mean_interval

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
steady = settings(deadline=None, derandomize=True)

RIGHT = AnswerScores(1.0, 1.0, 1.0, 1.0)
WRONG = AnswerScores(0.0, 0.0, 0.0, 0.0)


def predictions(folder: str, name: str) -> tuple[list[str], list[list[str]]]:
    rows = [row.cells for row in open_rows(SHARED / folder / "test.json")[1]]
    predicted = json.loads((SHARED / folder / name).read_text())
    return [predicted[row["id"]] for row in rows], [[answer["text"] for answer in row["answers"]] for row in rows]


def percent(values: Any) -> float:
    """In the order of the official scripts, so that even the last digit must be equal."""
    return 100.0 * sum(values.tolist()) / len(values)


@needs_shared
def test_known_scores_of_squad_1() -> None:
    rows = each(*predictions("squad_v1", "predictions_bert_ensemble.json"), "squad")
    assert [percent(rows[:, 0]), percent(rows[:, 1])] == [88.52242744063325, 93.90560580548531]


@needs_shared
def test_known_scores_of_squad_2() -> None:
    answers, references = predictions("squad_v2", "predictions_bert_single.json")
    rows, without = each(answers, references, "squad"), unanswerable(references)
    assert [(percent(part[:, 0]), percent(part[:, 1])) for part in (rows, rows[~without], rows[without])] == [
        (82.04747774480713, 85.11917165461864),
        (76.61822985468956, 82.08803618286129),
        (89.00169204737733, 89.00169204737733),
    ]


@needs_shared
def test_report_on_squad_2_has_the_known_scores() -> None:
    report = score(*predictions("squad_v2", "predictions_bert_single.json"), rule="squad")
    parts = {"all": report, "has_answer": report["has_answer"], "no_answer": report["no_answer"]}
    values = {name: (part["n"], part["scores"]["f1"]["value"]) for name, part in parts.items()}
    assert values == {
        "all": (1348, pytest.approx(0.8511917165461864, rel=1e-14)),
        "has_answer": (757, pytest.approx(0.8208803618286129, rel=1e-14)),
        "no_answer": (591, pytest.approx(0.8900169204737733, rel=1e-14)),
    }


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("The  Broncos!", ["denver", "broncos"], RIGHT),
        ("in the Café de l'A", ["in Café de lA"], RIGHT),
        ("a b", ["b c d"], AnswerScores(0.0, 0.5, 1.0, 1 / 3)),  # "a" is an article
        ("x x y", ["x y z w"], AnswerScores(0.0, 2 * (2 / 3) * 0.5 / (2 / 3 + 0.5), 2 / 3, 0.5)),  # x once
        ("x y", ["x y z w", "x"], AnswerScores(0.0, 2 / 3, 1.0, 0.5)),  # both references have F1 2/3
        ("x", ["y", "x z", "x z w"], AnswerScores(0.0, 2 / 3, 1.0, 0.5)),
        ("x", ["y"], WRONG),
        ("", [], RIGHT),
        ("The!", [], RIGHT),
        ("", [""], RIGHT),
        ("x", [], WRONG),
        ("", ["x"], WRONG),
        ("", ["x", "."], WRONG),  # SQuAD 2.0: the reference "." does not count
        ("", [".", "The"], RIGHT),
        ("“x”", ["x"], WRONG),  # only ASCII punctuation is removed
    ],
)
def test_squad(answer: str, references: list[str], expected: AnswerScores) -> None:
    assert squad(answer, references) == expected


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("《战国无双3》", ["战国无双3"], RIGHT),
        ("光荣和ω-force", ["光荣", "光荣和Ωforce"], RIGHT),  # "-" is removed, Ω lower-cased
        ("是光荣", ["光荣和"], AnswerScores(0.0, 2 / 3, 2 / 3, 2 / 3)),
        ("上海北京", ["上海和北京"], AnswerScores(0.0, 2 * 0.5 * 0.4 / (0.5 + 0.4), 0.5, 0.4)),  # one run of two
        ("2001年", ["2001", "年"], AnswerScores(0.0, 2 / 3, 0.5, 1.0)),
        ("1 2", ["12"], WRONG),  # white space inside counts
        ("北京", ["上海"], WRONG),
        ("", [], RIGHT),
        ("，", [], RIGHT),
        ("京", [], WRONG),
        ("", ["京"], WRONG),
        ("京…", ["京"], AnswerScores(0.0, 2 / 3, 0.5, 1.0)),  # the script does not know the ellipsis
    ],
)
def test_cmrc(answer: str, references: list[str], expected: AnswerScores) -> None:
    assert cmrc(answer, references) == expected


def test_cmrc_finds_the_longest_run_in_long_answers() -> None:
    found = cmrc("北京" * 150, ["上海" * 100 + "北京" * 50])
    assert (found.precision, found.recall) == (100 / 300, 100 / 300)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nt$25,000", "nt $ 25,000"),
        ("Lionel Richie, (1910", "lionel richie , ( 1910"),
        ('42% "Iskra".', '42 % " iskra " .'),
        ("C. Lambei", "c. lambei"),
        ("wait.. j.apponi", "wait .. j.apponi"),
        ("40 °15′–50", "40 °15′ – 50"),
        ("x,y ,5", "x , y ,5"),
    ],
)
def test_words_of_cmrc(text: str, words: str) -> None:
    assert cmrc(f"中{text}中", [f"中{words}中"]).f1 == 1
    assert cmrc(f"中{text}", ["中"]).precision == 1 / (1 + len(words.split()))


def reference_squad(answer: str, references: list[str], version: str) -> tuple[float, float]:
    """(exact match, F1) by the published definition, written anew."""

    def tokens(text: str) -> list[str]:
        kept = "".join(" " if c.isspace() else c for c in text.lower() if c not in string.punctuation)
        return [token for token in kept.split(" ") if token not in ("", "a", "an", "the")]

    def f1(wanted: list[str], given: list[str]) -> float:
        if version == "2.0" and not (wanted and given):
            return float(wanted == given)
        rest, shared = list(wanted), 0
        for token in given:
            if token in rest:
                rest.remove(token)
                shared += 1
        if not shared:
            return 0.0
        precision, recall = shared / len(given), shared / len(wanted)
        return 2 * precision * recall / (precision + recall)

    given, wanted = tokens(answer), [tokens(text) for text in references]
    if version == "2.0":
        wanted = [each for each in wanted if each] or [[]]
    return max(float(given == each) for each in wanted), max(f1(each, given) for each in wanted)


words = st.lists(st.sampled_from(["the", "A", "an", "x", "X", "y", "zé", "y-z", ".", "'s", "\n", "then"]), max_size=6)
texts = words.map(" ".join)


@steady
@given(answer=texts, references=st.lists(texts, max_size=3))
def test_squad_equals_the_definition_of_2_0(answer: str, references: list[str]) -> None:
    found = squad(answer, references)
    assert (found.exact_match, found.f1) == reference_squad(answer, references, "2.0")


@steady
@given(answer=texts, references=st.lists(texts.map(lambda text: f"{text} x"), min_size=1, max_size=3))
def test_squad_equals_the_definition_of_1_1_where_something_remains_of_each_reference(
    answer: str, references: list[str]
) -> None:
    found = squad(answer, references)
    assert (found.exact_match, found.f1) == reference_squad(answer, references, "1.1")


def reference_cmrc(answer: str, references: list[str]) -> tuple[float, float]:
    """(exact match, F1) by the published definition, for texts whose words have blanks between them."""

    def clean(text: str) -> str:
        return "".join(character for character in text.lower().strip() if character not in "-:_/，。《》")

    def segments(text: str) -> list[str]:
        spaced = (f" {character} " if "一" <= character <= "龥" else character for character in clean(text))
        return "".join(spaced).split()

    def longest_run(first: list[str], second: list[str]) -> int:
        runs = [first[start:end] for start in range(len(first)) for end in range(start + 1, len(first) + 1)]
        starts = range(len(second))
        return max((len(run) for run in runs if any(second[at : at + len(run)] == run for at in starts)), default=0)

    scores = []
    for reference in references:
        given, wanted = segments(answer), segments(reference)
        shared = longest_run(given, wanted)
        harmonic = 2 * (shared / len(given)) * (shared / len(wanted)) if shared else 0.0
        scores.append(harmonic / (shared / len(given) + shared / len(wanted)) if shared else float(not given + wanted))
    return float(clean(answer) in map(clean, references)), max(scores)


chinese = st.lists(st.sampled_from(["北", "京", "人", "，", "《", "-", "/", " ", "x", "X1", " y"]), max_size=8).map(
    "".join
)


@steady
@given(answer=chinese, references=st.lists(chinese, min_size=1, max_size=3))
def test_cmrc_equals_the_definition(answer: str, references: list[str]) -> None:
    found = cmrc(answer, references)
    assert (found.exact_match, found.f1) == reference_cmrc(answer, references)


@steady
@given(answer=texts | chinese, references=st.lists(texts | chinese, max_size=3), rule=st.sampled_from([squad, cmrc]))
def test_scores_fit_together(answer: str, references: list[str], rule: Any) -> None:
    found = rule(answer, references)
    total = found.precision + found.recall
    assert found.f1 == (2 * found.precision * found.recall / total if total else 0.0)
    assert 0 <= found.exact_match <= 1
    assert 0 <= min(found.precision, found.recall) <= max(found.precision, found.recall) <= 1


@steady
@given(answer=texts, references=st.lists(texts, max_size=3))
def test_an_answer_that_is_among_the_references_is_right(answer: str, references: list[str]) -> None:
    assert cmrc(answer, [*references, answer]) == RIGHT
    if squad(answer, []) != RIGHT:  # SQuAD 2.0 leaves out references of which nothing remains
        assert squad(answer, [*references, answer]) == RIGHT


@needs_shared
def test_every_reference_of_cmrc_fits_itself() -> None:
    rows = [row.cells for row in open_rows(SHARED / "cmrc2018" / "test.json")[1]]
    references = [[answer["text"] for answer in row["answers"]] for row in rows]
    assert (each([texts[-1] for texts in references], references, "cmrc") == 1).all()


def test_each_has_a_row_for_each_answer() -> None:
    rows = each(["x y", ""], [["x"], []], "squad")
    assert rows.tolist() == [[0.0, 2 / 3, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0]]
    assert each([], [], "cmrc").shape == (0, len(SCORES))


def test_questions_without_an_answer() -> None:
    assert unanswerable([[], [""], ["", "x"], ["x"]]).tolist() == [True, True, False, False]


def test_report_of_answers_that_all_have_references() -> None:
    report = score(["x y", "z", "z"], [["x"], ["z"], ["y"]], rule="squad", seed=3)
    columns = dict(zip(SCORES, each(["x y", "z", "z"], [["x"], ["z"], ["y"]], "squad").T, strict=True))
    expected = {name: mean_interval(values, seed=3).as_dict() for name, values in columns.items()}
    assert report == {"n": 3, "rule": "squad", "scores": expected}
    assert json.loads(json.dumps(report)) == report


def test_report_tells_questions_with_and_without_an_answer_apart() -> None:
    report = score(["北", "", "京"], [["北"], [], []], rule="cmrc", seed=1)
    assert report["has_answer"] == {"n": 1, "scores": score(["北"], [["北"]], rule="cmrc", seed=1)["scores"]}
    assert report["no_answer"] == {"n": 2, "scores": score(["", "京"], [[], []], rule="cmrc", seed=1)["scores"]}
    assert report["scores"]["f1"]["value"] == 2 / 3


def test_report_of_questions_that_all_lack_an_answer() -> None:
    report = score(["", "x"], [[], []], rule="squad")
    assert report.keys() == {"n", "rule", "scores", "no_answer"}


def test_no_rows_are_refused() -> None:
    with pytest.raises(UserError, match="no answers to score"):
        score([], [], rule="squad")
    with pytest.raises(UserError, match="no questions"):
        best_threshold(np.array([]), np.array([]), np.array([], dtype=bool))


# The threshold.


@pytest.mark.parametrize(
    ("no_answer_scores", "values", "without", "expected"),
    [
        ([-1.0, 3.0, 5.0], [0.5, 0.5, 0.0], [False, False, True], (3.0, 2 / 3)),
        ([-1.0, 3.0], [0.0, 1.0], [True, True], (float(np.nextafter(-1, -2)), 1.0)),  # answer none
        ([0.2, 0.7], [0.0, 0.0], [True, True], (0.0, 1.0)),  # the script's 0
        ([0.2, 0.7], [0.0, 0.0], [False, False], (0.0, 0.0)),
        ([1.0, 1.0, 2.0], [1.0, 0.0, 0.6], [False, True, False], (2.0, 1.6 / 3)),  # the first two go together
        ([2.0, 1.0], [1.0, 0.0], [False, False], (2.0, 0.5)),
        ([1.0, 2.0], [1.0, 0.0], [False, False], (1.0, 0.5)),  # the lowest of equals
    ],
)
def test_best_threshold(no_answer_scores: Any, values: Any, without: Any, expected: tuple[float, float]) -> None:
    found = best_threshold(np.array(no_answer_scores), np.array(values), np.array(without))
    assert found == (expected[0], pytest.approx(expected[1], rel=1e-15))


def mean_at(threshold: float, rows: list[tuple[float, float, bool]]) -> float:
    values = [float(without) if no_answer_score > threshold else value for no_answer_score, value, without in rows]
    return sum(values) / len(values)


# Values of eighths add up without rounding, so that equal means are equal.
one_row = st.tuples(st.integers(-3, 3).map(float), st.integers(0, 8).map(lambda eighths: eighths / 8), st.booleans())


@steady
@given(rows=st.lists(one_row, min_size=1, max_size=12), single=st.booleans())
def test_threshold_is_the_best_of_all(rows: list[tuple[float, float, bool]], single: bool) -> None:
    scores, values, without = map(np.array, zip(*rows, strict=True))
    threshold, mean = best_threshold(scores.astype(np.float32) if single else scores, values, without)
    means = {candidate: mean_at(candidate, rows) for candidate in [-4.0, *sorted(scores)]}
    best = max(means.values())
    assert (mean, mean_at(threshold, rows)) == (best, best)
    lowest = next(candidate for candidate, value in means.items() if value == best)
    assert threshold == lowest if lowest > -4 else threshold < scores.min()


def reference_threshold(rows: list[tuple[float, float, bool]]) -> tuple[float, float]:
    """SQuAD 2.0's way: one question more is answered at a time, as long as that is strictly better."""
    best_at, total = 0.0, float(sum(without for _, _, without in rows))
    best = total
    for no_answer_score, value, without in sorted(rows):
        total += value - without
        if total > best:
            best_at, best = no_answer_score, total
    return best_at, best / len(rows)


@steady
@given(
    rows=st.lists(
        st.tuples(st.floats(0.001, 0.999), st.floats(0, 1), st.booleans()),
        min_size=1,
        unique_by=lambda row: row[0],
    )
)
@example([(0.5, 0.1, False), (0.25, 0.2, False), (0.75, 0.3, True)])
def test_threshold_equals_that_of_the_script_where_no_scores_are_equal(rows: list[tuple[float, float, bool]]) -> None:
    scores, values, without = map(np.array, zip(*rows, strict=True))
    assert best_threshold(scores, values, without) == reference_threshold(rows)
