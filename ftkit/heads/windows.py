"""Texts to windows of token ids, the same way for every tokenizer and every task.

User text is tokenized with `split_special_tokens=True`, so that "[SEP]" in a review stays text.
The special tokens of the model are put around it here: a `Frame` is read off the tokenizer once, and
windows are slices of ids inside that frame. Nothing is ever cut off: a text longer than a window
becomes several overlapping ones.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftkit.data.features import Features
from ftkit.errors import UserError

BATCH = 1000  # texts given to the tokenizer at once


@dataclass(frozen=True)
class Frame:
    """The special tokens before, between and after one text or two.

    Families without a separator (GPT-2, Llama) get a line break between two texts.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


def raw_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of user texts, without special tokens.

    Some vocabularies (T5's) hold "</s>" as an ordinary piece too; a text that spells it gets it in two parts.
    """
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    result: list[list[int]] = []
    for start in range(0, len(texts), BATCH):
        for ids in _ids(tokenizer, texts[start : start + BATCH]):
            if not special.isdisjoint(ids):
                ids = [part for i in ids for part in (_spelled(tokenizer, i) if i in special else [i])]
            result.append(ids)
    return result


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _spelled(tokenizer: Any, special: int) -> list[int]:
    """The text of a special token as ordinary tokens: its first character, then the rest."""
    text = tokenizer.convert_ids_to_tokens(special)
    first, rest = _ids(tokenizer, [text[:1], text[1:]])
    return first + rest


def frame(tokenizer: Any, texts: int) -> Frame:
    """Reads off the tokenizer which special tokens it puts around `texts` (1 or 2) texts."""
    probe = raw_ids(tokenizer, ["a"])[0]
    rest = list(tokenizer(*["a"] * texts)["input_ids"])
    parts: list[tuple[int, ...]] = []
    for _ in range(texts):
        at = next((i for i in range(len(rest)) if rest[i : i + len(probe)] == probe), None)
        if not probe or at is None:
            raise UserError(
                "this tokenizer treats a text alone and inside its special tokens differently, "
                "so windows cannot be framed for it",
                "Use another checkpoint of the same family",
            )
        parts.append(tuple(rest[:at]))
        rest = rest[at + len(probe) :]
    between = parts[1] if texts == 2 else ()
    if texts == 2 and not between:
        between = tuple(raw_ids(tokenizer, ["\n"])[0])
    return Frame(parts[0], between, tuple(rest))


def spans(length: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """(start, end) of the windows over a text of `length` tokens: all of it, each `room` long.

    Neighbours share at least `overlap` tokens; the last window ends with the text.
    """
    if length <= room:
        return [(0, length)]
    step = room - overlap
    starts = [*range(0, length - room, step), length - room]
    return [(start, start + room) for start in starts]


def encode(tokenizer: Any, texts: Sequence[tuple[str, ...]], max_length: int, overlap: int, fallback: int) -> Features:
    """Tokenizes rows of one or two texts into windows of at most `max_length` tokens.

    Args:
        fallback: the token that stands for a row that would have none (an empty text in a family
            without special tokens).
    """
    pair = bool(texts) and len(texts[0]) == 2
    shape = frame(tokenizer, 2 if pair else 1)
    room = max_length - shape.size
    if room < 4:
        raise UserError(
            f"window.max_length is {max_length}, and {shape.size} of it are special tokens",
            "Use a longer window: --set window.max_length=128",
        )
    overlap = min(overlap, room // 2)
    columns = [raw_ids(tokenizer, [row[i] for row in texts]) for i in range(2 if pair else 1)]
    unknown_id = tokenizer.unk_token_id
    tokens = array("i")
    starts, second, first_window = [0], [], [0]
    total = unknown = 0
    for row in zip(*columns, strict=True):
        total += sum(map(len, row))
        if unknown_id is not None:
            unknown += sum(ids.count(unknown_id) for ids in row)
        windows = _pair_windows(row[0], row[1], room, overlap) if pair else _windows(row[0], room, overlap)
        for parts in windows:
            begin = len(tokens)
            tokens.extend(shape.before)
            tokens.extend(parts[0])
            if pair:
                tokens.extend(shape.between)
                second.append(len(tokens) - begin)
                tokens.extend(parts[1])
            tokens.extend(shape.after)
            if len(tokens) == begin:
                tokens.append(fallback)
            if not pair:
                second.append(len(tokens) - begin)
            starts.append(len(tokens))
        first_window.append(len(second))
    return Features(
        tokens=np.frombuffer(tokens, dtype=np.int32) if tokens else np.empty(0, np.int32),
        starts=np.asarray(starts, dtype=np.int64),
        second=np.asarray(second, dtype=np.int32),
        first_window=np.asarray(first_window, dtype=np.int64),
        text_tokens=np.asarray([total, unknown], dtype=np.int64),
    )


def _windows(ids: list[int], room: int, overlap: int) -> list[tuple[list[int], ...]]:
    return [(ids[a:b],) for a, b in spans(len(ids), room, overlap)]


def _pair_windows(first: list[int], second: list[int], room: int, overlap: int) -> list[tuple[list[int], ...]]:
    """Windows over a pair: the longer text slides beside the whole shorter one.

    Where even the shorter text fills more than half a window, both slide together, half a window each,
    the one that ends first staying at its end; so every token of both texts is read.
    """
    if len(first) + len(second) <= room:
        return [(first, second)]
    half = room // 2
    share = min(len(first), len(second), half)
    room_first = share if len(first) <= len(second) else room - share
    a = spans(len(first), room_first, min(overlap, room_first // 2))
    b = spans(len(second), room - room_first, min(overlap, (room - room_first) // 2))
    count = max(len(a), len(b))
    a += a[-1:] * (count - len(a))
    b += b[-1:] * (count - len(b))
    return [(first[i:j], second[k:m]) for (i, j), (k, m) in zip(a, b, strict=True)]
