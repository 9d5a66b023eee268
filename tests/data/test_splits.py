"""Held-out rows: a share of every label, never a text that training sees."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data.splits import carve, text_key

steady = settings(deadline=None, derandomize=True)
LABELS = st.sampled_from("abc")
ROWS = st.lists(st.tuples(st.integers(0, 60), LABELS), min_size=1, max_size=200)  # (text, label)
SHARES = st.floats(0.01, 0.9)


def carved(rows: list[tuple[int, str]], share: float, seed: int = 0) -> tuple[list[int], list[int]]:
    train, validation = carve([text for text, _ in rows], [label for _, label in rows], share, seed)
    return train.tolist(), validation.tolist()


@steady
@given(ROWS, SHARES, st.integers(0, 2**32 - 1))
def test_every_row_is_on_one_side_in_its_order(rows: list[tuple[int, str]], share: float, seed: int) -> None:
    train, validation = carved(rows, share, seed)
    assert sorted(train + validation) == list(range(len(rows)))
    assert (train, validation) == (sorted(train), sorted(validation))


@steady
@given(ROWS, SHARES)
def test_no_text_is_on_both_sides(rows: list[tuple[int, str]], share: float) -> None:
    train, validation = carved(rows, share)
    assert not {rows[i][0] for i in train} & {rows[i][0] for i in validation}


@steady
@given(st.lists(LABELS, min_size=1, max_size=200), SHARES)
def test_every_label_of_two_texts_or_more_is_on_both_sides(labels: list[str], share: float) -> None:
    rows = list(enumerate(labels))
    expected = {label for label, count in Counter(labels).items() if count > 1}
    train, validation = ({labels[i] for i in side} for side in carved(rows, share))
    assert (train, validation) == (set(labels), expected)


@steady
@given(st.lists(LABELS, min_size=1, max_size=200), SHARES)
def test_every_label_gives_its_share(labels: list[str], share: float) -> None:
    """To the nearest row; but one at least, and one at least stays."""
    _, validation = carved(list(enumerate(labels)), share)
    held = Counter(labels[i] for i in validation)
    for label, count in Counter(labels).items():
        if count > 1:
            assert held[label] == pytest.approx(min(max(share * count, 1), count - 1), abs=0.5)


@steady
@given(ROWS, SHARES)
def test_the_same_seed_gives_the_same_rows(rows: list[tuple[int, str]], share: float) -> None:
    assert carved(rows, share, 5) == carved(rows, share, 5)


def test_another_seed_gives_other_rows() -> None:
    rows = [(i, "ab"[i % 2]) for i in range(200)]
    assert carved(rows, 0.1, 0) != carved(rows, 0.1, 1)


def test_the_rows_held_out_are_spread_over_the_file() -> None:
    """A file sorted by label, or by anything else, gives rows from all its parts."""
    _, validation = carved([(i, "a") for i in range(1000)], 0.2)
    thirds = np.histogram(validation, bins=3, range=(0, 1000))[0]
    assert (thirds > 40).all()


def test_a_label_with_one_text_only_is_learned_from() -> None:
    rows = [(0, "a"), (0, "a"), (1, "b"), (2, "b")]
    train, validation = carved(rows, 0.5)
    assert train[:2] == [0, 1]
    assert len(validation) == 1


def test_a_text_of_many_rows_is_not_held_out_where_others_suffice() -> None:
    rows = [(0, "a")] * 90 + [(i, "a") for i in range(1, 21)]
    assert {len(carved(rows, 0.1, seed)[1]) for seed in range(20)} == {11}


def test_texts_of_many_rows_are_held_out_where_there_are_no_others() -> None:
    train, validation = carved([(0, "a")] * 50 + [(1, "a")] * 50, 0.1)
    assert (len(train), len(validation)) == (50, 50)


# What counts as the same text.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Good  food", "good food"),
        (" good\tfood\n", "good food"),
        ("ｇｏｏｄ ｆｏｏｄ", "good food"),  # full width
        ("STRASSE", "straße"),
        ("cafe\u0301", "café"),  # combining accent
        ("good\u00a0food", "good food"),  # no-break space
        ("good\u3000food", "good food"),  # ideographic space
    ],
)
def test_writing_that_does_not_count(first: str, second: str) -> None:
    assert text_key((first,)) == text_key((second,))


@pytest.mark.parametrize(("first", "second"), [("good", "good!"), ("good food", "goodfood"), ("好", "差")])
def test_writing_that_counts(first: str, second: str) -> None:
    assert text_key((first,)) != text_key((second,))


def test_a_pair_is_its_two_texts_in_their_order() -> None:
    assert text_key(("A", "b ")) == ("a", "b")
    assert text_key(("a", "b")) != text_key(("b", "a"))
    assert text_key(("a b", "")) != text_key(("a", "b"))
