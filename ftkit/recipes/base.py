"""What every task has: columns with a meaning, and a guess which columns of a file carry them.

A task knows its columns, its answers and its score. It never sees processes, the command line or the
disk: rows come in, arrays and JSON-like values go out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftkit.data.files import Row
from ftkit.data.load import describe_cell
from ftkit.errors import UserError

GUESS_ROWS = 2000  # rows looked at when columns are guessed from their content


@dataclass(frozen=True)
class Role:
    """A meaning that a column can have, and the names it usually bears."""

    name: str
    aliases: tuple[str, ...]
    required: bool = True


@dataclass
class Examples:
    """Rows of one source in the terms of a task.

    Attributes:
        source: what the user named.
        texts: one tuple of one or two texts a row.
        labels: one answer a row: a label, a tuple of labels (multi-label), or None.
        rows, lines: where each row stands in its source (1-based; line 0 where there are none).
        counts: what happened to rows on the way: reason -> number. `read` is the number of rows of
            the source; the rows that are here are `read` less those that a reason says were left out.
    """

    source: str
    texts: list[tuple[str, ...]] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, numbers: Sequence[int]) -> Examples:
        """The rows with these numbers (0-based positions in this object)."""
        return Examples(
            self.source,
            [self.texts[i] for i in numbers],
            [self.labels[i] for i in numbers],
            [self.rows[i] for i in numbers],
            [self.lines[i] for i in numbers],
            {"read": len(numbers)},
        )

    def place(self, position: int) -> str:
        """Where a row stands, for messages: file:line, or the row's number."""
        line = self.lines[position]
        return f"{self.source}:{line}" if line else f"{self.source}, row {self.rows[position]}"


def text_of(value: Any) -> str | None:
    """A cell as text; None if there is no value. Numbers and truth values become their JSON form."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return None if value != value else repr(value)
    return None


def named_columns(roles: Sequence[Role], given: Mapping[str, str], columns: Sequence[str], flag: str) -> dict[str, str]:
    """The columns that the user named, or that bear a usual name.

    Args:
        flag: how a column is named on the command line, with {0} for the role.

    Raises:
        UserError: an unknown role, or a named column that the file lacks.
    """
    known = {role.name for role in roles}
    for role in given:
        if role not in known:
            raise UserError(f"data.columns has {role!r}; this task knows {', '.join(sorted(known))}")
    for role, column in given.items():
        if column not in columns:
            close = difflib.get_close_matches(column, columns, n=1)
            hint = f"did you mean {close[0]}?" if close else f"{flag.format(role)} takes one of them"
            raise UserError(f"there is no column {column!r}; the columns are {', '.join(columns)}", hint)
    found = dict(given)
    folded = {column.strip().casefold(): column for column in columns}
    for role_ in roles:
        taken = set(found.values())
        match = next((folded[a] for a in role_.aliases if a in folded and folded[a] not in taken), None)
        if role_.name not in found and match is not None:
            found[role_.name] = match
    return found


def distinct_values(rows: Sequence[Row], column: str) -> dict[str, int]:
    """How often each value occurs in a column among the first rows."""
    counts: dict[str, int] = {}
    for row in rows[:GUESS_ROWS]:
        value = row.cells.get(column)
        key = value if isinstance(value, str) else repr(value)
        counts[key] = counts.get(key, 0) + 1
    return counts


def mean_length(rows: Sequence[Row], column: str) -> float:
    """Average number of characters of a column's texts among the first rows."""
    head = rows[:GUESS_ROWS]
    values = [value for row in head if isinstance(value := row.cells.get(column), str)]
    return sum(map(len, values)) / max(1, len(head))


def show_columns(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """The columns with an example each, for messages."""
    cells = rows[0].cells if rows else {}
    return ", ".join(f"{c} ({describe_cell(cells.get(c))})" for c in columns)
