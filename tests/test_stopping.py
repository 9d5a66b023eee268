"""How commands end before they are done: signals, failures of one of two processes, launchers that start too few."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit import launch, plan
from ftkit.config import HardwareSection
from ftkit.errors import UserError
from ftkit.heads.labels import LabelsHead
from tests import forks, tiny
from tests.conftest import Learned
from tests.tiny import FP32, ftkit, rows, write_csv

RunOf = Callable[[str], Learned]
CheckpointOf = Callable[[str], Path]
Command = tuple[str | Path, ...]
VERBS = ("train", "eval", "predict")
EXIT_CODES = ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_csv(folder / "validation.csv", rows(60, seed=8, fewest=12, most=12))
    return write_csv(folder / "rows.csv", rows(200, seed=7, fewest=12, most=12))


@pytest.fixture
def command(run_of: RunOf, checkpoint_of: CheckpointOf, data: Path, tmp_path: Path) -> Callable[[str], Command]:
    """The command line of a verb."""

    def arguments(verb: str) -> Command:
        if verb == "train":
            model = ("--model", checkpoint_of("bert"), "--out", tmp_path / "run")
            validation = ("--validation", data.with_name("validation.csv"))
            return ("train", data, *validation, *model, *FP32, "--epochs", "2")
        if verb == "eval":
            return ("eval", run_of("distilbert").folder, data, *FP32, "--name", "stopped")
        return ("predict", run_of("distilbert").folder, data, "-o", tmp_path / "out.csv", *FP32)

    return arguments


def in_small_batches(seen: Path, kind: str = "", at: int = 0, signals: tuple[int, ...] = ()) -> None:
    """Makes this process take few rows at once, and leave a letter in a file after each batch: t for training, or e.

    Args:
        kind, at: the batch in the middle of which `signals` come to this process: the so-many-th of t or e.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    logits, cut = LabelsHead.logits, plan.cut
    marks: list[str] = []

    def marked(head: LabelsHead, model: Any, batch: Any) -> Any:
        result = logits(head, model, batch)
        marks.append("t" if model.training else "e")
        if marks[-1] == kind and marks.count(kind) == at:
            for number in signals:
                os.kill(os.getpid(), number)
        seen.write_text("".join(marks))
        return result

    LabelsHead.logits = marked  # type: ignore[method-assign]
    plan.cut = lambda items, lengths, world, budget, **more: cut(items, lengths, world, min(budget, 160), **more)


@pytest.mark.parametrize("verb", VERBS)
def test_a_second_interrupt_ends_at_once(command: Callable[[str], Command], tmp_path: Path, verb: str) -> None:
    seen, kind = tmp_path / "seen", "t" if verb == "train" else "e"

    code = forks.run(*command(verb), before=lambda: in_small_batches(seen, kind, 3, (signal.SIGINT, signal.SIGINT)))

    assert code == 130
    assert seen.read_text() == kind * 2  # the third was not ended
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(("number", "code"), EXIT_CODES)
@pytest.mark.parametrize("verb", ["eval", "predict"])
def test_a_signal_ends_an_evaluation_or_prediction_after_its_running_batch(
    command: Callable[[str], Command], tmp_path: Path, verb: str, number: int, code: int
) -> None:
    seen = tmp_path / "seen"

    assert forks.run(*command(verb), before=lambda: in_small_batches(seen, "e", 3, (number,))) == code

    assert seen.read_text() == "eee"
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(("number", "code"), EXIT_CODES)
def test_a_signal_ends_the_evaluation_within_a_training_after_its_running_batch(
    command: Callable[[str], Command], tmp_path: Path, number: int, code: int
) -> None:
    seen = tmp_path / "seen"

    assert forks.run(*command("train"), before=lambda: in_small_batches(seen, "e", 2, (number,))) == code

    assert seen.read_text().endswith("tee")
    assert len(list((tmp_path / "run" / "checkpoints").glob("update-*"))) == 1
    assert ftkit("train", "--resume", tmp_path / "run").code == 0


@pytest.mark.parametrize(("number", "code"), EXIT_CODES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_signal_to_one_of_two_processes_ends_both(
    command: Callable[[str], Command], tmp_path: Path, verb: str, number: int, code: int
) -> None:
    kind = "t" if verb == "train" else "e"

    def before(rank: int) -> None:
        in_small_batches(tmp_path / f"seen-{rank}", kind, 2, (number,) if rank == 1 else ())

    assert forks.together(*command(verb), before=before, said=tmp_path) == [code, code]

    first, second = (len((tmp_path / f"seen-{rank}").read_text()) for rank in range(2))
    assert abs(first - second) <= 1
    assert "Traceback" not in (tmp_path / "0").read_text() + (tmp_path / "1").read_text()


@pytest.mark.parametrize("verb", ["train", "predict"])
def test_two_processes_end_together_when_only_the_first_cannot_write(
    command: Callable[[str], Command], tmp_path: Path, verb: str
) -> None:
    """RLIMIT_FSIZE of the first process stands in for its disk; the second meets nothing of it."""
    # In a training the run's small files fit, and a checkpoint does not.
    size, often = (30_000, ("--set", "hardware.checkpoint_minutes=1e-9")) if verb == "train" else (1_000, ())

    def before(rank: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if rank == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    assert forks.together(*command(verb), *often, before=before, said=tmp_path) == [2, 2]

    said = (tmp_path / "0").read_text()
    assert ("cannot be written" in said, "Traceback" in said) == (True, False)
    assert (tmp_path / "1").read_text() == ""


def test_a_hangup_that_is_ignored_stays_ignored(command: Callable[[str], Command], tmp_path: Path) -> None:
    """As under nohup."""

    def before() -> None:
        in_small_batches(tmp_path / "seen", "e", 3, (signal.SIGHUP,))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    assert forks.run(*command("predict"), before=before) == 0


def test_a_signal_does_not_wait_for_the_next_row_of_a_stream(run_of: RunOf, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ftkit.cli", "predict", str(run_of("distilbert").folder), "-", "--format", "jsonl"]
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen([*words, "-o", str(out), *FP32], stdin=subprocess.PIPE, env=tiny.environment())
    assert process.stdin
    # More than is read before the prediction begins, and fewer rows than it answers at once.
    process.stdin.write((json.dumps({"text": "a hen", "more": "x" * 2000}) + "\n").encode() * 1000)
    process.stdin.flush()
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 143  # the stream is still open
    process.stdin.close()
    assert list(tmp_path.iterdir()) == []


def test_a_training_whose_messages_nobody_reads_any_more_goes_on(
    command: Callable[[str], Command], tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "ftkit.cli", *map(str, command("train"))]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=tiny.environment())
    assert process.stderr and process.stderr.readline()
    process.stderr.close()

    assert process.wait(300) == 0
    assert (tmp_path / "run" / "metrics.json").is_file()


# Launchers


def test_accelerate_launch_that_starts_one_process_for_two_is_refused(
    command: Callable[[str], Command], tmp_path: Path
) -> None:
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "ftkit.cli")

    done = subprocess.run([*launcher, *command("predict")], env=tiny.environment(), capture_output=True, text=True)

    assert done.returncode != 0
    assert "`accelerate launch` was asked for several processes and has started one" in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_another_number_of_processes_than_the_launcher_started_is_refused(
    command: Callable[[str], Command], tmp_path: Path
) -> None:
    codes = forks.together(*command("predict"), "--processes", "3", before=lambda rank: None, said=tmp_path)

    assert codes == [2, 2]
    assert "3 processes were asked for and the launcher has started 2" in (tmp_path / "0").read_text()


def test_the_number_that_the_launcher_started_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")

    assert launch.processes(HardwareSection()) == launch.processes(HardwareSection(processes=2)) == 2
    with pytest.raises(UserError):
        launch.processes(HardwareSection(processes=1))
