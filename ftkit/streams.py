"""Standard streams that are closed, or whose reader leaves before the work is done."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


class Unheard(io.FileIO):
    """A stream to which writing goes on when its reader has left (`2>&1 | tee log`, a closed terminal)."""

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        with contextlib.suppress(OSError):
            while left and (written := super().write(left)):
                left = left[written:]
        return len(data)


def prepare() -> None:
    """Makes standard streams that can be used until the process ends.

    Those that were closed (`>&-`, some schedulers; Python has None for them) lead nowhere. Messages never end the work:
    when nobody reads standard error any more, they go nowhere too.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (until the process ends)
    if sys.stderr is sys.__stderr__:
        given: Any = sys.stderr
        unheard: Any = Unheard(given.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(unheard, given.encoding, given.errors, line_buffering=True)
