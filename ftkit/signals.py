"""Being asked to stop: SIGTERM, and Ctrl-C once, let the running step end; Ctrl-C twice ends at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


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

    @property
    def code(self) -> int:
        """The exit code that tells of the signal: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
