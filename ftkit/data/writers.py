"""Rows to files: as a stream, and complete or not at all.

The file grows under a temporary name beside its place, and takes its name when everything is on the disk.
A format that cannot hold a value says so instead of changing the value; the one change that can be asked
for, `spreadsheet_safe`, is counted.
"""

from __future__ import annotations

import datetime
import decimal
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ftkit.data.files import FORMATS, file_format, is_pipe
from ftkit.errors import UserError

WRITABLE = tuple(name for name in FORMATS if name not in ("label-first", "squad"))
BATCH = 10_000  # rows of one Parquet row group or Arrow record batch

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula (OWASP)

Put = Callable[[Mapping[str, Any]], None]


class Writer:
    """Takes rows one by one.

    Attributes:
        escaped: cells and column names before which `spreadsheet_safe` has put a `'` so far.
    """

    def __init__(self) -> None:
        self.escaped = 0
        self._put: Put

    def write(self, cells: Mapping[str, Any]) -> None:
        """Adds a row; a column that `cells` lacks is empty, or absent in JSON.

        Raises:
            UserError: the format cannot hold a value, the row has an unknown column, or the disk is full.
            BrokenPipeError: nobody reads standard output any more.
        """
        self._put(cells)

    def _guard(self, text: str) -> str:
        if not text.startswith(FORMULA):
            return text
        self.escaped += 1
        return "'" + text


@contextmanager
def open_writer(
    path: str | Path,
    columns: Sequence[str],
    *,
    format: str | None = None,
    spreadsheet_safe: bool = False,
    stdout: BinaryIO | None = None,
) -> Iterator[Writer]:
    """A writer whose file appears when the block ends, or not at all if the block raises.

    Memory is constant: JSON arrays grow as they are written, Parquet and Arrow go out in batches of 10,000
    rows. CSV holds text as it stands, None as nothing, numbers and booleans as in JSON, and lists and objects
    as JSON; the reader in `ftkit.data.files` gives the same text back. JSON and JSON Lines hold the rows as
    they are given, whatever `columns` says.

    Args:
        path: its suffix tells the format, and with a further .gz the compression; "-" is standard output.
            Devices and pipes are written to directly.
        columns: in the order of the file.
        format: one of WRITABLE; must be given for "-".
        spreadsheet_safe: puts a `'` before text that a spreadsheet would take for a formula (CSV and TSV).
        stdout: stands in for standard output.

    Raises:
        UserError: the place cannot be written to, or the format cannot hold these columns.
    """
    name = str(path)
    format = file_format(name, format)
    gzipped = name.lower().endswith(".gz")
    _check(name, columns, format, spreadsheet_safe, gzipped)
    place = "standard output" if name == "-" else name
    writer = Writer()
    with _destination(name, place, stdout) as file:
        if format in ("parquet", "arrow"):
            rows = _arrow(place, file, columns, format)
        else:
            rows = _text(place, file, columns, format, gzipped, writer._guard if spreadsheet_safe else str)
        with rows as writer._put:
            yield writer


def _check(name: str, columns: Sequence[str], format: str, spreadsheet_safe: bool, gzipped: bool) -> None:
    if format not in WRITABLE:
        raise UserError(f"{format} can be read but not written", f"--format is one of {', '.join(WRITABLE)}")
    if gzipped and format in ("parquet", "arrow"):
        raise UserError(f"{name}: {format} compresses by itself", f"Name it {name[:-3]}")
    if spreadsheet_safe and format not in ("csv", "tsv"):
        raise UserError(f"--spreadsheet-safe does not apply to {format}", "Leave it out, or write .csv")
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise UserError(f"two columns to write have the name {twice!r}", "Rename the one in the input")
    if format == "text" and len(columns) != 1:
        raise UserError(f"text holds one column, not {len(columns)} ({', '.join(columns)})", "Write .tsv or .csv")


# ---------------------------------------------------------------------------------------------------------
# The place


@contextmanager
def disk_faults(name: str) -> Iterator[None]:
    """Errors of the disk as errors for the user."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        problem = f"{name} cannot be written: {error.strerror or error}"
        raise UserError(problem, "Make room, or name another place") from error


@contextmanager
def _destination(name: str, place: str, stdout: BinaryIO | None) -> Iterator[BinaryIO]:
    """The file to write to: under its name, and on the disk, once the block has ended without an error."""
    if name == "-":
        file = stdout or sys.stdout.buffer
        yield file
        with disk_faults(place):
            file.flush()
        return
    if is_pipe(name):
        with disk_faults(name):
            file = open(name, "wb")  # noqa: SIM115 (closed two lines below)
        with file:
            yield file
        return
    target = target_of(name)
    partial = beside(target, "partial")
    with disk_faults(name):
        file = _own(partial, name)
    try:
        yield file
        with disk_faults(name):
            file.flush()
            os.fsync(file.fileno())
            if os.path.exists(target):
                shutil.copymode(target, partial)
            os.replace(partial, target)
            file.close()
            _sync_folder(target.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        with suppress(OSError):
            file.close()
        raise


def _own(partial: Path, name: str) -> BinaryIO:
    """A new file that no other process writes to until this one closes it; what a killed one has left goes.

    Raises:
        UserError: another process is writing to it.
    """
    while True:
        try:
            file = open(partial, "xb")  # noqa: SIM115
        except FileExistsError:
            _clear(partial, name)
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another is just clearing it away
            file.close()
            continue
        except OSError:  # a file system that knows no locks
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(partial)):
                return file
        file.close()


def _clear(partial: Path, name: str) -> None:
    """Removes a file that nobody writes to."""
    if not partial.is_symlink():
        with suppress(OSError), open(partial, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise taken(name) from None
    partial.unlink(missing_ok=True)


def taken(name: str) -> UserError:
    """The refusal of an output that another process holds the lock of."""
    return UserError(f"another ftkit process is writing {name}", "Wait for it to end, or name another file: -o")


def target_of(name: str) -> Path:
    """The file that a name stands for; a symbolic link stays one."""
    target = Path(os.path.realpath(name))
    if os.path.isdir(target):
        raise UserError(f"{name} is a folder", f"Name a file in it: {Path(name) / 'predictions.csv'}")
    if not os.path.isdir(target.parent):
        raise UserError(f"the folder {target.parent} does not exist", f"mkdir -p {target.parent}")
    return target


def beside(target: Path, kind: str) -> Path:
    """A hidden file beside `target`, its own and always the same, whose name fits where the target's does."""
    digest = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return target.with_name(f".{target.name[:40]}.{digest}.{kind}")


def _sync_folder(folder: Path) -> None:
    """Puts the new name on the disk too, where the file system can do that for a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


# ---------------------------------------------------------------------------------------------------------
# The formats. Each yields the function that takes a row, and completes the file when the block ends.


@contextmanager
def _text(
    place: str,
    file: BinaryIO,
    columns: Sequence[str],
    format: str,
    gzipped: bool,
    guard: Callable[[str], str],
) -> Iterator[Put]:
    packer = zlib.compressobj(wbits=31) if gzipped else None

    def put_text(text: str) -> None:
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            problem = f"{text[error.start]!r} is half of a surrogate pair, which is no character"
            raise UserError(problem, "Take it out of the input") from error
        with disk_faults(place):
            file.write(packer.compress(data) if packer else data)

    if format in ("csv", "tsv"):
        rows = _delimited(put_text, columns, format, guard)
    elif format == "text":
        rows = _text_lines(put_text, columns[0])
    else:
        rows = _json_lines(put_text) if format == "jsonl" else _json_array(put_text)
    with rows as put:
        yield put
    if packer:
        with disk_faults(place):
            file.write(packer.flush())


@contextmanager
def _delimited(
    put_text: Callable[[str], None], columns: Sequence[str], format: str, guard: Callable[[str], str]
) -> Iterator[Put]:
    def put_cells(texts: list[str]) -> None:
        if format == "csv":
            line = ",".join([_quoted(text) for text in texts]) or '""'  # a blank line might be skipped
        else:
            line = "\t".join([_without(r"[\t\r\n]", text, "TSV") for text in texts])
        put_text(line + "\n")

    def put(cells: Mapping[str, Any]) -> None:
        _refuse_unknown(cells, columns)
        values = [cells.get(column) for column in columns]
        put_cells([guard(value) if isinstance(value, str) else _as_text(value) for value in values])

    put_cells([guard(column) for column in columns])
    yield put


def _quoted(text: str) -> str:
    """The cell by RFC 4180; what a reader could take for a byte-order mark is quoted too."""
    return '"' + text.replace('"', '""') + '"' if re.search('[",\r\n\ufeff]', text) else text


def _without(forbidden: str, text: str, format: str) -> str:
    if found := re.search(forbidden, text):
        raise UserError(f"{format} cannot hold {found[0]!r} in a cell: {text[:40]!r}", "Write .csv or .jsonl")
    return text


def _refuse_unknown(cells: Mapping[str, Any], columns: Sequence[str]) -> None:
    unknown = [column for column in cells if column not in columns]
    if unknown:
        raise UserError(f"a row has columns that the file was not begun with: {', '.join(unknown)}", "Write .jsonl")


@contextmanager
def _text_lines(put_text: Callable[[str], None], column: str) -> Iterator[Put]:
    def put(cells: Mapping[str, Any]) -> None:
        _refuse_unknown(cells, [column])
        put_text(_without(r"[\r\n]", _as_text(cells.get(column)), "text") + "\n")

    yield put


@contextmanager
def _json_lines(put_text: Callable[[str], None]) -> Iterator[Put]:
    yield lambda cells: put_text(_as_json(dict(cells)) + "\n")


@contextmanager
def _json_array(put_text: Callable[[str], None]) -> Iterator[Put]:
    begun = False

    def put(cells: Mapping[str, Any]) -> None:
        nonlocal begun
        put_text((",\n" if begun else "[\n") + _as_json(dict(cells)))
        begun = True

    yield put
    put_text("\n]\n" if begun else "[]\n")


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_json_value)
    except ValueError as error:
        raise UserError(f"JSON cannot hold NaN or infinity, found in {value!r:.200}", "Write .csv") from error


def _as_json_value(value: Any) -> str:
    """What Parquet and Arrow can hold and JSON cannot."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise UserError(f"text cannot hold a value of the type {type(value).__name__}", "Write .parquet")


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bool | int | list | dict):
        return _as_json(value)
    return _as_json_value(value)


@contextmanager
def _arrow(place: str, file: BinaryIO, columns: Sequence[str], format: str) -> Iterator[Put]:
    """The first batch decides the types; a column that it leaves empty holds text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[Mapping[str, Any]] = []
    types: list[Any] = [None] * len(columns)
    sink: Any = None

    def put(cells: Mapping[str, Any]) -> None:
        _refuse_unknown(cells, columns)
        rows.append(dict(cells))
        if len(rows) == BATCH:
            put_batch()

    def put_batch() -> None:
        nonlocal sink, types
        table = zip(columns, types, strict=True)
        arrays = [_array(column, [row.get(column) for row in rows], type) for column, type in table]
        batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
        with disk_faults(place):
            if sink is None:
                types = batch.schema.types
                sink = (pq.ParquetWriter if format == "parquet" else pa.ipc.new_file)(file, batch.schema)
            sink.write_batch(batch)
        rows.clear()

    try:
        yield put
        if rows or sink is None:
            put_batch()
        with disk_faults(place):
            sink.close()
    except BaseException:
        with suppress(Exception):
            sink.close()  # lest it closes itself later, when the file has gone
        raise


def _array(column: str, values: list[Any], type: Any) -> Any:
    """The values as an Arrow array of the type, or of the type that they suggest; none is changed."""
    import pyarrow as pa

    try:
        array = pa.array(values)
        if type is None and pa.types.is_null(array.type):
            type = pa.string()
        if type is not None and array.type != type:
            array = array.cast(type)
        if not pa.types.is_floating(array.type) and array.to_pylist() != values:
            raise ValueError("the file would change them")
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        message = str(error).split("\n", 1)[0]
        problem = f"the values of column {column!r} do not fit together: {message}"
        raise UserError(problem, "Write .jsonl") from error
    return array
