"""Files and recipes as chance writes them: read to the last row, or refused in words, and never anything else.

Each property holds what a reader of ftkit makes of a file against an independent reader: Python's csv and json.
A short run with the same examples every time belongs to the ordinary tests; `make soak` looks for new ones, for
FTKIT_FUZZ_SECONDS a property (default 600).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftkit import config
from ftkit.data import parallel
from ftkit.data.files import ReadOptions, Row, open_rows
from ftkit.errors import UserError

SECONDS = float(os.environ.get("FTKIT_FUZZ_SECONDS", "600"))
QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
SHORT = settings(max_examples=80, derandomize=True, **QUIET)
LONG = settings(max_examples=500, **QUIET)

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gb18030", "latin-1")
NAMED = ("utf-16-be", "gb18030", "latin-1")  # cannot be told from the bytes
TEXT = st.text(st.sampled_from('ab1 ,;\t|"\\\n\r\x85\u2028é汉\U0001f600'), max_size=8)
EDITS = st.lists(st.tuples(st.integers(0, 2**16), st.sampled_from(["", *',;\t|"\\{}[]:\n\ra1 \0-&*!#'])), max_size=4)


@dataclass(frozen=True)
class File:
    """A text and how it lies on the disk."""

    text: str
    encoding: str
    packed: bool
    cut: int | None

    @property
    def content(self) -> bytes:
        content = self.text.encode(self.encoding)
        content = gzip.compress(content, 1) if self.packed else content
        return content if self.cut is None else content[: self.cut % (len(content) + 1)]

    def rows(self, format: str, **options: Any) -> list[Row]:
        encoding = self.encoding if self.encoding in NAMED else None
        stdin = io.BytesIO(self.content)
        _, rows = open_rows("-", ReadOptions(format=format, encoding=encoding, **options), errors="keep", stdin=stdin)
        return list(rows)


@st.composite
def files(draw: st.DrawFn, texts: st.SearchStrategy[str], edits: bool = True) -> File:
    """Texts with a few characters changed, in every encoding that has them all; some packed, some cut off."""
    text = edited(draw(texts), draw(EDITS) if edits else [])
    encoding = draw(st.sampled_from([e for e in ENCODINGS if encodes(text, e)]))
    cut = draw(st.none() | st.none() | st.none() | st.integers(0, 2**16))
    return File(text, encoding, draw(st.booleans()), cut)


def edited(text: str, edits: list[tuple[int, str]]) -> str:
    for place, character in edits:
        at = place % (len(text) + 1)
        text = (
            text[:at] + character + text[at + 1 :] if place % 2 or not character else text[:at] + character + text[at:]
        )
    return text


def encodes(text: str, encoding: str) -> bool:
    try:
        return text.encode(encoding).decode(encoding) == text
    except UnicodeError:
        return False


def numbered(rows: list[Row]) -> bool:
    return [row.number for row in rows] == list(range(1, len(rows) + 1))


# CSV and TSV.


@dataclass(frozen=True)
class Table:
    file: File
    delimiter: str
    header: bool


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A table as an independent writer writes it, or somebody's hand afterwards."""
    delimiter = draw(st.sampled_from(",;\t|"))
    width = draw(st.integers(1, 3))
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1, max_size=6)

    def written(cells: list[list[str]]) -> str:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(cells)
        return out.getvalue()

    header = draw(st.booleans())
    first = [["text", "label", "id"][:width]] if header else []
    return Table(draw(files(lines.map(lambda cells: written([*first, *cells])))), delimiter, header)


def table_is_read_as_python_reads_it(table: Table) -> None:
    """Every row is the same, or reported because its width is another; or both readers refuse the file."""
    try:
        found: list[Row] | None = table.file.rows("csv", delimiter=table.delimiter, header=table.header, quoting=True)
    except UserError as error:
        assert error.problem
        found = None
    if table.file.cut is not None or (found is None and "\0" in table.file.text):  # is no text to ftkit
        return
    try:
        text = table.file.text.removeprefix("\ufeff")
        listed = list(csv.reader(io.StringIO(text, newline="").readlines(), delimiter=table.delimiter, strict=True))
    except csv.Error:
        assert found is None
        return
    filled = [cells for cells in listed if cells]
    if not filled:
        assert found is None
        return
    width = len(filled[0])
    if table.header:
        names = [name.strip() or place for place, name in enumerate(filled[0])]
        listed = listed[listed.index(filled[0]) + 1 :]
    rows = [cells or [""] for cells in listed] if width == 1 else [cells for cells in listed if cells]
    if not rows or (table.header and len(set(names)) < width):
        assert found is None
        return
    assert found is not None
    assert numbered(found)
    assert len(found) == len(rows)
    for row, cells in zip(found, rows, strict=True):
        assert (row.error is None) == (len(cells) == width)
        if row.error is None:
            assert list(row.cells.values()) == cells


# JSON Lines.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(st.sampled_from(["text", "label", "id"]) | TEXT, VALUES, max_size=3)


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def lines_are_read_as_python_reads_them(file: File) -> None:
    """Every line that is not blank is a row: the same one, or reported where it is none."""
    try:
        found: list[Row] | None = file.rows("jsonl")
    except UserError as error:
        assert error.problem
        found = None
    if file.cut is not None or (found is None and "\0" in file.text):  # is no text to ftkit
        return
    text = file.text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in text.split("\n") if line.strip(" \t")]
    if found is None:
        assert not lines
        return
    assert numbered(found)
    assert len(found) == len(lines)
    for row, line in zip(found, lines, strict=True):
        try:
            expected = json.loads(line)
        except (ValueError, RecursionError):
            expected = None
        if not isinstance(expected, dict):
            assert row.error
        if row.error is None:
            assert dumped(row.cells) == dumped(expected)
        else:  # what Python reads and ftkit does not: NaN, a key twice, half a character
            assert not isinstance(expected, dict) or strange(line)


def strange(line: str) -> bool:
    """Whether a line holds what the standard's grammar (RFC 8259) or I-JSON (RFC 7493) does not allow."""
    keys: list[bool] = []
    numbers: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        keys.append(len(dict(found)) < len(found))
        return dict(found)

    def number(digits: str) -> float:
        numbers.append(digits)
        return float(digits)

    value = json.loads(line, object_pairs_hook=pairs, parse_constant=number, parse_float=number)
    return (
        any(keys)
        or any(abs(float(n)) == float("inf") or n == "NaN" for n in numbers)
        or not encodes(dumped(value), "utf-8")
    )


# SQuAD's JSON.

ANSWERS = st.lists(st.fixed_dictionaries({"text": TEXT}, optional={"answer_start": VALUES}) | VALUES, max_size=2)
QUESTIONS = st.fixed_dictionaries({"question": TEXT}, optional={"id": VALUES, "answers": ANSWERS}) | VALUES
PARAGRAPHS = st.fixed_dictionaries({"context": TEXT, "qas": st.lists(QUESTIONS, max_size=3)}) | OBJECTS | VALUES
ARTICLES = st.fixed_dictionaries({"paragraphs": st.lists(PARAGRAPHS, max_size=3)}, optional={"title": VALUES}) | VALUES
DOCUMENTS = st.fixed_dictionaries({"data": st.lists(ARTICLES, max_size=3)}) | VALUES


def questions_of(document: Any) -> int | None:
    """How many rows a document has to give: one a question, and one for whatever stands in a list's place."""
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return None
    count = 0
    for article in data:
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            count += 1
            continue
        for paragraph in paragraphs:
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            count += len(questions) if isinstance(questions, list) else 1
    return count


def questions_are_counted_as_they_stand(file: File) -> None:
    """A row for each question, usable or reported; or the document is refused as a whole."""
    try:
        found: list[Row] | None = file.rows("squad")
    except UserError as error:
        assert error.problem
        found = None
    if file.cut is not None:
        return
    text = file.text.removeprefix("\ufeff")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        assert found is None
        return
    expected = questions_of(document)
    if found is None:
        assert not expected or strange(text)
        return
    assert numbered(found)
    assert len(found) == expected
    for row in found:
        if row.error is None:
            assert isinstance(row.cells["question"], str)
            assert isinstance(row.cells["context"], str)


# Line-aligned files.


@dataclass(frozen=True)
class Aligned:
    files: tuple[File, File]


@st.composite
def aligned(draw: st.DrawFn) -> Aligned:
    """Two files of about equally many lines."""
    count = draw(st.integers(1, 5))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = st.lists(TEXT, min_size=count, max_size=count).map(lambda cells: end.join(cells) + end)
    found = [draw(files(lines).filter(lambda file: file.encoding not in NAMED)) for _ in range(2)]
    return Aligned((found[0], found[1]))


def lines_of(text: str) -> list[str]:
    """The lines as `wc -l` and an editor show them; a carriage return ends one where there are no line feeds."""
    text = text.removeprefix("\ufeff")
    listed = text.split("\n") if "\n" in text else text.split("\r")
    return [line.removesuffix("\r") for line in (listed if listed[-1] else listed[:-1])]


def lines_stay_beside_each_other(example: Aligned) -> None:
    """Every line of one file is beside that of the other; or the files are refused."""
    with tempfile.TemporaryDirectory() as folder:
        for language, file in zip(("en", "de"), example.files, strict=True):
            (Path(folder) / f"x.{language}").write_bytes(file.content)
        source = f"{folder}/x.{{en,de}}"
        try:
            paths = parallel.find(source)
            assert paths is not None
            found: list[Row] | None = list(parallel.open_rows(source, paths, ReadOptions())[1])
        except UserError as error:
            assert error.problem
            found = None
    texts = [file.text for file in example.files]
    if any(file.cut is not None for file in example.files) or (found is None and "\0" in "".join(texts)):
        return
    expected = [lines_of(text) for text in texts]
    if len(expected[0]) != len(expected[1]) or not all(expected):
        assert found is None
        return
    assert found is not None
    assert numbered(found)
    assert [(row.cells["en"], row.cells["de"]) for row in found] == list(zip(*expected, strict=True))


# Recipes.

KEYS = sorted({part for name, _, _ in config.entries() for part in name.split(".")} | set(config.RENAMED))
SETTINGS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["auto", "a.csv", "global", "bf16"])
    | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.dictionaries(st.sampled_from(KEYS), SETTINGS, max_size=4)
RESOLVED = st.sampled_from([config.to_yaml(config.Recipe())])
WRITTEN = SECTIONS.map(lambda keys: config.yaml.safe_dump(keys, allow_unicode=True)) | RESOLVED | TEXT


def a_recipe_is_refused_or_comes_back_as_it_was(file: File) -> None:
    """What was read as a recipe and saved is the same recipe when it is read again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_bytes(file.content)
        try:
            recipe = config.resolve(config.read(path))
        except UserError as error:
            assert error.problem
            return
        path.write_text(config.to_yaml(recipe), encoding="utf-8")
        assert config.resolve(config.read(path)) == recipe


def a_value_is_refused_or_read(file: File) -> None:
    """`--set KEY=VALUE` takes any text for a value, or says why not."""
    for key in ("training.epochs", "data.columns", "model", "labels.separator", file.text):
        try:
            config.resolve([config.setting(f"{key}={file.text}")])
        except UserError as error:
            assert error.problem


PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "csv": (tables(), table_is_read_as_python_reads_it),
    "jsonl": (
        files(st.lists(OBJECTS.map(dumped) | TEXT, max_size=5).map("\n".join)),
        lines_are_read_as_python_reads_them,
    ),
    "parallel": (aligned(), lines_stay_beside_each_other),
    "squad": (files(DOCUMENTS.map(dumped)), questions_are_counted_as_they_stand),
    "recipe": (files(WRITTEN), a_recipe_is_refused_or_comes_back_as_it_was),
    "setting": (files(WRITTEN | SETTINGS.map(str)), a_value_is_refused_or_read),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_chance_finds_nothing_but_rows_and_refusals(name: str) -> None:
    examples, holds = PROPERTIES[name]
    SHORT(given(examples)(holds))()


@pytest.mark.soak
@pytest.mark.parametrize("name", PROPERTIES)
def test_chance_finds_nothing_in_a_long_time(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples, holds = PROPERTIES[name]
    tried = 0

    def counted(example: Any) -> None:
        nonlocal tried
        tried += 1
        holds(example)

    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        LONG(given(examples)(counted))()
    with capsys.disabled():
        print(f"\n{name}: {tried:,} examples in {SECONDS:.0f} s")
