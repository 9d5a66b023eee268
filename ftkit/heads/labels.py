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
from ftkit.heads.base import Rows


def log_odds(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """(labels,) the logit of each label's share of the rows; of none or all of them half a row is missing.

    Where a multi-label head begins (Lin et al. 2017, "Focal loss", section 4.1): rare labels need not be unlearned.

    Args:
        targets: (rows, labels) zeros and ones.
    """
    counts = np.clip(targets.sum(axis=0, dtype=np.float64), 0.5, len(targets) - 0.5)
    return np.asarray(np.log(counts / (len(targets) - counts)), dtype=np.float32)


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

    def logits(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(windows, labels) float32."""
        result: torch.Tensor = model(**batch).logits.float()
        return result

    def loss(
        self, model: Any, rows: Rows, items: NDArray[np.int64], weights: torch.Tensor, device: torch.device
    ) -> torch.Tensor:
        """Single label: cross-entropy. Multi-label: binary cross-entropy, its mean over the labels.

        Targets are (rows,) label numbers, or (rows, labels) zeros and ones.
        """
        targets = torch.from_numpy(rows.targets[rows.features.row_of_window[items]]).to(device)  # before a GPU is busy
        logits = self.logits(model, windows.pad(self.tokenizer, rows.features, items, self.max_length, device))
        if self.multi_label:
            each = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
        else:
            each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        return (each * weights).sum()

    def outputs(self, model: Any, features: Features, items: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """(windows, labels) logits."""
        return self.logits(model, windows.pad(self.tokenizer, features, items, self.max_length, device))

    def row_outputs(self, outputs: NDArray[np.float32], features: Features) -> NDArray[np.float32]:
        """(rows, labels): the mean of the logits of each row's windows."""
        if features.rows in (0, len(outputs)):
            return outputs
        sums = np.add.reduceat(outputs, features.first_window[:-1], axis=0)
        return np.asarray(sums / features.windows_of_rows[:, None], dtype=np.float32)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, labels): softmax, or for multi-label a sigmoid each."""
        if self.multi_label:
            result = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        else:
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            result = shifted / shifted.sum(axis=1, keepdims=True)
        return np.asarray(result, dtype=np.float32)
