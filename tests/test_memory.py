"""Memory that really runs out, by RLIMIT_AS of a process of its own: work is cut finer, and nothing else changes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit import devices, prediction, training
from ftkit.heads.labels import LabelsHead
from ftkit.run import Run
from tests import forks, tiny
from tests.conftest import Learned
from tests.tiny import FP32, read_jsonl, write_csv

RunOf = Callable[[str], Learned]
CheckpointOf = Callable[[str], Path]
MEGABYTE = 1_000_000
LONG = 120  # words, of a model that reads 128 tokens


def room(megabytes: int, most: int | None = None) -> None:
    """Leaves this process so much more address space than it has taken already; for good, unless `most` is a limit
    up to which it may be raised again."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit if most is None else most))


needs_linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells its address space")


def noting(failed: Path, module: Any) -> None:
    """Has a module write down how it was told that memory ran out."""
    inner = module.out_of_memory
    module.out_of_memory = lambda error: failed.write_text(str(error)) and inner(error)


def predict_all_at_once(failed: Path) -> None:
    prediction.TOKENS_PER_BATCH = {"cpu": 160_000}


def predict_all_at_once_in_little_memory(failed: Path) -> None:
    predict_all_at_once(failed)
    noting(failed, prediction)
    inner = prediction.row_outputs

    def row_outputs(*given: Any, **more: Any) -> Any:
        room(60)
        return inner(*given, **more)

    prediction.row_outputs = row_outputs


def train_in_little_memory(failed: Path) -> None:
    noting(failed, training)
    inner = training.Fitting.update

    def update(self: training.Fitting, *given: Any) -> Any:
        if not self.done:  # what torch takes once and keeps is taken while there is room
            self.token_budget = 1000
            try:
                return inner(self, *given)
            finally:
                self.token_budget = 140_000
        before = resource.getrlimit(resource.RLIMIT_AS)
        room(200, before[1])
        try:
            return inner(self, *given)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    training.Fitting.update = update  # type: ignore[method-assign]


def after(before: Callable[[Path], None], failed: Path, *words: object) -> None:
    """Runs a command in a new process, whose free memory is not what earlier tests have left, after a function of this
    module."""
    begin = (
        f"from pathlib import Path; from tests import test_memory; test_memory.{before.__name__}(Path({str(failed)!r}))"
    )
    command = [sys.executable, "-c", f"{begin}; from ftkit import cli; cli.main()", *map(str, words)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_linux
def test_memory_that_runs_out_in_prediction_changes_no_answer(run_of: RunOf, tmp_path: Path) -> None:
    run, failed = run_of("bert").folder, tmp_path / "failed"
    data = write_csv(tmp_path / "new.csv", tiny.rows(1200, seed=5, fewest=LONG - 3, most=LONG - 3))

    after(predict_all_at_once, failed, "predict", run, data, "-o", tmp_path / "roomy.jsonl", *FP32)
    assert not failed.exists()
    after(predict_all_at_once_in_little_memory, failed, "predict", run, data, "-o", tmp_path / "tight.jsonl", *FP32)

    assert "allocate memory" in failed.read_text()
    roomy_rows, tight_rows = (read_jsonl(tmp_path / f"{name}.jsonl") for name in ("roomy", "tight"))
    assert [row["predicted_label"] for row in roomy_rows] == [row["predicted_label"] for row in tight_rows]
    assert [row["predicted_score"] for row in roomy_rows] == pytest.approx(
        [row["predicted_score"] for row in tight_rows], abs=1e-5
    )


@needs_linux
def test_memory_that_runs_out_in_training_changes_nothing_that_is_learned(
    checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    failed = tmp_path / "failed"
    data = write_csv(tmp_path / "train.csv", tiny.rows(2500, seed=5, fewest=LONG - 3, most=LONG - 3))
    flags = ("--epochs", "1", "--batch-size", "1000", "--set", "training.dropout=0", *FP32)
    budget = ("--set", "hardware.tokens_per_microbatch=140000")
    command = ("train", data, "--model", checkpoint_of("bert"), *flags, *budget)

    assert tiny.ftkit(*command, "--out", tmp_path / "roomy").code == 0
    after(train_in_little_memory, failed, *command, "--out", tmp_path / "tight")

    assert failed.is_file()
    roomy, tight_run = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("roomy", "tight"))
    assert roomy["tokens_per_microbatch"] == 140_000
    assert 1000 < tight_run["tokens_per_microbatch"] < 140_000
    losses = [
        [line["loss"] for line in read_jsonl(tmp_path / name / "log.jsonl") if "loss" in line]
        for name in ("roomy", "tight")
    ]
    assert len(losses[0]) > 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_memory_that_runs_out_on_one_of_two_processes_cuts_the_update_on_both(
    checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    data = write_csv(tmp_path / "train.csv", tiny.rows(100, seed=5))
    flags = ("--processes", "2", "--epochs", "1", "--set", "training.dropout=0", *FP32)
    command = ("train", data, "--model", checkpoint_of("bert"), *flags)

    def lacking(rank: int) -> None:
        inner, calls = LabelsHead.loss, 0

        def loss(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            if rank == 1 and calls == 2:
                raise MemoryError
            return inner(*given)

        LabelsHead.loss = loss  # type: ignore[method-assign]

    for name, before in (("roomy", lambda rank: None), ("tight", lacking)):
        (tmp_path / f"{name}-said").mkdir()
        said = tmp_path / f"{name}-said"
        assert forks.together(*command, "--out", tmp_path / name, before=before, said=said) == [0, 0]

    facts = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("roomy", "tight")]
    assert facts[1]["tokens_per_microbatch"] == facts[0]["tokens_per_microbatch"] // 2
    losses = [
        [line["loss"] for line in read_jsonl(tmp_path / name / "log.jsonl") if "loss" in line]
        for name in ("roomy", "tight")
    ]
    assert len(losses[0]) > 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(("short", "expected"), [(True, 300), (False, None)])
def test_eval_and_predict_begin_with_the_room_that_training_has_found(
    run_of: RunOf, tmp_path: Path, short: bool, expected: int | None
) -> None:
    facts = json.loads((run_of("bert").folder / "training.json").read_text())
    (tmp_path / "training.json").write_text(
        json.dumps(facts | {"short_of_memory": short, "tokens_per_microbatch": 300})
    )

    assert prediction.room_found(Run(tmp_path)) == expected


def test_a_training_with_its_usual_room_does_not_say_that_memory_was_short(run_of: RunOf) -> None:
    facts = json.loads((run_of("bert").folder / "training.json").read_text())

    assert facts["short_of_memory"] is False


def test_a_batch_that_memory_lacked_for_is_not_tried_again_in_the_same_size(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "TOKENS_PER_BATCH", {"cpu": 512})
    sizes: list[int] = []
    inner = LabelsHead.outputs

    def outputs(self: LabelsHead, model: Any, features: Any, items: Any, device: Any) -> Any:
        padded = len(items) * int(features.lengths[items].max())
        sizes.append(padded)
        if padded > 300:
            raise MemoryError
        return inner(self, model, features, items, device)

    monkeypatch.setattr(LabelsHead, "outputs", outputs)
    data = write_csv(tmp_path / "new.csv", tiny.rows(100, seed=6, fewest=20, most=20))

    assert tiny.ftkit("predict", run_of("bert").folder, data, "-o", tmp_path / "out.csv", *FP32).code == 0
    assert sum(size > 300 for size in sizes) == 1


GROUPS = {
    "version 2": ("0::/job/7\n", "job/7", ("memory.max", "memory.current"), "inactive_file 30\n"),
    "version 2, in a container": ("0::/job/7\n", ".", ("memory.max", "memory.current"), "inactive_file 30\n"),
    "version 1": (
        "9:cpu:/job\n4:memory:/job/7\n",
        "memory/job/7",
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        "total_inactive_file 30\n",
    ),
}


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_a_containers_limit_is_known(tmp_path: Path, group: tuple[str, str, tuple[str, str], str]) -> None:
    memberships, folder, names, statistics = group
    (tmp_path / "cgroup").write_text(memberships)
    root = tmp_path / "root"
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, value in zip((*names, "memory.stat"), ("1000", "400", statistics), strict=True):
        (root / folder / name).write_text(value)

    [left] = devices._left_in_groups(tmp_path / "cgroup", root)

    assert left == 1000 - 400 + 30


def test_without_a_limit_the_machine_alone_counts(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")

    assert devices._left_in_groups(tmp_path / "cgroup", tmp_path) == []
    assert devices._left_in_groups(tmp_path / "none", tmp_path) == []
