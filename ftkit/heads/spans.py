"""The spans head: a model that answers a question with a span of a text, or says that the text has no answer.

A window holds the question and a part of the context. The model gives every token a logit for being the first
and one for being the last of the answer; "no answer in this window" is one further place, a token that every
window has. A span's score is how much higher its logits are than those of "no answer" in the same window, so
that scores of different windows can be compared.
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

CANDIDATES = 20  # the best spans that are kept of every window
NOTHING = -1e9  # the score of a candidate that a short window does not have


@dataclass(frozen=True)
class SpansHead:
    """Rows of a question and a context in, spans of the context out.

    Attributes:
        tokenizer: the model's tokenizer, one that knows which characters a token stands for.
        max_length, overlap: of the windows, in tokens.
        longest: tokens that an answer may have.
        reads_forward: whether the model is a decoder, whose first token knows nothing of the rest: "no answer"
            is then the window's last token, which is never one of the context, else its first.
    """

    tokenizer: Any
    max_length: int
    overlap: int
    longest: int
    reads_forward: bool

    def encode(self, texts: Sequence[tuple[str, ...]]) -> Features:
        """Tokenizes questions and contexts; all of a context is in the windows of its row."""
        eos, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        end = pad if eos is None else eos
        closing = end if self.reads_forward else None
        return windows.encode(self.tokenizer, texts, self.max_length, self.overlap, end, offsets=True, closing=closing)

    def nothing(self, features: Features, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """(windows,) the token of each window that stands for "no answer"."""
        return features.starts[items + 1] - features.starts[items] - 1 if self.reads_forward else np.zeros_like(items)

    def positions(self, features: Features, answers: Sequence[tuple[int, int] | None]) -> NDArray[np.int64]:
        """(windows, 2) first and last token of the answer; the token of "no answer" where a window has not all of it.

        Args:
            answers: one a row: the characters of the context, from and to, or None.
        """
        everything = np.arange(len(features.starts) - 1)
        nothing = self.nothing(features, everything)
        result = np.stack([nothing, nothing], axis=1)
        for row, answer in enumerate(answers):
            if answer is None:
                continue
            own = range(*features.first_window[row : row + 2])
            found = {window: _tokens_of(features, window, *answer) for window in own}
            reached = {window: place for window, place in found.items() if place is not None}
            begin = min((place[2] for place in reached.values()), default=0)
            end = max((place[3] for place in reached.values()), default=0)
            for window, (first, last, *characters) in reached.items():
                if characters == [begin, end]:  # else the answer's other tokens are in the next window
                    result[window] = first, last
        return result

    def held(self, features: Features, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(rows,) whether any window of a row has the answer that `positions` found."""
        answered = positions[:, 0] != self.nothing(features, np.arange(len(positions)))
        return np.bincount(features.row_of_window, weights=answered, minlength=features.rows) > 0

    def logits(
        self, model: Any, features: Features, items: NDArray[np.int64], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(windows, tokens, 2) float32 of first and last tokens, the lowest number where no answer can be; and
        (windows,) the tokens of "no answer"."""
        batch = windows.pad(self.tokenizer, features, items, self.max_length, device)
        width = batch["input_ids"].shape[1]
        possible = np.zeros((len(items), width), dtype=bool)
        for row, item in enumerate(items.tolist()):
            first, last = features.starts[item], features.starts[item + 1]
            possible[row, : last - first] = features.offsets[first:last, 0] >= 0
        nothing = self.nothing(features, items)
        possible[np.arange(len(items)), nothing] = True
        mask, none = torch.from_numpy(possible).to(device)[:, :, None], torch.from_numpy(nothing).to(device)
        output = model(**batch)
        both = torch.stack([output.start_logits, output.end_logits], dim=2).float()
        return both[:, :width].masked_fill(~mask, torch.finfo(torch.float32).min), none

    def loss(
        self, model: Any, rows: Rows, items: NDArray[np.int64], weights: torch.Tensor, device: torch.device
    ) -> torch.Tensor:
        """The mean of two cross-entropies, of the first and of the last token (Devlin et al. 2019, section 4.2).

        Targets are (windows, 2) token numbers, as `positions` gives them.
        """
        targets = torch.from_numpy(rows.targets[items]).to(device)
        logits, _ = self.logits(model, rows.features, items, device)
        each = torch.nn.functional.cross_entropy(logits, targets, reduction="none").mean(1)
        return (each * weights).sum()

    def outputs(self, model: Any, features: Features, items: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """(windows, candidates, 3): score, first and last token of the best spans of each window, best first."""
        logits, nothing = self.logits(model, features, items, device)
        each = torch.arange(len(items), device=device)
        none = logits[each, nothing].sum(1)
        logits[each, nothing] = torch.finfo(torch.float32).min  # "no answer" is no span
        return best_spans(logits[:, :, 0] - none[:, None] / 2, logits[:, :, 1] - none[:, None] / 2, self.longest)

    def row_outputs(self, outputs: NDArray[np.float32], features: Features) -> NDArray[np.float32]:
        """The outputs of the windows: `spans_of_rows` joins them."""
        return outputs


def _tokens_of(features: Features, window: int, begin: int, end: int) -> tuple[int, int, int, int] | None:
    """First and last token of a window that touch the characters from begin to end, and the characters, from and to,
    that these tokens stand for; None if there are none."""
    offsets = np.asarray(features.offsets[features.starts[window] : features.starts[window + 1]])
    touching = np.flatnonzero((offsets[:, 0] >= 0) & (offsets[:, 1] > begin) & (offsets[:, 0] < end))
    if not len(touching):
        return None
    first, last = int(touching[0]), int(touching[-1])
    return first, last, int(offsets[first, 0]), int(offsets[last, 1])


def best_spans(first: torch.Tensor, last: torch.Tensor, longest: int) -> torch.Tensor:
    """(windows, candidates, 3): score, first and last token of the spans with the highest sum of two logits.

    Args:
        first, last: (windows, tokens) logits of beginning and of ending the answer at a token.
        longest: tokens that a span may have.
    """
    tokens = first.shape[1]
    longest = min(longest, tokens)
    padded = torch.nn.functional.pad(last, (0, longest - 1), value=float("-inf"))
    scores = first[:, :, None] + padded.unfold(1, longest, 1)  # (windows, first token, tokens after it)
    count = min(CANDIDATES, tokens * longest)
    best, at = scores.flatten(1).topk(count, dim=1)
    begin = at // longest
    result = torch.stack([best.clamp(min=NOTHING), begin.float(), (begin + at % longest).float()], dim=2)
    return torch.nn.functional.pad(result, (0, 0, 0, CANDIDATES - count), value=NOTHING)


def spans_of_rows(outputs: NDArray[np.float32], features: Features) -> list[list[tuple[float, int, int]]]:
    """The best spans of each row over all its windows, best first: score, and characters from and to.

    A span that several windows offer counts once, with its highest score; a span of white space alone is none.
    """
    result = []
    for row in range(features.rows):
        found: dict[tuple[int, int], float] = {}
        for window in range(features.first_window[row], features.first_window[row + 1]):
            offsets = features.offsets[features.starts[window] : features.starts[window + 1]]
            for score, first, last in outputs[window].tolist():
                if score > NOTHING / 2:
                    span = int(offsets[int(first), 0]), int(offsets[int(last), 1])
                    if span[0] < span[1] and score > found.get(span, NOTHING):
                        found[span] = score
        ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        result.append([(score, begin, end) for (begin, end), score in ranked[:CANDIDATES]])
    return result
