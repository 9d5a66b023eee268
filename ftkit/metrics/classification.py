"""Scores of predicted labels, with 95% intervals; every value equals scikit-learn's.

One label a row is a label set of one member. A row adds to the sums, for each label, whether it was
rightly predicted, whether it was in the reference and whether it was predicted; every score is a function
of these sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftkit.errors import UserError
from ftkit.metrics.bootstrap import Floats, Interval, Ints, interval, resample

Bools = NDArray[np.bool_]
Labels = NDArray[np.integer] | Bools  # (rows,) label numbers, or (rows, labels) membership of label sets


def single_label(
    reference: NDArray[np.integer], predicted: NDArray[np.integer], labels: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Scores of one label a row.

    Averages are over the labels that occur in the reference or the predictions, as in scikit-learn, and a
    score that would divide by zero is 0.

    Args:
        reference: (rows,) label numbers.
        predicted: (rows,) label numbers, or -1 for "no answer", which is wrong.
        labels: the names of the labels.

    Returns:
        JSON-able: "n"; "scores", each name with {"value", "low", "high"} (accuracy; precision, recall and
        f1, each _macro, _micro and _weighted; matthews); "classes", a row for each label; "confusion",
        (labels, labels + 1) counts with a row for each reference label and "no answer" as last column;
        "never_predicted" and "absent_in_reference", names of labels.

    Raises:
        UserError: there are no rows.
    """
    report = _report(reference, predicted, labels, seed)
    columns = len(labels) + 1
    cells = reference.astype(np.int64) * columns + predicted % columns  # -1 is the last column
    confusion = np.bincount(cells, minlength=len(labels) * columns).reshape(len(labels), columns)
    return report | {"confusion": confusion.tolist()}


def multi_label(reference: Bools, predicted: Bools, labels: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """Scores of label sets, which may be empty; `reference` and `predicted` are (rows, labels).

    As `single_label`, without confusion matrix. The scores are subset_accuracy (the whole set is right);
    precision, recall and f1, each _macro, _micro and _weighted; f1_samples (the mean F1 of the rows, 0 for
    an empty set rightly predicted, as in scikit-learn); hamming_loss (the share of wrong cells). Unlike
    scikit-learn's default, macro averages leave out labels that occur in neither array.
    """
    return _report(reference, predicted, labels, seed)


def point_scores(reference: Labels, predicted: Labels, label_count: int) -> dict[str, float]:
    """The scores of `single_label` or `multi_label` without intervals, for every epoch of a training."""
    sums = _features(reference, predicted, label_count).sum(axis=0)
    scores = _scorer(sums, reference.ndim == 2)(sums[None])
    return {name: float(values[0]) for name, values in scores.items()}


def difference(
    reference: Labels, first: Labels, second: Labels, labels: Sequence[str], *, metric: str, seed: int = 0
) -> Interval:
    """How much higher `metric` is for the predictions `first` than for `second` of the same rows.

    Both are scored on the same resampled rows, so that what is hard for both cancels out. `metric` is a
    name from the "scores" of `single_label`, or of `multi_label` for label sets.
    """
    from scipy import sparse

    distinct, counts = _distinct_rows(reference, first, second)
    systems = [_features(reference[distinct], system[distinct], len(labels)) for system in (first, second)]
    score_first, score_second = (_scorer(counts @ system, reference.ndim == 2) for system in systems)

    def statistic(sums: Floats) -> dict[str, Floats]:
        halves = np.hsplit(sums, 2)
        return {metric: score_first(halves[0])[metric] - score_second(halves[1])[metric]}

    features = sparse.hstack(systems, format="csr")
    return interval(resample(features, counts, statistic, seed=seed)[metric], len(reference), (-1.0, 1.0))


def threshold(reference: Bools, probabilities: NDArray[np.floating]) -> float:
    """The threshold in (0, 1) at which `probabilities >= threshold` has the highest micro-F1.

    Every cut between neighbouring probabilities is tried, and 0.5; among equals the nearest to 0.5 is
    taken. Choose it on validation rows, never on the rows whose scores are reported.

    Args:
        reference, probabilities: of equal shape, for example (rows, labels).
    """
    values, column = np.unique(probabilities, return_inverse=True)
    positives = np.bincount(column.ravel(), weights=reference.ravel(), minlength=len(values))
    sizes = np.bincount(column.ravel(), minlength=len(values))
    lower = np.concatenate([np.zeros(1, values.dtype), values[:-1]])
    middle = lower + (values - lower) / 2
    # In the probabilities' own precision, as they will be compared; two neighbours may have no middle.
    candidates = np.append(np.where(middle > lower, middle, values), values.dtype.type(0.5))
    candidates = candidates[(candidates > 0) & (candidates < 1)]
    above = np.searchsorted(values, candidates)  # the first value that is not below each candidate
    right = np.append(positives[::-1].cumsum()[::-1], 0)[above]
    predicted = np.append(sizes[::-1].cumsum()[::-1], 0)[above]
    f1 = _divide(2 * right, predicted + positives.sum())
    best = candidates[f1 == f1.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def thresholds(reference: Bools, probabilities: NDArray[np.floating]) -> Floats:
    """The threshold of each label that has the highest F1, (labels,); see `threshold`.

    A label without a row in the reference keeps the one threshold that is best for all labels together.
    """
    common = threshold(reference, probabilities)
    columns = zip(reference.T, probabilities.T, strict=True)
    return np.array([threshold(truth, given) if truth.any() else common for truth, given in columns])


def _report(reference: Labels, predicted: Labels, labels: Sequence[str], seed: int) -> dict[str, Any]:
    if not len(reference):
        raise UserError("There are no rows to score: found 0, expected at least 1.", "Give a file with labelled rows.")
    distinct, counts = _distinct_rows(reference, predicted)
    features = _features(reference[distinct], predicted[distinct], len(labels))
    sums = counts @ features
    scores = resample(features, counts, _scorer(sums, reference.ndim == 2), seed=seed)
    right, support, predictions = sums[:-3].reshape(3, len(labels))
    rates = zip(*(each.tolist() for each in _rates(right, support, predictions).values()), strict=True)
    classes = [
        {"label": label, "precision": p, "recall": r, "f1": f, "support": int(s), "predicted": int(n)}
        for label, (p, r, f), s, n in zip(labels, rates, support, predictions, strict=True)
    ]
    return {
        "n": len(reference),
        "scores": {
            name: interval(values, len(reference), (-1.0 if name == "matthews" else 0.0, 1.0)).as_dict()
            for name, values in scores.items()
        },
        "classes": classes,
        "never_predicted": [row["label"] for row in classes if not row["predicted"]],
        "absent_in_reference": [row["label"] for row in classes if not row["support"]],
    }


def _distinct_rows(*columns: Labels) -> tuple[Ints, Ints]:
    """Where each distinct row of the columns side by side occurs first, and how often it occurs."""
    table: NDArray[Any] = np.column_stack(columns)
    packed = np.packbits(table, axis=1) if table.dtype == np.bool_ else np.ascontiguousarray(table)
    rows = packed.view(np.dtype((np.void, packed[0].nbytes))).ravel()
    _, first, counts = np.unique(rows, return_index=True, return_counts=True)
    return first, counts


def _features(reference: Labels, predicted: Labels, label_count: int) -> Any:
    """What each row adds to the sums, sparse (rows, 3 * labels + 3).

    Columns: right, reference and predicted of each label; the set is right; the row's F1; 1.
    """
    from scipy import sparse

    def membership(labels: Labels) -> Any:
        if labels.ndim == 2:
            return sparse.csr_array(labels, dtype=np.float64)
        answered = np.flatnonzero(labels >= 0)
        cells = (np.ones(len(answered)), (answered, labels[answered]))
        return sparse.csr_array(cells, shape=(len(labels), label_count))

    truth, given = membership(reference), membership(predicted)
    right = truth * given
    hits, sizes = right.sum(axis=1), truth.sum(axis=1) + given.sum(axis=1)
    row = np.column_stack([2 * hits == sizes, _divide(2 * hits, sizes), np.ones(len(sizes))])
    return sparse.hstack([right, truth, given, sparse.csr_array(row)], format="csr")


def _scorer(sums: Floats, multi: bool) -> Callable[[Floats], dict[str, Floats]]:
    """The scores as functions of sums (m, 3 * labels + 3), each (m,).

    The rows' own sums settle once which labels occur, so that resamples average over the same labels.
    """
    occurs: Bools = np.any(sums[:-3].reshape(3, -1), axis=0)

    def scores(sums: Floats) -> dict[str, Floats]:
        right, support, predicted = sums[:, :-3].reshape(len(sums), 3, -1).swapaxes(0, 1)
        exact, row_f1, rows = sums[:, -3:].T
        micro = _rates(right.sum(axis=1), support.sum(axis=1), predicted.sum(axis=1))
        averages = {}
        for name, each in _rates(right, support, predicted).items():
            averages[f"{name}_macro"] = _divide(each[:, occurs].sum(axis=1), occurs.sum())
            averages[f"{name}_micro"] = micro[name]
            averages[f"{name}_weighted"] = _divide((each * support).sum(axis=1), support.sum(axis=1))
        if multi:
            wrong = (support + predicted - 2 * right).sum(axis=1)
            ends = {"f1_samples": row_f1 / rows, "hamming_loss": wrong / (rows * len(occurs))}
            return {"subset_accuracy": exact / rows, **averages, **ends}
        return {"accuracy": exact / rows, **averages, "matthews": _matthews(exact, support, predicted)}

    return scores


def _rates(right: Floats, support: Floats, predicted: Floats) -> dict[str, Floats]:
    return {
        "precision": _divide(right, predicted),
        "recall": _divide(right, support),
        "f1": _divide(2 * right, support + predicted),
    }


def _matthews(right: Floats, support: Floats, predicted: Floats) -> Floats:
    """The correlation of reference and prediction (Gorodkin 2004), "no answer" being one more label."""
    rows = support.sum(axis=1)
    missing = rows - predicted.sum(axis=1)
    covariance = right * rows - (support * predicted).sum(axis=1)
    spread_reference = rows**2 - (support**2).sum(axis=1)
    spread_predicted = rows**2 - (predicted**2).sum(axis=1) - missing**2
    return _divide(covariance, np.sqrt(spread_reference * spread_predicted))


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, 0 where the denominator is 0."""
    quotient = np.zeros(np.shape(numerator))
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
