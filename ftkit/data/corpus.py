"""What looks wrong in pairs of texts that should be translations of each other.

Every check is a rule that can be counted, none a judgement: what it finds is told, and nothing is changed or left
out here. Two texts are the same if they differ in compatibility forms, case and white space only (`splits.text_key`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ftkit.data.splits import text_key
from ftkit.languages import Language, letters_share

Pair = tuple[str, str]  # source, target

LENGTH_RATIO = 9  # times as long as the other side, in characters, after the corpus' median ratio
LETTERS = 10  # that a text must have before its script says something: names are often in foreign letters


def doubts(pairs: Sequence[Pair], source: Language, target: Language) -> dict[str, int]:
    """How many pairs each check finds, without those that find none; see `doubtful`."""
    return {check: len(rows) for check, rows in doubtful(pairs, source, target).items() if rows}


def doubtful(pairs: Sequence[Pair], source: Language, target: Language) -> dict[str, list[int]]:
    """The row numbers, from 0, of the pairs that each check finds.

    A pair with an empty side (white space only) is found by that check alone. The others may find a pair more than
    once: both sides are the same and have letters; one side is more than 9 times as long as the other, in characters,
    when the target's length is divided by the corpus' median ratio of target to source; a side of 10 letters or more
    has most of them in no script of its language; the pair occurred before.
    """
    stripped = [(first.strip(), second.strip()) for first, second in pairs]
    full = [row for row, (first, second) in enumerate(stripped) if first and second]
    keys = {row: text_key(stripped[row]) for row in full}
    return {
        "pairs with an empty source": [row for row, (first, _) in enumerate(stripped) if not first],
        "pairs with an empty target": [row for row, (first, second) in enumerate(stripped) if first and not second],
        "pairs of two equal texts": [
            row for row, (first, second) in keys.items() if first == second and any(map(str.isalpha, first))
        ],
        f"pairs with one side {LENGTH_RATIO} times as long as the other": _uneven(stripped, full),
        f"sources in no script of {source.name}": [row for row in full if _foreign(stripped[row][0], source)],
        f"targets in no script of {target.name}": [row for row in full if _foreign(stripped[row][1], target)],
        "pairs that occurred before": _repeated(keys),
    }


def _uneven(pairs: Sequence[Pair], full: Sequence[int]) -> list[int]:
    if not full:
        return []
    lengths = np.array([(len(pairs[row][0]), len(pairs[row][1])) for row in full])
    ratios = np.log(lengths[:, 1] / lengths[:, 0])
    uneven = np.abs(ratios - np.median(ratios)) > np.log(LENGTH_RATIO)
    return [row for row, found in zip(full, uneven, strict=True) if found]


def _foreign(text: str, language: Language) -> bool:
    """Whether most letters of a text with enough of them are in no script of the language."""
    if len(text) < LETTERS or (text.isascii() and "Latn" in language.scripts):
        return False
    return letters_share(text, language) < 0.5 and sum(map(str.isalpha, text)) >= LETTERS


def _repeated(keys: Mapping[int, tuple[str, ...]]) -> list[int]:
    seen: set[tuple[str, ...]] = set()
    repeated = []
    for row, key in keys.items():
        if key in seen:
            repeated.append(row)
        seen.add(key)
    return repeated
