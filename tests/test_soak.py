"""Long tests: `make soak`."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import forks
from tests.tiny import read_jsonl, rows, write_csv

KILLS = 60
SEED = 20


def lines(run: Path) -> int:
    path = run / "log.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.soak
def test_a_training_killed_at_sixty_moments_ends_with_the_weights_of_an_uninterrupted_one(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Dropout is on, and a checkpoint is begun after every update, so that kills meet writes of all kinds.

    A life begins as a copy of this process, lest 60 lives import everything anew, and ends a random time after
    a random number of updates.
    """
    data = write_csv(tmp_path / "train.csv", rows(350, seed=3))
    flags = ("--precision", "fp32", "--device", "cpu", "--epochs", "18", "--batch-size", "16")
    flags += ("--set", "hardware.checkpoint_minutes=1e-9", "--quiet")
    command = ("train", data, "--model", checkpoint_of("bert"), *flags)
    started = time.monotonic()
    assert forks.run(*command, "--out", tmp_path / "whole") == 0
    uninterrupted = time.monotonic() - started

    run, moments = tmp_path / "run", random.Random(SEED)
    kills, updates_done = 0, []
    pid = forks.start(*command, "--out", run)
    while kills < KILLS:
        before, life = lines(run), moments.randint(1, 6)
        pause = moments.uniform(0, uninterrupted / 360)  # up to an update's time
        deadline = time.monotonic() + 120
        # A resumed training first cuts the log to its checkpoint, so count from where it then stands.
        while lines(run) < before + life and time.monotonic() < deadline:
            if os.waitpid(pid, os.WNOHANG)[0]:
                pytest.fail(f"the training ended by itself after {kills} kills")
            before = min(before, lines(run))
            time.sleep(0.001)
        time.sleep(pause)
        os.kill(pid, signal.SIGKILL)
        assert forks.wait(pid) == -signal.SIGKILL
        kills += 1
        updates_done.append(lines(run))
        pid = forks.start("train", "--resume", run, "--quiet", said=tmp_path / "said")
    assert forks.wait(pid) == 0, (tmp_path / "said").read_text()

    print(f"{kills} kills after log lines {updates_done}; {time.monotonic() - started:.0f} s in all")
    hashes = [
        hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()
        for folder in (run, tmp_path / "whole")
    ]
    assert hashes[0] == hashes[1]
    logs = [
        [{key: value for key, value in line.items() if key != "seconds"} for line in read_jsonl(folder / "log.jsonl")]
        for folder in (run, tmp_path / "whole")
    ]
    assert logs[0] == logs[1]
