"""Spans: whatever a context holds and however it is cut into windows, an answer is the slice that its place names."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit import models
from ftkit.data.features import Features
from ftkit.errors import UserError
from ftkit.heads import windows
from ftkit.heads.base import Rows
from ftkit.heads.spans import CANDIDATES, NOTHING, SpansHead, best_spans, spans_of_rows

CheckpointOf = Callable[[str], Path]
HeadOf = Callable[..., SpansHead]

steady = settings(deadline=None, derandomize=True, max_examples=40)
every_family = pytest.mark.parametrize("family", ["bert", "roberta", "albert", "gpt2", "t5"])
CPU = torch.device("cpu")
QUESTION = "which was there"
PIECES = [
    "cat",
    "the",
    "horses",
    "好",
    "很差",
    "🙂",
    "👩‍🔬",
    "é",
    "ﬁ",
    "①",
    "\u200b",
    ".",
    "\r\n",
    "  ",
    " ",
    "[SEP]",
    "</s>",
]
HARD = "The  cat 🙂 sat\r\non\tthe 好很 horse.  👩‍🔬 ﬁnds e\u0301 [SEP] </s>\r\n"

contexts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=50).map("".join)


@pytest.fixture(scope="module")
def head_of(checkpoint_of: CheckpointOf) -> HeadOf:
    """The head over the tokenizer of a tiny checkpoint."""
    tokenizers = {}

    def head(family: str, max_length: int = 24, overlap: int = 4, longest: int = 8) -> SpansHead:
        if family not in tokenizers:
            folder = checkpoint_of(family)
            tokenizers[family] = models.load_tokenizer(folder, models.load_config(folder))
        return SpansHead(tokenizers[family], max_length, overlap, longest, family in ("gpt2", "llama"))

    return head


def all_windows(features: Features) -> Any:
    return np.arange(len(features.lengths))


def pointing(starts: torch.Tensor, ends: torch.Tensor) -> Any:
    """A model with these logits, whatever it reads."""
    return lambda **batch: SimpleNamespace(start_logits=starts.clone(), end_logits=ends.clone())


def random_model(seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)

    def model(input_ids: torch.Tensor, **_: Any) -> Any:
        first, last = (torch.randn(input_ids.shape, generator=generator) for _ in range(2))
        return SimpleNamespace(start_logits=first, end_logits=last)

    return model


def outputs(head: SpansHead, model: Any, features: Features) -> Any:
    return head.outputs(model, features, all_windows(features), CPU).numpy()


def parts(features: Features, ids: list[int], offsets: list[tuple[int, int]]) -> list[tuple[range, int]]:
    """Of each window of a single row the tokens of the context, by number there, and the place of the first one."""
    found = []
    everything = list(zip(ids, offsets, strict=True))
    for begin, end in itertools.pairwise(features.starts):
        [places] = np.nonzero(features.offsets[begin:end, 0] >= 0)
        own = features.tokens[begin:end][places].tolist(), map(tuple, features.offsets[begin:end][places].tolist())
        window = list(zip(*own, strict=True))
        first = next(i for i in range(len(ids)) if everything[i : i + len(window)] == window)
        found.append((range(first, first + len(window)), int(places[0])))
    return found


# Places.


@every_family
@steady
@given(context=contexts, max_length=st.integers(18, 40), overlap=st.integers(0, 10), seed=st.integers(0, 99))
def test_every_span_lies_in_its_context(
    head_of: HeadOf, family: str, context: str, max_length: int, overlap: int, seed: int
) -> None:
    head = head_of(family, max_length, overlap)
    features = head.encode([(QUESTION, "cat"), (QUESTION, context)])

    answers = spans_of_rows(outputs(head, random_model(seed), features), features)
    for text, found in zip(("cat", context), answers, strict=True):
        assert all(0 <= begin < end <= len(text) for _, begin, end in found)
        assert [score for score, _, _ in found] == sorted((score for score, _, _ in found), reverse=True)
        assert len({(begin, end) for _, begin, end in found}) == len(found) <= CANDIDATES


@every_family
@steady
@given(data=st.data(), context=contexts, max_length=st.integers(18, 40), overlap=st.integers(0, 10))
def test_a_window_with_all_of_an_answer_points_to_it_and_any_other_to_no_answer(
    head_of: HeadOf, family: str, data: Any, context: str, max_length: int, overlap: int
) -> None:
    head = head_of(family, max_length, overlap)
    begin = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(begin + 1, len(context)))
    features = head.encode([(QUESTION, context)])
    [(ids, offsets)] = windows.raw_offsets(head.tokenizer, [context])
    if not ids:
        return
    answer = [i for i, (a, b) in enumerate(offsets) if b > begin and a < end]
    nothing = head.nothing(features, all_windows(features)).tolist()

    expected = []
    for (part, place), none in zip(parts(features, ids, offsets), nothing, strict=True):
        inside = [i for i in answer if i in part]
        # A window may begin inside a character: the rest of the character is enough.
        reach = {(offsets[some[0]][0], offsets[some[-1]][1]) for some in (inside, answer) if some}
        whole = inside and len(reach) == 1
        expected.append([place + inside[0] - part[0], place + inside[-1] - part[0]] if whole else [none, none])

    found = head.positions(features, [(begin, end)])
    assert found.tolist() == expected
    assert head.held(features, found).tolist() == [found.tolist() != [[none, none] for none in nothing]]


@every_family
def test_a_model_that_points_to_the_answer_gives_its_characters(head_of: HeadOf, family: str) -> None:
    head = head_of(family, max_length=40, longest=12)
    for answer in ("cat", "🙂", "好很", "👩\u200d🔬", "on\tthe", "sat\r\non"):
        begin = HARD.index(answer)
        features = head.encode([(QUESTION, HARD)])
        wanted = head.positions(features, [(begin, begin + len(answer))])
        width = int(features.lengths.max())
        first, last = (torch.nn.functional.one_hot(torch.from_numpy(at), width) * 10.0 for at in wanted.T)

        [[(score, start, stop), *_]] = spans_of_rows(outputs(head, pointing(first, last), features), features)

        assert score == 20
        assert HARD[start:stop].strip() == answer


@every_family
def test_emoji_returns_and_double_spaces_in_overlapping_windows_do_no_harm(
    checkpoint_of: CheckpointOf, head_of: HeadOf, family: str
) -> None:
    folder = checkpoint_of(family)
    record = SimpleNamespace(head="spans")
    head = head_of(family, max_length=24, overlap=6)
    config = models.load_config(folder)
    model = models.load_model(folder, config, head.tokenizer, record, training=True, dropout=0.0).model
    features = head.encode([(QUESTION, HARD * 5), (QUESTION, "🙂"), (QUESTION, "\r\n"), (QUESTION, "")])

    with torch.inference_mode():
        found = spans_of_rows(outputs(head, model.eval(), features), features)

    assert features.windows_of_rows[0] > 5
    assert len(found[0]) == CANDIDATES
    assert {("🙂")[begin:end] for _, begin, end in found[1]} == {"🙂"}
    assert all("\r\n"[begin:end].strip() == "" for _, begin, end in found[2])
    assert found[3] == []


# No answer.


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_no_answer_is_the_first_token_of_models_that_read_both_ways(head_of: HeadOf, family: str) -> None:
    head = head_of(family)
    features = head.encode([(QUESTION, "the cat " * 20), (QUESTION, "cat")])
    assert head.nothing(features, all_windows(features)).tolist() == [0] * len(features.lengths)
    assert (features.offsets[features.starts[:-1]] == -1).all()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_no_answer_is_a_token_of_its_own_at_the_end_for_decoders(head_of: HeadOf, family: str) -> None:
    head = head_of(family)
    features = head.encode([(QUESTION, "the cat " * 20), (QUESTION, "cat")])
    last = head.nothing(features, all_windows(features))
    assert last.tolist() == (features.lengths - 1).tolist()
    assert (features.tokens[features.starts[1:] - 1] == head.tokenizer.eos_token_id).all()
    assert (features.offsets[features.starts[1:] - 1] == -1).all()


def test_an_answer_at_the_end_of_a_decoders_window_is_no_missing_answer(head_of: HeadOf) -> None:
    head = head_of("gpt2")
    features = head.encode([(QUESTION, "the cat")])
    [[first, last]] = head.positions(features, [(4, 7)])
    assert (first, last) == (features.lengths[0] - 2, features.lengths[0] - 2)


def test_a_score_is_what_a_span_is_worth_more_than_no_answer_in_its_window(head_of: HeadOf) -> None:
    """Raising all logits of one window must not make its answer better."""
    head = head_of("bert", max_length=64)
    features = head.encode([(QUESTION, "cat the"), (QUESTION, "cat the")])
    width = int(features.lengths[0])
    first = torch.zeros(2, width)
    first[:, 5] = 3.0
    first[1] += 100

    found = spans_of_rows(outputs(head, pointing(first, first), features), features)

    assert found[0] == found[1]
    assert found[0][0] == (6.0, 0, 3)


def test_tokens_of_the_question_are_never_an_answer(head_of: HeadOf) -> None:
    head = head_of("bert", max_length=64)
    features = head.encode([("which cat was there", "the horses")])
    logits = torch.arange(int(features.lengths[0]), 0, -1).float()[None] * 10  # the question's are the highest

    [found] = spans_of_rows(outputs(head, pointing(logits, logits), features), features)

    assert {begin for _, begin, _ in found} <= set(range(10))
    assert found[0][1] == 0


def test_the_best_answer_of_a_row_is_that_of_all_its_windows(head_of: HeadOf) -> None:
    head = head_of("bert", max_length=16, overlap=2)
    context = "the of and to in that it was for on with cat as at by from this which or an"
    features = head.encode([(QUESTION, context)])
    begin = context.index("cat")
    wanted = head.positions(features, [(begin, begin + 3)])
    first, last = (torch.nn.functional.one_hot(torch.from_numpy(at), 16) * 5.0 for at in wanted.T)
    assert len(wanted) > 2

    [[(score, *place), *others]] = spans_of_rows(outputs(head, pointing(first, last), features), features)

    assert (score, *place) == (10.0, begin, begin + 3)
    assert max(other for other, _, _ in others) <= 5


# The search.


@steady
@given(st.data(), st.integers(1, 3), st.integers(1, 9), st.integers(1, 12))
def test_best_spans_are_those_of_a_search_through_all(data: Any, rows: int, tokens: int, longest: int) -> None:
    logits = st.lists(st.integers(-50, 50), min_size=rows * tokens, max_size=rows * tokens)
    first, last = (torch.tensor(data.draw(logits), dtype=torch.float32).reshape(rows, tokens) for _ in range(2))

    found = best_spans(first, last, longest)

    assert found.shape == (rows, CANDIDATES, 3)
    for row in range(rows):
        every = {
            (i, j): float(first[row, i] + last[row, j])
            for i in range(tokens)
            for j in range(i, min(i + longest, tokens))
        }
        scores = sorted(every.values(), reverse=True)[:CANDIDATES]
        here = [(score, int(i), int(j)) for score, i, j in found[row].tolist() if score > NOTHING / 2]
        assert [score for score, _, _ in here] == scores
        assert all(every[i, j] == score for score, i, j in here)
        assert len({(i, j) for _, i, j in here}) == len(here)


def test_spans_have_at_most_the_longest_number_of_tokens(head_of: HeadOf) -> None:
    head = head_of("bert", max_length=64, longest=2)
    features = head.encode([(QUESTION, "the cat was on it")])
    [found] = spans_of_rows(outputs(head, random_model(0), features), features)
    assert {len("the cat was on it"[begin:end].split()) for _, begin, end in found} == {1, 2}


# Learning.


@every_family
def test_the_loss_of_an_update_is_that_of_its_windows_however_they_are_cut(
    checkpoint_of: CheckpointOf, head_of: HeadOf, family: str
) -> None:
    folder, head = checkpoint_of(family), head_of(family, max_length=24, overlap=6)
    config = models.load_config(folder)
    record = SimpleNamespace(head="spans")
    model = models.load_model(folder, config, head.tokenizer, record, training=True, dropout=0.0).model
    context = "the of and to in that it was for on with cat as at by from this which or an"
    features = head.encode([(QUESTION, context), (QUESTION, "the cat"), (QUESTION, "the")])
    spans = [(context.index("cat"), context.index("cat") + 3), (4, 7), None]
    rows = Rows(features, head.positions(features, spans), np.ones(3, np.float32))
    weights = torch.from_numpy((1 / features.windows_of_rows[features.row_of_window]).astype(np.float32))
    items = all_windows(features)

    with torch.inference_mode():
        once = head.loss(model, rows, items, weights, CPU)
        apart = sum(head.loss(model, rows, items[i : i + 1], weights[i : i + 1], CPU) for i in items)

    assert len(items) > 3
    assert float(apart) == pytest.approx(float(once), rel=1e-5)
    assert float(weights.sum()) == pytest.approx(3)


def test_a_tokenizer_without_places_is_refused(checkpoint_of: CheckpointOf) -> None:
    folder = checkpoint_of("marian")
    tokenizer = models.load_tokenizer(folder, models.load_config(folder))
    with pytest.raises(UserError, match="does not tell which characters"):
        SpansHead(tokenizer, 64, 8, 16, False).encode([("a", "b")])
