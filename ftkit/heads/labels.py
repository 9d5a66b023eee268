"""The labels head: a model that answers a row with logits over labels.

It knows how rows become windows, batches, a loss and logits; it knows nothing of the task, the disk
or the hardware. Every family has this head: encoders, decoders (last token) and encoder-decoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ftkit.data.features import Features
from ftkit.heads import windows


@dataclass(frozen=True)
class LabelsHead:
    """Rows of one or two texts in, logits over labels out.

    Attributes:
        tokenizer: the model's tokenizer.
        multi_label: several labels a row (a sigmoid each) instead of one (a softmax).
        max_length, overlap: of the windows, in tokens.
    """

    tokenizer: Any
    multi_label: bool
    max_length: int
    overlap: int

    def encode(self, texts: Sequence[tuple[str, ...]]) -> Features:
        """Tokenizes rows; all of their text is in the windows."""
        eos, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        return windows.encode(self.tokenizer, texts, self.max_length, self.overlap, pad if eos is None else eos)

    def collate(self, features: Features, items: NDArray[np.int64], device: torch.device) -> dict[str, torch.Tensor]:
        """Pads windows to the longest of them, on the right.

        With pad id 0 and the windows [5, 6, 7] and [8, 9]:

            input_ids      [[5, 6, 7], [8, 9, 0]]      (windows, tokens) int64
            attention_mask [[1, 1, 1], [1, 1, 0]]
            token_type_ids  0 for the first text, 1 from `second` on (families that know it)
        """
        lengths = features.starts[items + 1] - features.starts[items]
        width = int(lengths.max())
        position = np.arange(width)
        mask = position < lengths[:, None]
        ids = np.full(mask.shape, self.tokenizer.pad_token_id, dtype=np.int64)
        ids[mask] = np.concatenate([features.tokens[features.starts[i] : features.starts[i + 1]] for i in items])
        batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if "token_type_ids" in self.tokenizer.model_input_names:
            batch["token_type_ids"] = (mask & (position >= features.second[items][:, None])).astype(np.int64)
        return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()}

    def logits(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(windows, labels) float32."""
        result: torch.Tensor = model(**batch).logits.float()
        return result

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The sum over windows of weight times loss; the caller divides by the update's total weight.

        Args:
            logits: (windows, labels).
            targets: (windows,) label numbers, or (windows, labels) zeros and ones.
            weights: (windows,) a row's weight, shared evenly by its windows.

        Single label: cross-entropy. Multi-label: binary cross-entropy, its mean over the labels.
        """
        if self.multi_label:
            each = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
        else:
            each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        return (each * weights).sum()

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, labels): softmax, or for multi-label a sigmoid each."""
        if self.multi_label:
            result = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        else:
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            result = shifted / shifted.sum(axis=1, keepdims=True)
        return np.asarray(result, dtype=np.float32)
