"""Training with the model in shards (FSDP2), on two processes and gloo."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from ftkit import commands, config, preparation, training
from ftkit.devices import open_devices
from ftkit.errors import UserError
from ftkit.heads.labels import LabelsHead
from tests import forks, tiny
from tests.test_checkpoint import interrupt, log, names, train_command, updates, weights
from tests.test_processes import together
from tests.tiny import FP32, ftkit, read_jsonl, rows, write_csv

CheckpointOf = Callable[[str], Path]

# Several micro-batches in an update, parts that do not learn, activations computed anew.
CUT = {"hardware.tokens_per_microbatch": 128, "training.freeze": "embeddings"}
RECOMPUTED = {"hardware.gradient_checkpointing": True}
TRANSLATION = {"task": "translation", "languages.source": "en", "languages.targets": ["de"]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "roberta, cut": ("roberta", CUT),
    "albert, whose layers share their weights": ("albert", {}),
    "gpt2, recomputed": ("gpt2", RECOMPUTED),
    "a translating t5": ("t5", TRANSLATION),
    "a translating marian, cut": ("marian", TRANSLATION | {"hardware.tokens_per_microbatch": 64}),
    "a translating gpt2": ("gpt2", TRANSLATION),
    "a translating bert2bert": ("bert", TRANSLATION),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "train.csv", rows(129, seed=4))


@pytest.fixture(scope="module")
def both_ways(
    tmp_path_factory: pytest.TempPathFactory, checkpoint_of: CheckpointOf, data: Path
) -> dict[str, list[dict[str, Any]]]:
    """What two processes found in each case, with the model whole and in shards."""
    folder = tmp_path_factory.mktemp("both")
    pairs = write_csv(folder / "pairs.csv", tiny.pairs(129, seed=4))
    files = []
    for number, (family, settings) in enumerate(CASES.values()):
        source = pairs if "task" in settings else data
        flags = {"data": str(source), "model": str(checkpoint_of(family)), "epochs": 1, "batch_size": 16}
        more = [config.Setting(tuple(key.split(".")), value, "") for key, value in settings.items()]
        recipe = commands.recipe_of(None, flags | {"learning_rate": 1e-3, "device": "cpu"}, more)
        files.append(folder / f"{number}.yaml")
        files[-1].write_text(config.to_yaml(recipe))
    out = folder / "found.json"
    for done in together("-m", "tests.in_shards", out, *files):
        assert done.code == 0, done.err
    return dict(zip(CASES, json.loads(out.read_text()), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_model_in_shards_learns_what_a_whole_one_learns(
    both_ways: dict[str, list[dict[str, Any]]], case: str
) -> None:
    whole, shards = both_ways[case]

    np.testing.assert_allclose(shards["losses"], whole["losses"], rtol=2e-5)
    np.testing.assert_allclose(shards["norms"], whole["norms"], rtol=1e-3)
    assert shards["weights"] == pytest.approx(whole["weights"], rel=1e-3, abs=1e-4)
    assert shards["validation"][0] == pytest.approx(whole["validation"][0], rel=1e-4)
    for key, answers in (("before", lambda found: found), ("validation", lambda found: found[1])):
        np.testing.assert_allclose(answers(shards[key]), answers(whole[key]), atol=1e-2)


@pytest.mark.parametrize("case", CASES)
def test_each_process_holds_about_half_of_a_model_in_shards(
    both_ways: dict[str, list[dict[str, Any]]], case: str
) -> None:
    whole, shards = both_ways[case]

    assert whole["held"] == whole["all"] == shards["all"]
    assert 0.4 < shards["held"] / shards["all"] < 0.6


def test_a_training_in_shards_that_was_killed_and_resumed_equals_an_uninterrupted_one_bit_for_bit(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    flags = ("--processes", "2", "--shard", "--batch-size", "8")
    expected, run = tmp_path / "whole", tmp_path / "run"
    train = partial(forks.together, *train_command(data, checkpoint_of("bert"), expected, *flags)[3:], said=tmp_path)

    def before(rank: int) -> None:
        tried = training.Fitting.try_heaviest
        training.Fitting.try_heaviest = lambda self: (tmp_path / f"tried-{rank}").touch() or tried(self)  # type: ignore[method-assign,func-returns-value]

    assert train(before=before) == [0, 0]
    assert {"tried-0", "tried-1"} <= set(names(tmp_path))
    assert train("--out", run, before=forks.die_in_training(20)) == [-signal.SIGKILL] * 2
    assert forks.together("train", "--resume", run, before=lambda rank: None, said=tmp_path) == [0, 0]

    assert "going on from update-000000" in (tmp_path / "0").read_text()
    assert weights(run) == weights(expected)
    assert log(run) == log(expected)
    assert ftkit("eval", run, data).code == 0


def test_a_signal_stops_a_training_in_shards_and_one_process_can_finish_it(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    run, expected = tmp_path / "run", tmp_path / "expected"
    flags = ("--batch-size", "8", "--set", "training.dropout=0")
    start = train_command(data, checkpoint_of("bert"), run, *flags, "--processes", "2", "--shard")
    assert interrupt(start, run, signal.SIGTERM, after=5) == 143  # ftkit's own launcher tells both processes
    assert f"update-{updates(run):08}" in names(run / "checkpoints")
    resumed = ftkit("train", "--resume", run, "--processes", "1", "--set", "hardware.shard=false")
    assert resumed.code == 0, resumed.err
    assert ftkit(*train_command(data, checkpoint_of("bert"), expected, *flags)[3:]).code == 0

    for key in ("loss", "gradient_norm"):
        found, wanted = ([line[key] for line in read_jsonl(r / "log.jsonl") if key in line] for r in (run, expected))
        np.testing.assert_allclose(found, wanted, rtol=1e-3)
    first, second = (load_file(folder / "model/model.safetensors") for folder in (run, expected))
    for name, tensor in first.items():
        np.testing.assert_allclose(tensor.numpy(), second[name].numpy(), atol=1e-3, err_msg=name)


def test_one_process_alone_is_refused(checkpoint_of: CheckpointOf, data: Path, tmp_path: Path) -> None:
    done = tiny.train(data, checkpoint_of("bert"), tmp_path / "run", *FP32, "--shard")

    assert done.code == 2
    assert "a model is sharded over several processes, and there is one" in done.err
    assert not (tmp_path / "run").exists()


def test_memory_that_the_longest_rows_lack_is_missed_before_the_first_update(
    checkpoint_of: CheckpointOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_csv(tmp_path / "train.csv", rows(60, seed=4, most=8) + rows(1, seed=5, fewest=40, most=40))
    held_out = write_csv(tmp_path / "held_out.csv", rows(20, seed=6, most=8))
    flags = {"data": str(source), "validation": str(held_out), "model": str(checkpoint_of("bert")), "batch_size": 4}
    recipe = commands.recipe_of(None, flags | {"device": "cpu", "precision": "fp32"}, [])
    prepared = preparation.prepare(recipe)
    inner, most = LabelsHead.loss, 0

    def loss(self: LabelsHead, model: Any, given: Any, items: Any, weights: Any, device: Any) -> Any:
        if len(items) * given.features.lengths[items].max() > most:
            raise MemoryError
        return inner(self, model, given, items, weights, device)

    monkeypatch.setattr(LabelsHead, "loss", loss)
    train, devices = prepared.rows["train"], open_devices("cpu", "fp32")
    fitting, _ = training.begin(prepared.recipe, prepared.record, prepared.model_folder, train, devices)
    hardware = prepared.recipe.hardware.model_copy(update={"shard": True})
    fitting.recipe = prepared.recipe.model_copy(update={"hardware": hardware})
    longest = int(train.features.lengths.max())
    with pytest.raises(UserError, match="memory ran out at update 1"):
        most = 4 * longest - 1
        fitting.try_heaviest()

    most = 4 * longest
    fitting.try_heaviest()
    assert not any(p.grad is not None and p.grad.any() for p in fitting.learning)
    assert not fitting.optimizer.state
    assert fitting.done == 0
