"""From what the user named (a file, a folder, a hub data set) to rows in memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit import hub
from ftkit.config import DataSection
from ftkit.data import files
from ftkit.errors import UserError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


@dataclass(frozen=True)
class Table:
    """Rows as they were read, and what was found out while reading.

    Attributes:
        source: what the user named.
        columns: in the file's order.
        rows: every row of the source.
        notes: facts to print: encoding, separator, header.
        sha256: of the content.
    """

    source: str
    columns: tuple[str, ...]
    rows: list[files.Row]
    notes: tuple[str, ...]
    sha256: str


def read_options(data: DataSection) -> files.ReadOptions:
    return files.ReadOptions(data.format, data.encoding, data.delimiter, data.header, data.quoting)


def load(source: str, options: files.ReadOptions, split: str = "train", revision: str | None = None) -> Table:
    """All rows of one file or one split of a hub data set.

    Raises:
        UserError: the source is missing or broken, or holds no rows.
    """
    if source.startswith("hub:"):
        return _load_hub(source, split, revision)
    found, rows = files.open_rows(source, options)
    return Table(source, found.columns, list(rows), found.notes, files.sha256(source))


def _load_hub(source: str, split: str, revision: str | None) -> Table:
    name, config, named_split = hub.parse(source)
    columns, records = hub.dataset_rows(name, config, named_split or split, revision)
    digest = hashlib.sha256()
    rows = []
    for number, cells in enumerate(records, start=1):
        digest.update(json.dumps(cells, sort_keys=True, default=str).encode())
        rows.append(files.Row(number, 0, cells))
    if not rows:
        raise UserError(f"{source} holds no rows in its split {named_split or split}")
    full = source if named_split else f"{source}@{split}"
    return Table(full, tuple(columns), rows, (), digest.hexdigest())


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
        name, config, split = hub.parse(data.train)
        if split is None:
            found = _hub_splits(data.train, hub.dataset_splits(name, config, None))
    elif Path(data.train).is_dir():
        found = _folder_splits(Path(data.train))
    result: dict[str, str | float] = {}
    for split, value in given.items():
        if split in found and (value is None or split == "train"):
            result[split] = found[split]
        elif value is not None:
            result[split] = value
    result.setdefault("validation", 0.1)
    return result


def _folder_splits(folder: Path) -> dict[str, str]:
    listed = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found: dict[str, str] = {}
    for split, aliases in SPLIT_NAMES.items():
        matches = [p for p in listed if p.name.split(".")[0].lower() in aliases and "." in p.name]
        if len(matches) > 1:
            raise UserError(
                f"{folder} has several {split} files: {', '.join(p.name for p in matches)}",
                f"Name the one you mean: ftkit train {matches[0]}",
            )
        if matches:
            found[split] = str(matches[0])
    if "train" not in found:
        names = ", ".join(p.name for p in listed[:10]) or "no files"
        raise UserError(
            f"the folder {folder} has no file named train.*; it has {names}",
            "Rename one, or name the file itself: ftkit train FOLDER/FILE",
        )
    return found


def _hub_splits(source: str, names: list[str]) -> dict[str, str]:
    found = {}
    for split, aliases in SPLIT_NAMES.items():
        name = next((alias for alias in aliases if alias in names), None)
        if name:
            found[split] = f"{source}@{name}"
    if "train" not in found:
        raise UserError(f"{source} has the splits {', '.join(names)} and no train split", f"{source}@SPLIT names one")
    return found


def describe_cell(value: Any) -> str:
    """A cell as it can be shown in a message: short, on one line."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"
