"""Odd places: folders that cannot be written to, no home, streams that are closed, readers that leave early.

Every command runs in a process of its own. The super-user, who may write anywhere, gives that power up first.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.conftest import Learned

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
FTKIT = f"{shlex.quote(sys.executable)} -m ftkit.cli"


def without_power() -> None:
    """What is run from here on is held to the permissions of files, also if it belongs to the super-user."""
    if os.geteuid() == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in tiny.environment(**environment).items() if key != "HOME"}
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=clean,
        preexec_fn=without_power,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def learned(run_of: Callable[[str], Learned]) -> Learned:
    return run_of("bert")


@pytest.fixture
def place(learned: Learned, tmp_path: Path) -> Path:
    shutil.copytree(learned.folder, tmp_path / "run")
    shutil.copy(learned.test, tmp_path / "data.csv")
    return tmp_path


@pytest.fixture
def closed(place: Path) -> Iterator[Path]:
    """The run and everything in it can be read only, as on a mounted share."""
    if shell("mkdir shut && chmod 555 shut && ! touch shut/x", place).returncode:
        pytest.skip("permissions do not hold here")
    paths = [place / "run", *(place / "run").rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield place
    for path in [place / "shut", *paths]:
        path.chmod(0o755)


# Folders that cannot be written to.


def test_a_run_that_can_only_be_read_answers(closed: Path) -> None:
    done = shell(f"{FTKIT} predict run data.csv --device cpu | tail -n +2 | wc -l", closed)
    assert (done.stdout.strip(), "Traceback" in done.stderr) == ("100", False)


def test_a_run_that_can_only_be_read_keeps_no_scores(closed: Path) -> None:
    done = shell(f"{FTKIT} eval run data.csv --device cpu", closed)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train data.csv --model run --out shut/new", "cannot make the directory shut/new: Permission denied"),
        ("predict run data.csv -o shut/out.csv", "shut/out.csv cannot be written: Permission denied"),
        ("check secret.csv --model run", "secret.csv cannot be read: Permission denied"),
    ],
)
def test_what_may_not_be_written_or_read_is_told(closed: Path, line: str, message: str) -> None:
    (closed / "secret.csv").write_text("text,label\na,b\n")
    (closed / "secret.csv").chmod(0)
    done = shell(f"{FTKIT} {line}", closed)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_cache_that_cannot_be_written_to_is_told_with_its_variable(closed: Path) -> None:
    done = shell(f"{FTKIT} check data.csv --model run --no-forecast", closed, FTKIT_CACHE="shut/cache")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Set FTKIT_CACHE to a folder that can be written to" in done.stderr


# Streams.


def test_without_a_home_and_a_terminal_texts_are_answered(place: Path) -> None:
    done = shell(f"{FTKIT} predict run --text 'a cat' --device cpu < /dev/null", place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("animal\t")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("check data.csv --model run --no-forecast >&-", 0),
        ("predict run data.csv -o out.csv --device cpu 2>&-", 0),
        ("predict run - --format csv --device cpu <&-", 2),
    ],
)
def test_closed_streams_lead_nowhere(place: Path, line: str, code: int) -> None:
    done = shell(f"{FTKIT} {line}", place)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.parametrize("command", ["--help", "doctor", "check data.csv --model run --no-forecast", "init --keys"])
def test_a_reader_that_leaves_ends_a_command_quietly(place: Path, command: str) -> None:
    done = shell(f"{FTKIT} {command} | true; exit ${{PIPESTATUS[0]}}", place, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr) == (1, "")


def test_a_reader_that_leaves_does_not_end_a_training(place: Path) -> None:
    line = f"{FTKIT} train data.csv --model run --out new --epochs 1 --device cpu --quiet | true"
    done = shell(f"{line}; exit ${{PIPESTATUS[0]}}", place)
    assert (done.returncode, done.stderr) == (1, "")
    assert (place / "new" / "metrics.json").is_file()
