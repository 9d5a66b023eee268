"""What a head is: how a model family answers, with labels, with spans of a text, or by writing.

A head tokenizes rows into windows, turns windows into the loss of a training and into raw outputs. It knows
nothing of the task, of the disk or of how updates are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ftkit.data.features import Features


@dataclass(frozen=True)
class Rows:
    """Rows ready to learn from.

    Attributes:
        features: their windows.
        targets: what the head is to answer: (rows,) label numbers or (rows, labels) float32; (windows, 2)
            first and last token of a span; (rows, 0) where the features hold the target tokens.
        weights: (rows,) how many targets a row has, or how much it counts; an update's loss is the sum over
            its rows of weight times mean loss of the row's targets, divided by the sum of the weights. Weight 0 marks
            a row that cannot be learned from, because none of its windows holds the answer.
    """

    features: Features
    targets: NDArray[Any]
    weights: NDArray[np.float32]


class Head(Protocol):
    """How a model answers."""

    @property
    def tokenizer(self) -> Any: ...

    @property
    def max_length(self) -> int: ...

    @property
    def overlap(self) -> int: ...

    def encode(self, texts: Sequence[tuple[str, ...]]) -> Features:
        """Rows as windows of token ids; none for a row that cannot be read."""
        ...

    def loss(
        self, model: Any, rows: Rows, items: NDArray[np.int64], weights: torch.Tensor, device: torch.device
    ) -> torch.Tensor:
        """The sum over windows of weight times loss, a number; the caller divides by the update's weight.

        Args:
            items: (windows,) numbers of the windows that go through the model together.
            weights: (windows,) float32 on the device; a row's weight, shared evenly by its windows.
        """
        ...

    def outputs(self, model: Any, features: Features, items: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """(windows, ...) what the model says of each window, of the same shape for every window of a job."""
        ...

    def row_outputs(self, outputs: NDArray[np.float32], features: Features) -> NDArray[np.float32]:
        """From outputs of windows to those of rows; heads whose windows speak for themselves keep them."""
        ...
