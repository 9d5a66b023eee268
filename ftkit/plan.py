"""The plan of an epoch: what every update learns from, and how the hardware takes it in.

`updates` is the mathematics: which rows make up each optimizer update. It knows nothing of devices.
`cut` is the hardware: how the items of one update are grouped into micro-batches for a number of
processes and a token budget. It never changes what is learned, because the loss of an update is a sum
over its targets divided by a weight that is known before the first micro-batch runs.

Both are pure functions of their arguments, so resuming at update k is taking the plan from k on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class MicroBatch(NamedTuple):
    """Items that go through the model together.

    `items` are item numbers, shape (n,). `counted` is False for a micro-batch that only gives a process
    something to do when an update has fewer items than there are processes: its weight is zero.
    """

    items: Ints
    counted: bool


def updates(lengths: NDArray[np.integer], batch_size: int, seed: int, epoch: int, window: int = 100) -> list[Ints]:
    """The updates of one epoch: arrays of row numbers that together hold every row exactly once.

    Rows are shuffled, cut into windows of `window` updates (never more than an eighth of the epoch),
    sorted by length inside a window so that little padding is needed, and the updates of each window
    are shuffled again. A window of one update is the plain shuffle. Only one update is shorter than
    `batch_size`.

    Args:
        lengths: (rows,) tokens of each row.
        batch_size: rows of one update.
        seed, epoch: fix the shuffle.
        window: updates sorted together.
    """
    rows = len(lengths)
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(rows)
    count = -(-rows // batch_size)
    span = max(1, min(window, count // 8)) * batch_size
    if span == batch_size:
        return [order[start : start + batch_size] for start in range(0, rows, batch_size)]
    result: list[Ints] = []
    for start in range(0, rows, span):
        block = order[start : start + span]
        block = block[np.argsort(lengths[block], kind="stable")]
        pieces = [block[i : i + batch_size] for i in range(0, len(block), batch_size)]
        result.extend(pieces[i] for i in generator.permutation(len(pieces)))
    return result


def cut(
    items: Ints, lengths: NDArray[np.integer], world: int, token_budget: int, powers_of_two: bool = False
) -> list[MicroBatch]:
    """Groups the items of one update into micro-batches; their number is a multiple of `world`.

    Process r of `world` takes micro-batches r, r + world, ... The padded size of a micro-batch, items
    times its longest item, stays within `token_budget` unless a single item is longer.

    Args:
        items: (n,) item numbers, n >= 1.
        lengths: (all items,) tokens of each item, indexed by item number.
        powers_of_two: of items that do not go into one micro-batch every one gets 1, 2, 4, ..., so that there are
            few shapes (see `padded`).
    """
    order = items[np.argsort(lengths[items], kind="stable")]
    sizes = lengths[order]
    pieces: list[Ints] = []
    end = len(order)
    while end > 0:  # from the longest item down: the longest item of a piece is its last
        take = max(1, min(end, token_budget // max(1, int(sizes[end - 1]))))
        if powers_of_two and take < len(order):
            take = 2 ** (take.bit_length() - 1)
        pieces.append(order[end - take : end])
        end -= take
    while len(pieces) % world:
        widest = max(range(len(pieces)), key=lambda i: len(pieces[i]))
        piece = pieces[widest]
        if len(piece) == 1:
            break
        # Interleaved halves hold equal work, which keeps the processes in step.
        pieces[widest : widest + 1] = [piece[0::2], piece[1::2]]
    batches = [MicroBatch(piece, True) for piece in pieces]
    while len(batches) % world:
        batches.append(MicroBatch(pieces[-1][:1], False))
    return batches


def padded(lengths: Ints) -> Ints:
    """The widths to which batches are padded whose longest windows have these lengths: a sixteenth, or one token, more.

    Of each octave at most 16 widths are used, because oneDNN keeps what it compiles for every shape of a batch
    (about 3 MB a shape in bf16), long after it has left its cache.
    """
    step = np.maximum(2, 2 ** np.maximum(0, np.frexp(np.maximum(lengths, 1) - 1)[1] - 5))
    return np.asarray(-(-lengths // step) * step)


def dropout_seed(seed: int, epoch: int, update: int, micro_batch: int) -> int:
    """The seed of torch's generator before one micro-batch: dropout needs no saved state."""
    state = np.random.SeedSequence([seed, epoch, update, micro_batch]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))  # torch takes signed 64-bit seeds


def learning_rate_factor(update: int, total: int, warmup: float, schedule: str) -> float:
    """The share of the peak learning rate at update 0 <= update < total; never zero.

    Linear warm-up over `warmup * total` updates, then linear or cosine decay towards zero, or constant.
    """
    rising = round(warmup * total)
    if update < rising:
        return (update + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (update - rising) / max(1, total - rising))
    if schedule == "cosine":
        return float(0.5 * (1 + np.cos(np.pi * progress)))
    return 1.0 - progress
