"""Rows for validation, carved from the training rows and never sharing a text with them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def text_key(texts: tuple[str, ...]) -> tuple[str, ...]:
    """What makes two rows the same text: compatibility forms, case and white space do not count."""
    return tuple(" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in texts)


def carve(keys: Sequence[Hashable], strata: Sequence[Hashable], share: float, seed: int) -> tuple[Ints, Ints]:
    """Splits rows into (training, validation) row numbers, each ascending.

    Rows with equal keys stay on one side. Every stratum (label) gives about `share` of its rows, and
    at least one if it has two groups of rows or more.

    Args:
        keys: (rows,) equal for rows that must stay together.
        strata: (rows,) the label of each row; a group counts for the label of its first row.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    by_stratum: dict[Hashable, list[list[int]]] = defaultdict(list)
    for rows in groups.values():
        by_stratum[strata[rows[0]]].append(rows)
    generator = np.random.default_rng([seed, 1])
    held_out: list[int] = []
    for stratum in by_stratum.values():
        wanted = share * sum(map(len, stratum))
        if len(stratum) < 2:
            continue
        chosen: list[list[int]] = []
        taken = 0
        for index in generator.permutation(len(stratum)):
            group = stratum[index]
            if taken + len(group) / 2 <= wanted and len(chosen) < len(stratum) - 1:
                chosen.append(group)
                taken += len(group)
        for group in chosen or [min(stratum, key=len)]:
            held_out.extend(group)
    mask = np.zeros(len(keys), dtype=bool)
    mask[held_out] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)
