"""How far long work has come: a Rich bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

LINE_EVERY = 10.0  # seconds between plain lines


@contextlib.contextmanager
def stage(what: str, show: bool = True) -> Iterator[None]:
    """Shows what goes on whose end nobody knows: a spinner in a terminal, elsewhere a line if it takes longer.

    Args:
        what: the work, e.g. "tokenizing 1,000 rows".
        show: as of `Progress`.
    """
    if not show:
        yield
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner, on = Spinner("line", Text(what)), Console(stderr=True)
        with Live(spinner, console=on, transient=True, redirect_stdout=False, redirect_stderr=False):
            on.show_cursor(True)  # else a signal that ends the process would leave a terminal without one
            yield
    else:
        later = threading.Timer(LINE_EVERY, lambda: print(f"{what} ...", file=sys.stderr, flush=True))
        later.daemon = True
        later.start()
        try:
            yield
        finally:
            later.cancel()


class Progress:
    """Shows steps done, rate and time left on standard error.

    Args:
        what: the work, in a word or two.
        total: steps in all; None if that is not known.
        unit: of the rate, e.g. "rows".
        show: whether to show anything at all (`--quiet`, and every process but the first, do not).
    """

    def __init__(self, what: str, total: int | None, unit: str = "rows", show: bool = True) -> None:
        self.what, self.total, self.unit, self.show = what, total, unit, show
        self.done = self.earlier = 0
        self.detail = ""
        self.start = self.last_line = time.monotonic()
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Progress:
        if self.show and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = [
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f}%" if self.total else "{task.completed:,}"),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(compact=True),
            ]
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.what, total=self.total, detail="")
            self.bar.start()
        return self

    def go_on_from(self, steps: int) -> None:
        """Counts steps that were done before this began: they say nothing of its rate."""
        self.done = self.earlier = steps

    def advance(self, steps: int, detail: str = "") -> None:
        """Counts steps; `detail` is shown beside the rate."""
        self.done += steps
        self.detail = detail or self.detail
        if not self.show:
            return
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, detail=f"{self._rate()} {self.detail}")
        elif time.monotonic() - self.last_line >= LINE_EVERY:
            self.last_line = time.monotonic()
            self.line(self._line())

    def line(self, text: str) -> None:
        """A lasting line above the bar."""
        if not self.show:
            return
        if self.bar is not None:
            self.bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _rate(self) -> str:
        return f"{(self.done - self.earlier) / max(1e-9, time.monotonic() - self.start):,.0f} {self.unit}/s"

    def _line(self) -> str:
        elapsed = time.monotonic() - self.start
        if not self.total:
            return f"{self.what}: {self.done:,} {self.unit}, {self._rate()}"
        left = elapsed / max(1, self.done - self.earlier) * (self.total - self.done)
        share = self.done / self.total
        return f"{self.what}: {share:.0%}, {self._rate()}, {left:,.0f} s left {self.detail}".rstrip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
