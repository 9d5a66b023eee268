"""Being asked to stop: SIGTERM, and Ctrl-C once, let the running step end; Ctrl-C twice ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

FAILED = -1  # in the place of a signal: rank 0 cannot go on, and will say why
KINDS = (signal.SIGTERM, signal.SIGINT, FAILED)


class Stopped(Exception):
    """A signal asked this or another process of the job to stop; `number` is that signal, or FAILED."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code that tells of the signal: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.number


def flags(number: int) -> list[float]:
    """What one process was asked, in a form that can be summed over the processes."""
    return [float(number == kind) for kind in KINDS]


def heard(flags: Sequence[float]) -> int:
    """What any of the processes was asked, from the sum of their flags; 0 if nothing."""
    return next((kind for kind, count in zip(KINDS, flags, strict=True) if count), 0)


class Stop:
    """While it is entered, remembers the first signal to stop; `number` is 0 until one comes."""

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            os._exit(130)
        self.number = self.number or number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
