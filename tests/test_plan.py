"""The plan: every row once an epoch, every item once an update, whatever the hardware."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ftkit import plan

steady = settings(deadline=None, derandomize=True)
LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=400).map(np.asarray)
SIZES = st.integers(1, 40)
WINDOWS = st.integers(1, 120)
EPOCHS = st.integers(0, 50)


def as_lists(updates: list[plan.Ints]) -> list[list[int]]:
    return [update.tolist() for update in updates]


@steady
@given(LENGTHS, SIZES, st.integers(0, 2**32 - 1), EPOCHS, WINDOWS)
@example(np.arange(161), 10, 0, 0, 2)  # one row alone in the last window
def test_every_row_is_in_exactly_one_update(lengths: plan.Ints, size: int, seed: int, epoch: int, window: int) -> None:
    order = plan.updates(lengths, size, seed, epoch, window)
    assert sorted(np.concatenate(order).tolist()) == list(range(len(lengths)))


@steady
@given(LENGTHS, SIZES, EPOCHS, WINDOWS)
def test_only_one_update_is_shorter_than_the_batch_size(lengths: plan.Ints, size: int, epoch: int, window: int) -> None:
    full, rest = divmod(len(lengths), size)
    sizes = sorted(len(update) for update in plan.updates(lengths, size, 0, epoch, window))
    assert sizes == ([rest] if rest else []) + [size] * full


@steady
@given(LENGTHS, SIZES, EPOCHS, WINDOWS)
def test_the_same_arguments_give_the_same_plan(lengths: plan.Ints, size: int, epoch: int, window: int) -> None:
    first, second = (plan.updates(lengths, size, 7, epoch, window) for _ in range(2))
    assert as_lists(first) == as_lists(second)


@steady
@given(LENGTHS, LENGTHS, SIZES, EPOCHS)
def test_a_window_of_one_update_is_the_plain_shuffle(
    lengths: plan.Ints, others: plan.Ints, size: int, epoch: int
) -> None:
    """The lengths do not matter to it: the rows stand as a permutation of the seed and epoch gives them."""
    order = np.concatenate(plan.updates(lengths, size, 3, epoch, window=1))
    assert order.tolist() == np.random.default_rng([3, epoch]).permutation(len(lengths)).tolist()


def test_the_rows_of_a_window_are_sorted_by_length_together() -> None:
    """64 updates in windows of 8 (an eighth): no two updates of a window overlap in length."""
    lengths = np.random.default_rng(0).permutation(640)
    order = plan.updates(lengths, 10, seed=0, epoch=0, window=8)
    shuffled = np.random.default_rng([0, 0]).permutation(640)
    for start in range(0, 64, 8):
        window = sorted((sorted(lengths[rows].tolist()) for rows in order[start : start + 8]), key=min)
        in_window = sorted(lengths[shuffled[start * 10 : (start + 8) * 10]].tolist())
        assert [length for rows in window for length in rows] == in_window


def test_the_updates_of_a_window_are_shuffled() -> None:
    lengths = np.random.default_rng(0).permutation(640)
    heads = [int(lengths[rows].min()) for rows in plan.updates(lengths, 10, 0, 0, window=8)[:8]]
    assert heads != sorted(heads)
    assert heads != sorted(heads, reverse=True)


def test_a_window_is_never_more_than_an_eighth_of_the_epoch() -> None:
    lengths = np.random.default_rng(0).permutation(160)
    assert as_lists(plan.updates(lengths, 10, 0, 0, window=100)) == as_lists(plan.updates(lengths, 10, 0, 0, window=2))


def test_an_epoch_of_fewer_than_sixteen_updates_is_the_plain_shuffle() -> None:
    lengths = np.random.default_rng(0).permutation(150)
    assert as_lists(plan.updates(lengths, 10, 0, 0)) == as_lists(plan.updates(lengths, 10, 0, 0, window=1))


def test_sorting_by_length_saves_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 60, 4000)

    def padded(window: int) -> int:
        return sum(int(lengths[rows].max()) * len(rows) for rows in plan.updates(lengths, 32, 0, 0, window))

    assert padded(100) < 0.7 * padded(1)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_seeds_and_epochs_give_different_plans(other: dict[str, int]) -> None:
    lengths = np.arange(1000)
    first = plan.updates(lengths, 10, **{"seed": 0, "epoch": 0})
    assert as_lists(first) != as_lists(plan.updates(lengths, 10, **({"seed": 0, "epoch": 0} | other)))


def test_epoch_one_of_seed_zero_is_not_epoch_zero_of_seed_one() -> None:
    lengths = np.arange(1000)
    assert as_lists(plan.updates(lengths, 10, 0, 1)) != as_lists(plan.updates(lengths, 10, 1, 0))


@pytest.mark.parametrize("rows", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.soak)])
def test_many_rows_are_planned_in_seconds(rows: int) -> None:
    lengths = np.random.default_rng(0).integers(4, 512, rows)
    started = time.process_time()
    order = plan.updates(lengths, 32, 0, 0)
    seconds = time.process_time() - started
    assert sum(map(len, order)) == rows
    assert seconds < rows * 1e-6  # measured: a tenth of it


# Cutting an update into micro-batches.


@st.composite
def an_update(draw: st.DrawFn) -> tuple[plan.Ints, plan.Ints]:
    """Some of the items, in any order, and the lengths of all."""
    lengths = draw(LENGTHS)
    items = draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=80, unique=True))
    return np.asarray(items), lengths


WORLDS = st.integers(1, 9)
BUDGETS = st.integers(1, 5000)


@steady
@given(an_update(), WORLDS, BUDGETS)
def test_every_item_is_counted_exactly_once(update: tuple[plan.Ints, plan.Ints], world: int, budget: int) -> None:
    items, lengths = update
    counted = [batch.items for batch in plan.cut(items, lengths, world, budget) if batch.counted]
    assert sorted(np.concatenate(counted).tolist()) == sorted(items.tolist())


@steady
@given(an_update(), WORLDS, BUDGETS)
def test_every_process_gets_the_same_number_of_micro_batches(
    update: tuple[plan.Ints, plan.Ints], world: int, budget: int
) -> None:
    batches = plan.cut(*update, world, budget)
    assert {len(batches[rank::world]) for rank in range(world)} == {len(batches) // world}
    assert all(len(batch.items) for batch in batches)


@steady
@given(an_update(), WORLDS, BUDGETS)
def test_the_padded_size_stays_within_the_budget_unless_a_single_item_is_longer(
    update: tuple[plan.Ints, plan.Ints], world: int, budget: int
) -> None:
    items, lengths = update
    for batch in plan.cut(items, lengths, world, budget):
        assert len(batch.items) == 1 or len(batch.items) * int(lengths[batch.items].max()) <= budget


@steady
@given(an_update(), BUDGETS)
def test_an_update_that_is_cut_can_be_cut_into_powers_of_two(update: tuple[plan.Ints, plan.Ints], budget: int) -> None:
    items, lengths = update
    plain = plan.cut(items, lengths, 1, budget)
    batches = plan.cut(items, lengths, 1, budget, powers_of_two=True)
    assert sorted(np.concatenate([batch.items for batch in batches]).tolist()) == sorted(items.tolist())
    if len(plain) == 1:
        assert len(batches) == 1
    else:
        assert all(len(batch.items).bit_count() == 1 for batch in batches)
    for batch in batches:
        assert len(batch.items) == 1 or len(batch.items) * int(lengths[batch.items].max()) <= budget


@steady
@given(an_update(), WORLDS, BUDGETS)
def test_micro_batches_of_weight_zero_only_top_up_an_update_that_cannot_be_cut_finer(
    update: tuple[plan.Ints, plan.Ints], world: int, budget: int
) -> None:
    batches = plan.cut(*update, world, budget)
    topped_up = [batch for batch in batches if not batch.counted]
    assert len(topped_up) < world
    if topped_up:
        assert all(len(batch.items) == 1 for batch in batches)
        assert set(np.concatenate([b.items for b in topped_up]).tolist()) <= set(update[0].tolist())


@steady
@given(an_update(), WORLDS, BUDGETS)
def test_the_same_update_is_cut_the_same_way(update: tuple[plan.Ints, plan.Ints], world: int, budget: int) -> None:
    def shown() -> list[tuple[list[int], bool]]:
        return [(batch.items.tolist(), batch.counted) for batch in plan.cut(*update, world, budget)]

    assert shown() == shown()


def test_an_update_within_the_budget_is_one_micro_batch_on_one_process() -> None:
    lengths = np.asarray([3, 1, 2])
    [batch] = plan.cut(np.asarray([0, 1, 2]), lengths, 1, 9)
    assert (batch.items.tolist(), batch.counted) == ([1, 2, 0], True)


def test_two_processes_get_equal_work() -> None:
    """Interleaved halves: [1, 3, 5, 7] and [2, 4, 6, 8], not the short ones here and the long ones there."""
    lengths = np.asarray([8, 7, 6, 5, 4, 3, 2, 1])
    batches = plan.cut(np.arange(8), lengths, 2, 1000)
    assert [lengths[batch.items].tolist() for batch in batches] == [[1, 3, 5, 7], [2, 4, 6, 8]]


def test_the_longest_items_come_first() -> None:
    """So that memory that does not suffice is found out at once."""
    lengths = np.asarray([10, 10, 5, 5, 5, 5])
    batches = plan.cut(np.arange(6), lengths, 1, 20)
    assert [lengths[batch.items].tolist() for batch in batches] == [[10, 10], [5, 5, 5, 5]]


def test_one_item_on_three_processes_is_counted_once_and_topped_up_twice() -> None:
    batches = plan.cut(np.asarray([4]), np.full(5, 7), 3, 100)
    assert [(batch.items.tolist(), batch.counted) for batch in batches] == [([4], True), ([4], False), ([4], False)]


def test_items_without_tokens_are_cut_too() -> None:
    [batch] = plan.cut(np.arange(3), np.zeros(3, dtype=np.int64), 1, 8)
    assert sorted(batch.items.tolist()) == [0, 1, 2]


@steady
@given(st.integers(1, 5000))
def test_windows_are_padded_to_at_most_a_sixteenth_more(length: int) -> None:
    width = int(plan.padded(np.asarray([length]))[0])
    assert length <= width <= max(length + 1, length * 17 / 16)


@pytest.mark.parametrize("octave", range(12))
def test_few_widths_are_used_of_every_octave(octave: int) -> None:
    widths = plan.padded(np.arange(2**octave + 1, 2 ** (octave + 1) + 1))
    assert np.all(np.diff(widths) >= 0)
    assert len(set(widths.tolist())) <= 16
    assert widths[-1] == 2 ** (octave + 1)  # what a model can read at most is not exceeded


def test_a_width_is_padded_no_further() -> None:
    widths = plan.padded(np.arange(1, 2000))
    assert plan.padded(widths).tolist() == widths.tolist()


# Seeds and learning rates.


@steady
@given(st.integers(0, 2**32 - 1), EPOCHS, st.integers(0, 10**6), st.integers(0, 1000))
def test_torch_takes_every_dropout_seed(seed: int, epoch: int, update: int, micro_batch: int) -> None:
    assert 0 <= plan.dropout_seed(seed, epoch, update, micro_batch) < 2**63


def test_every_micro_batch_has_a_dropout_seed_of_its_own() -> None:
    places = [(s, e, u, m) for s in range(3) for e in range(3) for u in range(20) for m in range(4)]
    assert len({plan.dropout_seed(*place) for place in places}) == len(places)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("linear", 0.0, [1.0, 0.75, 0.5, 0.25]),
        ("linear", 0.5, [1 / 3, 2 / 3, 1.0, 0.5]),
        ("cosine", 0.0, [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
        ("cosine", 0.5, [1 / 3, 2 / 3, 1.0, 0.5]),
        ("constant", 0.0, [1.0, 1.0, 1.0, 1.0]),
        ("constant", 0.5, [1 / 3, 2 / 3, 1.0, 1.0]),
    ],
)
def test_learning_rate_factors(schedule: str, warmup: float, expected: list[float]) -> None:
    factors = [plan.learning_rate_factor(update, 4, warmup, schedule) for update in range(4)]
    assert factors == pytest.approx(expected, abs=1e-12)


@steady
@given(st.integers(1, 3000), st.floats(0, 0.999), st.sampled_from(["linear", "cosine", "constant"]))
def test_every_update_learns_at_most_at_the_peak_and_never_at_zero(total: int, warmup: float, schedule: str) -> None:
    factors = [plan.learning_rate_factor(update, total, warmup, schedule) for update in range(total)]
    assert all(0 < factor <= 1 for factor in factors)


@steady
@given(st.integers(1, 3000), st.floats(0, 0.999), st.sampled_from(["linear", "cosine"]))
def test_the_factor_rises_and_then_falls(total: int, warmup: float, schedule: str) -> None:
    factors = np.asarray([plan.learning_rate_factor(update, total, warmup, schedule) for update in range(total)])
    peak = int(factors.argmax())
    assert (np.diff(factors[: peak + 1]) > 0).all()
    assert (np.diff(factors[peak:]) < 0).all()
