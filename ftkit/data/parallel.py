"""Line-aligned files: one file a language, in which lines of equal number are translations of each other.

They are named together, as `corpus/train` for corpus/train.en and corpus/train.de, as `corpus/train.{en,de}`, or one
after the other, as `train.en,train.de`. Every file may be gzipped. A row has the number of its line and a column for
each language, named as the file's ending. What a line is stands in `ftkit.data.files`: nothing but a line feed ends
it, so that rows are those that `wc -l` counts.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from ftkit import languages
from ftkit.data import files
from ftkit.errors import UserError

BRACES = re.compile(r"(?P<stem>.+)\.\{(?P<endings>[^{}]*)\}(?P<gz>\.gz)?")


def find(source: str) -> dict[str, str] | None:
    """The files that a source names together, language -> path; None if it is no name of line-aligned files.

    Raises:
        UserError: an ending is no language code, a language has two files, or there is only one language.
    """
    if source == "-" or source.startswith("hub:") or os.path.exists(source):
        return None
    if braces := BRACES.fullmatch(source):
        return _in_braces(source, braces["stem"], braces["endings"], braces["gz"] or "")
    if parts := _one_after_the_other(source):
        return _by_language(source, parts)
    found = group(_beside(source)).get(source)
    if found is None:
        return None
    if len(found) == 1:
        raise UserError(
            f"{source} is no file, and of line-aligned files of that name there is only {found[0]}",
            f"Put the other language beside it, such as {source}.de, or name one file",
        )
    return _by_language(source, found)


def group(paths: Sequence[str]) -> dict[str, list[str]]:
    """Those of the files whose names end in a language, by what stands before it; in alphabetical order."""
    groups: dict[str, list[str]] = {}
    for path in sorted(paths):
        if ending := files.language_ending(path):
            groups.setdefault(re.sub(rf"\.{re.escape(ending)}(\.gz)?\Z", "", path, flags=re.IGNORECASE), []).append(
                path
            )
    return groups


def named_together(paths: Sequence[str]) -> str:
    """One name for line-aligned files that differ in their language only, such as `corpus/train.{de,en}`.

    Raises:
        UserError: a language has two files.
    """
    stem = next(iter(group(paths)))
    gz = ".gz" if all(path.lower().endswith(".gz") for path in paths) else ""
    return f"{stem}.{{{','.join(_by_language(stem, paths))}}}{gz}"


def stem(source: str) -> str:
    """The source without the endings that name languages: `corpus/train` of `corpus/train.{en,de}`."""
    if os.path.exists(source):
        return source
    if braces := BRACES.fullmatch(source):
        return braces["stem"]
    parts = _one_after_the_other(source)
    return next(iter(group(parts[:1]))) if parts else source


def open_rows(
    source: str, paths: Mapping[str, str], options: files.ReadOptions
) -> tuple[files.Source, Iterator[files.Row]]:
    """The rows of line-aligned files as a stream, and what was found out about them; see `files.open_rows`.

    Args:
        source: what the user named.
        paths: language -> path, as `find` gives them.

    Raises:
        UserError: from here or from the iterator: a file is missing, empty, damaged or of an unknown encoding, or
            the files differ in their numbers of lines.
    """
    as_text = files.ReadOptions("text", options.encoding, options.delimiter, options.header, options.quoting)
    opened = {language: files.open_rows(path, as_text) for language, path in paths.items()}
    told: dict[str, list[str]] = {}
    for language, (found, _) in opened.items():
        for note in found.notes:
            told.setdefault(note, []).append(language)
    notes = [note if len(of) == len(paths) else f"{', '.join(of)}: {note}" for note, of in told.items()]
    aligned = f"line-aligned: {', '.join(Path(path).name for path in paths.values())}"
    rows = _aligned(paths, {language: rows for language, (_, rows) in opened.items()})
    return files.Source(source, "parallel", tuple(paths), (aligned, *notes)), rows


def sha256(paths: Mapping[str, str]) -> str:
    """Hexadecimal SHA-256 over each language's code and the hash of its file, whatever their order."""
    lines = (f"{language} {files.sha256(path)}\n" for language, path in sorted(paths.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _aligned(paths: Mapping[str, str], streams: Mapping[str, Iterator[files.Row]]) -> Iterator[files.Row]:
    number = 0
    for number, lines in enumerate(zip_longest(*streams.values()), start=1):
        if None in lines:
            rest = {language: line is not None for language, line in zip(streams, lines, strict=True)}
            counts = {
                language: number - 1 + longer + sum(1 for _ in streams[language]) for language, longer in rest.items()
            }
            told = ", ".join(f"{Path(path).name} {counts[language]:,}" for language, path in paths.items())
            raise UserError(
                f"line-aligned files must have equally many lines: {told}",
                "Find where they part: a line is missing or was split in one of them; or make them again",
            )
        yield files.Row(
            number, number, {language: line.cells["text"] for language, line in zip(streams, lines, strict=True)}
        )


def _one_after_the_other(source: str) -> list[str]:
    """The paths of `train.en,train.de`; none if it is no such name."""
    parts = [part.strip() for part in source.split(",")]
    return parts if len(parts) > 1 and all(map(files.language_ending, parts)) else []


def _in_braces(source: str, stem: str, endings: str, gz: str) -> dict[str, str]:
    paths = []
    for ending in [ending.strip() for ending in endings.split(",")]:
        if files.language_ending(f"{stem}.{ending}") is None:
            raise UserError(
                f"{ending!r} in {source} is no language code",
                "Write codes such as {en,de}; they are the files' endings",
            )
        path = f"{stem}.{ending}{gz}"
        packed = not gz and not os.path.exists(path) and os.path.exists(f"{path}.gz")
        paths.append(f"{path}.gz" if packed else path)
    if len(paths) < 2:
        raise UserError(f"{source} names one language only", f"Name two or more: {stem}.{{en,de}}")
    return _by_language(source, paths)


def _by_language(source: str, paths: Sequence[str]) -> dict[str, str]:
    """The paths by their endings, no two of which mean the same language."""
    found: dict[str, str] = {}
    for path in paths:
        ending = files.language_ending(path) or ""
        language = languages.find(ending)
        same = next((other for code, other in found.items() if languages.find(code) == language), None)
        if same is not None:
            raise UserError(
                f"{source} has two files in {language.name}: {Path(same).name} and {Path(path).name}",
                "Name the ones you mean, one after the other: train.en,train.de",
            )
        found[ending] = path
    return found


def _beside(source: str) -> list[str]:
    """The files whose names begin with that of the source, and a dot."""
    folder, name = os.path.split(source)
    if not name or not os.access(folder or ".", os.R_OK) or not os.path.isdir(folder or "."):
        return []
    names = [entry for entry in os.listdir(folder or ".") if entry.startswith(f"{name}.")]
    return [path for path in (os.path.join(folder, entry) for entry in names) if os.path.isfile(path)]
