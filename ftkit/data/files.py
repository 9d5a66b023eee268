"""Rows from files, strictly and as a stream.

Every format goes the same way: blocks of bytes -> text -> records -> rows. The first MiB is looked at before
the first row is given out, to find the encoding, the separator, the header and the columns; what was found
is told (`Source`), so that nobody has to guess what the reader guessed. Nothing is converted, repaired or
skipped in silence: a row that cannot be used stops the reading, or is given out with its fault, and a file
whose rows can no longer be told apart (an open quote, a wrong encoding, a cut-off gzip stream) always stops
it.
"""

from __future__ import annotations

import codecs
import difflib
import hashlib
import io
import itertools
import json
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from ftkit import languages
from ftkit.data import squad
from ftkit.errors import UserError

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "text", "label-first", "squad")

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".txt": "text",
    ".text": "text",
    ".label": "label-first",
    ".ft": "label-first",
}

# The code of a language with its script and region, as in news.de, news.zh-Hant and news.pt_BR.
LANGUAGE_ENDING = re.compile(r"[A-Za-z]{2,3}([-_][A-Z][a-z]{3})?([-_]([A-Z]{2}|\d{3}))?")
NO_LANGUAGES = {"bak"}  # of a backup, not Bashkir

HEAD = 1 << 20  # bytes looked at before the first row is given out
BLOCK = 1 << 18  # bytes read, or decompressed, at a time
LIMIT = 10_000_000  # characters of one line or one quoted cell
BATCH = 1_000  # rows of a Parquet or Arrow file turned into Python values at a time

BYTE_ORDER_MARKS = {  # UTF-32 first: its little-endian mark begins with the one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

NUMBER = re.compile(r"\s*[-+]?[\d.,]*\d[\d.,]*([eE][-+]?\d+)?\s*%?\s*")
SENTENCE_END = re.compile(r"([。！!]|\w{4}\.)\s*$")  # not the full stop of "No." or "Tel."
LABEL = "__label__"  # fastText's prefix
BINARY = "this is a binary file, or UTF-16 without a byte-order mark"  # what NUL characters mean

REMEDIES = {  # for one row that cannot be used
    "csv": "Put cells that hold the separator or a line break between double quotes, and double the quotes "
    'inside; if another character separates the cells, name it: --set data.delimiter=";"',
    "tsv": "Take the tab out of the cell; if double quotes enclose cells, add --set data.quoting=true",
    "jsonl": "Mend or delete the line; if the whole file is one JSON document, add --format json",
    "json": 'Every row must be an object, as in [{"text": "...", "label": "..."}]',
    "squad": 'SQuAD is written as {"data": [{"title": "...", "paragraphs": [{"context": "...", "qas": [{"id": "...", '
    '"question": "...", "answers": [{"text": "...", "answer_start": 0}]}]}]}]}; if this is no such file, add '
    "--format json",
    "label-first": f"Every line must be LABEL, a blank and the text; in fastText files every label begins with {LABEL}",
}

UNUSED_OPTIONS = {
    "csv": (),
    "tsv": (),
    "parquet": ("encoding", "delimiter", "header", "quoting"),
    "arrow": ("encoding", "delimiter", "header", "quoting"),
} | dict.fromkeys(("json", "squad", "jsonl", "text", "label-first"), ("delimiter", "header", "quoting"))

# One row on its way: the line on which it begins, its cells, and why it cannot be used.
Parsed = tuple[int, dict[str, Any], str | None]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user says about a file; None means: find out."""

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    quoting: bool | None = None


@dataclass(slots=True)
class Row:
    """One row of a file.

    Attributes:
        number: of the data row, from 1; headers and skipped blank lines do not count.
        line: physical line on which the row begins, from 1; 0 for formats without lines.
        cells: column -> value. CSV, TSV and text hold str as it stands ("NA", "007", "1e3"); JSON, Parquet
            and Arrow hold their own types. A key that a JSON row lacks is absent here.
        error: why this row cannot be used; only with errors="keep".
    """

    number: int
    line: int
    cells: dict[str, Any]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What was found out about a file before its first row is used.

    Attributes:
        path: "-" for standard input.
        format: one of FORMATS.
        columns: in the file's order; for JSON Lines the union of the keys in the first MiB.
        notes: facts to show to the user, each with the option that overrules it.
    """

    path: str
    format: str
    columns: tuple[str, ...]
    notes: tuple[str, ...]


def open_rows(
    path: str | Path,
    options: ReadOptions = ReadOptions(),
    *,
    errors: Literal["raise", "keep"] = "raise",
    stdin: BinaryIO | None = None,
) -> tuple[Source, Iterator[Row]]:
    """The rows of a file as a stream in constant memory, and what was found out about the file.

    A JSON document (also SQuAD's) is the exception: it is read whole. Standard input is read as far as the first
    MiB before this returns. A blank line is a row (of one empty cell) in text, and in CSV and TSV of one column;
    elsewhere it is no row.

    Args:
        path: a file, also gzipped; "-" for standard input.
        errors: whether a fault of one row (a ragged row, a bad line of JSON) is raised, or kept in
            `Row.error` beside the cells that could be read. Faults of the file are always raised.
        stdin: stands in for standard input.

    Raises:
        UserError: from here or from the iterator: the file is missing, empty, damaged, of an unknown format
            or encoding, or a row cannot be used.
    """
    name = str(path)
    place = "standard input" if name == "-" else name
    if name != "-" and not os.path.exists(name):
        raise _missing(Path(name))
    format = file_format(name, options.format)
    notes: list[str] = []
    blocks, on_disk = _unpack(name, place, _read(name, place, stdin), notes)
    head = _head(blocks)
    if not head[0]:
        raise UserError(f"{place} is empty", "Name a file that holds at least one row")
    blocks = itertools.chain(head, blocks)
    if format in ("parquet", "arrow"):
        columns, parsed = _arrow_rows(place, format, on_disk, blocks)
    else:
        encoding = _encoding(place, head[0], options.encoding, notes)
        lines = [line for _, line in _lines(place, _decode(place, head, encoding))]  # the last one may be cut
        pieces = _decode(place, blocks, encoding)
        if format == "json" and options.format is None and _are_json_lines(lines):
            notes.append("JSON Lines, although the name ends in .json")
            format = "jsonl"
        if format in ("json", "squad"):
            format, columns, parsed = _json_rows(place, "".join(pieces), options.format, notes)
        else:
            columns, parsed = _text_rows(place, format, lines, pieces, options, notes)
    for option in UNUSED_OPTIONS[format]:
        if getattr(options, option) is not None:
            notes.append(f"{option} is not used: {format} has none")
    first = next(parsed, None)
    if first is None:
        raise _no_rows(place, format, columns)
    rows = _rows(place, format, errors, itertools.chain([first], parsed))
    return Source(name, format, columns, tuple(notes)), rows


def file_format(name: str, asked: str | None, option: str = "--format") -> str:
    """The format that was asked for, or that the suffix (without .gz) stands for; of a language it is text.

    Raises:
        UserError: the format or the suffix is unknown, or nothing tells the format of standard input.
    """
    if asked is not None:
        if asked not in FORMATS:
            close = difflib.get_close_matches(asked, FORMATS, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UserError(f"{asked} is no known format{hint}", f"{option} is one of {', '.join(FORMATS)}")
        return asked
    name_it = f"Name the format: {option} {'|'.join(FORMATS)}"
    if name == "-":
        raise UserError("standard input and output have no suffix that tells the format", name_it)
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if language_ending(name):
        return "text"
    found = f"ends in {suffix}" if suffix else "has no suffix"
    known = f"{', '.join(SUFFIXES)} and codes of languages such as .en for text, each also with .gz"
    raise UserError(f"{name} {found}; known are {known}", name_it)


def language_ending(name: str) -> str | None:
    """The code of the language that a file's name (without .gz) ends in, such as "de" of news.de, as it is written."""
    ending = Path(name[:-3] if name.lower().endswith(".gz") else name).suffix[1:]
    known = LANGUAGE_ENDING.fullmatch(ending) and ending.lower() not in NO_LANGUAGES and languages.is_code(ending)
    return ending if known else None


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes as they lie on disk (a gzipped file is not unpacked)."""
    with _open(str(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rows(place: str, format: str, errors: str, parsed: Iterable[Parsed]) -> Iterator[Row]:
    for number, (line, cells, fault) in enumerate(parsed, start=1):
        if fault and errors == "raise":
            where = f"{place}:{line}" if line else f"{place}, row {number}"
            raise UserError(f"{where}: {fault}", REMEDIES[format])
        yield Row(number, line, cells, fault)


def _no_rows(place: str, format: str, columns: tuple[str, ...]) -> UserError:
    if format in ("csv", "tsv"):
        return UserError(
            f"{place} has a header ({', '.join(columns)}) but no rows",
            "If that row is data and no header, add --set data.header=false",
        )
    return UserError(f"{place} holds no rows", "Name a file that holds at least one row")


# ---------------------------------------------------------------------------------------------------------
# Bytes. In every stream of blocks an empty block marks the end.


def _read(name: str, place: str, stdin: BinaryIO | None) -> Iterator[bytes]:
    file = (stdin or sys.stdin.buffer) if name == "-" else _open(name)
    try:
        while block := file.read(BLOCK):
            yield block
        yield b""
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror}") from error
    finally:
        if name != "-":
            file.close()


def _open(name: str) -> io.BufferedReader:
    try:
        return open(name, "rb")
    except FileNotFoundError as error:
        raise _missing(Path(name)) from error
    except IsADirectoryError as error:
        inside = [entry for entry in _listed(name) if os.path.isfile(os.path.join(name, entry))][:5]
        raise UserError(
            f"{name} is a folder, not a file",
            f"Name one file in it: {', '.join(inside)}" if inside else "It holds no files",
        ) from error
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}", f"Check it with: ls -l {name}") from error


def is_pipe(name: str | Path) -> bool:
    """Whether a name is that of a pipe or a device, from or into which bytes pass but once."""
    return os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name)


def _missing(path: Path) -> UserError:
    folder = path.parent
    check = "Check the path" if path.is_absolute() else f"Check the path, which counts from {Path.cwd()}"
    if not folder.is_dir():
        return UserError(f"{path} does not exist, nor does the folder {folder}", check)
    close = difflib.get_close_matches(path.name, _listed(folder), 3)
    names = " or ".join(str(folder / name) for name in close)
    return UserError(f"{path} does not exist", f"Did you mean {names}?" if close else check)


def _listed(folder: str | Path) -> list[str]:
    return sorted(os.listdir(folder)) if os.access(folder, os.R_OK) else []


def _unpack(name: str, place: str, blocks: Iterator[bytes], notes: list[str]) -> tuple[Iterator[bytes], Path | None]:
    """The blocks without gzip, and the path of the file if it holds just them and can be sought."""
    start = next(blocks)
    blocks = itertools.chain([start], blocks)
    if start.startswith(b"\x1f\x8b"):
        notes.append("compressed with gzip")
        return _gunzip(place, blocks), None
    if start and name.lower().endswith(".gz"):
        raise UserError(
            f"{name} does not begin like a gzip file: it is damaged, or not compressed",
            "If it is not compressed, rename it without .gz",
        )
    return blocks, Path(name) if name != "-" and os.path.isfile(name) else None


def _gunzip(place: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of one or more gzip members, whose checksums zlib verifies."""
    inflate = zlib.decompressobj(wbits=31)
    try:
        for block in blocks:
            while block:
                if inflate.eof:
                    block = block.lstrip(b"\0")  # padding is allowed after a member
                    inflate = zlib.decompressobj(wbits=31) if block else inflate
                    continue
                if content := inflate.decompress(block, BLOCK):
                    yield content
                block = inflate.unconsumed_tail or inflate.unused_data
    except zlib.error as error:
        raise UserError(f"{place} is damaged: {error}", "Make or download it again") from error
    if not inflate.eof:
        raise UserError(f"{place} is cut off: its gzip stream has no end", "Make or download it again")
    yield b""


def _head(blocks: Iterator[bytes]) -> list[bytes]:
    """The first MiB as one block, and the empty block if that was all."""
    head, size = [], 0
    for block in blocks:
        head.append(block)
        size += len(block)
        if not block or size >= HEAD:
            break
    return [b"".join(head)] + ([] if head[-1] else [b""])


# ---------------------------------------------------------------------------------------------------------
# Text. Lines end at \n, \r\n or \r, and nowhere else: U+0085 and U+2028 are text. (In the format of that name
# \r alone is text too where the file has \n, so that rows are the lines that everyone else counts.)


def _encoding(place: str, head: bytes, asked: str | None, notes: list[str]) -> str:
    """The encoding to use: the one asked for, or the one of the byte-order mark, or UTF-8."""
    mark = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if asked is None:
        if mark:
            notes.append(f"encoding {mark} with BOM")
        return mark or "utf-8"
    try:
        b" ".decode(asked)  # unlike codecs.lookup, refuses codecs that do not give text
    except UnicodeError:
        pass  # a single byte is no text in UTF-16
    except (LookupError, ValueError) as error:
        raise UserError(
            f"{asked!r} is no known encoding", "Known are, for example: utf-8, gb18030, big5, latin-1, cp1252"
        ) from error
    wanted = codecs.lookup(asked).name.removesuffix("-sig")
    if mark and not mark.startswith(wanted):
        raise UserError(
            f"{place} begins with the byte-order mark of {mark}, but the encoding {asked} was asked for",
            f"Leave out --encoding {asked}",
        )
    if wanted in ("utf-16", "utf-32") and not mark:
        raise UserError(
            f"{place} has no byte-order mark that tells which {wanted} it is",
            f"Name it: --encoding {wanted}-le or --encoding {wanted}-be",
        )
    notes.append(f"encoding {asked}, as asked")
    return mark or wanted


def _decode(place: str, blocks: Iterable[bytes], encoding: str) -> Iterator[str]:
    """The text in pieces, without byte-order mark; no piece ends between \\r and \\n."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, read, held, begun = 1, 0, "", False
    for block in blocks:
        read += len(block)
        try:
            text = held + decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = held + error.object[: error.start].decode(encoding, "replace")
            line += _line_ends(before)
            offset = read - len(error.object) + error.start
            found = f"byte 0x{error.object[error.start]:02X} at offset {offset:,}"
            raise UserError(
                f"{place}:{line}: {found} is not {encoding} ({error.reason})",
                _encoding_advice(error.object, error.start, encoding),
            ) from error
        held = "\r" if block and text.endswith("\r") else ""
        text = text.removesuffix(held)
        if "\0" in text:
            line += _line_ends(text[: text.index("\0")])
            raise UserError(
                f"{place}:{line}: a NUL character: {BINARY}",
                "If it is UTF-16, add --encoding utf-16-le or utf-16-be; a spreadsheet: save it as CSV",
            )
        line += _line_ends(text)
        if text and not begun:
            text, begun = text.removeprefix("\ufeff"), True
        if text:
            yield text


def _line_ends(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _lines(place: str, pieces: Iterable[str]) -> Iterator[tuple[int, str]]:
    """(line number from 1, line with its end)"""
    number, rest = 0, ""
    for piece in pieces:
        lines = io.StringIO(rest + piece, newline="").readlines()
        rest = "" if lines[-1].endswith(("\n", "\r")) else lines.pop()
        if len(rest) > LIMIT:
            raise UserError(
                f"{place}:{number + len(lines) + 1}: the line is longer than {LIMIT:,} characters",
                "Is this a text file of the format that its name says? If not, add --format",
            )
        for line in lines:
            number += 1
            yield number, line
    if rest:
        yield number + 1, rest


def _encoding_advice(sample: bytes, start: int, encoding: str) -> str:
    """What to do about bytes that are not `encoding`, the first of them at `start` of the sample."""
    if b"\0" in sample and not encoding.startswith(("utf-16", "utf-32")):
        return f"It holds NUL bytes: {BINARY} (then add --encoding utf-16-le or utf-16-be)"
    repaired = sample.decode(encoding, "replace")
    broken = repaired.count("\ufffd")
    sound = sum(character > "\x7f" for character in repaired) - broken
    if encoding.startswith("utf") and (sound > 3 * broken or not encoding.startswith("utf-8")):
        return f"The rest is {encoding}: mend the damaged characters, or make the file again"
    begin = max(sample.rfind(b"\n", 0, start), sample.rfind(b"\r", 0, start)) + 1
    likely = _likely_encoding(sample[begin : begin + 100_000])
    if codecs.lookup(likely).name == encoding:
        return "Mend the damaged characters, or name another encoding"
    before = sample[begin:start].decode(likely, "replace")[-20:]
    after = re.split(r"[\r\n]", sample[start : start + 60].decode(likely, "replace"))[0][:20]
    return f"It is most likely {likely}, in which the place reads {before + after!r}: add --encoding {likely}"


# Encodings of two bytes a letter, and the codes of the letters in everyday use: the standards set them
# apart from the rare ones. Korean comes first, because its letters lie where GB 18030 has everyday ones too.
EVERYDAY = {
    "euc_kr": rb"[\xb0-\xc8][\xa1-\xfe]",
    "gb18030": rb"[\xb0-\xd7][\xa1-\xfe]",
    "big5": rb"[\xa4-\xc6].",
    "shift_jis": rb"[\x82\x83\x88-\x97].",  # the first two are kana
}


def _likely_encoding(sample: bytes) -> str:
    """The encoding in which most letters beyond ASCII are everyday ones, or else one of a byte a letter."""

    def everyday(encoding: str) -> float:
        letters = re.findall(r"[^\x00-\x7f\W]|\ufffd", sample.decode(encoding, "replace"))
        in_use = [re.fullmatch(EVERYDAY[encoding], c.encode(encoding, "replace"), re.DOTALL) for c in letters]
        return sum(map(bool, in_use)) / max(1, len(letters))

    best = max(EVERYDAY, key=everyday)
    if everyday(best) > 0.6:
        return best
    runs = re.findall(rb"[\x80-\xff]+", sample)
    if sum(map(len, runs)) > 2.5 * len(runs):
        return "cp1251"  # whole words beyond ASCII: Cyrillic
    return "cp1252" if re.search(rb"[\x80-\x9f]", sample) else "latin-1"


def _text_rows(
    place: str, format: str, head: list[str], pieces: Iterator[str], options: ReadOptions, notes: list[str]
) -> tuple[tuple[str, ...], Iterator[Parsed]]:
    """The columns and rows of a format of lines; `head` holds the first ones, the last one perhaps cut."""
    lines = _lines(place, pieces)
    if format == "jsonl":
        return _json_keys(head), _json_lines(lines)
    if format == "label-first":
        first = next((line for line in head if line.strip()), "")
        return ("label", "text"), _label_first(lines, fasttext=first.startswith(LABEL))
    if format == "text":
        if head and head[0].startswith(LABEL):
            notes.append(f"the first line begins with {LABEL}: if that is a label, add --format label-first")
        if any(line.endswith("\n") for line in head):
            lines = _joined_at_returns(lines)
        return ("text",), ((number, {"text": re.sub(r"\r?\n\Z|\r\Z", "", line)}, None) for number, line in lines)
    return _delimited(place, format, head, lines, options, notes)


def _joined_at_returns(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines as `wc -l` counts them: in a file that has line feeds, a carriage return alone ends none."""
    number, held = 1, ""
    for _, line in lines:
        held += line
        if line.endswith("\n"):
            yield number, held
            number, held = number + 1, ""
    if held:
        yield number, held


def _label_first(lines: Iterable[tuple[int, str]], fasttext: bool) -> Iterator[Parsed]:
    """Rows of `LABEL text`, or of fastText's `__label__a __label__b text`; several labels are a list."""
    for number, line in lines:
        rest = line.rstrip("\r\n")
        if not rest.strip(" \t"):
            continue
        if rest[0] in " \t":
            yield number, {"text": rest}, "the line begins with a blank instead of a label"
        elif rest.startswith(LABEL) != fasttext:
            fault = f"it begins {'without' if fasttext else 'with'} {LABEL}, unlike the first line"
            yield number, {"text": rest}, fault
        else:
            labels: list[str] = []
            while not labels or (fasttext and rest.startswith(LABEL)):
                label, *text = re.split(r"[ \t]+", rest, maxsplit=1)
                labels.append(label.removeprefix(LABEL))
                rest = "".join(text)
            yield number, {"label": labels[0] if len(labels) == 1 else labels, "text": rest}, None


# ---------------------------------------------------------------------------------------------------------
# CSV and TSV (RFC 4180).


def _delimited(
    place: str,
    format: str,
    head: list[str],
    lines: Iterator[tuple[int, str]],
    options: ReadOptions,
    notes: list[str],
) -> tuple[tuple[str, ...], Iterator[Parsed]]:
    quoting = options.quoting if options.quoting is not None else format == "csv"
    separator = _separator(format, head, quoting, options.delimiter)
    records = _records(place, lines, separator, quoting)
    blank: list[tuple[int, list[str]]] = []
    for line, first in records:
        if first:
            break
        blank.append((line, first))
    else:
        raise UserError(f"{place} holds blank lines only", "Name a file that holds at least one row")
    sample = _sample(head, separator, quoting)[len(blank) + 1 :]
    sign = {None: _looks_like_data(first, sample), False: "as asked", True: None}[options.header]
    if sign:
        notes.append(
            f"no header ({sign}), so the columns are numbered; if the first row is one, add --set data.header=true"
        )
        columns = tuple(f"column{n}" for n in range(1, len(first) + 1))
        records = itertools.chain(blank, [(line, first)], records)
    else:
        columns = _names(place, line, first, notes)
    word = SEPARATORS.get(separator, separator)
    if separator != {"csv": ",", "tsv": "\t"}[format]:
        notes.append(f"separator {word}")
    if len(columns) == 1:
        notes.append(f"one column: the first row holds no {word}")
    quoted = 0 if quoting else sum(c[:1] == c[-1:] == '"' != c for cells in [first, *sample] for c in cells)
    if quoted:
        notes.append(
            f"{quoted:,} cells of the first MiB begin and end with a double quote: if that is quoting, add "
            "--set data.quoting=true"
        )
    return columns, _checked(records, columns, word, "the first row" if sign else "the header")


def _checked(
    records: Iterable[tuple[int, list[str]]], columns: tuple[str, ...], word: str, owner: str
) -> Iterator[Parsed]:
    """Rows of exactly `columns`; a blank line is an empty cell where there is one column, else no row.

    Args:
        word: the separator's name.
        owner: of the number of columns: the header or the first row.
    """
    width = len(columns)
    for line, cells in records:
        if not cells:
            if width > 1:
                continue
            cells = [""]
        fault = None
        if len(cells) != width:
            cause = f"an unquoted {word}?" if len(cells) > width else f"a missing {word}, or a line break?"
            fault = f"{len(cells)} field{'s' * (len(cells) > 1)}, but {owner} has {width}: {cause}"
        yield line, dict(zip(columns, cells, strict=False)), fault


def _records(
    place: str, lines: Iterator[tuple[int, str]], separator: str, quoting: bool
) -> Iterator[tuple[int, list[str]]]:
    """(line on which the record begins, cells); a blank line is a record without cells."""
    for number, line in lines:
        if quoting and '"' in line:
            yield number, _quoted_record(place, number, line, lines, separator)
        else:
            text = line.rstrip("\r\n")
            yield number, text.split(separator) if text else []


def _quoted_record(place: str, number: int, line: str, lines: Iterator[tuple[int, str]], separator: str) -> list[str]:
    """The cells of a record of which at least one holds a quote; takes further lines where quotes hold them.

    A quote encloses a cell if the cell begins with it; elsewhere it is a character like any other.
    """
    cells = []
    at = 0
    while True:
        if line.startswith('"', at):
            opened = number
            cell, number, line, at = _quoted_cell(place, number, line, at + 1, lines)
        else:
            opened = 0
            end = line.find(separator, at)
            end = end if end >= 0 else len(line.rstrip("\r\n"))
            cell, at = line[at:end], end
        cells.append(cell)
        if line.startswith(separator, at):
            at += len(separator)
        elif line[at:] in ("", "\n", "\r", "\r\n"):
            return cells
        else:
            found = f"{line[at : at + 20].rstrip()!r} in column {at + 1}"
            raise UserError(
                f"{place}:{number}: {found} after the closing quote of the cell that begins on line {opened}",
                "Double the quotes inside a quoted cell; if quotes are plain text in this file, add "
                "--set data.quoting=false",
            )


def _quoted_cell(
    place: str, number: int, line: str, at: int, lines: Iterator[tuple[int, str]]
) -> tuple[str, int, str, int]:
    """The cell whose opening quote lies before `at`, and where it ends: line number, line, position."""
    opened, parts, size = number, [], 0
    while True:
        end = line.find('"', at)
        if end >= 0 and line.startswith('"', end + 1):
            parts.append(line[at : end + 1])
            at = end + 2
        elif end >= 0:
            parts.append(line[at:end])
            return "".join(parts), number, line, end + 1
        else:
            parts.append(line[at:])
            size += len(line) - at
            following = next(lines, None)
            if following is None or size > LIMIT:
                raise UserError(
                    f"{place}:{opened}: a double quote opens a cell here and is never closed"
                    + (f" (looked at {LIMIT:,} characters)" if following else ""),
                    "Close it; if quotes are plain text in this file, add --set data.quoting=false",
                )
            (number, line), at = following, 0


def _sample(head: list[str], separator: str, quoting: bool) -> list[list[str]]:
    """The records of the head, as far as they can be told apart."""
    records = []
    try:
        for _, cells in _records("", enumerate(head), separator, quoting):
            records.append(cells)
    except UserError:
        pass  # an open quote: of a cell on which the head ends, of a wrong separator, or one to be told later
    return records


def _separator(format: str, head: list[str], quoting: bool, asked: str | None) -> str:
    """The separator asked for, or the one that cuts most rows into as many cells as the first."""
    if asked is not None:
        separator = {"\\t": "\t", "tab": "\t"}.get(asked, asked)
        if not separator or set(separator) & set('"\r\n'):
            raise UserError(f"{asked!r} cannot separate cells", 'Name a character: --set data.delimiter=";" (tab: \\t)')
        return separator
    if format == "tsv":
        return "\t"

    def fitness(separator: str) -> tuple[float, float]:
        rows = [cells for cells in _sample(head, separator, quoting) if cells]
        if not rows or len(rows[0]) == 1:
            return 0, 0
        agreeing = sum(len(cells) == len(rows[0]) for cells in rows)
        followed_by_blank = sum(cell.startswith(" ") for cells in rows for cell in cells[1:])  # as in prose
        return agreeing / len(rows), -followed_by_blank

    return max(SEPARATORS, key=fitness)  # the comma if none cuts the first row


def _looks_like_data(first: list[str], sample: list[list[str]]) -> str | None:
    """Why the first row is no header, or None if it may be one.

    The names of the first column (a written index) and of the last ones may be empty.
    """
    filled = [position for position, cell in enumerate(first) if cell.strip()]
    if not filled:
        return "all its cells are empty"
    if not all(cell.strip() for cell in first[1 : filled[-1]]):
        return "a cell in its middle is empty"
    for position, cell in enumerate(first):
        if len(cell) > 60:
            return f"a cell has {len(cell):,} characters"
        if NUMBER.fullmatch(cell):
            return f"{cell!r} is a number"
        if SENTENCE_END.search(cell):
            return f"{cell!r} ends like a sentence"
        if cell and any(len(cells) > position and cells[position] == cell for cells in sample):
            return f"{cell!r} occurs again in its column"
    return None


def _names(place: str, line: int, first: list[str], notes: list[str]) -> tuple[str, ...]:
    columns = tuple(cell.strip() or f"unnamed{n}" for n, cell in enumerate(first, start=1))
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"{place}:{line}: the header names two columns {twice!r}",
            "Rename one; if the first row is data and no header, add --set data.header=false",
        )
    unnamed = [name for name, cell in zip(columns, first, strict=True) if not cell.strip()]
    if unnamed:
        notes.append(f"columns without a name in the header: {', '.join(unnamed)}")
    return columns


# ---------------------------------------------------------------------------------------------------------
# JSON (RFC 8259, with unique keys and without NaN).


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value; write null or leave the key out")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits} is too large")
    return number


SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # the escape of half a pair
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def _json_lines(lines: Iterable[tuple[int, str]]) -> Iterator[Parsed]:
    for number, line in lines:
        if not line.strip(" \t\r\n"):
            continue
        try:
            value = DECODER.decode(line.rstrip("\r\n"))
            yield number, *_whole_text(*_object(value), suspect=bool(SURROGATE.search(line)))
        except json.JSONDecodeError as error:
            yield number, {}, f"column {error.colno}: {error.msg}"
        except (ValueError, RecursionError) as error:
            yield number, {}, str(error)


def _object(value: Any) -> tuple[dict[str, Any], str | None]:
    if not isinstance(value, dict):
        return {}, f"an object was expected, found {type(value).__name__}"
    return value, None


def _whole_text(cells: dict[str, Any], fault: str | None, *, suspect: bool) -> tuple[dict[str, Any], str | None]:
    """The row, unless it is suspected of holding half of a surrogate pair and does."""
    if suspect and LONE_SURROGATE.search(json.dumps(cells, ensure_ascii=False)):
        return {}, "half of a surrogate pair, which is no character"
    return cells, fault


def _json_keys(head: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for _, cells, _ in _json_lines(enumerate(head)) for key in cells))


def _are_json_lines(head: list[str]) -> bool:
    """Whether the first line is a whole object and more follows."""
    filled = list(itertools.islice((line for line in head if line.strip()), 2))
    return len(filled) == 2 and all(fault is None for _, _, fault in _json_lines([(1, filled[0])]))


def _json_rows(
    place: str, text: str, asked: str | None, notes: list[str]
) -> tuple[str, tuple[str, ...], Iterator[Parsed]]:
    """The format, columns and rows of a document, which may be SQuAD's.

    Otherwise it is a list of objects, an object of columns, or an object with one list of objects.
    """
    format = asked or "json"
    try:
        document = DECODER.decode(text)
        if asked is None and squad.recognises(document):
            notes.append("SQuAD: a row for each question; for a row for each article, add --format json")
            format = "squad"
        rows = squad.rows(place, document) if format == "squad" else map(_object, _json_table(place, document, notes))
        suspect = bool(SURROGATE.search(text))
        parsed = [(0, *_whole_text(*row, suspect=suspect)) for row in rows]
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        cut = ": the file is cut off" if at_end else ""
        raise UserError(
            f"{place}:{error.lineno}:{error.colno}: {error.msg}{cut}",
            "Mend it there, or make it again; if every line is an object of its own, add --format jsonl",
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: {error}", "Mend it, or make it again") from error
    columns = tuple(dict.fromkeys(key for _, cells, _ in parsed for key in cells))
    return format, columns, iter(parsed)


def _json_table(place: str, document: Any, notes: list[str]) -> list[Any]:
    if isinstance(document, list):
        return document
    values = document if isinstance(document, dict) else {}
    lists = {key: value for key, value in values.items() if isinstance(value, list)}
    if len(lists) == 1:
        [(key, rows)] = lists.items()
        if rows and all(isinstance(row, dict) for row in rows):
            notes.append(f"the rows are the list {key!r}")
            return rows
    if lists and len(lists) == len(values):
        lengths = {key: len(column) for key, column in lists.items()}
        if len(set(lengths.values())) == 1:
            return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        raise UserError(f"{place}: the columns differ in length: {lengths}", "Make them equally long")
    raise UserError(
        f"{place} is neither a list of objects, nor an object with one list of objects, nor an object of columns",
        'Write [{"text": "...", "label": "..."}, ...]; if every line is an object, add --format jsonl',
    )


# ---------------------------------------------------------------------------------------------------------
# Parquet and Arrow.


def _arrow_rows(
    place: str, format: str, path: Path | None, blocks: Iterable[bytes]
) -> tuple[tuple[str, ...], Iterator[Parsed]]:
    """Rows of a file on disk, or else of `blocks`, which go to a temporary file: the formats need to seek."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _arrow_faults(place, format):
        source = pa.OSFile(str(path)) if path else pa.PythonFile(_spooled(blocks), "r")
        if format == "parquet":
            parquet = pq.ParquetFile(source)
            schema, batches = parquet.schema_arrow, parquet.iter_batches(BATCH)
        elif source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            schema, batches = file.schema, map(file.get_batch, range(file.num_record_batches))
        else:
            source.seek(0)
            batches = pa.ipc.open_stream(source)
            schema = batches.schema
        columns = tuple(schema.names)
    if len(set(columns)) < len(columns):
        raise UserError(f"{place} has two columns of one name: {', '.join(columns)}", "Rename one of them")
    return columns, _arrow_values(place, format, batches)


def _arrow_values(place: str, format: str, batches: Iterable[Any]) -> Iterator[Parsed]:
    with _arrow_faults(place, format):
        for batch in batches:
            batch.validate(full=True)  # otherwise damaged offsets would be followed
            for start in range(0, batch.num_rows, BATCH):
                for cells in batch.slice(start, BATCH).to_pylist():
                    yield 0, cells, None


@contextmanager
def _arrow_faults(place: str, format: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        message = str(error).split("\n", 1)[0]
        raise UserError(
            f"{place} cannot be read as {format}: {message}",
            "Make or download it again; if it is of another format, add --format",
        ) from error


def _spooled(blocks: Iterable[bytes]) -> BinaryIO:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (deleted when the reader that holds it ends)
    for block in blocks:
        file.write(block)
    file.seek(0)
    return file
