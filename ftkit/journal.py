"""Answers that are kept while a file is predicted, so that an interrupted prediction goes on where it stopped.

Beside an output lies its journal until the output is complete. The first line says what is answered, with what
and how; every further line holds the answers to one chunk of rows, in the order of the input. Each begins with
the SHA-256 of its JSON: a line that a killed process wrote in part, or that has changed on the disk, is not used,
nor is any after it. A resumed prediction reads the rows again, takes the answers that are kept, and writes the
whole output anew: so every format, compressed or not, comes out byte for byte as if nothing had happened.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from ftkit.data import writers
from ftkit.errors import UserError


@dataclass
class Journal:
    """The journal of one output, locked for this process.

    Attributes:
        kept: chunks that an interrupted prediction has answered; `read` gives them in order.
    """

    path: Path
    file: FileIO
    kept: int = 0
    added: int = 0
    earlier: Iterator[Any] = field(default_factory=lambda: iter(()))

    def read(self) -> Any:
        """The next of the kept chunks."""
        return next(self.earlier)

    def add(self, chunk: Any) -> None:
        """Keeps a chunk (JSON-like); it is on the disk when this returns.

        Raises:
            UserError: the disk is full, or cannot be written to.
        """
        _append(self.path, self.file, chunk)
        self.added += 1


@contextmanager
def keep(output: str, about: Mapping[str, Any], resume: bool) -> Iterator[Journal]:
    """The journal of an output; it goes when the block ends, and stays if the block fails after a chunk was kept.

    Args:
        about: what decides the answers (flat, JSON-like); a journal of anything else is not gone on from.
        resume: whether to go on from what is there; else it is begun anew.

    Raises:
        UserError: another process writes this output; or the journal is about something else.
    """
    about = json.loads(json.dumps(about))
    path = writers.beside(writers.target_of(output), "answers")
    with writers.disk_faults(output):
        file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed below)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise writers.taken(output) from None
        except OSError:  # a file system that knows no locks
            pass
        journal = Journal(path, file)
        end = _check(journal, about, output) if resume else 0
        with writers.disk_faults(str(path)):
            file.truncate(end)
        if not end:
            _append(path, file, about)
        journal.earlier = (chunk for chunk, _ in _whole_lines(path))
        next(journal.earlier)
        try:
            yield journal
        except BaseException:
            if not journal.kept and not journal.added:
                path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


def _check(journal: Journal, about: Mapping[str, Any], output: str) -> int:
    """Counts the kept chunks; the length of what can be used, 0 if there is nothing."""
    lines = _whole_lines(journal.path)
    then, end = next(lines, (None, 0))
    if then is None:
        return 0
    changed = [f"{key}: {then.get(key)} -> {value}" for key, value in about.items() if then.get(key) != value]
    if changed:
        raise UserError(
            f"{len(changed)} things differ from when this prediction began:\n  " + "\n  ".join(changed),
            f"Put them back, or predict {output} from the beginning, without --resume",
        )
    for _, end in lines:  # noqa: B007 (the last one is wanted)
        journal.kept += 1
    return end


def _whole_lines(path: Path) -> Iterator[tuple[Any, int]]:
    """What each line holds and where it ends, up to the first line that is not as it was written."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            digest, _, content = line.partition(b" ")
            if hashlib.sha256(content).hexdigest().encode() != digest:
                return
            end += len(line)
            yield json.loads(content), end


def _append(path: Path, file: FileIO, content: Any) -> None:
    line = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
    with writers.disk_faults(str(path)):
        left = memoryview(hashlib.sha256(line).hexdigest().encode() + b" " + line)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
