from __future__ import annotations

import numpy as np
import pytest

from ftkit.metrics.bootstrap import Interval, interval, mean_difference, mean_interval, resample
from ftkit.metrics.classification import difference, single_label


def test_interval_as_dict() -> None:
    assert Interval(0.5, 0.4, 0.7).as_dict() == {"value": 0.5, "low": 0.4, "high": 0.7}


def test_resampled_sums_have_the_moments_of_resampled_rows() -> None:
    values = np.array([[0.0], [1.0], [5.0]])
    counts = np.array([50, 30, 20])
    rows = np.repeat(values[:, 0], counts)
    # Few distinct rows are drawn as multinomial counts, all different ones as row numbers.
    alike = resample(values, counts, lambda sums: {"mean": sums[:, 0] / 100}, seed=0, resamples=20_000)
    apart = resample(
        rows[:, None], np.ones(100, int), lambda sums: {"mean": sums[:, 0] / 100}, seed=0, resamples=20_000
    )
    for means in (alike["mean"], apart["mean"]):
        assert means.shape == (20_001,)
        assert means[0] == rows.mean()
        assert means[1:].mean() == pytest.approx(rows.mean(), abs=0.01)
        assert means[1:].std() == pytest.approx(rows.std() / 10, rel=0.02)


def test_resampling_in_chunks_draws_every_resample() -> None:
    rows = 1_500_000
    sums = resample(np.ones((rows, 1)), np.ones(rows, int), lambda s: {"n": s[:, 0]}, seed=0, resamples=3)
    assert sums["n"].tolist() == [rows] * 4


def test_same_seed_same_interval() -> None:
    scores = np.random.default_rng(0).random(300)
    assert mean_interval(scores, seed=5) == mean_interval(scores, seed=5)
    assert mean_interval(scores, seed=5) != mean_interval(scores, seed=6)


def test_interval_is_moved_against_the_bias_of_the_resamples() -> None:
    resampled = np.linspace(0.3, 0.5, 1001)  # around 0.4, where the rows themselves have 0.45
    found = interval(np.append(0.45, resampled), rows=100)
    assert found.value == 0.45
    assert (found.low, found.high) == pytest.approx((0.405, 0.595))


def test_no_mistake_seen_is_no_proof_of_perfection() -> None:
    # Clopper and Pearson: 20 of 20 right goes down to 0.025 ** (1 / 20) = 0.8316.
    right = mean_interval(np.ones(20))
    assert (right.value, right.high) == (1.0, 1.0)
    assert right.low == pytest.approx(0.83157, abs=1e-5)
    wrong = mean_interval(np.zeros(20))
    assert (wrong.value, wrong.low) == (0.0, 0.0)
    assert wrong.high == pytest.approx(0.16843, abs=1e-5)


def test_no_verdict_hangs_on_a_last_digit() -> None:
    reference = np.zeros(10, int)
    model, rival = np.array([1, 1] + [0] * 8), np.array([1, 1, 1] + [0] * 7)
    for first, second in ((model, rival), (rival, model)):
        found = difference(reference, first, second, ["a", "b"], metric="accuracy")
        assert found.low <= 0 <= found.high
        assert 0.0 in (found.low, found.high)


def test_very_few_rows_are_no_evidence() -> None:
    few, enough = mean_difference(np.full(5, 0.9), np.zeros(5)), mean_difference(np.full(6, 0.9), np.zeros(6))
    assert (few.low, few.high) == (-1.0, 1.0)
    assert enough.low > 0


def test_scores_of_other_bounds() -> None:
    found = mean_interval(np.full(20, 100.0), bounds=(0.0, 100.0))
    assert (found.value, found.high) == (100.0, 100.0)
    assert found.low == pytest.approx(83.157, abs=1e-3)


def test_mean_difference_is_paired() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(400)
    better, worse = hard + 0.02 + 0.001 * generator.random(400), hard
    paired = mean_difference(better, worse)
    assert 0.02 < paired.low < paired.value < paired.high < 0.021
    unpaired = mean_interval(better, bounds=(0.0, 2.0))
    assert unpaired.high - unpaired.low > 0.03


def _population(shares: list[float], right: list[float]) -> np.ndarray:
    """(labels, labels) probabilities of reference and prediction; mistakes fall by the labels' shares."""
    share = np.array(shares) / np.sum(shares)
    joint = np.zeros((len(share), len(share)))
    for label, rate in enumerate(right):
        others = np.where(np.arange(len(share)) == label, 0, share)
        joint[label] = share[label] * (1 - rate) * others / others.sum()
        joint[label, label] = share[label] * rate
    return joint


@pytest.mark.parametrize(
    "joint",
    [
        _population([0.95, 0.05], [0.98, 0.7]),
        _population([25, 23, 22, 15, 13, 2], [0.9, 0.85, 0.8, 0.85, 0.9, 0.6]),
        _population([1 / rank for rank in range(1, 29)], list(np.linspace(0.9, 0.5, 28))),
    ],
    ids=["two labels 95:5", "six labels", "28 labels with a long tail"],
)
def test_coverage_at_500_rows(joint: np.ndarray) -> None:
    labels = [str(label) for label in range(len(joint))]
    f1 = 2 * joint.diagonal() / (joint.sum(axis=0) + joint.sum(axis=1))
    truth = {"accuracy": joint.trace(), "f1_macro": f1.mean()}
    generator = np.random.default_rng(1)
    covered = dict.fromkeys(truth, 0)
    for _ in range(300):
        cells = generator.choice(joint.size, size=500, p=joint.ravel())
        scores = single_label(cells // len(labels), cells % len(labels), labels)["scores"]
        for name, value in truth.items():
            covered[name] += scores[name]["low"] <= value <= scores[name]["high"]
    assert {name: 0.93 <= count / 300 <= 0.97 for name, count in covered.items()} == {
        "accuracy": True,
        "f1_macro": True,
    }, covered


def test_coverage_of_the_paired_difference_at_500_rows() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        reference, luck = generator.integers(0, 3, 500), generator.random(500)
        first = np.where(luck < 0.85, reference, (reference + 1) % 3)
        second = np.where((luck < 0.80) | (luck > 0.97), reference, (reference + 2) % 3)
        found = difference(reference, first, second, ["a", "b", "c"], metric="accuracy")
        covered += found.low <= 0.02 <= found.high
    assert 0.93 <= covered / 300 <= 0.97
