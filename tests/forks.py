"""Commands of ftkit in processes of their own, which begin as copies of this one: nothing is imported anew.

A real process, to be killed, signalled and given limits; and what happens to it can be prepared in Python.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftkit import launch
from tests import tiny


def begin(function: Callable[[], int | None]) -> int:
    """Starts a function in a new process and returns the process's id; the exit code is what it returns."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the threads that tokenized before the fork are not here
        code = function() or 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def start(*arguments: str | Path, before: Callable[[], Any] | None = None, said: Path | None = None) -> int:
    """Starts a command of ftkit and returns its process id.

    Args:
        before: called in the new process first.
        said: where its standard error goes when it ends.
    """

    def command() -> int:
        launch.end = sys.exit  # there is something left to do
        if before:
            before()
        done = tiny.ftkit(*arguments)
        os.write(2, done.err.encode())  # pytest shows it where a test fails
        if said:
            said.write_text(done.err)
        return done.code

    return begin(command)


def wait(pid: int, seconds: float = 900) -> int:
    """The exit code of a process; -n if signal n ended it. It is killed when the time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError(f"the process did not end within {seconds} seconds")


def run(*arguments: str | Path, before: Callable[[], Any] | None = None, said: Path | None = None) -> int:
    """Runs a command to its end; its exit code, -n if signal n ended it."""
    return wait(start(*arguments, before=before, said=said))


def together(*arguments: str | Path, before: Callable[[int], Any], said: Path) -> list[int]:
    """Runs a command as the two processes of a launcher; their exit codes.

    Args:
        before: called in each with its rank.
        said: a folder, where their standard errors go as 0 and 1.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def join(rank: int) -> None:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)  # of commands that this process ran before
        GradientState._reset_state()
        place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank), CUDA_VISIBLE_DEVICES="")
        before(rank)

    pids = [start(*arguments, before=lambda rank=rank: join(rank), said=said / str(rank)) for rank in range(2)]
    return [wait(pid) for pid in pids]


def die_in_training(updates: int, number: int = signal.SIGKILL, rank: int | None = None) -> Callable[[int], None]:
    """For `together`: each process (or the one of a rank) sends itself a signal after so many updates."""

    def before(own: int) -> None:
        from ftkit.training import Fitting

        if rank in (None, own):
            Fitting.update = kill_self_at(updates, Fitting.update, number)  # type: ignore[method-assign]

    return before


def kill_self_at(calls: int, function: Callable[..., Any], number: int = signal.SIGKILL) -> Callable[..., Any]:
    """The function, after whose so-many-th call the process sends itself a signal."""
    left = calls

    def counting(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        result = function(*arguments, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)
        return result

    return counting
