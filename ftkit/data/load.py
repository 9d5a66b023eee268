"""From what the user named (a file, a folder, a hub data set) to rows in memory."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ftkit import hub, languages
from ftkit.config import DataSection
from ftkit.data import files, parallel
from ftkit.errors import UserError
from ftkit.progress import stage

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


NESTED = "translation"  # the column of objects {"en": ..., "de": ...} in many corpora
PEEK = 100  # rows looked at to find the languages of such objects


@dataclass(frozen=True)
class Table:
    """Rows as they were read, and what was found out while reading.

    Attributes:
        source: what the user named; of a hub data set with its split.
        columns: in the file's order.
        rows: every row of the source.
        notes: facts to print: encoding, separator, header.
        sha256: of the content.
        commit: of a hub data set.
    """

    source: str
    columns: tuple[str, ...]
    rows: list[files.Row]
    notes: tuple[str, ...]
    sha256: str
    commit: str | None = None

    @property
    def exact(self) -> str:
        """The source as it names this very content, even when the data set has moved on."""
        return self.source if self.commit is None else str(hub.parse(self.source)._replace(revision=self.commit))


def read_options(data: DataSection) -> files.ReadOptions:
    return files.ReadOptions(data.format, data.encoding, data.delimiter, data.header, data.quoting)


def load(source: str, options: files.ReadOptions, split: str = "train", quiet: bool = True) -> Table:
    """All rows of one file, of line-aligned files (see `parallel`), or of one split of a hub data set.

    Args:
        split: of a hub data set, unless the source names one.
        quiet: does not show that it reads.

    Raises:
        UserError: the source is missing or broken, or holds no rows.
    """
    if source.startswith("hub:"):
        return _load_hub(hub.parse(source), split)
    if files.is_pipe(source):
        told = replace(options, format=files.file_format(source, options.format))
        with spooled(source) as spool:
            try:
                return replace(load(spool, told), source=source)
            except UserError as error:
                raise UserError(error.problem.replace(spool, source), error.remedy) from None
    with stage(f"reading {source}", show=not quiet):
        found, stream = open_rows(source, options)
        rows = list(stream)
    columns = tuple(dict.fromkeys(itertools.chain(found.columns, *(row.cells for row in rows))))  # late keys of JSON
    paths = _line_aligned(source, options)
    digest = parallel.sha256(paths) if paths else files.sha256(source)
    return Table(source, columns, rows, found.notes, digest)


@contextlib.contextmanager
def spooled(source: str) -> Iterator[str]:
    """The name of a temporary file that holds what comes from a pipe, or from standard input ("-")."""
    with tempfile.NamedTemporaryFile(prefix="ftkit-input-") as spool:
        with contextlib.nullcontext(sys.stdin.buffer) if source == "-" else open(source, "rb") as stream:
            shutil.copyfileobj(stream, spool)
        spool.flush()
        yield spool.name


def open_rows(
    source: str, options: files.ReadOptions, *, errors: Literal["raise", "keep"] = "raise"
) -> tuple[files.Source, Iterator[files.Row]]:
    """The rows of a file or of line-aligned files as a stream, and what was found out; see `files.open_rows`.

    Where every cell of a column `translation` is an object of languages, its texts become columns of their own.
    """
    if paths := _line_aligned(source, options):
        return parallel.open_rows(source, paths, options)
    found, rows = files.open_rows(source, options, errors=errors)
    columns, rows = _flat(found.columns, rows)
    if columns == found.columns:
        return found, rows
    new = ", ".join(column for column in columns if column not in found.columns)
    return replace(found, columns=columns, notes=(*found.notes, f"the texts in {NESTED!r} are the columns {new}")), rows


def inputs(source: str, options: files.ReadOptions) -> list[Path]:
    """The files that a source consists of; none for standard input and hub data sets."""
    if source == "-" or source.startswith("hub:"):
        return []
    paths = _line_aligned(source, options)
    return [Path(path) for path in (paths.values() if paths else [source])]


def _line_aligned(source: str, options: files.ReadOptions) -> dict[str, str] | None:
    return parallel.find(source) if options.format in (None, "text") else None


def _flat(columns: tuple[str, ...], rows: Iterator[files.Row]) -> tuple[tuple[str, ...], Iterator[files.Row]]:
    """The columns and rows with the texts of `translation` as columns, if the first rows show that it holds such."""
    if NESTED not in columns:
        return columns, rows
    first = list(itertools.islice(rows, PEEK))
    rows = itertools.chain(first, rows)
    cells = [row.cells[NESTED] for row in first if row.cells.get(NESTED) is not None]
    if not cells or not all(isinstance(cell, dict) for cell in cells):
        return columns, rows
    found = tuple(dict.fromkeys(language for cell in cells for language in cell))
    if not found or not all(map(languages.is_code, found)) or set(found) & set(columns):
        return columns, rows
    at = columns.index(NESTED)
    return (*columns[:at], *found, *columns[at + 1 :]), map(_without_nesting, rows)


def _without_nesting(row: files.Row) -> files.Row:
    cells: dict[str, Any] = {}
    for column, cell in row.cells.items():
        if column != NESTED:
            cells[column] = cell
        elif isinstance(cell, dict):
            cells |= cell
    return replace(row, cells=cells)


def _load_hub(named: hub.DataSource, split: str) -> Table:
    source = named._replace(split=named.split or split)
    commit, columns, records = hub.dataset_rows(source)
    digest = hashlib.sha256()
    rows = []
    for number, cells in enumerate(records, start=1):
        digest.update(json.dumps(cells, sort_keys=True, default=str).encode())
        rows.append(files.Row(number, 0, cells))
    if not rows:
        raise UserError(f"{named} holds no rows in its split {source.split}")
    columns, flat = _flat(columns, iter(rows))
    notes = () if named.revision == commit else (f"at commit {commit}",)
    return Table(str(source), columns, list(flat), notes, digest.hexdigest(), commit)


def sources(data: DataSection) -> dict[str, str | float]:
    """Which source each split comes from; a folder or hub data set names its own splits.

    Returns:
        split name -> source, or for "validation" a share of the training rows.
    """
    if data.train is None:
        raise UserError("no data to train on", "ftkit train reviews.csv, or data: {train: ...} in the recipe")
    given: dict[str, str | float | None] = {
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
    }
    found: dict[str, str] = {}
    if data.train.startswith("hub:"):
        source = hub.parse(data.train)
        if source.split is None:
            found = _hub_splits(source, hub.dataset_splits(source))
    elif Path(data.train).is_dir():
        found = _folder_splits(
            Path(data.train), {split for split in ("validation", "test") if given[split] is not None}
        )
    result: dict[str, str | float] = {}
    for split, value in given.items():
        if split in found and (value is None or split == "train"):
            result[split] = found[split]
        elif value is not None:
            result[split] = value
    result.setdefault("validation", 0.1)
    return result


def _folder_splits(folder: Path, named: set[str]) -> dict[str, str]:
    """The splits that a folder holds, without those that the user has `named` elsewhere."""
    found: dict[str, str] = {}
    for split in SPLIT_NAMES:
        matches = [] if split in named else candidates(folder, split)
        if len(matches) > 1:
            raise UserError(
                f"{folder} has several {split} files: {', '.join(Path(match).name for match in matches)}",
                f"Name the one you mean: ftkit train {matches[0]}"
                if split == "train"
                else f"Name the one you mean: --{split} {matches[0]}",
            )
        if matches:
            found[split] = matches[0]
    if "train" not in found:
        names = ", ".join(path.name for path in _listed(folder)[:10]) or "no files"
        raise UserError(
            f"the folder {folder} has no file named train.*; it has {names}",
            "Rename one, or name the file itself: ftkit train FOLDER/FILE",
        )
    return found


def candidates(folder: Path, split: str) -> list[str]:
    """What a folder may hold a split in: files named train.*, dev.*, ..., and line-aligned files under one name.

    Of line-aligned files there may be more in the name (test_2016.en), unless some have it alone.
    """
    aliases = SPLIT_NAMES[split]
    listed = [str(path) for path in _listed(folder)]
    aligned = {stem: paths for stem, paths in parallel.group(listed).items() if len(paths) > 1}
    taken = {path for paths in aligned.values() for path in paths}
    single = [path for path in listed if path not in taken and _split_name(path) in aliases and "." in Path(path).name]
    exact = [stem for stem in aligned if Path(stem).name.lower() in aliases]
    longer = [stem for stem in aligned if re.split(r"[._-]", Path(stem).name.lower())[0] in aliases]
    return sorted([*single, *(parallel.named_together(aligned[stem]) for stem in exact or longer)])


def _split_name(path: str) -> str:
    return Path(path).name.split(".")[0].lower()


def _listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _hub_splits(source: hub.DataSource, names: list[str]) -> dict[str, str]:
    found = {}
    for split, aliases in SPLIT_NAMES.items():
        name = next((alias for alias in aliases if alias in names), None)
        if name:
            found[split] = str(source._replace(split=name))
    if "train" not in found:
        raise UserError(
            f"{source} has the splits {', '.join(names)} and no train split",
            f"{source._replace(split='SPLIT')} names one",
        )
    return found


def describe_cell(value: Any) -> str:
    """A cell as it can be shown in a message: short, on one line."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"
