from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from ftkit.errors import UserError
from ftkit.metrics.classification import difference, multi_label, point_scores, single_label, threshold, thresholds

AVERAGES = ("macro", "micro", "weighted")


def _values(report: dict) -> dict[str, float]:
    return {name: score["value"] for name, score in report["scores"].items()}


def _sklearn_averages(reference: np.ndarray, predicted: np.ndarray, occurring: list[int]) -> dict[str, float]:
    found = {}
    for average in AVERAGES:
        rates = sk.precision_recall_fscore_support(
            reference, predicted, labels=occurring, average=average, zero_division=0
        )
        found |= {f"{name}_{average}": rates[i] for i, name in enumerate(("precision", "recall", "f1"))}
    return found


def _sklearn_classes(reference: np.ndarray, predicted: np.ndarray, labels: list[str]) -> list[dict]:
    rates = sk.precision_recall_fscore_support(
        reference, predicted, labels=range(len(labels)), average=None, zero_division=0
    )
    counts = predicted.sum(axis=0) if predicted.ndim == 2 else [(predicted == i).sum() for i in range(9)]
    return [
        {"label": label, "precision": p, "recall": r, "f1": f, "support": s, "predicted": c}
        for label, p, r, f, s, c in zip(labels, *rates, counts, strict=False)
    ]


@st.composite
def _label_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rows, labels = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    reference = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, labels - 1)))
    predicted = draw(hnp.arrays(np.int64, rows, elements=st.integers(-1, labels - 1)))
    return reference, predicted, list("abcde"[:labels])


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@settings(max_examples=60, deadline=None)
@given(_label_rows())
def test_single_label_equals_scikit_learn(rows: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    reference, predicted, labels = rows
    report = single_label(reference, predicted, labels)
    occurring = sorted({*reference.tolist(), *predicted.tolist()} - {-1})
    expected = {
        "accuracy": sk.accuracy_score(reference, predicted),
        **_sklearn_averages(reference, predicted, occurring),
        "matthews": sk.matthews_corrcoef(reference, predicted),
    }
    assert _values(report) == pytest.approx(expected, abs=1e-12)
    assert report["n"] == len(reference)
    for ours, theirs in zip(report["classes"], _sklearn_classes(reference, predicted, labels), strict=True):
        assert ours == pytest.approx(theirs)
    matrix = sk.confusion_matrix(reference, predicted, labels=[*range(len(labels)), -1])
    assert report["confusion"] == matrix[:-1].tolist()


@st.composite
def _label_sets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 20), st.integers(2, 9)))
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


@settings(max_examples=60, deadline=None)
@given(_label_sets())
def test_multi_label_equals_scikit_learn(sets: tuple[np.ndarray, np.ndarray]) -> None:
    reference, predicted = sets
    labels = list("abcdefghi"[: reference.shape[1]])
    report = multi_label(reference, predicted, labels)
    occurring = np.flatnonzero((reference | predicted).any(axis=0)).tolist()
    none = {f"{rate}_{average}": 0.0 for rate in ("precision", "recall", "f1") for average in AVERAGES}
    expected = {
        "subset_accuracy": sk.accuracy_score(reference, predicted),
        **(_sklearn_averages(reference, predicted, occurring) if occurring else none),
        "f1_samples": sk.f1_score(reference, predicted, average="samples", zero_division=0),
        "hamming_loss": sk.hamming_loss(reference, predicted),
    }
    assert _values(report) == pytest.approx(expected, abs=1e-12)
    for ours, theirs in zip(report["classes"], _sklearn_classes(reference, predicted, labels), strict=True):
        assert ours == pytest.approx(theirs)


def test_report_is_json_with_ordered_intervals() -> None:
    generator = np.random.default_rng(0)
    reference = generator.integers(0, 4, 200)
    predicted = np.where(generator.random(200) < 0.7, reference, generator.integers(-1, 4, 200))
    report = single_label(reference, predicted, list("abcd"))
    assert json.loads(json.dumps(report)) == report
    assert all(score["low"] < score["value"] < score["high"] for score in report["scores"].values())
    assert single_label(reference, predicted, list("abcd")) == report


def test_labels_that_are_never_predicted_or_absent_are_named() -> None:
    report = single_label(np.array([0, 0, 1]), np.array([0, 2, -1]), ["a", "b", "c", "d"])
    assert report["never_predicted"] == ["b", "d"]
    assert report["absent_in_reference"] == ["c", "d"]
    assert report["confusion"] == [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_point_scores_are_the_reported_values() -> None:
    generator = np.random.default_rng(0)
    reference, predicted = generator.integers(0, 4, 50), generator.integers(-1, 4, 50)
    assert point_scores(reference, predicted, 4) == _values(single_label(reference, predicted, list("abcd")))
    reference, predicted = generator.random((2, 50, 4)) < 0.4
    assert point_scores(reference, predicted, 4) == _values(multi_label(reference, predicted, list("abcd")))


def test_one_row() -> None:
    report = single_label(np.array([1]), np.array([1]), ["a", "b"])
    assert report["scores"]["accuracy"] == {"value": 1.0, "low": 0.025, "high": 1.0}


def test_matthews_may_be_negative() -> None:
    reference = np.array([0, 1] * 50)
    assert single_label(reference, 1 - reference, ["a", "b"])["scores"]["matthews"]["value"] == -1.0


def test_a_million_rows_take_seconds() -> None:
    generator = np.random.default_rng(0)
    reference = generator.integers(0, 50, 1_000_000)
    predicted = np.where(generator.random(1_000_000) < 0.9, reference, 0)
    accuracy = single_label(reference, predicted, [str(i) for i in range(50)])["scores"]["accuracy"]
    # Half the width is 1.96 standard errors of a proportion.
    standard_error = np.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 1_000_000)
    assert (accuracy["high"] - accuracy["low"]) / 2 == pytest.approx(1.96 * standard_error, rel=0.1)


def test_no_rows_is_a_user_error() -> None:
    with pytest.raises(UserError, match="no rows"):
        single_label(np.zeros(0, int), np.zeros(0, int), ["a", "b"])


def test_difference_is_that_of_the_reported_values() -> None:
    generator = np.random.default_rng(0)
    reference = generator.integers(0, 3, 300)
    first = np.where(generator.random(300) < 0.9, reference, 0)
    second = np.where(generator.random(300) < 0.6, reference, 1)
    labels = ["a", "b", "c"]
    f1 = [_values(single_label(reference, system, labels))["f1_macro"] for system in (first, second)]
    found = difference(reference, first, second, labels, metric="f1_macro")
    assert found.value == pytest.approx(f1[0] - f1[1])
    assert 0 < found.low < found.value < found.high
    same = difference(reference, first, first, labels, metric="f1_macro")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_difference_of_label_sets() -> None:
    generator = np.random.default_rng(0)
    reference = generator.random((200, 4)) < 0.3
    good, poor = (reference ^ (generator.random((200, 4)) < rate) for rate in (0.05, 0.3))
    found = difference(reference, good, poor, list("abcd"), metric="f1_micro")
    f1 = [sk.f1_score(reference, system, average="micro") for system in (good, poor)]
    assert found.value == pytest.approx(f1[0] - f1[1])
    assert found.low > 0


def test_difference_subtracts_what_is_hard_for_both() -> None:
    generator = np.random.default_rng(0)
    reference = generator.integers(0, 2, 500)
    second = np.where(generator.random(500) < 0.7, reference, 1 - reference)
    first = np.where((second != reference) & (generator.random(500) < 0.1), reference, second)
    found = difference(reference, first, second, ["a", "b"], metric="accuracy")
    alone = single_label(reference, first, ["a", "b"])["scores"]["accuracy"]
    assert found.low > 0
    assert found.high - found.low < (alone["high"] - alone["low"]) / 2


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_threshold_is_the_best_of_all(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 3)))
    reference = data.draw(hnp.arrays(bool, shape))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    width = 32 if dtype == np.float32 else 64
    probabilities = data.draw(hnp.arrays(dtype, shape, elements=st.floats(0, 1, width=width)))

    def f1(cut: float) -> float:
        predicted = probabilities >= cut
        total = reference.sum() + predicted.sum()
        return float(2 * (reference & predicted).sum() / total) if total else 0.0

    found = threshold(reference, probabilities)
    assert 0 < found < 1
    assert f1(found) == max(f1(cut) for cut in [*probabilities.ravel()[probabilities.ravel() > 0], 0.5])


@pytest.mark.parametrize(
    ("reference", "probabilities", "expected"),
    [
        pytest.param([1, 0], [0.9, 0.2], 0.5, id="0.5 is as good as any"),
        pytest.param([1, 1, 0], [0.4, 0.3, 0.1], 0.2, id="between the neighbours"),
        pytest.param([0, 0], [0.9, 0.2], 0.5, id="nothing to find"),
        pytest.param([0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5], 0.5, id="all alike"),
        pytest.param([1, 0, 0, 1], [0.95, 0.9, 0.8, 0.1], 0.925, id="nearer of two equals"),
    ],
)
def test_threshold(reference: list[int], probabilities: list[float], expected: float) -> None:
    assert threshold(np.array(reference, bool), np.array(probabilities)) == pytest.approx(expected)


def test_thresholds_of_labels() -> None:
    reference = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    probabilities = np.array([[0.3, 0.6, 0.1], [0.3, 0.8, 0.1], [0.1, 0.6, 0.1]])
    common = threshold(reference, probabilities)
    assert thresholds(reference, probabilities).tolist() == pytest.approx([0.2, 0.7, common])
