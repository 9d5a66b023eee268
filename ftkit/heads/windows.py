"""Texts to windows of token ids, the same way for every tokenizer and every task.

User text is tokenized with `split_special_tokens=True`, so that "[SEP]" in a review stays text.
The special tokens of the model are put around it here: a `Frame` is read off the tokenizer once, and
windows are slices of ids inside that frame. Nothing is ever cut off: a text longer than a window
becomes several overlapping ones.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ftkit import plan
from ftkit.data.features import Features
from ftkit.errors import UserError

BATCH = 1000  # texts given to the tokenizer at once
SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "\n")
WORD_BEGINS = ("▁", "Ġ")  # SentencePiece's and byte-level pieces


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


def raw_ids(tokenizer: Any, texts: Sequence[str], written: bool = False) -> list[list[int]]:
    """Token ids of user texts, without special tokens.

    Some vocabularies (T5's) hold "</s>" as an ordinary piece too; a text that spells it gets it in two parts.

    Args:
        written: whether these are texts that the model is to write: Marian's tokenizers part them otherwise.
    """
    return [ids for ids, _ in _pieces(tokenizer, texts, offsets=False, written=written)]


def raw_offsets(tokenizer: Any, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Token ids of user texts as `raw_ids`, each with the characters of the text that it stands for (from, to).

    Raises:
        UserError: the tokenizer is one of those written in Python, which do not tell.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "the tokenizer of this model does not tell which characters a token stands for",
            "Use a checkpoint with a tokenizer.json",
        )
    return _pieces(tokenizer, texts, offsets=True)


def _pieces(
    tokenizer: Any, texts: Sequence[str], offsets: bool, written: bool = False
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    result: list[tuple[list[int], list[tuple[int, int]]]] = []
    for start in range(0, len(texts), BATCH):
        batch = [_harmless(tokenizer, text) for text in texts[start : start + BATCH]]
        encoded = _encoded(tokenizer, batch, offsets, written)
        places = encoded["offset_mapping"] if offsets else [[]] * len(encoded["input_ids"])
        for ids, at in zip(encoded["input_ids"], places, strict=True):
            if not special.isdisjoint(ids):
                parts = [_spelled(tokenizer, i) if i in special else [i] for i in ids]
                ids = [i for part in parts for i in part]
                at = [place for part, place in zip(parts, at, strict=False) for _ in part]
            result.append((ids, at))
    return result


def _harmless(tokenizer: Any, text: str) -> str:
    """Marian's tokenizers take what stands between ">>" and "<<" at the beginning of a text for a language's code."""
    return f" {text}" if text.startswith(">>") and hasattr(tokenizer, "remove_language_code") else text


def _encoded(tokenizer: Any, texts: Sequence[str], offsets: bool = False, written: bool = False) -> Any:
    return tokenizer(
        **{"text_target" if written else "text": list(texts)},
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=offsets,
        verbose=False,
    )


def _spelled(tokenizer: Any, special: int) -> list[int]:
    """The text of a special token as ordinary tokens: its first character, then the rest."""
    text = tokenizer.convert_ids_to_tokens(special)
    first, rest = _encoded(tokenizer, [text[:1], text[1:]])["input_ids"]
    return list(first + rest)


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


def pieces(tokenizer: Any, ids: Sequence[int], room: int) -> list[tuple[int, int]]:
    """(start, end) of parts of a text that share nothing and together are all of it, each of at most `room` tokens.

    A part ends with a sentence where one ends in its second half, else between two words, else where it is full.
    """
    found, start = [], 0
    while len(ids) - start > room:
        ends = range(start + room, start + (room + 1) // 2 - 1, -1)
        tokens = tokenizer.convert_ids_to_tokens(list(ids[start : start + room + 1]))
        ranks = [_rank(tokenizer, ids[end - 1], tokens[end - start]) for end in ends]
        end = ends[ranks.index(max(ranks))]
        found.append((start, end))
        start = end
    return [*found, (start, len(ids))]


def _rank(tokenizer: Any, last: int, following: str) -> int:
    """How good a place it is to cut: 2 after a sentence, 1 before a word, 0 elsewhere."""
    if tokenizer.decode([last]).rstrip().endswith(SENTENCE_ENDS):
        return 2
    return int(following.startswith(WORD_BEGINS))


def encode(
    tokenizer: Any,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    overlap: int,
    fallback: int,
    offsets: bool = False,
    closing: int | None = None,
) -> Features:
    """Tokenizes rows of one or two texts into windows of at most `max_length` tokens.

    Args:
        fallback: the token that stands for a row that would have none (an empty text in a family
            without special tokens).
        offsets: whether to keep which characters of the second text a token stands for.
        closing: the token that ends every window in a family that puts none there.
    """
    pair = bool(texts) and len(texts[0]) == 2
    shape = frame(tokenizer, 2 if pair else 1)
    if closing is not None and not shape.after:
        shape = replace(shape, after=(closing,))
    room = max_length - shape.size
    if room < 4:
        raise UserError(
            f"window.max_length is {max_length}, and {shape.size} of it are special tokens",
            "Use a longer window: --set window.max_length=128",
        )
    overlap = min(overlap, room // 2)
    columns = [raw_ids(tokenizer, [row[i] for row in texts]) for i in range(1 if offsets or not pair else 2)]
    places: Iterable[list[tuple[int, int]]] = itertools.repeat([])
    if offsets:
        located = raw_offsets(tokenizer, [row[1] for row in texts])
        columns.append([ids for ids, _ in located])
        places = [at for _, at in located]
    unknown_id = tokenizer.unk_token_id
    tokens, characters = array("i"), array("i")
    starts, second, first_window = [0], [], [0]
    total = unknown = 0
    for row, at in zip(zip(*columns, strict=True), places, strict=False):
        total += sum(map(len, row))
        if unknown_id is not None:
            unknown += sum(ids.count(unknown_id) for ids in row)
        first, last = len(row[0]), len(row[-1])
        for parts in _pair_windows(first, last, room, overlap) if pair else _windows(first, room, overlap):
            begin = len(tokens)
            tokens.extend(shape.before)
            tokens.extend(row[0][slice(*parts[0])])
            if pair:
                tokens.extend(shape.between)
                second.append(len(tokens) - begin)
                tokens.extend(row[1][slice(*parts[1])])
            if offsets:
                characters.extend([-1] * (2 * second[-1]))
                characters.extend(itertools.chain.from_iterable(at[slice(*parts[1])]))
                characters.extend([-1] * (2 * len(shape.after)))
            tokens.extend(shape.after)
            if len(tokens) == begin:
                tokens.append(fallback)
            if not pair:
                second.append(len(tokens) - begin)
            starts.append(len(tokens))
        first_window.append(len(second))
    return Features(
        tokens=ints(tokens),
        starts=np.asarray(starts, dtype=np.int64),
        second=np.asarray(second, dtype=np.int32),
        first_window=np.asarray(first_window, dtype=np.int64),
        text_tokens=np.asarray([total, unknown], dtype=np.int64),
        offsets=ints(characters).reshape(-1, 2),
    )


def ints(values: array[int]) -> NDArray[np.int32]:
    """The values of an array of C ints, without a copy."""
    return np.frombuffer(values, dtype=np.int32) if values else np.empty(0, np.int32)


def _windows(length: int, room: int, overlap: int) -> list[tuple[tuple[int, int], ...]]:
    return [(span,) for span in spans(length, room, overlap)]


def _pair_windows(first: int, second: int, room: int, overlap: int) -> list[tuple[tuple[int, int], ...]]:
    """Windows over a pair of texts of so many tokens: the longer one slides beside the whole shorter one.

    Where even the shorter text fills more than half a window, both slide together, half a window each,
    the one that ends first staying at its end; so every token of both texts is read.
    """
    if first + second <= room:
        return [((0, first), (0, second))]
    half = room // 2
    share = min(first, second, half)
    room_first = share if first <= second else room - share
    a = spans(first, room_first, min(overlap, room_first // 2))
    b = spans(second, room - room_first, min(overlap, (room - room_first) // 2))
    count = max(len(a), len(b))
    a += a[-1:] * (count - len(a))
    b += b[-1:] * (count - len(b))
    return list(zip(a, b, strict=True))


def pad(
    tokenizer: Any, features: Features, items: NDArray[np.int64], max_length: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Windows as a batch, padded on the right to the longest of them, or a little more (see `plan.padded`).

    Args:
        max_length: of the windows, beyond which nothing is padded: the model may have no positions there.

    With pad id 0 and the windows [5, 6, 7] and [8, 9]:

        input_ids      [[5, 6, 7], [8, 9, 0]]      (windows, tokens) int64
        attention_mask [[1, 1, 1], [1, 1, 0]]
        token_type_ids  0 for the first text, 1 from `second` on (families that know it)
    """
    lengths = features.starts[items + 1] - features.starts[items]
    width = max(int(lengths.max()), min(int(plan.padded(lengths).max()), max_length))
    position = np.arange(width)
    mask = position < lengths[:, None]
    ids = np.full(mask.shape, tokenizer.pad_token_id, dtype=np.int64)
    ids[mask] = np.concatenate([features.tokens[features.starts[i] : features.starts[i + 1]] for i in items])
    batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if "token_type_ids" in tokenizer.model_input_names:
        batch["token_type_ids"] = (mask & (position >= features.second[items][:, None])).astype(np.int64)
    ahead = device.type == "cuda"  # which copies what is not pinned before the call returns; MPS may not
    return {name: torch.from_numpy(array).to(device, non_blocking=ahead) for name, array in batch.items()}
