"""How far a score can be trusted: 95% intervals from resampled rows.

A score is a function of sums over rows (right answers, predictions of each label, ...). Drawing n rows
with replacement from n rows, of which many are alike, is drawing how often each distinct row occurs:
a multinomial over the distinct rows. The sums of a resample are then one matrix product. This is the
bootstrap of rows, exactly, and its cost does not grow with rows that are alike.

Coverage in simulations at 500 rows (nominal 95%): accuracy 93 to 97% and macro-F1 94 to 97%, for 2 to 77
labels; with two labels 99:1, where the rarer has five rows, 93%. No resample shows a label that the rows
lack: where labels have about one row each, the interval of a macro average is too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 2000
LEAST_ROWS = 6  # of fewer rows even all that point one way are no evidence at 95% (sign test: 2 * 2**-5 = 0.06)
ROUNDING = 1e-12
TAIL = 0.025  # on each side of a 95% interval


@dataclass(frozen=True)
class Interval:
    """A score with the ends of its 95% interval; low <= value <= high."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def resample(
    features: Any,
    counts: Ints,
    statistic: Callable[[Floats], Mapping[str, Floats]],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Floats]:
    """Scores of the rows and of resampled rows: for each name, (1 + resamples,) with the rows' own first.

    Args:
        features: (distinct rows, features), array or SciPy sparse array: what a row adds to the sums.
        counts: (distinct rows,) how often each distinct row occurs, >= 1.
        statistic: from sums (m, features) to named scores (m,).
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    distinct, width = features.shape
    rows = int(counts.sum())
    chunk = max(1, 4_000_000 // max(distinct, width))
    row_numbers = np.repeat(np.arange(distinct), counts) if rows < 8 * distinct else None

    def draw(size: int) -> Ints:
        """(size, distinct rows); the two ways differ only in speed."""
        if row_numbers is None:
            return generator.multinomial(rows, counts / rows, size=size)
        drawn = (row_numbers[generator.integers(rows, size=rows)] for _ in range(size))
        return np.stack([np.bincount(numbers, minlength=distinct) for numbers in drawn])

    scores = [statistic(counts[None] @ features)]
    for start in range(0, resamples, chunk):
        scores.append(statistic(draw(min(chunk, resamples - start)) @ features))
    return {name: np.concatenate([part[name] for part in scores]) for name in scores[0]}


def interval(scores: Floats, rows: int, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """The 95% interval of scores[0] from the scores of its resamples, scores[1:].

    Percentiles of the resamples, moved by twice their bias, because resamples stand to the rows as the rows
    stand to the truth: a macro-F1 over many labels is too low on few rows, and too low once more on resampled
    ones (Efron and Tibshirani 1993, chapters 10 and 13; medians measure the bias here). Plain percentiles
    cover 63% at 500 rows and 77 labels.

    Resamples cannot show a mistake that no row shows. At an end of `bounds` the interval therefore
    reaches as far as the exact one of a proportion (Clopper and Pearson 1934) with no mistake in `rows`.
    Resamples of fewer than LEAST_ROWS rows say nothing: between the ends the interval is then all that is possible.
    """
    value = float(scores[0])
    shift = 2 * (value - np.median(scores[1:]))
    low, high = np.clip(np.quantile(scores[1:], [TAIL, 1 - TAIL]) + shift, *bounds)
    low, high = (0.0 if abs(end) < ROUNDING else end for end in (low, high))  # no verdict hangs on a last digit
    least, most = bounds
    if rows < LEAST_ROWS and least < value < most:
        return Interval(value, least, most)
    if value == most:
        low = min(low, least + (most - least) * TAIL ** (1 / rows))
    if value == least:
        high = max(high, most - (most - least) * TAIL ** (1 / rows))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def mean_interval(scores: Floats, *, seed: int = 0, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """The mean of one score a row, (rows,), for example the F1 of each answer; `bounds` are the score's."""
    values, counts = np.unique(scores, return_counts=True)
    means = resample(values[:, None], counts, lambda sums: {"mean": sums[:, 0] / len(scores)}, seed=seed)
    return interval(means["mean"], len(scores), bounds)


def mean_difference(
    first: Floats, second: Floats, *, seed: int = 0, bounds: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """How much higher the mean of `first` is than of `second`, two scores of the same rows, in pairs."""
    reach = bounds[1] - bounds[0]
    return mean_interval(first - second, seed=seed, bounds=(-reach, reach))
