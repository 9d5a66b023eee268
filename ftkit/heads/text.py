"""The text head: a model that answers by writing.

Encoder-decoders read the input and write the answer; decoders go on from a prompt. What stands around the user's
texts (a prompt such as "translate English to German: ", a language code) is a `Template`, tokenized apart from
them, so that no text can change it. The loss is on the answer's tokens alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ftkit import plan
from ftkit.data.features import Features
from ftkit.errors import UserError
from ftkit.heads import windows
from ftkit.heads.base import Rows

IGNORED = -100  # marks positions without a target


@dataclass(frozen=True)
class Template:
    """What stands around the texts of a row: `before` FIRST `between` SECOND `after`, answered by `answer` ANSWER.

    These are ours and may name special tokens, such as a language code.
    """

    before: str = ""
    between: str = ""
    after: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Decoding:
    """How answers are looked for.

    Attributes:
        max_new_tokens: of an answer; None: 2 * tokens of the input + 32.
        beams: 1 is greedy; length_penalty is the power of the length by which a beam's score is divided.
        sample: draw tokens instead, at a temperature, from the most probable ones that make up `top_p`.
    """

    max_new_tokens: int | None = None
    beams: int = 1
    length_penalty: float = 1.0
    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class TextHead:
    """Rows of (template's name, first text, second text) in, texts out; with an answer as fourth for training.

    Where a row is longer than a window, the second text slides over several; a window that does not hold the
    answer's text is to be answered with nothing.

    Attributes:
        tokenizer: the model's tokenizer.
        max_length, overlap: of the windows, in tokens.
        templates: by name.
        decoder: whether the model is a decoder: its input and its answer are then one sequence.
        start: tokens with which every written sequence begins (encoder-decoders), the first being given by the
            model's configuration.
        decoding: how answers are looked for.
        label_smoothing: share of a target that goes to all other tokens alike (Szegedy et al. 2016, section 7).
        positions: tokens that the model can read at once, what it writes included; None if any number.
        seed: of sampled answers.
    """

    tokenizer: Any
    max_length: int
    overlap: int
    templates: Mapping[str, Template]
    decoder: bool
    start: tuple[int, ...]
    decoding: Decoding
    label_smoothing: float = 0.0
    seed: int = 0
    positions: int | None = None

    @property
    def width(self) -> int:
        """Tokens that any answer can have at most."""
        return self.decoding.max_new_tokens or 2 * self.max_length + 32

    def limit(self, input_tokens: int, opening_tokens: int) -> int:
        """Tokens that the answer to an input can have, after the ones that are given."""
        wanted = min(self.width, self.decoding.max_new_tokens or 2 * input_tokens + 32)
        if self.positions is None:
            return wanted
        before = opening_tokens + (input_tokens if self.decoder else len(self.start))
        return max(1, min(wanted, self.positions - before))

    def encode(self, texts: Sequence[tuple[str, ...]]) -> Features:
        """Tokenizes rows; all of their text is in the windows, and their answers are the targets."""
        parts = {name: self._template_ids(template) for name, template in self.templates.items()}
        shape = self._frame()
        first, second = (windows.raw_ids(self.tokenizer, [row[i] for row in texts]) for i in (1, 2))
        answered = bool(texts) and len(texts[0]) == 4
        answers = (
            windows.raw_ids(self.tokenizer, [row[3] for row in texts], written=True) if answered else [[]] * len(texts)
        )
        end = [self.tokenizer.eos_token_id] if self._eos() else [self.tokenizer.sep_token_id]
        tokens, targets = array("i"), array("i")
        starts, target_starts, given, first_window = [0], [0], [], [0]
        total = unknown = 0
        for row, question, text, answer in zip(texts, first, second, answers, strict=True):
            before, between, after, opening = parts[row[0]]
            room = self.max_length - shape.size - len(before) - len(between) - len(after) - len(question)
            if room < 4:
                raise UserError(
                    f"the question or prompt of a row has {len(question):,} tokens and leaves no room for its text "
                    f"in a window of {self.max_length}",
                    "Shorten it, or use longer windows: --set window.max_length=512",
                )
            total += len(question) + len(text)
            unknown += (question + text).count(self.tokenizer.unk_token_id)
            spans = windows.spans(len(text), room, min(self.overlap, room // 2))
            for begin, stop in spans:
                part = text[begin:stop]
                tokens.extend([*shape.before, *before, *question, *between, *part, *after, *shape.after])
                if len(tokens) == starts[-1]:
                    tokens.append(end[0])
                starts.append(len(tokens))
                targets.extend(opening)
                if answered:
                    here = len(spans) == 1 or not row[3] or row[3] in self.tokenizer.decode(part)
                    targets.extend([*(answer if here else []), *end])
                target_starts.append(len(targets))
                given.append(len(opening))
            first_window.append(len(given))
        return Features(
            tokens=windows.ints(tokens),
            starts=np.asarray(starts, dtype=np.int64),
            second=np.asarray(given, dtype=np.int32),
            first_window=np.asarray(first_window, dtype=np.int64),
            text_tokens=np.asarray([total, unknown], dtype=np.int64),
            target_tokens=windows.ints(targets),
            target_starts=np.asarray(target_starts, dtype=np.int64),
        )

    def _eos(self) -> bool:
        return self.tokenizer.eos_token_id is not None

    def _frame(self) -> windows.Frame:
        """The special tokens around an input; language codes come from templates, never from the tokenizer."""
        if hasattr(self.tokenizer, "src_lang"):
            return windows.Frame((), (), (self.tokenizer.eos_token_id,))
        shape = windows.frame(self.tokenizer, 1)
        return windows.Frame(shape.before, (), ()) if self.decoder else shape

    def _template_ids(self, template: Template) -> tuple[list[int], ...]:
        pieces = (template.before, template.between, template.after, template.answer)
        return tuple(self.tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else [] for piece in pieces)

    def loss(
        self, model: Any, rows: Rows, items: NDArray[np.int64], weights: torch.Tensor, device: torch.device
    ) -> torch.Tensor:
        """Cross-entropy of the answers' tokens, its mean over each window's tokens.

        With rows' weights their numbers of tokens, every token of an update weighs the same.
        """
        each, counted = self._token_losses(model, rows.features, items, _targets(rows.features, items), device)
        means = each.sum(1) / counted.sum(1).clamp(min=1)
        return (means * weights).sum()

    def _token_losses(
        self,
        model: Any,
        features: Features,
        items: NDArray[np.int64],
        targets: list[NDArray[np.int32]],
        device: torch.device,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(windows, positions) losses, 0 where there is no target, and whether there is one."""
        given = features.second[items]
        inputs = [features.tokens[features.starts[i] : features.starts[i + 1]] for i in items]
        pad = self.tokenizer.pad_token_id
        if self.decoder:
            whole = [np.concatenate(pair) for pair in zip(inputs, targets, strict=True)]
            marked = [
                np.concatenate([np.full(len(source) + skip - 1, IGNORED), target[skip:], [IGNORED]])
                for source, target, skip in zip(inputs, targets, given, strict=True)
            ]
            ids, mask = _right(whole, pad), _right([np.ones(len(x)) for x in whole], 0)
            batch = {"input_ids": ids, "attention_mask": mask}
            labels = _right(marked, IGNORED)
        else:
            begun = [np.concatenate([self.start, target[:-1]]) for target in targets]
            lead = len(self.start) - 1  # positions before the first target token
            marked = [
                np.concatenate([np.full(lead + skip, IGNORED), target[skip:]])
                for target, skip in zip(targets, given, strict=True)
            ]
            batch = {
                "input_ids": _right(inputs, pad),
                "attention_mask": _right([np.ones(len(x)) for x in inputs], 0),
                "decoder_input_ids": _right(begun, pad),
                "decoder_attention_mask": _right([np.ones(len(x)) for x in begun], 0),
            }
            labels = _right(marked, IGNORED)
        target = labels.to(device)
        logits = model(**{name: tensor.to(device) for name, tensor in batch.items()}, use_cache=False).logits
        counted = target != IGNORED
        chosen = torch.nn.functional.cross_entropy(
            logits[counted].float(),
            target[counted],
            reduction="none",
            label_smoothing=self.label_smoothing if model.training else 0.0,
        )
        each = torch.zeros(target.shape, dtype=torch.float32, device=device)
        each[counted] = chosen
        return each, counted

    def outputs(self, model: Any, features: Features, items: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """(windows, 2 + width): mean log-probability of the answer's tokens, their number, and the tokens.

        The number is one more than `width` where the answer met its limit before it had ended.
        """
        inputs = [features.tokens[features.starts[i] : features.starts[i + 1]] for i in items]
        openings = [t[:skip] for t, skip in zip(_targets(features, items), features.second[items], strict=True)]
        limits = [self.limit(len(x), len(opening)) for x, opening in zip(inputs, openings, strict=True)]
        pad, end = self.tokenizer.pad_token_id, self._end()
        side = _left if self.decoder else _right
        batch = {
            "input_ids": side([np.concatenate(x) for x in zip(inputs, openings, strict=True)], pad)
            if self.decoder
            else side(inputs, pad),
            "attention_mask": side(
                [np.ones(len(x) + (len(o) if self.decoder else 0)) for x, o in zip(inputs, openings, strict=True)], 0
            ),
        }
        if not self.decoder:
            batch["decoder_input_ids"] = _right([np.concatenate([self.start, opening]) for opening in openings], pad)
        if self.decoding.sample:
            torch.manual_seed(plan.dropout_seed(self.seed, 0, int(items[0]), len(items)))
        written = model.generate(
            **{name: tensor.to(device) for name, tensor in batch.items()},
            generation_config=self._generation(max(limits), model),
        ).cpu()
        skip = batch["input_ids" if self.decoder else "decoder_input_ids"].shape[1]
        answers, lengths = [], []
        for tokens, limit in zip(written[:, skip:].numpy(), limits, strict=True):
            ended = np.flatnonzero(tokens == end)
            length = int(ended[0]) if len(ended) else limit + 1
            lengths.append(min(length, limit + 1))
            answers.append(tokens[: min(length, limit)])
        full = [
            np.concatenate([opening, answer, [end] if n <= limit else []]).astype(np.int32)
            for opening, answer, n, limit in zip(openings, answers, lengths, limits, strict=True)
        ]
        each, counted = self._token_losses(model, features, items, full, device)
        scores = -(each.sum(1) / counted.sum(1).clamp(min=1)).cpu()
        result = torch.zeros((len(items), 2 + self.width), dtype=torch.float32)
        result[:, 0] = scores
        for row, (answer, length, limit) in enumerate(zip(answers, lengths, limits, strict=True)):
            result[row, 1] = self.width + 1 if length > limit else len(answer)
            result[row, 2 : 2 + len(answer)] = torch.from_numpy(answer.astype(np.float32))
            if length > limit:
                result[row, 2 + len(answer) :] = -1
        return result

    def _end(self) -> int:
        return int(self.tokenizer.eos_token_id if self._eos() else self.tokenizer.sep_token_id)

    def _generation(self, limit: int, model: Any) -> Any:
        """The whole of what decides how answers are looked for; the checkpoint's own settings have no say."""
        from transformers import GenerationConfig

        pad, end = self.tokenizer.pad_token_id, self._end()
        how: dict[str, Any] = {"do_sample": self.decoding.sample, "num_beams": self.decoding.beams}
        if self.decoding.sample:
            how |= {"temperature": self.decoding.temperature, "top_p": self.decoding.top_p, "top_k": 0}
        if self.decoding.beams > 1:
            how |= {"length_penalty": self.decoding.length_penalty, "early_stopping": True}
        return GenerationConfig(
            max_new_tokens=limit,
            pad_token_id=pad,
            eos_token_id=end,
            bos_token_id=self.tokenizer.bos_token_id,
            decoder_start_token_id=self.start[0] if self.start else None,
            suppress_tokens=[pad] if pad != end else None,
            **how,
        )

    def row_outputs(self, outputs: NDArray[np.float32], features: Features) -> NDArray[np.float32]:
        """The outputs of the windows: what they mean for a row is the task's to say."""
        return outputs

    def texts(self, outputs: NDArray[np.float32]) -> tuple[list[str], NDArray[np.float32], NDArray[np.bool_]]:
        """(windows,) what was written, its mean log-probability, and whether it met the limit before its end."""
        cut = outputs[:, 1] > self.width
        tokens = [
            row[2 : 2 + int(row[1])] if not over else row[2:][row[2:] >= 0]
            for row, over in zip(outputs, cut, strict=True)
        ]
        written = [
            self.tokenizer.decode(ids.astype(np.int64).tolist(), skip_special_tokens=True).strip() for ids in tokens
        ]
        return written, outputs[:, 0], cut


def token_weights(features: Features) -> NDArray[np.float32]:
    """(rows,) as many as a row's answers have tokens, so that every token of an update weighs the same."""
    own = np.diff(features.target_starts) - features.second
    sums = np.add.reduceat(own, features.first_window[:-1]) if features.rows else own
    return np.asarray(sums, dtype=np.float32)


def _targets(features: Features, items: NDArray[np.int64]) -> list[NDArray[np.int32]]:
    return [features.target_tokens[features.target_starts[i] : features.target_starts[i + 1]] for i in items]


def _right(rows: Sequence[NDArray[Any]], fill: int) -> torch.Tensor:
    """Rows as one (rows, longest) int64 tensor, filled up on the right."""
    result = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for row, values in enumerate(rows):
        result[row, : len(values)] = values
    return torch.from_numpy(result)


def _left(rows: Sequence[NDArray[Any]], fill: int) -> torch.Tensor:
    """Rows as one (rows, longest) int64 tensor, filled up on the left."""
    result = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for row, values in enumerate(rows):
        result[row, result.shape[1] - len(values) :] = values
    return torch.from_numpy(result)
