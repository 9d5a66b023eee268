"""Written answers: learned from their own tokens alone, and the same whatever else is in the batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ftkit import models
from ftkit.config import TextSection
from ftkit.data.features import Features
from ftkit.errors import UserError
from ftkit.heads.base import Rows
from ftkit.heads.text import Decoding, Template, TextHead, token_weights
from ftkit.recipes.base import Examples
from ftkit.recipes.translation import Translation, TranslationRecord
from tests import tiny

CheckpointOf = Callable[[str], Path]
Texts = list[tuple[str, ...]]

both_families = pytest.mark.parametrize("family", ["gpt2", "t5"])
CPU = torch.device("cpu")
WINDOW = 96


def make(checkpoint_of: CheckpointOf, family: str, **decoding: Any) -> tuple[TextHead, Any]:
    """A head and its model, without dropout."""
    folder = checkpoint_of(family)
    config = models.load_config(folder)
    tokenizer = models.load_tokenizer(folder, config)
    decoder = family == "gpt2"
    templates = {"": Template("question:", "\ncontext:" if decoder else " context:", "\nanswer:" if decoder else "")}
    start = () if decoder else (config.decoder_start_token_id,)
    head = TextHead(tokenizer, WINDOW, 8, templates, decoder, start, Decoding(**decoding))
    record = SimpleNamespace(head="text")
    model = models.load_model(folder, config, tokenizer, record, training=True, dropout=0.0).model
    return head, model.eval()


def texts(rows: Sequence[tiny.Row], family: str, answered: bool = True) -> Texts:
    space = "" if family == "t5" else " "
    inputs: Texts = [("", space + row["question"], space + row["context"]) for row in rows]
    answers = [space + row["answer"] if row["answer"] else "" for row in rows]
    return [(*row, answer) for row, answer in zip(inputs, answers, strict=True)] if answered else inputs


@pytest.fixture(scope="module")
def learned(checkpoint_of: CheckpointOf) -> Callable[[str], tuple[TextHead, Any]]:
    """A tiny model that has learned to name the creature of a context."""

    @functools.cache
    def learn(family: str) -> tuple[TextHead, Any]:
        head, model = make(checkpoint_of, family)
        features = head.encode(texts(tiny.questions(320, seed=1, unanswerable=0.2), family))
        rows = targets(features)
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        generator = np.random.default_rng(0)
        for _ in range(120):
            items = generator.choice(features.rows, 16, replace=False)
            loss_of(head, model, rows, items).backward()
            optimizer.step()
            optimizer.zero_grad()
        return head, model

    return learn


def targets(features: Features) -> Rows:
    """Rows that weigh as many tokens as their answers have."""
    return Rows(features, np.zeros((features.rows, 0), np.float32), token_weights(features))


def loss_of(head: TextHead, model: Any, rows: Rows, items: Any) -> torch.Tensor:
    """The mean loss over the targets of the rows of these windows, as an update has it."""
    owner = rows.features.row_of_window[items]
    weights = torch.from_numpy(rows.weights[owner] / rows.features.windows_of_rows[owner]).float()
    return head.loss(model, rows, items, weights, CPU) / weights.sum()


def write(head: TextHead, model: Any, features: Features, items: Any = None) -> np.ndarray[Any, Any]:
    chosen = np.arange(len(features.lengths)) if items is None else np.asarray(items)
    with torch.inference_mode():
        return head.outputs(model, features, chosen, CPU).numpy()


def window_ids(features: Features) -> list[list[int]]:
    return [features.tokens[a:b].tolist() for a, b in pairwise(features.starts)]


def target_ids(features: Features) -> list[list[int]]:
    return [features.target_tokens[a:b].tolist() for a, b in pairwise(features.target_starts)]


# Learning.


@both_families
def test_the_loss_is_that_of_the_answers_tokens_and_their_end(checkpoint_of: CheckpointOf, family: str) -> None:
    head, model = make(checkpoint_of, family)
    features = head.encode(texts(tiny.questions(1, seed=1), family))
    [given], [answer] = window_ids(features), target_ids(features)
    assert head.tokenizer.decode(answer[:-1]).strip() == tiny.questions(1, seed=1)[0]["answer"]
    assert answer[-1] == head.tokenizer.eos_token_id

    with torch.inference_mode():
        if head.decoder:
            logits = model(input_ids=torch.tensor([given + answer])).logits[0, len(given) - 1 : -1]
        else:
            begun = torch.tensor([[*head.start, *answer[:-1]]])
            logits = model(input_ids=torch.tensor([given]), decoder_input_ids=begun).logits[0]
        expected = -logits.log_softmax(1)[range(len(answer)), answer].mean()
        found = loss_of(head, model, targets(features), np.array([0]))

    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@both_families
def test_the_loss_of_a_batch_is_that_of_its_parts_weighted_by_tokens(checkpoint_of: CheckpointOf, family: str) -> None:
    head, model = make(checkpoint_of, family)
    answers = ["cat", "the horse and the otter", "", "sparrow at the time that was"]
    rows = [row | {"answer": answer} for row, answer in zip(tiny.questions(4, seed=1), answers, strict=True)]
    learnt = targets(head.encode(texts(rows, family)))
    tokens = [len(ids) for ids in target_ids(learnt.features)]
    assert learnt.weights.tolist() == tokens
    assert len(set(tokens)) == 4

    with torch.inference_mode():
        once = loss_of(head, model, learnt, np.arange(4))
        apart = [float(loss_of(head, model, learnt, np.array([i]))) for i in range(4)]

    assert float(once) == pytest.approx(np.average(apart, weights=tokens), rel=1e-5)


@both_families
def test_every_token_of_a_row_of_several_windows_weighs_the_same(checkpoint_of: CheckpointOf, family: str) -> None:
    head, model = make(checkpoint_of, family)
    row = tiny.questions(1, seed=3, fewest=200, most=200)[0] | {"answer": "cat"}
    row["context"] = row["context"].replace("cat", "the") + " cat"
    learnt = targets(head.encode(texts([row], family)))
    parts = target_ids(learnt.features)
    assert len(parts) > 2
    assert [len(ids) for ids in parts] == [1] * (len(parts) - 1) + [len(parts[-1])]
    assert learnt.weights.tolist() == [sum(map(len, parts))]

    with torch.inference_mode():
        once = loss_of(head, model, learnt, np.arange(len(parts)))
        sums = [
            float(loss_of(head, model, targets(one), np.array([0]))) * len(part)
            for one, part in zip(_apart(learnt.features), parts, strict=True)
        ]

    assert float(once) == pytest.approx(sum(sums) / sum(map(len, parts)), rel=1e-5)


def _apart(features: Features) -> list[Features]:
    """Each window as a row of its own."""
    return [
        replace(
            features,
            tokens=features.tokens[a:b],
            starts=np.array([0, b - a]),
            second=features.second[:1],
            first_window=np.array([0, 1]),
            target_tokens=features.target_tokens[c:d],
            target_starts=np.array([0, d - c]),
        )
        for (a, b), (c, d) in zip(pairwise(features.starts), pairwise(features.target_starts), strict=True)
    ]


# Windows.


@both_families
def test_a_window_without_the_answer_is_to_be_answered_with_nothing(checkpoint_of: CheckpointOf, family: str) -> None:
    """The answer stands behind a quotation mark and a line break, so its tokens are others than those of a word."""
    head, _ = make(checkpoint_of, family)
    filler = "the of and to in that it was for on with as at by from " * 20
    for written in ('"cat"', "\ncat.", "(cat)"):
        row = {"question": tiny.QUESTION, "context": filler + written, "answer": "cat"}
        lengths = [len(ids) for ids in target_ids(head.encode(texts([row], family)))]
        assert len(lengths) > 3
        assert set(lengths[:-1]) == {1}
        assert lengths[-1] > 1


def test_a_question_or_an_answer_that_leaves_no_room_makes_a_row_without_windows(checkpoint_of: CheckpointOf) -> None:
    row = {"question": "which was there", "context": "the cat", "answer": "cat"}
    long = " ".join(["the"] * 300)
    rows = [row, row | {"question": long}, row, row | {"answer": long}]
    for family in ("gpt2", "t5"):
        head, _ = make(checkpoint_of, family)
        assert head.encode(texts(rows, family)).windows_of_rows.tolist() == [1, 0, 1, 0]
        assert head.encode(texts(rows, family, answered=False)).windows_of_rows.tolist() == [1, 0, 1, 1]


def test_rows_without_windows_have_no_outputs(checkpoint_of: CheckpointOf) -> None:
    head, _ = make(checkpoint_of, "t5")
    found, scores, cut = head.texts(np.zeros((0, 0), np.float32))
    assert (found, scores.tolist(), cut.tolist()) == ([], [], [])


def test_a_decoders_window_has_room_for_the_answer(checkpoint_of: CheckpointOf) -> None:
    head, _ = make(checkpoint_of, "gpt2")
    rows = tiny.questions(2, seed=1, fewest=60, most=80)
    rows[1]["answer"] = " ".join(["cat"] * 60)
    features = head.encode(texts(rows, "gpt2"))
    assert features.windows_of_rows.min() > 1
    assert features.lengths.max() <= WINDOW  # of the input and the answer
    alone = head.encode(texts(rows, "gpt2", answered=False))
    assert max(map(len, window_ids(alone))) == WINDOW - WINDOW // 4


@pytest.mark.parametrize(("family", "most"), [("gpt2", 47), ("t5", 94)])
def test_an_answer_longer_than_a_window_cannot_be_asked_for(
    checkpoint_of: CheckpointOf, family: str, most: int
) -> None:
    make(checkpoint_of, family, max_new_tokens=most)
    with pytest.raises(UserError) as caught:
        make(checkpoint_of, family, max_new_tokens=most + 1)
    assert str(caught.value) == (
        f"text.max_new_tokens is {most + 1}; beside a window of 96 tokens an answer can have {most}\n"
        f"Set at most {most}, or longer windows: --set window.max_length=192"
    )


# What users write.


@both_families
def test_no_text_changes_what_stands_around_it(checkpoint_of: CheckpointOf, family: str) -> None:
    head, _ = make(checkpoint_of, family)
    [plain] = window_ids(head.encode([("", " a", " b")]))
    special = set(head.tokenizer.all_special_ids)
    end = plain[-5:] if head.decoder else plain[-1:]
    for text in ("\nanswer: cat", "</s>", "<pad>", "<|endoftext|>", "<|pad|>", "question: x context: y"):
        [ids] = window_ids(head.encode([("", f" a {text}", f" b {text}")]))
        opening = head.tokenizer("question:", add_special_tokens=False)["input_ids"]
        assert ids[: len(opening)] == opening
        assert ids[-len(end) :] == end
        assert [i for i in ids if i in special] == [i for i in plain if i in special]


# Writing.


@both_families
def test_what_was_learned_is_written_and_ends(learned: Any, family: str) -> None:
    head, model = learned(family)
    rows = tiny.questions(40, seed=2, unanswerable=0.2)

    found, scores, cut = head.texts(write(head, model, head.encode(texts(rows, family, answered=False))))

    right = [text == row["answer"] for text, row in zip(found, rows, strict=True)]
    assert sum(right) >= 36
    assert not cut.any()
    assert (scores <= 0).all()


@both_families
@pytest.mark.parametrize("beams", [1, 3])
def test_a_row_alone_is_answered_as_in_a_batch(learned: Any, family: str, beams: int) -> None:
    head, model = learned(family)
    head = replace(head, decoding=Decoding(beams=beams))
    rows = tiny.questions(16, seed=2, fewest=1, most=25, unanswerable=0.2)
    features = head.encode(texts(rows, family, answered=False))

    together = write(head, model, features)
    alone = np.concatenate([write(head, model, features, [i]) for i in range(len(rows))])

    np.testing.assert_allclose(together[:, 0], alone[:, 0], atol=1e-4)
    assert together[:, 1:].tolist() == alone[:, 1:].tolist()


@both_families
def test_an_untrained_model_answers_a_row_alone_as_in_a_batch(checkpoint_of: CheckpointOf, family: str) -> None:
    """What it writes depends on every token and place of its input, also on padding if that were read."""
    head, model = make(checkpoint_of, family, max_new_tokens=6)
    features = head.encode(texts(tiny.questions(8, seed=2, fewest=1, most=25), family, answered=False))

    together = write(head, model, features)
    alone = np.concatenate([write(head, model, features, [i]) for i in range(8)])

    np.testing.assert_allclose(together[:, 0], alone[:, 0], atol=1e-4)
    assert together[:, 1:].tolist() == alone[:, 1:].tolist()
    assert len(set(alone[:, 0].tolist())) == 8


@both_families
def test_the_score_is_the_mean_log_probability_of_what_was_written(learned: Any, family: str) -> None:
    head, model = learned(family)
    rows = tiny.questions(4, seed=2)
    features = head.encode(texts(rows, family, answered=False))
    found, scores, _ = head.texts(write(head, model, features))

    again = [row | {"answer": text} for row, text in zip(rows, found, strict=True)]
    learnt = targets(head.encode(texts(again, family)))
    with torch.inference_mode():
        losses = [float(loss_of(head, model, learnt, np.array([i]))) for i in range(4)]

    assert scores.tolist() == pytest.approx([-loss for loss in losses], abs=1e-5)


@both_families
def test_sampled_answers_are_the_same_again_and_others_under_another_seed(
    checkpoint_of: CheckpointOf, family: str
) -> None:
    head, model = make(checkpoint_of, family, sample=True, max_new_tokens=8)
    features = head.encode(texts(tiny.questions(6, seed=2), family, answered=False))

    first = write(head, model, features)
    torch.rand(3)
    reseeded = replace(head, decoding=replace(head.decoding, seed=1))
    again, other = write(head, model, features), write(reseeded, model, features)

    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


@both_families
def test_an_answer_that_meets_the_limit_is_cut_and_said_to_be(learned: Any, family: str) -> None:
    head, model = learned(family)
    features = head.encode(texts(tiny.questions(12, seed=2), family, answered=False))
    whole, _, _ = head.texts(write(head, model, features))
    for limit in (1, 2):
        short = replace(head, decoding=Decoding(max_new_tokens=limit))
        found, _, cut = short.texts(write(short, model, features))
        for text, full, is_cut in zip(found, whole, cut.tolist(), strict=True):
            ids = head.tokenizer(full if family == "t5" else f" {full}", add_special_tokens=False)["input_ids"]
            assert is_cut == (len(ids) > limit)
            assert text == head.tokenizer.decode(ids[:limit]).strip()


@both_families
def test_the_checkpoints_own_settings_of_generation_have_no_say(learned: Any, family: str) -> None:
    head, model = learned(family)
    features = head.encode(texts(tiny.questions(6, seed=2), family, answered=False))
    expected = write(head, model, features)
    own = {"min_new_tokens": 7, "no_repeat_ngram_size": 1, "repetition_penalty": 5.0, "num_beams": 4}
    model.generation_config.update(**own)

    try:
        found = write(head, model, features)
        kept = {name: getattr(model.generation_config, name) for name in own}
    finally:
        model.generation_config.update(**dict.fromkeys(own))

    assert found.tolist() == expected.tolist()
    assert kept == own  # they are saved with the model


@pytest.mark.parametrize("family", ["gpt2", "marian"])
@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_a_model_that_never_ends_stays_inside_its_positions(checkpoint_of: CheckpointOf, family: str) -> None:
    head, model = make(checkpoint_of, family)
    head = replace(head, max_length=tiny.POSITIONS)
    features = head.encode(texts(tiny.questions(2, seed=2, fewest=150, most=200), family, answered=False))
    end = torch.tensor([head.tokenizer.eos_token_id])
    model.get_output_embeddings().register_forward_hook(lambda _, __, logits: logits.index_fill(-1, end, -1e4))

    found, _, cut = head.texts(write(head, model, features))

    assert cut.all()
    assert len(found) == len(features.lengths) > 2


@both_families
def test_mixed_precision_changes_the_answers_of_a_trained_model_little(learned: Any, family: str) -> None:
    head, model = learned(family)
    features = head.encode(texts(tiny.questions(12, seed=2), family, answered=False))
    exact = write(head, model, features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = write(head, model, features)
    np.testing.assert_allclose(mixed[:, 0], exact[:, 0], atol=0.1)
    assert np.mean([a == b for a, b in zip(mixed[:, 1:].tolist(), exact[:, 1:].tolist(), strict=True)]) >= 0.8


def test_a_decoder_answers_short_and_long_rows_together_within_its_window(
    checkpoint_of: CheckpointOf,
) -> None:
    """Left to itself, generation goes on with the longest row for as long as the shortest may go on."""
    made, model = make(checkpoint_of, "gpt2")
    head = replace(made, max_length=tiny.POSITIONS)
    long, short = " ".join(["cat"] * 85), "was there"
    rows = [("", "", f" {text}") for text in (long, short, long, short)]
    features = head.encode(rows)

    together = head.outputs(model, features, np.arange(4), CPU).detach()

    for row in range(4):
        alone = head.outputs(model, features, np.asarray([row]), CPU).detach()
        assert alone[0, 1:].tolist() == together[row, 1:].tolist()
        assert float(alone[0, 0]) == pytest.approx(float(together[row, 0]), abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_answers_are_scored_in_parts_where_their_logits_are_many(
    checkpoint_of: CheckpointOf, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, model = make(checkpoint_of, family)
    features = head.encode([("", "", f" {word} was there") for word in ("cat", "dog", "bird", "fish", "horse")])
    whole = head.outputs(model, features, np.arange(5), CPU).detach()

    monkeypatch.setattr("ftkit.heads.text.MOST_LOGITS", 1)  # a row at a time
    parts = head.outputs(model, features, np.arange(5), CPU).detach()

    assert parts[:, 1:].tolist() == whole[:, 1:].tolist()
    np.testing.assert_allclose(parts[:, 0], whole[:, 0], atol=1e-5)


def test_a_long_source_is_translated_in_pieces_that_share_nothing(checkpoint_of: CheckpointOf) -> None:
    made, _ = make(checkpoint_of, "t5")
    head = replace(made, overlap=0, templates={"": Template()})
    words = [tiny.FILLER[n % len(tiny.FILLER)] for n in range(300)]

    features = head.encode([("", "", " ".join(words))])

    pieces = [features.tokens[a:b] for a, b in pairwise(features.starts.tolist())]
    assert len(pieces) > 3
    read = " ".join(head.tokenizer.decode(piece, skip_special_tokens=True) for piece in pieces)
    assert read.split() == words


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.5}, "text.temperature would have no effect"),
        ({"top_p": 0.5}, "text.top_p would have no effect"),
        ({"length_penalty": 2.0, "beams": 1}, "text.length_penalty would have no effect"),
        ({"sample": True, "beams": 4}, "tokens are drawn, or looked for with beams"),
    ],
)
def test_settings_of_decoding_that_would_have_no_effect_are_refused(
    checkpoint_of: CheckpointOf, settings: dict[str, Any], said: str
) -> None:
    config = models.load_config(checkpoint_of("t5"))
    with pytest.raises(UserError, match=said):
        models.writing(config, None, TextSection(**settings), beams=4, seed=0)


def test_the_seed_of_the_recipe_is_the_seed_of_what_is_drawn(checkpoint_of: CheckpointOf) -> None:
    config = models.load_config(checkpoint_of("t5"))

    found = models.writing(config, None, TextSection(sample=True), beams=4, seed=7)["decoding"]

    assert (found["seed"], found["beams"]) == (7, 1)


def test_pairs_that_no_window_holds_weigh_nothing_in_a_translations_loss(checkpoint_of: CheckpointOf) -> None:
    head, _ = make(checkpoint_of, "t5")
    features = head.encode([("", "", "the cat", "the cat"), ("", "", "the cat sat. " * 100, "the cat")])
    assert features.windows_of_rows.tolist()[0] == 1 < features.windows_of_rows.tolist()[1]
    _, weights = Translation().targets(Examples("f"), features, head, TranslationRecord(task="translation", columns={}))
    assert weights[0] == token_weights(features)[0] > 0 == weights[1]
