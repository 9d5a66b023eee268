"""Tokenized rows as flat arrays, cached on disk under the hash of what they were made from.

A row has one window or, where its text is longer than the model's window, several. The arrays are
memory-mapped, so several processes share one copy and random access costs a slice.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """Token ids of all windows of all rows.

    Attributes:
        tokens: (all tokens,) int32, the windows one after the other, special tokens included.
        starts: (windows + 1,) where each window begins in `tokens`.
        second: (windows,) position inside the window at which the second text of a pair begins;
            the window's length where there is none. Gives the token types.
        first_window: (rows + 1,) the windows of row r are first_window[r] to first_window[r + 1]; a row that cannot
            be read has none.
        text_tokens: (2,) tokens of the texts without special ones: all, and unknown ones.
        offsets: (all tokens, 2) int32, the characters of the second text that a token stands for, from and
            to; -1 for tokens that are not of it. (0, 2) for heads that need none.
        target_tokens, target_starts: (all target tokens,) and (windows + 1,), the tokens that a window is to be
            answered with; (0,) both for heads that do not write.
    """

    tokens: NDArray[np.int32]
    starts: Ints
    second: NDArray[np.int32]
    first_window: Ints
    text_tokens: Ints
    offsets: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 2), np.int32))
    target_tokens: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    target_starts: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def rows(self) -> int:
        return len(self.first_window) - 1

    @functools.cached_property
    def lengths(self) -> Ints:
        """(windows,) tokens of each window, and of its target if it has one."""
        own = np.diff(self.starts)
        return own + np.diff(self.target_starts) if len(self.target_starts) else own

    @functools.cached_property
    def windows_of_rows(self) -> Ints:
        """(rows,) how many windows each row has."""
        return np.diff(self.first_window)

    @functools.cached_property
    def row_lengths(self) -> Ints:
        """(rows,) tokens of each row, over all its windows."""
        return np.diff(np.concatenate([[0], np.cumsum(self.lengths)])[self.first_window])

    @functools.cached_property
    def row_of_window(self) -> Ints:
        """(windows,) the row each window belongs to."""
        return np.repeat(np.arange(self.rows), self.windows_of_rows)

    @property
    def unknown_share(self) -> float:
        """Share of the texts' tokens that the vocabulary does not know."""
        total, unknown = self.text_tokens
        return float(unknown / total) if total else 0.0

    def windows_of(self, rows: Ints) -> Ints:
        """The window numbers of the given rows, in their order."""
        first, last = self.first_window[rows], self.first_window[rows + 1]
        if (last - first == 1).all():
            return np.asarray(first)
        return np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])

    def save(self, folder: Path) -> None:
        """Writes the arrays and their hashes; the folder appears complete or not at all."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            hashes = {}
            for name in (each.name for each in fields(self)):
                path = stage / f"{name}.npy"
                np.save(path, getattr(self, name), allow_pickle=False)
                hashes[name] = _sha256(path)
            (stage / "sha256.json").write_text(json.dumps(hashes))
            os.replace(stage, folder)
        except OSError:
            shutil.rmtree(stage, ignore_errors=True)
            if not folder.is_dir():  # another process may have put the same content there first
                raise

    @classmethod
    def load(cls, folder: Path) -> Features | None:
        """The features of a folder, memory-mapped; None if they are absent or damaged."""
        try:
            hashes = json.loads((folder / "sha256.json").read_text())
            arrays = {}
            for name in (each.name for each in fields(cls)):
                path = folder / f"{name}.npy"
                if _sha256(path) != hashes[name]:
                    return None
                arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            return cls(**arrays)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where tokenized rows are kept: $FTKIT_CACHE, or ~/.cache/ftkit, or a temporary folder."""
    if given := os.environ.get("FTKIT_CACHE"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftkit"
    except RuntimeError:  # no home directory
        return Path(tempfile.gettempdir()) / "ftkit-cache"
