"""What every task has: columns with a meaning, a record of what training fixed, answers, and scores.

A task knows its columns, its answers and its score. It never sees processes, the command line or the
disk: rows come in, arrays and JSON-like values go out. `Task` lists what the other rooms ask of it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ftkit.config import Recipe
from ftkit.data.features import Features
from ftkit.data.files import ReadOptions, Row
from ftkit.data.load import Table, describe_cell
from ftkit.errors import UserError

if TYPE_CHECKING:
    from ftkit.heads.base import Head, Rows

GUESS_ROWS = 2000  # rows looked at when columns are guessed from their content


@dataclass(frozen=True)
class Role:
    """A meaning that a column can have, and the names it usually bears."""

    name: str
    aliases: tuple[str, ...]


@dataclass
class Examples:
    """Rows of one source in the terms of a task.

    Attributes:
        source: what the user named.
        texts: one tuple of one or two texts a row.
        labels: one answer a row, as the task writes it: a label, a tuple of labels, the answers to a question,
            the references of a translation; None where there is none.
        ids: what the source calls each row, where it does; else empty.
        languages: into which one each row is to be translated; else empty. A row of the source is then one row
            here for each language.
        rows, lines: where each row stands in its source (1-based; line 0 where there are none).
        counts: what happened to rows on the way: reason -> number. `read` is the number of rows of
            the source; the rows that are here are `read` less those that a reason says were left out.
    """

    source: str
    texts: list[tuple[str, ...]] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
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
            [self.ids[i] for i in numbers] if self.ids else [],
            [self.languages[i] for i in numbers] if self.languages else [],
            self.counts | {"read": len(numbers)},
        )

    def place(self, position: int) -> str:
        """Where a row stands, for messages: file:line, or the row's number."""
        line = self.lines[position]
        return f"{self.source}:{line}" if line else f"{self.source}, row {self.rows[position]}"


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """What training fixed and what every later answer needs; each kind of answers adds its own.

    Attributes:
        task: the recipe's name.
        columns: role -> column of the training file.
        head: how the model answers: labels, spans or text.
        max_length, overlap: of the windows, in tokens.
        base_model: what was fine-tuned, and `revision`.
    """

    task: str
    columns: dict[str, str]
    head: str
    max_length: int = 0
    overlap: int = 0
    base_model: str = ""
    revision: str | None = None

    @property
    def chooses_threshold(self) -> bool:
        """Whether `Task.choose` settles a threshold on the validation rows, be it the one that stood before."""
        return False


class Task(Protocol):
    """What the other rooms ask of a task.

    `Record` is the kind of record it keeps, `Answers` its own kind of answers to some rows, and `Rivals` its
    baselines; the other rooms only hand them on.
    """

    name: str
    default_models: tuple[str, ...]
    record_type: type[Any]
    scores_texts: bool  # whether scoring needs the texts of the rows
    windows_overlap: bool  # whether the windows of a long text share tokens, or are its pieces

    # Reading.

    def recognises(self, recipe: Recipe, columns: Sequence[str], rows: Sequence[Row]) -> bool:
        """Whether a file's columns and rows speak for this task."""
        ...

    def columns(
        self,
        given: Mapping[str, str],
        columns: Sequence[str],
        rows: Sequence[Row],
        *,
        labelled: bool = True,
        record: Any = None,
        recipe: Recipe | None = None,
    ) -> dict[str, str]:
        """Which column of a file is what: role -> column.

        Args:
            given: role -> column, as the user says.
            labelled: whether the answers are needed.
            record: of a training, which has settled which roles there are.
            recipe: where nothing is settled yet; what else the user says.
        """
        ...

    def begin(self, record: Any, recipe: Recipe, rows: Sequence[Row], inferred: list[tuple[str, str]]) -> Any:
        """The record, with how answers are written in this file."""
        ...

    def examples(self, source: str, rows: Sequence[Row], record: Any) -> Examples:
        """Rows in the terms of this task; each is here or counted as left out."""
        ...

    def problem(self, row: Row, record: Any) -> str | None:
        """Why a row cannot be answered."""
        ...

    # Training.

    def settle(
        self,
        record: Any,
        recipe: Recipe,
        examples: Mapping[str, Examples],
        config: Any,
        tokenizer: Any,
        inferred: list[tuple[str, str]],
    ) -> Any:
        """The record, with all that the examples of the splits and the model decide."""
        ...

    def align(self, examples: Examples, record: Any) -> None:
        """Reads another file's answers in the terms that training fixed."""
        ...

    def default_epochs(self, rows: int, batch_size: int, record: Any) -> tuple[int, str]:
        """How many epochs suit so many training rows, and why."""
        ...

    def resolve(self, recipe: Recipe, record: Any) -> Recipe:
        """The recipe with this task's own open values filled in from the record."""
        ...

    def facts(self, record: Any) -> dict[str, Any]:
        """What the data report says of the task (JSON-like)."""
        ...

    def split_facts(self, examples: Examples, keys: Sequence[tuple[str, ...]], record: Any) -> dict[str, Any]:
        """What the data report says of the answers of a split (JSON-like); keys tell equal texts apart."""
        ...

    def groups(self, examples: Examples) -> list[Any]:
        """What has to stay on one side when validation rows are held out: one value a row, equal for such rows."""
        ...

    def strata(self, examples: Examples, share: float) -> list[Any]:
        """What every share of the rows should have alike: one value a row."""
        ...

    def head(self, record: Any, tokenizer: Any) -> Head:
        """The head that answers."""
        ...

    def unusable(self, examples: Examples, record: Any) -> dict[str, list[int]]:
        """Training rows that cannot be learned from: reason -> row positions."""
        ...

    def too_long(self, features: Features, record: Any) -> NDArray[np.bool_]:
        """(rows,) which training rows are too long to be learned from."""
        ...

    def inputs(self, examples: Examples, record: Any, training: bool = False) -> list[tuple[str, ...]]:
        """What the head encodes: one tuple of texts a row; for training with the answer, if the head writes."""
        ...

    def targets(
        self, examples: Examples, features: Features, head: Any, record: Any
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Targets and weights of the rows, as `heads.base.Rows` holds them."""
        ...

    def sections(self, record: Any) -> tuple[str, ...]:
        """The sections of a recipe, of labels, languages, questions and text, that it reads with such a record."""
        ...

    def metrics(self, record: Any) -> list[str]:
        """What an epoch can be chosen by, the default first; "loss" is the only one that is better when lower."""
        ...

    def quick_scores(
        self, outputs: NDArray[np.float32], rows: Rows, examples: Examples | None, head: Any, record: Any
    ) -> dict[str, float]:
        """Point scores of an epoch; `examples` are there if `scores_texts`."""
        ...

    # Answering.

    def answers(
        self, outputs: NDArray[np.float32], features: Features, examples: Examples, head: Any, record: Any
    ) -> Any:
        """Answers to the rows from the head's outputs."""
        ...

    def restrict(self, record: Any, targets: Sequence[str]) -> Any:
        """The record for answers of some kinds only (for translation: into some of the languages).

        Raises:
            UserError: the task has no such kinds, or not these.
        """
        ...

    def notices(self, answers: Any) -> dict[str, int]:
        """What should be known of the answers: what -> number."""
        ...

    def added(self, record: Any, all_scores: bool) -> list[str]:
        """The columns that prediction adds to a row, the answer itself first."""
        ...

    def cells(self, answers: Any, row: int, record: Any, all_scores: bool, flat: bool) -> dict[str, Any]:
        """The values of these columns for one row; without lists and objects for a `flat` format."""
        ...

    # Scoring.

    def choose(self, answers: Any, examples: Examples, recipe: Recipe, record: Any) -> Any:
        """The record, with the thresholds that suit these validation rows best."""
        ...

    def decide(self, answers: Any, record: Any) -> Any:
        """The answers under the thresholds of a record."""
        ...

    def train_rivals(self, examples: Mapping[str, Examples], record: Any, seed: int) -> Any:
        """The baselines that the run is compared with."""
        ...

    def save_rivals(self, rivals: Any, folder: Path) -> None:
        """Keeps the baselines in the run."""
        ...

    def load_rivals(self, folder: Path) -> Any:
        """The baselines of a run."""
        ...

    def score(self, answers: Any, examples: Examples, rivals: Any, record: Any, seed: int = 0) -> dict[str, Any]:
        """Scores with intervals, against the baselines, and the worst errors (JSON-like)."""
        ...

    def compare(self, first: Any, second: Any, examples: Examples, record: Any) -> dict[str, Any]:
        """How much higher the main metric of the first answers is than that of the second: metric -> difference."""
        ...

    def lines(self, answers: Any, examples: Examples, record: Any) -> list[dict[str, Any]]:
        """One JSON-like object a row for predictions.jsonl; the row's own texts are not in it."""
        ...

    def official(self, answers: Any, examples: Examples, record: Any) -> dict[str, Any]:
        """Answers in the form that the benchmarks' own scripts read: file name -> text, or JSON-like content."""
        ...

    def library_values(self, answers: Any, examples: Examples, record: Any) -> tuple[Any, Any]:
        """References and answers as the library `evaluate` takes them."""
        ...

    # Without a file, or without a run.

    def from_texts(self, rows: Sequence[tuple[str, ...]], record: Any) -> Examples:
        """Rows given as texts, in the order of the run's roles."""
        ...

    def answer(self, answers: Any, row: int, examples: Examples, record: Any) -> dict[str, Any]:
        """One answer with everything that there is to say of it (JSON-like)."""
        ...

    def foreign_record(self, table: Table, recipe: Recipe) -> Any:
        """What the answers of a file mean where no training has fixed it."""
        ...

    def foreign_answers(self, source: str, options: ReadOptions, examples: Examples, record: Any) -> Any:
        """Answers that another system has written to a file, to these rows and in their order."""
        ...


def text_of(value: Any) -> str | None:
    """A cell as text; None if there is no value. Numbers and truth values become their JSON form."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return None if value != value else repr(value)
    return None


def no_text(value: Any) -> bool:
    """Whether a cell holds something that is no text (a list, bytes, a date); None and NaN are no value at all."""
    return text_of(value) is None and value is not None and not isinstance(value, float)


def foreign_text(value: Any, place: str) -> str:
    """One text that another system wrote, perhaps in a list of its own; "" where there is none.

    Raises:
        UserError: several texts, or something else than a text.
    """
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    if no_text(value):
        raise UserError(f"{place} has a {type(value).__name__} where one text is expected", "Write each as a text")
    return text_of(value) or ""


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
    folded = {re.sub(r"[\s_-]+", "_", column.strip().casefold()): column for column in columns}
    for role_ in roles:
        taken = set(found.values())
        match = next((folded[a] for a in role_.aliases if a in folded and folded[a] not in taken), None)
        if role_.name not in found and match is not None:
            found[role_.name] = match
    return found


def other_columns(record: TaskRecord, columns: Mapping[str, str]) -> list[str]:
    """What to tell of columns that bear other names than in training."""
    return [
        f"{role} column: {column} (the run was trained on {record.columns[role]})"
        for role, column in columns.items()
        if record.columns.get(role, column) != column
    ]


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
