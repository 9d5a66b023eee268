"""The writers: the same text back, complete files or none, and refusals instead of changed values."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import os
import stat
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data.files import ReadOptions, open_rows
from ftkit.data.writers import BATCH, open_writer
from ftkit.errors import UserError

steady = settings(deadline=None, derandomize=True, max_examples=60)


def save(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]], **arguments: Any) -> Path:
    with open_writer(path, columns, **arguments) as writer:
        for cells in rows:
            writer.write(cells)
    return path


def load(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row.cells for row in open_rows(path, ReadOptions(**options))[1]]


def refusal(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]], **arguments: Any) -> str:
    """The message, after making sure that no file is left."""
    with pytest.raises(UserError) as caught:
        save(path, columns, rows, **arguments)
    assert list(path.parent.iterdir()) == []
    return str(caught.value)


def test_a_file_that_is_being_written_is_not_written_by_another(tmp_path: Path) -> None:
    """Locks are of open files, not of processes: two in this one meet as those of two would."""
    with open_writer(tmp_path / "a.csv", ["text"], format="csv") as writer:
        writer.write({"text": "first"})
        with pytest.raises(UserError, match="another ftkit process is writing"):
            save(tmp_path / "a.csv", ["text"], [{"text": "second"}])

    assert load(tmp_path / "a.csv") == [{"text": "first"}]


# The same text back.

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
TRICKY_TEXT = st.text(st.sampled_from("a,;|\t\"'\n\r\x85\u2028\ufeff =汉"), max_size=8)
CELL = ANY_TEXT | TRICKY_TEXT
COLUMNS = ["text", "étiquette"]


@steady
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=6), gz=st.booleans())
def test_csv_gives_the_same_text_back(tmp_path_factory: pytest.TempPathFactory, rows: Any, gz: bool) -> None:
    path = tmp_path_factory.mktemp("csv") / ("a.csv" + ".gz" * gz)
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    assert load(save(path, COLUMNS, records), header=True, delimiter=",") == records


@steady
@given(rows=st.lists(CELL, min_size=1, max_size=6))
def test_csv_of_one_column_gives_the_same_text_back(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    records = [{"text": text} for text in rows]
    assert load(save(path, ["text"], records), header=True, delimiter=",") == records
    with open(path, encoding="utf-8", newline="") as file:
        assert list(csv.reader(file, strict=True)) == [["text"], *([text] for text in rows)]


def test_name_that_begins_like_a_byte_order_mark_stays(tmp_path: Path) -> None:
    rows = [{"\ufefftext": "a", "label": "b"}]
    assert load(save(tmp_path / "a.csv", ["\ufefftext", "label"], rows)) == rows


@steady
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=6))
def test_csv_is_understood_by_an_independent_reader(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    save(path, COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in rows])
    with open(path, encoding="utf-8", newline="") as file:
        assert list(csv.reader(file, strict=True)) == [COLUMNS, *rows]


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CELL,
    lambda value: st.lists(value, max_size=3) | st.dictionaries(CELL, value, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "jsonl.gz"])
@steady
@given(rows=st.lists(st.dictionaries(CELL, JSON_VALUE, max_size=3), min_size=1, max_size=5))
def test_json_gives_the_same_values_back(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("json") / f"a.{suffix}"
    assert load(save(path, [], rows)) == rows


LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\r\n"))


@steady
@given(rows=st.lists(st.lists(LINE, min_size=2, max_size=2), min_size=1, max_size=6))
def test_tsv_gives_the_same_text_back(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("tsv") / "a.tsv"
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    assert load(save(path, COLUMNS, records), header=True) == records


@steady
@given(rows=st.lists(LINE.filter(lambda line: not line.startswith("\ufeff")), min_size=1, max_size=6))
def test_text_gives_the_same_lines_back(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    records = [{"text": line} for line in rows]
    assert load(save(path, ["text"], records)) == records


PREDICTIONS = [
    {"id": 7, "text": "fine", "label": "pos", "score_pos": 0.1 + 0.2, "tags": ["a", "b"], "note": None},
    {"id": 8, "text": 'a "b", c\nd', "label": "neg", "score_pos": 1e-07, "tags": [], "note": None},
]


def test_csv_holds_values_that_are_no_text_as_in_json(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", ["text", "n", "b", "f", "l", "o", "none", "gone"], [
        {"text": "a", "n": 12345678901234567890, "b": True, "f": 0.1, "l": ["é", 1], "o": {"k": None}, "none": None}
    ])  # fmt: skip
    assert path.read_text(encoding="utf-8") == (
        'text,n,b,f,l,o,none,gone\na,12345678901234567890,true,0.1,"[""é"", 1]","{""k"": null}",,\n'
    )


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "jsonl", "json"])
def test_typed_formats_give_the_same_values_back(tmp_path: Path, suffix: str) -> None:
    assert load(save(tmp_path / f"a.{suffix}", list(PREDICTIONS[0]), PREDICTIONS)) == PREDICTIONS


def test_json_array_is_one_document(tmp_path: Path) -> None:
    assert save(tmp_path / "a.json", [], []).read_text() == "[]\n"
    assert save(tmp_path / "b.json", [], [{"a": 1}, {"a": "é"}]).read_text() == '[\n{"a": 1},\n{"a": "é"}\n]\n'


def test_dates_and_decimals_become_text_in_text_formats(tmp_path: Path) -> None:
    rows = [{"day": datetime.date(2024, 2, 29), "at": datetime.datetime(2024, 2, 29, 12, 30)}]
    expected = [{"day": "2024-02-29", "at": "2024-02-29T12:30:00"}]
    assert load(save(tmp_path / "a.jsonl", ["day", "at"], rows)) == expected
    assert load(save(tmp_path / "a.csv", ["day", "at"], rows)) == expected


def test_gzip_is_the_same_at_every_time(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv.gz", ["text"], [{"text": "a"}])
    assert gzip.decompress(path.read_bytes()) == b"text\na\n"
    assert path.read_bytes()[4:8] == bytes(4)  # no time stamp


# Parquet and Arrow.


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_columns_without_values_and_files_without_rows_hold_text(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, Any]] = [{"text": None}] * BATCH + [{"text": "a"}]
    assert load(save(tmp_path / f"a.{suffix}", ["text"], rows)) == rows
    save(tmp_path / f"b.{suffix}", ["text"], [])
    with pytest.raises(UserError, match="holds no rows"):
        load(tmp_path / f"b.{suffix}")


def test_parquet_is_written_in_batches(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", ["n"], [{"n": n} for n in range(2 * BATCH + 1)])
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [BATCH, BATCH, 1]


@pytest.mark.parametrize(
    ("first", "later"),
    [("a", 1), (1, "a"), (["a"], [1]), ({"a": 1}, {"b": 1}), (0.5, "a"), (1.5, 2**60 + 1), ("a", b"a")],
)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("before", [1, BATCH])
def test_values_that_do_not_fit_together_are_refused(
    tmp_path: Path, suffix: str, first: Any, later: Any, before: int
) -> None:
    message = refusal(tmp_path / f"a.{suffix}", ["x"], [{"x": first}] * before + [{"x": later}])
    assert message.startswith("the values of column 'x' do not fit together: ")
    assert message.endswith("Write .jsonl")


def test_a_fraction_after_a_batch_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path / "a.parquet", ["x"], [{"x": 1}] * BATCH + [{"x": 2.5}])
    assert message.startswith("the values of column 'x' do not fit together: ")


def test_whole_numbers_fit_among_fractions(tmp_path: Path) -> None:
    rows = [{"x": 0.5}] * BATCH + [{"x": 1}]
    assert load(save(tmp_path / "a.parquet", ["x"], rows)) == rows


# Refusals.


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb"])
def test_tsv_refuses_what_it_cannot_hold(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path / "a.tsv", ["text"], [{"text": text}])
    assert message == f"TSV cannot hold {text[1]!r} in a cell: {text!r}\nWrite .csv or .jsonl"


def test_text_refuses_line_breaks_and_several_columns(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.txt", ["text"], [{"text": "a\nb"}]).startswith("text cannot hold '\\n'")
    assert refusal(tmp_path / "a.txt", ["a", "b"], []).startswith("text holds one column, not 2 (a, b)")


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("nan")]])
def test_json_refuses_nan(tmp_path: Path, suffix: str, value: Any) -> None:
    message = refusal(tmp_path / f"a.{suffix}", ["x"], [{"x": value}])
    assert message.startswith("JSON cannot hold NaN or infinity")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "parquet"])
def test_unknown_columns_are_refused_where_the_columns_are_fixed(tmp_path: Path, suffix: str) -> None:
    message = refusal(tmp_path / f"a.{suffix}", ["text"], [{"text": "a", "more": 1}])
    assert message == "a row has columns that the file was not begun with: more\nWrite .jsonl"


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    assert "half of a surrogate pair" in refusal(tmp_path / "a.csv", ["text"], [{"text": "\ud800"}])


def test_bytes_are_refused_in_text(tmp_path: Path) -> None:
    assert "of the type bytes" in refusal(tmp_path / "a.csv", ["x"], [{"x": b"a"}])
    assert "of the type bytes" in refusal(tmp_path / "a.jsonl", ["x"], [{"x": [b"a"]}])


@pytest.mark.parametrize(
    ("name", "columns", "arguments", "problem"),
    [
        ("a.csv", ["a", "a"], {}, "two columns to write have the name 'a'"),
        ("a.label", ["a"], {}, "label-first can be read but not written"),
        ("a.parquet.gz", ["a"], {}, "parquet compresses by itself"),
        ("a.xlsx", ["a"], {}, "ends in .xlsx; known are .csv"),
        ("a.jsonl", ["a"], {"spreadsheet_safe": True}, "--spreadsheet-safe does not apply to jsonl"),
        ("gone/a.csv", ["a"], {}, "gone does not exist"),
    ],
)
def test_impossible_files_are_refused_at_once(
    tmp_path: Path, name: str, columns: list[str], arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError) as caught:
        save(tmp_path / name, columns, [], **arguments)
    assert problem in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        save(tmp_path / "a.csv", ["a"], [])


def test_standard_output_needs_a_format() -> None:
    with pytest.raises(UserError, match="standard input and output have no suffix"):
        save(Path("-"), ["a"], [], stdout=io.BytesIO())


# Spreadsheets.


def test_formulas_are_escaped_and_counted(tmp_path: Path) -> None:
    texts = ['=HYPERLINK("x")', "+1", "-1", "@a", "\tb", "\rc", "a=b", "", " =d", "'=e"]
    with open_writer(tmp_path / "a.csv", ["text", "=n"], spreadsheet_safe=True) as writer:
        for text in texts:
            writer.write({"text": text, "=n": -1})
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    assert rows[0] == ["text", "'=n"]
    assert [row[0] for row in rows[1:]] == ["'" + text for text in texts[:6]] + texts[6:]
    assert {row[1] for row in rows[1:]} == {"-1"}
    assert writer.escaped == 7


def test_nothing_is_escaped_unless_asked(tmp_path: Path) -> None:
    with open_writer(tmp_path / "a.csv", ["text"]) as writer:
        writer.write({"text": "=1"})
    assert ((tmp_path / "a.csv").read_text(), writer.escaped) == ("text\n=1\n", 0)


# Complete or not at all.

SUFFIXES = ["csv", "tsv.gz", "json", "jsonl", "txt", "parquet", "arrow"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_no_litter(tmp_path: Path, suffix: str, error: type[BaseException]) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("old")
    with pytest.raises(error), open_writer(path, ["text"]) as writer:
        for _ in range(BATCH + 1):
            writer.write({"text": "a"})
        raise error
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(path.name, "old")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_appears_only_at_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with open_writer(path, ["text"]) as writer:
        writer.write({"text": "a"})
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]
    assert load(path) == [{"text": "a"}]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "parquet", "arrow"])
def test_full_disk_is_a_user_error_and_leaves_nothing(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.open", lambda path, mode: io.BufferedWriter(Full(path, mode)))
    rows = [{"text": os.urandom(50).hex()} for _ in range(2 * BATCH)]
    assert "No space left on device" in refusal(tmp_path / f"a.{suffix}", ["text"], rows)


def test_a_link_stays_one_and_the_mode_is_kept(tmp_path: Path) -> None:
    real = tmp_path / "real.csv"
    real.write_text("old")
    real.chmod(0o600)
    link = tmp_path / "link.csv"
    link.symlink_to(real)
    save(link, ["text"], [{"text": "a"}])
    assert (link.is_symlink(), real.read_text(), stat.S_IMODE(real.stat().st_mode)) == (True, "text\na\n", 0o600)


def test_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    path = save(tmp_path / "a.csv", ["text"], [])
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_pipes_are_written_to_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    save(pipe, ["text"], [{"text": "a"}], format="csv")
    assert (os.read(reader, 100), stat.S_ISFIFO(pipe.stat().st_mode)) == (b"text\na\n", True)
    os.close(reader)


def test_a_pipe_without_a_place_is_written_to(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    save(Path(f"/dev/fd/{writer}"), ["text"], [{"text": "a"}], format="csv")  # as in -o >(gzip > a.gz)
    os.close(writer)
    assert os.read(reader, 100) == b"text\na\n"
    os.close(reader)


@pytest.mark.parametrize("format", ["csv", "tsv", "json", "jsonl", "text", "parquet", "arrow"])
def test_standard_output(format: str) -> None:
    stdout = io.BytesIO()
    save(Path("-"), ["text"], [{"text": "a"}], format=format, stdout=stdout)
    stdin = io.BytesIO(stdout.getvalue())
    assert [row.cells for row in open_rows("-", ReadOptions(format=format), stdin=stdin)[1]] == [{"text": "a"}]


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_closed_pipe_stays_a_closed_pipe(format: str) -> None:
    class Closed(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        save(Path("-"), ["text"], [{"text": "a"}] * BATCH, format=format, stdout=Closed())


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet", "arrow"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, suffix: str) -> None:
    with open_writer(tmp_path / f"a.{suffix}", ["text", "score"]) as writer:
        writer.write({"text": "a", "score": 0.5})
        tracemalloc.start()
        for number in range(50_000):
            writer.write({"text": f"row {number}", "score": 1 / (number + 1)})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_json_array_written_in_parts_is_valid(tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", [], [{"n": n} for n in range(1_000)])
    assert json.loads(path.read_text()) == [{"n": n} for n in range(1_000)]
