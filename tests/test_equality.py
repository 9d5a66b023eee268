"""What must not depend on how the work is cut: micro-batches, batches, padding, order, memory.

Everything runs in fp32 without dropout, where equal means equal to about 1e-5. For each kind of check there
is a test that breaks ftkit on purpose and expects the check to notice.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from ftkit import fast, prediction
from ftkit.data.features import Features
from ftkit.devices import Devices
from ftkit.heads import windows
from ftkit.heads.base import Rows
from ftkit.heads.labels import LabelsHead
from ftkit.prediction import NotFinite, load_head, row_outputs
from ftkit.run import Run
from tests import tiny
from tests.conftest import Learned
from tests.tiny import FAMILIES, KEYWORDS, LABELS, read_jsonl, rows, sentence, write_csv

RunOf = Callable[[str], Learned]
CheckpointOf = Callable[[str], Path]
Logits = NDArray[np.float32]

every_family = pytest.mark.parametrize("family", [*FAMILIES, "llama"])
CPU = Devices(rank=0, world=1, device=torch.device("cpu"), precision="fp32")
ONE_EPOCH = ("--set", "training.epochs=1", "--learning-rate", "1e-3")
CUT_FINE = ("--set", "hardware.tokens_per_microbatch=40")


def learn(data: Path, model: Path, out: Path, *arguments: str) -> list[float]:
    """The loss of every update of a training of one epoch."""
    done = tiny.train(data, model, out, *ONE_EPOCH, *arguments)
    assert done.code == 0, done.err
    return [line["loss"] for line in read_jsonl(out / "log.jsonl") if "loss" in line]


def check_same_curve(first: list[float], second: list[float]) -> None:
    assert len(first) == len(second) >= 20
    np.testing.assert_allclose(first[:20], second[:20], rtol=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows for 20 updates of 16 rows, and one of a single row; the labels are not equally frequent."""
    made = [row for row in rows(700, seed=8, fewest=2, most=40) if row["label"] != "tool" or len(row["text"]) % 3 == 0]
    folder = tmp_path_factory.mktemp("data")
    write_csv(folder / "validation.csv", rows(40, seed=9))
    return write_csv(folder / "train.csv", made[: 20 * 16 + 1])


def validation(data: Path) -> tuple[str, str]:
    return "--validation", str(data.with_name("validation.csv"))


# Micro-batches


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("bert", ()),
        ("bert", ("--set", "labels.weights=balanced")),
        ("bert", ("--max-length", "16")),
        ("gpt2", ()),
        ("t5", ()),
    ],
)
def test_micro_batches_do_not_change_what_is_learned(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path, family: str, more: tuple[str, ...]
) -> None:
    model = checkpoint_of(family)

    whole = learn(data, model, tmp_path / "whole", *validation(data), *more)
    cut = learn(data, model, tmp_path / "cut", *validation(data), *more, *CUT_FINE)

    check_same_curve(whole, cut)


def test_a_wrong_weighting_of_micro_batches_is_noticed(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over each micro-batch, as if all had as many rows."""
    right = LabelsHead.loss

    def loss(self: LabelsHead, model: Any, rows: Rows, items: NDArray[np.int64], *more: Any) -> torch.Tensor:
        return right(self, model, rows, items, *more) * 16 / len(items)

    monkeypatch.setattr(LabelsHead, "loss", loss)

    whole = learn(data, checkpoint_of("bert"), tmp_path / "whole", *validation(data))
    cut = learn(data, checkpoint_of("bert"), tmp_path / "cut", *validation(data), *CUT_FINE)

    with pytest.raises(AssertionError):
        check_same_curve(whole, cut)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), MemoryError()])
def test_memory_that_runs_out_in_an_update_does_not_change_what_is_learned(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    errors = [error]
    small = ("--set", "hardware.tokens_per_microbatch=256")
    undisturbed = learn(data, checkpoint_of("bert"), tmp_path / "undisturbed", *validation(data), *small)
    right, calls = LabelsHead.logits, [0]

    def logits(self: LabelsHead, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        calls[0] += 1
        # An earlier micro-batch has been learned from.
        midway = any(p.grad is not None and p.grad.any() for p in model.parameters())
        if calls[0] > 6 and midway and errors:
            raise errors.pop()
        return right(self, model, batch)

    monkeypatch.setattr(LabelsHead, "logits", logits)
    disturbed = learn(data, checkpoint_of("bert"), tmp_path / "disturbed", *validation(data), *small)

    assert errors == []
    check_same_curve(undisturbed, disturbed)
    assert read_metrics(tmp_path / "undisturbed")["training"]["tokens_per_microbatch"] == 256
    assert read_metrics(tmp_path / "disturbed")["training"]["tokens_per_microbatch"] == 128


def read_metrics(run: Path) -> Any:
    return Run(run).read_json("metrics.json")


def test_memory_for_not_even_one_window_stops_the_training(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logits(self: LabelsHead, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(LabelsHead, "logits", logits)
    done = tiny.train(data, checkpoint_of("bert"), tmp_path / "run", *validation(data))

    assert done.code == 2
    assert "not even one window of" in done.err
    assert not (tmp_path / "run/model").exists()


# Prediction


def undecided(count: int, seed: int) -> list[tuple[str]]:
    """Texts of very different lengths with keywords of several labels, so that answers are in doubt."""
    generator = random.Random(seed)
    keywords = [word for label in LABELS for word in KEYWORDS[label]]
    return [(sentence(generator, generator.choices(keywords, k=generator.randint(0, 4)), 1, 40),) for _ in range(count)]


def opened(run: Path) -> tuple[LabelsHead, Any]:
    return load_head(Run(run), Run(run).record(), CPU)[:2]


def answer(head: LabelsHead, model: Any, texts: Sequence[tuple[str, ...]]) -> Logits:
    """Logits of the texts, read in batches of about 32."""
    features = head.encode(texts)
    return row_outputs(model, head, features, CPU, token_budget=32 * int(np.median(features.lengths)))


def answer_each_alone(head: LabelsHead, model: Any, texts: Sequence[tuple[str, ...]]) -> Logits:
    return np.concatenate([row_outputs(model, head, head.encode([row]), CPU) for row in texts])


def check_same_answers(head: LabelsHead, first: Logits, second: Logits) -> None:
    """Equal labels, probabilities to 1e-5, and logits to 1e-4, where probabilities near 0 and 1 tell little."""
    assert first.argmax(axis=1).tolist() == second.argmax(axis=1).tolist()
    np.testing.assert_allclose(head.probabilities(first), head.probabilities(second), rtol=0, atol=1e-5)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4)


@every_family
def test_a_row_alone_is_answered_as_in_a_batch(run_of: RunOf, family: str) -> None:
    head, model = opened(run_of(family).folder)
    texts = undecided(100, seed=3)

    alone = answer_each_alone(head, model, texts)

    assert len(set(alone.argmax(axis=1).tolist())) == 3
    check_same_answers(head, alone, answer(head, model, texts))


def test_padding_that_is_read_is_noticed(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attention mask that lets the model look at padding."""
    head, model = opened(run_of("bert").folder)
    texts = undecided(100, seed=3)
    alone = answer_each_alone(head, model, texts)
    right = windows.pad

    def pad(*arguments: Any) -> dict[str, torch.Tensor]:
        batch = right(*arguments)
        return batch | {"attention_mask": torch.ones_like(batch["attention_mask"])}

    monkeypatch.setattr(windows, "pad", pad)

    with pytest.raises(AssertionError):
        check_same_answers(head, alone, answer(head, model, texts))


@pytest.mark.parametrize("max_length", [128, 16])
def test_answers_stand_in_the_order_of_the_rows(run_of: RunOf, max_length: int) -> None:
    head, model = opened(run_of("bert").folder)
    head = LabelsHead(head.tokenizer, False, max_length, max_length // 8)
    texts = undecided(100, seed=4)
    shuffled = random.Random(0).sample(range(100), 100)

    as_they_came = answer(head, model, texts)
    reordered = answer(head, model, [texts[i] for i in shuffled])

    check_same_answers(head, as_they_came[shuffled], reordered)


def test_answers_in_the_order_of_length_are_noticed(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which batches are made, not undone."""
    head, model = opened(run_of("bert").folder)
    texts = undecided(100, seed=4)
    shuffled = random.Random(0).sample(range(100), 100)
    as_they_came = answer(head, model, texts)
    right = LabelsHead.row_outputs

    def by_length(self: LabelsHead, outputs: Logits, features: Features) -> Logits:
        return right(self, outputs[np.argsort(features.lengths, kind="stable")], features)

    monkeypatch.setattr(LabelsHead, "row_outputs", by_length)

    with pytest.raises(AssertionError):
        check_same_answers(head, as_they_came[shuffled], answer(head, model, [texts[i] for i in shuffled]))


def test_memory_that_runs_out_in_prediction_changes_no_answer(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    head, model = opened(run_of("bert").folder)
    texts = undecided(100, seed=5)
    undisturbed = answer(head, model, texts)
    right = LabelsHead.logits

    def logits(self: LabelsHead, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if len(batch["input_ids"]) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return right(self, model, batch)

    monkeypatch.setattr(LabelsHead, "logits", logits)

    check_same_answers(head, undisturbed, answer(head, model, texts))


def test_parts_of_a_file_of_different_sizes_bring_no_new_shapes_of_batches(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What oneDNN keeps for every shape would make memory grow with the rows."""
    head, model = opened(run_of("bert").folder)
    texts = undecided(300, seed=6)
    shapes: set[tuple[int, ...]] = set()
    inner = LabelsHead.logits

    def logits(self: LabelsHead, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        shapes.add(tuple(batch["input_ids"].shape))
        return inner(self, model, batch)

    monkeypatch.setattr(LabelsHead, "logits", logits)
    answers, widths = [], set()
    for count in (300, 299, 291, 270, 243):
        answers.append(row_outputs(model, head, head.encode(texts[:count]), CPU, token_budget=512))
        widths |= {width for _, width in shapes}

    assert len(shapes) == len(widths) > 5
    for part in answers[1:]:
        check_same_answers(head, part, answers[0][: len(part)])


def test_numbers_that_are_none_are_no_answers(run_of: Callable[[str], Learned]) -> None:
    head, model = opened(run_of("bert").folder)
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    with pytest.raises(NotFinite, match=r"answers to 5 of 5 windows are no finite numbers \(in fp32\)"):
        row_outputs(model, head, head.encode(undecided(5, 0)), CPU)


# Batches side by side


@pytest.fixture
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many batches, of about 20 texts, are worked on at once."""
    monkeypatch.setattr(prediction, "TOKENS_PER_BATCH", {"cpu": 600})
    return lambda count: monkeypatch.setattr(Devices, "threads_apart", lambda self: count)


def answer_in_batches(head: LabelsHead, model: Any, texts: Sequence[tuple[str, ...]]) -> Logits:
    return row_outputs(model, head, head.encode(texts), CPU)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f in fast.KEEPING_NOTHING])
def test_batches_side_by_side_are_answered_as_one_after_the_other(
    run_of: RunOf, side_by_side: Callable[[int], None], family: str
) -> None:
    head, model = opened(run_of(family).folder)
    texts = undecided(200, seed=7)
    side_by_side(1)
    alone = answer_in_batches(head, model, texts)
    side_by_side(3)
    threads = torch.get_num_threads()

    together = answer_in_batches(head, model, texts)

    assert torch.get_num_threads() == threads
    if threads == 1:
        assert np.array_equal(alone, together)
    check_same_answers(head, alone, together)


@pytest.mark.parametrize(("family", "threads"), [("bert", 2), ("gpt2", 1)])
def test_families_whose_models_remember_nothing_are_worked_on_side_by_side(
    run_of: RunOf,
    monkeypatch: pytest.MonkeyPatch,
    side_by_side: Callable[[int], None],
    family: str,
    threads: int,
) -> None:
    head, model = opened(run_of(family).folder)
    seen: set[int] = set()
    calls, both = itertools.count(), threading.Barrier(threads)
    inner = LabelsHead.logits

    def logits(self: LabelsHead, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.add(threading.get_ident())
        if next(calls) < threads:
            both.wait(timeout=60)  # in vain, were one batch finished before the other begins
        return inner(self, model, batch)

    monkeypatch.setattr(LabelsHead, "logits", logits)
    side_by_side(2)
    answer_in_batches(head, model, undecided(100, seed=8))

    assert len(seen) == threads
    assert (threading.get_ident() in seen) == (threads == 1)


def test_memory_that_suffices_for_one_batch_only_has_them_done_one_after_the_other(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, side_by_side: Callable[[int], None]
) -> None:
    """Even if a batch is a single window, of which memory could only be said to hold none."""
    head, model = opened(run_of("bert").folder)
    texts = undecided(30, seed=9)
    side_by_side(4)
    monkeypatch.setattr(prediction, "TOKENS_PER_BATCH", {"cpu": 1})
    undisturbed = answer_in_batches(head, model, texts)
    inside, failures, sizes, lock = 0, 0, [], threading.Lock()
    inner = LabelsHead.logits

    def logits(self: LabelsHead, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        nonlocal inside, failures
        with lock:
            inside += 1
            crowded = inside > 1
            failures += crowded
        try:
            time.sleep(0.05)  # long enough for the other threads to come in
            if crowded:
                raise MemoryError
            sizes.append(len(batch["input_ids"]))
            return inner(self, model, batch)
        finally:
            with lock:
                inside -= 1

    monkeypatch.setattr(LabelsHead, "logits", logits)
    found = answer_in_batches(head, model, texts)

    assert failures > 1
    assert sizes == [1] * 30
    check_same_answers(head, undisturbed, found)


def test_room_is_lowered_by_failures_only(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, side_by_side: Callable[[int], None]
) -> None:
    """Batches that are halved because they would be too large do not make the next ones smaller still."""
    head, model = opened(run_of("bert").folder)
    side_by_side(1)
    sizes: list[int] = []
    inner = LabelsHead.logits

    def logits(self: LabelsHead, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if batch["input_ids"].numel() > 400:
            raise MemoryError
        sizes.append(batch["input_ids"].numel())
        return inner(self, model, batch)

    monkeypatch.setattr(LabelsHead, "logits", logits)
    answer_in_batches(head, model, undecided(300, seed=11))

    assert np.median(sizes) > 130  # 600 tokens are halved twice at most


def test_rows_without_windows_are_no_batches(run_of: RunOf, side_by_side: Callable[[int], None]) -> None:
    head, model = opened(run_of("bert").folder)
    side_by_side(2)
    assert answer_in_batches(head, model, []).shape == (0, 0)


def test_what_goes_wrong_in_one_of_two_batches_is_told(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, side_by_side: Callable[[int], None]
) -> None:
    head, model = opened(run_of("bert").folder)
    calls = itertools.count()
    inner = LabelsHead.logits

    def logits(self: LabelsHead, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if next(calls) == 3:
            raise ValueError("a mistake")
        return inner(self, model, batch)

    monkeypatch.setattr(LabelsHead, "logits", logits)
    side_by_side(2)
    with pytest.raises(ValueError, match="a mistake"):
        answer_in_batches(head, model, undecided(300, seed=10))


@pytest.mark.parametrize(
    ("device", "world", "threads", "expected"),
    [("cpu", 1, 6, 6), ("cpu", 1, 40, 8), ("cpu", 1, 1, 1), ("cpu", 2, 6, 1), ("cuda", 1, 6, 1)],
)
def test_a_process_alone_divides_the_threads_of_its_cpu(
    monkeypatch: pytest.MonkeyPatch, device: str, world: int, threads: int, expected: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert Devices(0, world, torch.device(device), "fp32").threads_apart() == expected


# Special tokens


SPECIAL = "[SEP] [CLS] [PAD] [MASK] [UNK] <s> </s> <pad> <unk> <mask> <|endoftext|> <|pad|> <extra_id_0>"


@every_family
def test_a_text_cannot_hold_special_tokens(run_of: RunOf, family: str) -> None:
    head, _ = opened(run_of(family).folder)
    special = set(head.tokenizer.all_special_ids) - {head.tokenizer.unk_token_id}
    if head.tokenizer.unk_token == head.tokenizer.eos_token:
        special.add(head.tokenizer.eos_token_id)

    plain, tricked = (head.encode([(text,)]) for text in ("the cat", f"the {SPECIAL} cat"))

    def count(features: Features) -> int:
        return sum(token in special for token in features.tokens.tolist())

    assert len(tricked.tokens) > len(plain.tokens) + 13
    assert count(tricked) == count(plain)


@every_family
def test_a_text_that_ends_with_the_end_token_is_answered_alone_as_in_a_batch(run_of: RunOf, family: str) -> None:
    head, model = opened(run_of(family).folder)
    ends = ("", *SPECIAL.split())
    texts = [(f"{text} {end}",) for (text,), end in zip(undecided(len(ends), seed=6), ends, strict=True)]

    check_same_answers(head, answer_each_alone(head, model, texts), answer(head, model, texts))


def last_token_logits(head: LabelsHead, model: Any, texts: Sequence[tuple[str, ...]]) -> Logits:
    """What a decoder's head answers at the last token, without its own search for that token."""
    model.eval()
    result = []
    with torch.inference_mode():
        for row in texts:
            ids = torch.from_numpy(head.encode([row]).tokens.astype(np.int64))[None]
            hidden = model.base_model(ids).last_hidden_state
            result.append(model.score(hidden)[:, -1].numpy())
    return np.concatenate(result)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_decoders_answer_at_the_last_token_of_every_row(run_of: RunOf, family: str) -> None:
    head, model = opened(run_of(family).folder)
    texts = [*undecided(40, seed=7), ("the cat <|endoftext|>",), ("the cat </s>",)]

    check_same_answers(head, last_token_logits(head, model, texts), answer(head, model, texts))


def test_a_pad_token_that_texts_end_with_is_noticed(run_of: RunOf) -> None:
    head, model = opened(run_of("gpt2").folder)
    texts = [*undecided(40, seed=7), ("the a cat",), ("of saw cat",)]
    expected = last_token_logits(head, model, texts)
    head.tokenizer.pad_token = "Ġcat"
    model.config.pad_token_id = head.tokenizer.pad_token_id

    with pytest.raises(AssertionError):
        check_same_answers(head, expected, answer(head, model, texts))


def test_a_checkpoint_that_pads_with_its_end_token_gets_a_token_of_its_own(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    """As many GPT-2 checkpoints are published: pad and end of text are one token."""
    published = tmp_path / "published"
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(checkpoint_of("gpt2"))
    model.config.pad_token_id = model.config.eos_token_id
    model.save_pretrained(published)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint_of("gpt2"))
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(published)

    learn(data, published, tmp_path / "run", *validation(data))

    head, learned = opened(tmp_path / "run")
    assert head.tokenizer.pad_token_id != head.tokenizer.eos_token_id
    assert learned.config.pad_token_id == head.tokenizer.pad_token_id
    texts = undecided(40, seed=7)
    check_same_answers(head, last_token_logits(head, learned, texts), answer(head, learned, texts))


# Numbers that are none


def test_weights_that_are_not_numbers_stop_the_training(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    tiny.checkpoint(broken, "bert")
    weights = load_file(broken / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})

    done = tiny.train(data, broken, tmp_path / "run", *validation(data))

    assert done.code == 2
    assert "the training has diverged: loss nan" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run/model").exists()
