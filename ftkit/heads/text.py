"""The text head: a model that answers by writing.

Encoder-decoders read the input and write the answer; decoders go on from a prompt. What stands around the user's
texts (a prompt such as "translate English to German: ", a language code) is a `Template`, tokenized apart from
them, so that no text can change it. The loss is on the answer's tokens alone.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
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
MOST_LOGITS = 2**28  # that are computed at once when answers are scored, which have been written with far fewer
LEAST_ROOM = 4  # tokens of the second text that a window has to have room for


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
        max_new_tokens: of an answer, its end not counted; None: 2 * tokens of the input + 32, or what the window
            has room for.
        beams: 1 is greedy; length_penalty is the power of the length by which a beam's score is divided.
        sample: draw tokens instead, at a temperature, from the most probable ones that make up `top_p`.
        seed: of what is drawn, for the rows that are answered together.
    """

    max_new_tokens: int | None = None
    beams: int = 1
    length_penalty: float = 1.0
    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class TextHead:
    """Rows of (template's name, first text, second text) in, texts out; with an answer as fourth for training.

    Where a row is longer than a window, the second text slides over several; a window that does not hold the
    answer's text is to be answered with nothing. Without an overlap the text is parted into pieces, sentence by
    sentence where that can be. A row whose first text or answer leaves no room has no window.

    Attributes:
        tokenizer: the model's tokenizer.
        max_length, overlap: of the windows, in tokens. A decoder's window holds the answer too: a quarter of it is
            kept free (half of it without an overlap), or as much as an answer may have. An encoder-decoder's answer
            is a window of its own.
        templates: by name.
        decoder: whether the model is a decoder: its input and its answer are then one sequence.
        start: tokens with which every written sequence begins (encoder-decoders), the first being given by the
            model's configuration.
        decoding: how answers are looked for.
        label_smoothing: share of a target that goes to all other tokens alike (Szegedy et al. 2016, section 7).
    """

    tokenizer: Any
    max_length: int
    overlap: int
    templates: Mapping[str, Template]
    decoder: bool
    start: tuple[int, ...]
    decoding: Decoding
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        most = (self.max_length // 2 if self.decoder else self.max_length - len(self.start)) - 1
        if (self.decoding.max_new_tokens or 0) > most:
            raise UserError(
                f"text.max_new_tokens is {self.decoding.max_new_tokens}; beside a window of {self.max_length} tokens "
                f"an answer can have {most}",
                f"Set at most {most}, or longer windows: --set window.max_length={2 * self.max_length}",
            )

    @property
    def width(self) -> int:
        """Tokens that any answer can have at most."""
        return self.decoding.max_new_tokens or self.max_length

    def limit(self, input_tokens: int, opening_tokens: int = 0) -> int:
        """Tokens that the answer to an input can have, its end not counted."""
        taken = (input_tokens if self.decoder else len(self.start)) + opening_tokens
        return min(self.decoding.max_new_tokens or 2 * input_tokens + 32, self.max_length - taken - 1)

    def encode(self, texts: Sequence[tuple[str, ...]]) -> Features:
        """Tokenizes rows; all of their text is in the windows, and their answers are the targets."""
        parts = {name: self._template_ids(template) for name, template in self.templates.items()}
        shape = self._frame()
        answered = bool(texts) and len(texts[0]) == 4
        first = windows.raw_ids(self.tokenizer, [row[1] for row in texts])
        second, places = self._located([row[2] for row in texts], wanted=answered)
        answers: list[list[int]] = [[]] * len(texts)
        if answered:
            answers = windows.raw_ids(self.tokenizer, [row[3] for row in texts], written=True)
        end = self._end()
        tokens, targets = array("i"), array("i")
        starts, target_starts, given, first_window = [0], [0], [], [0]
        total = unknown = 0
        for row, question, text, at, answer in zip(texts, first, second, places, answers, strict=True):
            before, between, after, opening = parts[row[0]]
            total += len(question) + len(text)
            unknown += (question + text).count(self.tokenizer.unk_token_id)
            room = self._room(len(opening) + len(answer) + 1, answered)
            room -= shape.size + len(before) + len(between) + len(after) + len(question)
            spans = self._spans(text, room) if room >= LEAST_ROOM else []
            for begin, stop in spans:
                part = text[begin:stop]
                tokens.extend([*shape.before, *before, *question, *between, *part, *after, *shape.after])
                if len(tokens) == starts[-1]:
                    tokens.append(end)
                starts.append(len(tokens))
                targets.extend(opening)
                if answered:
                    here = len(spans) == 1 or row[3].strip() in self._read(row[2], at, text, begin, stop)
                    targets.extend([*(answer if here else []), end])
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

    def _spans(self, text: list[int], room: int) -> list[tuple[int, int]]:
        if self.overlap:
            return windows.spans(len(text), room, min(self.overlap, room // 2))
        return windows.pieces(self.tokenizer, text, room)

    def _room(self, answer_tokens: int, answered: bool) -> int:
        """Tokens that an input can have beside an answer of so many, its opening and its end included."""
        if self.decoder:
            kept = self.decoding.max_new_tokens + 1 if self.decoding.max_new_tokens else self.max_length // 4
            if not self.overlap:  # an answer grows with its input; a known one needs no more room than it has
                kept = 0 if answered else max(kept, self.max_length // 2)
            return self.max_length - max(kept, answer_tokens)
        return self.max_length if len(self.start) + answer_tokens - 1 <= self.max_length else 0

    def _located(self, texts: Sequence[str], wanted: bool) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """The tokens of texts, and if wanted (and the tokenizer tells) the characters that they stand for."""
        if not (wanted and self.tokenizer.is_fast):
            return windows.raw_ids(self.tokenizer, texts), [[]] * len(texts)
        found = windows.raw_offsets(self.tokenizer, texts)
        return [ids for ids, _ in found], [at for _, at in found]

    def _read(self, text: str, at: list[tuple[int, int]], ids: list[int], begin: int, stop: int) -> str:
        """The text of the tokens from begin to stop, as it stands if that is known."""
        return text[at[begin][0] : at[stop - 1][1]] if at else str(self.tokenizer.decode(ids[begin:stop]))

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
        """Cross-entropy of the answers' tokens: a window's sum, divided by how many its row's windows have on average.

        With rows' weights their numbers of tokens, every token of an update weighs the same.
        """
        each, _ = self._token_losses(model, rows.features, items, _targets(rows.features, items), device)
        means = torch.from_numpy(_mean_targets(rows.features, items)).to(device)
        return (each.sum(1) / means * weights).sum()

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
        limits = [self.limit(len(s), len(o)) for s, o in zip(inputs, openings, strict=True)]
        sizes = np.asarray([len(s) + len(o) for s, o in zip(inputs, openings, strict=True)])
        if self.decoder and len(items) > 1 and sizes.max() + max(limits) + 1 > self.max_length:
            # Together the longest would be written on beyond the window, for as long as the shortest may go on.
            order = np.argsort(sizes, kind="stable")
            halves = [self.outputs(model, features, items[half], device) for half in np.array_split(order, 2)]
            return torch.cat(halves)[torch.from_numpy(np.argsort(order))]
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
            torch.manual_seed(plan.dropout_seed(self.decoding.seed, 0, int(items[0]), len(items)))
        with _settings(model, self._generation(max(limits) + 1)):
            written = model.generate(**{name: tensor.to(device) for name, tensor in batch.items()}).cpu()
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
        scores = []
        longest = max(map(len, full)) + (sizes.max() if self.decoder else len(self.start))
        at_once = max(1, MOST_LOGITS // (len(self.tokenizer) * int(longest)))
        for start in range(0, len(items), at_once):
            part = slice(start, start + at_once)
            each, counted = self._token_losses(model, features, items[part], full[part], device)
            scores.append(-(each.sum(1) / counted.sum(1).clamp(min=1)).cpu())
        result = torch.zeros((len(items), 2 + self.width), dtype=torch.float32)
        result[:, 0] = torch.cat(scores)
        for row, (answer, length, limit) in enumerate(zip(answers, lengths, limits, strict=True)):
            result[row, 1] = self.width + 1 if length > limit else len(answer)
            result[row, 2 : 2 + len(answer)] = torch.from_numpy(answer.astype(np.float32))
            if length > limit:
                result[row, 2 + len(answer) :] = -1
        return result

    def _end(self) -> int:
        eos = self.tokenizer.eos_token_id
        return int(self.tokenizer.sep_token_id if eos is None else eos)

    def _generation(self, limit: int) -> Any:
        """The whole of what decides how answers are looked for."""
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
        if not len(outputs):
            return [], np.zeros(0, np.float32), np.zeros(0, np.bool_)
        cut = outputs[:, 1] > self.width
        tokens = [
            row[2 : 2 + int(row[1])] if not over else row[2:][row[2:] >= 0]
            for row, over in zip(outputs, cut, strict=True)
        ]
        how = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        written = [self.tokenizer.decode(ids.astype(np.int64).tolist(), **how).strip() for ids in tokens]
        return written, outputs[:, 0], cut


def token_weights(features: Features) -> NDArray[np.float32]:
    """(rows,) as many as a row's answers have tokens, so that every token of an update weighs the same."""
    own = np.diff(features.target_starts) - features.second
    return np.bincount(features.row_of_window, weights=own, minlength=features.rows).astype(np.float32)


@contextlib.contextmanager
def _settings(model: Any, settings: Any) -> Iterator[None]:
    """Puts settings of generation in the place of the checkpoint's own, which would fill in what they leave open."""
    own, model.generation_config = model.generation_config, settings
    try:
        yield
    finally:
        model.generation_config = own


def _mean_targets(features: Features, items: NDArray[np.int64]) -> NDArray[np.float32]:
    """(windows,) the mean number of target tokens, without openings, of the windows of each one's row."""
    rows = features.row_of_window[items]
    first, last = features.first_window[rows], features.first_window[rows + 1]
    tokens = features.target_starts[last] - features.target_starts[first]
    return (tokens / (last - first) - features.second[items]).astype(np.float32)


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
