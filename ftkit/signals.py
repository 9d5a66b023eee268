"""Being asked to stop: SIGTERM, a closed terminal (SIGHUP), and Ctrl-C once, let the running step end; Ctrl-C twice
ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

FAILED = -1  # in the place of a signal: rank 0 cannot go on, and will say why
ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KINDS = (*ASKING, FAILED)


class Stopped(Exception):
    """A signal asked this or another process of the job to stop; `number` is that signal, or FAILED."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code that tells of the signal: 143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP."""
        return 128 + self.number


def flags(number: int) -> list[float]:
    """What one process was asked, in a form that can be summed over the processes."""
    return [float(number == kind) for kind in KINDS]


def heard(flags: Sequence[float]) -> int:
    """What any of the processes was asked, from the sum of their flags; 0 if nothing."""
    return next((kind for kind, count in zip(KINDS, flags, strict=True) if count), 0)


def listen(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Has the signals that ask to stop handled, but for a hangup that is ignored (`nohup`); the handlers before."""
    heard = [n for n in ASKING if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


class Stop:
    """While it is entered, remembers the first signal to stop; `number` is 0 until one comes."""

    def __init__(self) -> None:
        self.number = 0
        self.idle = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self.before = listen(self._hear)
        return self

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around waiting for somebody else, as for input: a signal ends it at once, by `Stopped`."""
        self.idle = True
        try:
            if self.number:
                raise Stopped(self.number)
            yield
        finally:
            self.idle = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            os._exit(130)
        self.number = self.number or number
        if self.idle:
            raise Stopped(self.number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
