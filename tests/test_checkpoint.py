"""A training that is stopped or killed loses nothing: checkpoints, resume, signals, locks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ftkit import checkpoint
from ftkit.errors import UserError
from tests import forks, tiny
from tests.tiny import ftkit, rows, write_csv

CheckpointOf = Callable[[str], Path]

# Dropout stays on, and a checkpoint is written after every update.
FLAGS = ("--epochs", "3", "--precision", "fp32", "--set", "hardware.checkpoint_minutes=1e-9", "--learning-rate", "1e-3")


def put(text: str) -> Callable[[Path], None]:
    def fill(stage: Path) -> None:
        (stage / "a.bin").write_text(text)
        (stage / "state.json").write_text('{"best_folder": ""}')

    return fill


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_the_old_checkpoint_and_no_litter(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "update-1", 10, put("old"))

    def broken(stage: Path) -> None:
        put("new")(stage)
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device"):
        checkpoint.write(tmp_path / "update-2", 10, broken)
    assert names(tmp_path) == ["update-1"]
    assert checkpoint.damage(tmp_path / "update-1") is None


def test_a_write_that_cannot_fit_tells_needed_and_free_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs 1,000,000,000,000 MB; the disk of .* has [\d,]+ MB free"):
        checkpoint.write(tmp_path / "update-1", 10**18, put("text"))
    assert names(tmp_path) == []


def test_a_flipped_bit_in_any_file_is_found_and_named(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "update-1", 10, put("text"))
    for path in (tmp_path / "update-1").iterdir():
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        assert path.name in (checkpoint.damage(tmp_path / "update-1") or "")
        path.unlink()
        assert path.name in (checkpoint.damage(tmp_path / "update-1") or "")
        path.write_bytes(content)
    assert checkpoint.damage(tmp_path / "update-1") is None


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    for number in (1, 2):
        checkpoint.write(tmp_path / f"update-{number}", 10, put("text"))
    (tmp_path / "update-2" / "a.bin").write_text("tex")

    assert checkpoint.newest(tmp_path) == (tmp_path / "update-1", ["update-2: a.bin is not what was written"])


def test_a_checkpoint_whose_best_model_is_gone_is_not_used(tmp_path: Path) -> None:
    def fill(stage: Path) -> None:
        (stage / "state.json").write_text('{"best_folder": "best-1"}')

    checkpoint.write(tmp_path / "update-1", 10, put("before there was a best model"))
    checkpoint.write(tmp_path / "update-2", 10, fill)

    assert checkpoint.newest(tmp_path) == (
        tmp_path / "update-1",
        ["update-2: its best model best-1: sha256.json is missing or cannot be read"],
    )


# Whole trainings


def train_command(data: Path, model: Path, out: Path, *flags: str) -> list[str]:
    command = [sys.executable, "-m", "ftkit.cli", "train", str(data), "--model", str(model), "--out", str(out)]
    return [*command, *FLAGS, *flags]


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def log(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def updates(run: Path) -> int:
    path = run / "log.jsonl"
    return path.read_text().count('"loss"') if path.exists() else 0


def interrupt(command: list[str], run: Path, number: int, after: int) -> int:
    """Starts a training and sends it a signal once it has logged so many updates; its exit code."""
    process = subprocess.Popen(command, env=tiny.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600  # a busy machine is slow to begin
    while updates(run) < after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    return process.wait(300)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "train.csv", rows(400, seed=3))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path, checkpoint_of: CheckpointOf) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert ftkit(*train_command(data, checkpoint_of("bert"), out)[3:]).code == 0
    return out


def test_killed_twice_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, data: Path, whole: Path, checkpoint_of: CheckpointOf
) -> None:
    run = tmp_path / "run"
    interrupt(train_command(data, checkpoint_of("bert"), run), run, signal.SIGKILL, after=5)
    resume = [sys.executable, "-m", "ftkit.cli", "train", "--resume", str(run)]
    interrupt(resume, run, signal.SIGKILL, after=20)  # in the second epoch
    done = subprocess.run(resume, env=tiny.environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "going on from update-000000" in done.stderr
    assert weights(run) == weights(whole)
    assert log(run) == log(whole)


def test_killed_twice_on_two_processes_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, data: Path, checkpoint_of: CheckpointOf
) -> None:
    """The first kill is of the process that has started both."""
    expected, run = tmp_path / "whole", tmp_path / "run"
    train = train_command(data, checkpoint_of("bert"), expected, "--processes", "2")[3:]
    go_on = partial(forks.together, "train", "--resume", run, said=tmp_path)
    assert forks.together(*train, before=lambda rank: None, said=tmp_path) == [0, 0]
    start = train_command(data, checkpoint_of("bert"), run, "--processes", "2")
    assert interrupt(start, run, signal.SIGKILL, after=5) == -signal.SIGKILL
    assert go_on(before=forks.die_in_training(15)) == [-signal.SIGKILL] * 2
    assert go_on(before=lambda rank: None) == [0, 0]

    assert "going on from update-000000" in (tmp_path / "0").read_text()
    assert weights(run) == weights(expected)
    assert log(run) == log(expected)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_running_update_saves_and_tells_by_the_exit_code(
    tmp_path: Path, data: Path, whole: Path, checkpoint_of: CheckpointOf, number: int, code: int
) -> None:
    run = tmp_path / "run"
    flags = ("--set", "hardware.checkpoint_minutes=60")  # only the signal makes it save
    assert interrupt(train_command(data, checkpoint_of("bert"), run, *flags), run, number, after=7) == code
    saved = [name for name in names(run / "checkpoints") if name.startswith("update-")]

    assert saved == [f"update-{updates(run):08}"]
    assert not (run / "model").exists()
    assert not (run / ".work").exists()
    assert ftkit("train", "--resume", run).code == 0
    assert weights(run) == weights(whole)


@pytest.fixture
def stopped(tmp_path: Path, data: Path, checkpoint_of: CheckpointOf) -> Path:
    """A training stopped in its first epoch, on a copy of the data beside it."""
    copy = tmp_path / "train.csv"
    shutil.copy(data, copy)
    run = tmp_path / "run"
    stopping = partial(forks.die_in_training(4, signal.SIGTERM), 0)
    assert forks.run(*train_command(copy, checkpoint_of("bert"), run)[3:], before=stopping) == 143
    return run


def test_resuming_on_changed_data_is_refused(stopped: Path) -> None:
    path = stopped.parent / "train.csv"
    path.write_text(path.read_text().replace("\n", "\n ", 1))

    done = ftkit("train", "--resume", stopped)

    assert done.code == 2
    assert "data.sources.train.sha256:" in done.err
    assert "--resume-anyway" in done.err


def test_resuming_with_other_batches_is_refused_and_can_be_forced(stopped: Path) -> None:
    larger = ("train", "--resume", stopped, "--batch-size", "64", "--set", "training.weight_decay=0")
    refused = ftkit(*larger)
    assert refused.code == 2
    assert "recipe.training.batch_size: 32 -> 64" in refused.err
    done, per_epoch = updates(stopped), 6  # 360 rows, in batches of 64

    assert ftkit(*larger, "--resume-anyway").code == 0

    despite = json.loads((stopped / "environment.json").read_text())["resumed_despite"]
    assert "recipe.training.batch_size: 32 -> 64" in despite
    last = [line for line in tiny.read_jsonl(stopped / "log.jsonl") if "loss" in line]
    assert len(last) == done + 3 * per_epoch - round(done * per_epoch / 12)
    assert last[-1]["update"] == 3 * per_epoch


def test_rows_that_were_learned_from_never_become_validation_rows(stopped: Path) -> None:
    """Another seed would hold others out of the file."""
    refused = ftkit("train", "--resume", stopped, "--seed", "5")
    assert refused.code == 2
    assert "recipe.seed: 0 -> 5" in refused.err
    assert "--resume-anyway" not in refused.err

    forced = ftkit("train", "--resume", stopped, "--seed", "5", "--resume-anyway")

    assert forced.code == 2
    assert "these cannot change within a training:\n  data.validation_sha256" in forced.err


def test_a_resume_that_was_forced_once_needs_no_force_again(stopped: Path) -> None:
    command = ("train", "--resume", stopped)
    facts = json.loads((stopped / "data.json").read_text())
    facts["sources"]["train"]["sha256"] = "0" * 64  # as if the file had other bytes when the training began
    (stopped / "data.json").write_text(json.dumps(facts))
    assert forks.run(*command, "--resume-anyway", before=lambda: forks.die_in_training(2)(0)) == -signal.SIGKILL

    assert ftkit(*command).code == 0
    assert "0" * 64 in json.loads((stopped / "data.json").read_text())["earlier_sources"]


def test_what_a_run_was_resumed_despite_is_not_forgotten(stopped: Path) -> None:
    facts = json.loads((stopped / "environment.json").read_text())
    (stopped / "environment.json").write_text(json.dumps(facts | {"resumed_despite": ["recipe.seed: 0 -> 5"]}))

    assert ftkit("train", "--resume", stopped, "--set", "hardware.tokens_per_microbatch=500").code == 0

    found = json.loads((stopped / "environment.json").read_text())["resumed_despite"]
    assert found == ["recipe.seed: 0 -> 5", "hardware.tokens_per_microbatch: auto -> 500"]


def test_resuming_on_another_number_of_processes_goes_on_and_says_so(stopped: Path) -> None:
    done = ftkit("train", "--resume", stopped, "--processes", "2")

    assert done.code == 0, done.err
    assert "2 processes instead of 1: the same updates" in done.err


def test_a_truncated_newest_checkpoint_is_named_and_training_begins_before_it(stopped: Path, whole: Path) -> None:
    newest = max((stopped / "checkpoints").glob("update-*"))
    with (newest / "training.safetensors").open("r+b") as file:
        file.truncate(1000)

    done = ftkit("train", "--resume", stopped)

    assert done.code == 0, done.err
    assert "training.safetensors is not what was written" in done.err
    assert weights(stopped) == weights(whole)


def test_a_finished_training_is_not_resumed(whole: Path) -> None:
    done = ftkit("train", "--resume", whole)

    assert done.code == 2
    assert "has finished" in done.err


def test_a_second_training_in_the_same_run_is_refused_while_the_first_goes_on(stopped: Path) -> None:
    import fcntl

    with (stopped / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = ftkit("train", "--resume", stopped)

    assert done.code == 2
    assert "another ftkit process is working in" in done.err


def test_a_training_none_of_whose_checkpoints_is_whole_is_not_begun_anew_unasked(stopped: Path) -> None:
    for path in (stopped / "checkpoints").glob("update-*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    before = sorted(path.name for path in (stopped / "checkpoints").iterdir())
    done = tiny.ftkit("train", "--resume", stopped, "--quiet")
    assert done.code == 2
    assert "no checkpoint of this training is whole" in done.err and "--resume-anyway" in done.err
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir()) == before


def test_a_full_disk_ends_with_the_bytes_and_the_old_checkpoint(stopped: Path) -> None:
    """RLIMIT_FSIZE stands in for the disk: writing past it fails as on a full one."""
    before = names(stopped / "checkpoints")
    limit = "import resource,signal,sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); from ftkit.cli import main; main()"
    command = [sys.executable, "-c", limit, "train", "--resume", str(stopped), "--quiet"]
    done = subprocess.run(command, env=tiny.environment() | os.environ, capture_output=True, text=True)

    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert names(stopped / "checkpoints") == before
    assert checkpoint.newest(stopped / "checkpoints")[1] == []


def test_a_run_killed_after_training_but_before_its_scores_is_finished_by_resuming(
    tmp_path: Path, whole: Path, data: Path
) -> None:
    """The model is there, and what comes after it is not: baselines, scores, report."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name in ("baselines", "eval"):
        shutil.rmtree(run / name)
    (run / "metrics.json").unlink()
    (run / "model" / checkpoint.MANIFEST).write_text("{}")  # the kill came before these had gone
    (run / "checkpoints" / "update-00000001").mkdir(parents=True)
    refused = ftkit("eval", run, data)
    assert (refused.code, "has not finished" in refused.err) == (2, True)

    assert ftkit("train", "--resume", run).code == 0

    assert weights(run) == weights(whole)
    assert names(run) == names(whole)
    assert names(run / "model") == names(whole / "model")
    scores = [json.loads((folder / "metrics.json").read_text())["validation"]["scores"] for folder in (run, whole)]
    assert scores[0] == scores[1]
