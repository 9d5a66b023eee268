"""The readers: what is accepted, what is told about it, and what is refused with which words."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data.files import FORMATS, HEAD, LIMIT, ReadOptions, Row, open_rows, sha256
from ftkit.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")

FIND_OUT = ReadOptions()
steady = settings(deadline=None, derandomize=True)


def save(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells(path: Path | str, options: ReadOptions = FIND_OUT, **arguments: Any) -> list[dict[str, Any]]:
    _, rows = open_rows(path, options, **arguments)
    return [row.cells for row in rows]


def refusal(path: Path | str, options: ReadOptions = FIND_OUT, **arguments: Any) -> str:
    """The whole message of the UserError, without the folder of the file."""
    with pytest.raises(UserError) as caught:
        cells(path, options, **arguments)
    return str(caught.value).replace(f"{Path(path).parent}/", "")


# The shared data sets: every row, as many as the lines that their README counts less the header.


@needs_shared
@pytest.mark.parametrize(
    ("name", "format", "columns", "rows"),
    [
        ("sst2/dev.tsv", "tsv", ("sentence", "label"), 872),
        ("sst2/train.tsv", "tsv", ("sentence", "label"), 67286),
        ("sms_spam/train.tsv", "tsv", ("column1", "column2"), 3880),
        ("sms_spam/val.tsv", "tsv", ("column1", "column2"), 558),
        ("chnsenticorp/dev.tsv", "tsv", ("label", "text_a"), 1160),
        ("chnsenticorp/train.tsv", "tsv", ("label", "text_a"), 9249),
        ("goemotions/dev.tsv", "tsv", ("column1", "column2", "column3"), 1985),
        ("goemotions/train.tsv", "tsv", ("column1", "column2", "column3"), 11894),
        ("ag_news_testfile/test.csv", "csv", ("column1", "column2", "column3"), 1000),
        ("ag_news_testfile/train.csv", "csv", ("column1", "column2", "column3"), 4600),
        ("banking77/train.csv", "csv", ("text", "category"), 8958),  # 4 rows hold line breaks
        ("banking77/val.csv", "csv", ("text", "category"), 996),
        ("csl_cls_ctg/dev.tsv", "tsv", ("column1", "column2", "column3"), 1000),
        ("csl_cls_ctg/train.tsv", "tsv", ("column1", "column2", "column3"), 8000),
        ("tnews_fewclue/dev_0.json", "jsonl", ("label", "label_desc", "sentence", "keywords", "id"), 240),
        (
            "tnews_fewclue/train_few_all.json",
            "jsonl",
            ("label", "label_desc", "sentence", "keywords", "id"),
            1185,
        ),
        ("imdb/test.csv", "csv", ("review", "sentiment"), 5000),
        ("imdb/train.csv", "csv", ("review", "sentiment"), 5000),
        ("trec/train.csv", "csv", ("text", "label", "fine_label"), 4940),
        ("tatoeba_en_zh/val.tsv", "tsv", ("column1", "column2"), 1000),
        ("squad_v1/test.json", "squad", ("id", "title", "context", "question", "answers"), 758),
        ("scitldr/dev.jsonl", "jsonl", None, 618),
        ("imdb_unsup/text.jsonl", "jsonl", ("id", "text"), 5000),
        ("messy/hotel_reviews_with_empty_row.csv", "csv", ("label", "review"), 120),
        (
            "messy/spam_kaggle_unnamed_columns.csv",
            "csv",
            ("v1", "v2", "unnamed3", "unnamed4", "unnamed5"),
            4377,
        ),
        ("messy/chnsenticorp_excel_utf8_bom_crlf.csv", "csv", ("标签", "评论"), 600),
    ],
)
def test_shared_data_is_read_row_for_row(name: str, format: str, columns: tuple[str, ...] | None, rows: int) -> None:
    source, stream = open_rows(SHARED / name)
    numbers = [row.number for row in stream]
    assert (source.format, numbers) == (format, list(range(1, rows + 1)))
    assert columns is None or source.columns == columns


@needs_shared
@pytest.mark.parametrize("name", ["banking77/train.csv", "imdb/test.csv", "messy/spam_kaggle_unnamed_columns.csv"])
def test_cells_equal_those_of_an_independent_reader(name: str) -> None:
    with open(SHARED / name, encoding="utf-8", newline="") as file:
        expected = list(csv.reader(file, strict=True))[1:]
    assert [list(row.values()) for row in cells(SHARED / name)] == expected


@needs_shared
@pytest.mark.parametrize("encoding", [None, "gb18030"])
def test_chinese_excel_files_hold_the_same_rows_in_either_encoding(encoding: str | None) -> None:
    name = "messy/chnsenticorp_excel_gb18030_crlf.csv"
    if encoding is None:
        message = refusal(SHARED / name)
        assert "chnsenticorp_excel_gb18030_crlf.csv:1: byte 0xB1 at offset 0 is not utf-8" in message
        assert message.endswith("add --encoding gb18030")
    else:
        twin = cells(SHARED / "messy/chnsenticorp_excel_utf8_bom_crlf.csv")
        assert cells(SHARED / name, ReadOptions(encoding=encoding)) == twin


@needs_shared
def test_latin1_is_refused_with_the_encoding_to_add() -> None:
    assert refusal(SHARED / "messy/trec_train_latin1.label") == (
        "trec_train_latin1.label:66: byte 0xF0 at offset 3,665 is not utf-8 (invalid continuation byte)\n"
        "It is most likely latin-1, in which the place reads 'tionship as a sisterðcity with Los Angel': "
        "add --encoding latin-1"
    )


@needs_shared
def test_trec_labels_and_questions() -> None:
    rows = cells(SHARED / "messy/trec_train_latin1.label", ReadOptions(encoding="latin-1"))
    assert len(rows) == 5440
    assert rows[0] == {"label": "DESC:manner", "text": "How did serfdom develop in and then leave Russia ?"}


@needs_shared
def test_the_empty_review_is_a_row() -> None:
    _, rows = open_rows(SHARED / "messy/hotel_reviews_with_empty_row.csv")
    assert [row for row in rows if not row.cells["review"]] == [Row(61, 62, {"label": "0", "review": ""})]


@needs_shared
def test_quoting_and_header_are_told() -> None:
    source, _ = open_rows(SHARED / "sms_spam/val.tsv")
    assert source.notes == (
        "no header ('spam' occurs again in its column), so the columns are numbered; if the first row is "
        "one, add --set data.header=true",
        "4 cells of the first MiB begin and end with a double quote: if that is quoting, add --set data.quoting=true",
    )


# CSV.


def test_cells_are_never_converted(tmp_path: Path) -> None:
    values = ["NA", "null", "None", "nan", "", "007", "1e3", "9007199254740993", " a ", "true"]
    path = save(tmp_path, "a.csv", "text,label\n" + "".join(f"{value},{value}\n" for value in values))
    assert cells(path) == [{"text": value, "label": value} for value in values]


def test_quotes_hold_separators_line_breaks_and_doubled_quotes(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", 'text,label\n"a, ""b""\r\nc\n\nd",x\ne "f" g,y\n"",z\n')
    _, rows = open_rows(path)
    assert list(rows) == [
        Row(1, 2, {"text": 'a, "b"\r\nc\n\nd', "label": "x"}),
        Row(2, 6, {"text": 'e "f" g', "label": "y"}),
        Row(3, 7, {"text": "", "label": "z"}),
    ]


def test_lines_end_only_at_cr_and_lf(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", "text,label\r\na\x85b\u2028c\x0bd\x1ce,1\rf,2\n")
    _, rows = open_rows(path)
    assert [(row.line, row.cells["text"]) for row in rows] == [(2, "a\x85b\u2028c\x0bd\x1ce"), (3, "f")]


def test_unquoted_comma_in_every_row_is_told(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", "text,label\na, b and c,1\nd, e,0\n")
    assert refusal(path) == (
        "a.csv:2: 3 fields, but the header has 2: an unquoted comma?\n"
        "Put cells that hold the separator or a line break between double quotes, and double the quotes "
        'inside; if another character separates the cells, name it: --set data.delimiter=";"'
    )


def test_ragged_row_is_told_with_its_physical_line(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", 'text,label\n"a\nb\r\nc",1\n\nd\n')
    assert "a.csv:6: 1 field, but the header has 2: a missing comma, or a line break?" in refusal(path)


def test_ragged_row_can_be_kept_with_its_fault(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", "text,label\na,1\nb\nc,d,2\ne,0\n")
    _, rows = open_rows(path, errors="keep")
    assert list(rows) == [
        Row(1, 2, {"text": "a", "label": "1"}),
        Row(2, 3, {"text": "b"}, "1 field, but the header has 2: a missing comma, or a line break?"),
        Row(3, 4, {"text": "c", "label": "d"}, "3 fields, but the header has 2: an unquoted comma?"),
        Row(4, 5, {"text": "e", "label": "0"}),
    ]


@pytest.mark.parametrize("errors", ["raise", "keep"])
def test_open_quote_is_told_where_it_opened(tmp_path: Path, errors: str) -> None:
    path = save(tmp_path, "a.csv", 'text,label\na,1\n"b\nc","d\ne,2\nf,3\n')
    assert "a.csv:4: a double quote opens a cell here and is never closed" in refusal(path, errors=errors)


def test_open_quote_does_not_swallow_more_than_its_limit(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", 'text,label\na,1\n"b,2\n' + "cccccccc,3\n" * (LIMIT // 10))
    assert f"a.csv:3: a double quote opens a cell here and is never closed (looked at {LIMIT:,}" in refusal(path)


@pytest.mark.parametrize("errors", ["raise", "keep"])
def test_text_after_a_closing_quote_is_told(tmp_path: Path, errors: str) -> None:
    path = save(tmp_path, "a.csv", 'text,label\na,1\n"b\n" c,2\n')
    expected = "a.csv:4: ' c,2' in column 2 after the closing quote of the cell that begins on line 3"
    assert expected in refusal(path, errors=errors)


def test_endless_line_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, "a.txt", "short\n" + "x" * (LIMIT + HEAD))
    assert f"a.txt:2: the line is longer than {LIMIT:,} characters" in refusal(path)


def test_blank_lines_are_rows_only_of_a_single_column(tmp_path: Path) -> None:
    one = save(tmp_path, "one.csv", '\ntext\na\n\nb\n""\n')
    two = save(tmp_path, "two.csv", "\ntext,label\na,1\n\nb,2\n\n")
    assert cells(one) == [{"text": "a"}, {"text": ""}, {"text": "b"}, {"text": ""}]
    assert cells(two) == [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_separator_is_found_and_told(tmp_path: Path, separator: str, word: str) -> None:
    lines = [f"text{separator}label", f"good, very good{separator}1", f'"a{separator}b"{separator}0']
    source, rows = open_rows(save(tmp_path, "a.csv", "\n".join(lines)))
    assert source.notes == (f"separator {word}",)
    assert [row.cells["text"] for row in rows] == ["good, very good", f"a{separator}b"]


def test_no_header_and_a_semicolon(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", "Nice, really;1\nBad, sorry;0\n")
    source, rows = open_rows(path)
    assert source.columns == ("column1", "column2")
    assert next(rows) == Row(1, 1, {"column1": "Nice, really", "column2": "1"})


def test_separator_can_be_named(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", "text::label\na,b::1\n")
    assert cells(path, ReadOptions(delimiter="::")) == [{"text": "a,b", "label": "1"}]
    tabs = save(tmp_path, "b.csv", "te,xt\tlabel\na,b\t1\n")
    assert cells(tabs, ReadOptions(delimiter="\\t")) == [{"te,xt": "a,b", "label": "1"}]


def test_quote_cannot_separate(tmp_path: Path) -> None:
    assert "cannot separate cells" in refusal(save(tmp_path, "a.csv", "a,b\nc,d\n"), ReadOptions(delimiter='"'))


def test_tsv_takes_quotes_literally_unless_told(tmp_path: Path) -> None:
    path = save(tmp_path, "a.tsv", 'text\tlabel\n"a\t1\n"b"\t0\n')
    source, rows = open_rows(path)
    assert [row.cells["text"] for row in rows] == ['"a', '"b"']
    assert source.notes == (
        "1 cells of the first MiB begin and end with a double quote: if that is quoting, add --set data.quoting=true",
    )
    quoted = save(tmp_path, "b.tsv", 'text\tlabel\n"a\tb"\t1\n')
    assert cells(quoted, ReadOptions(quoting=True)) == [{"text": "a\tb", "label": "1"}]


def test_csv_quoting_can_be_switched_off(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", 'text,label\n"a,1\n')
    assert cells(path, ReadOptions(quoting=False)) == [{"text": '"a', "label": "1"}]


@pytest.mark.parametrize(
    ("first", "sign"),
    [
        ("great,3", "'3' is a number"),
        ("great,-1.5", "'-1.5' is a number"),
        ("a,,b", "a cell in its middle is empty"),
        (",", "all its cells are empty"),
        (f"{'x' * 61},pos", "a cell has 61 characters"),
        ("great,pos", "'pos' occurs again in its column"),
        ("I like it!,one", "'I like it!' ends like a sentence"),
    ],
)
def test_first_row_that_looks_like_data_is_a_row(tmp_path: Path, first: str, sign: str) -> None:
    width = first.count(",")
    rest = "so so" + ",pos" * width
    source, rows = open_rows(save(tmp_path, "a.csv", f"{first}\n{rest}\n"))
    assert source.columns == tuple(f"column{n}" for n in range(1, width + 2))
    assert source.notes == (
        f"no header ({sign}), so the columns are numbered; if the first row is one, add --set data.header=true",
    )
    assert [",".join(row.cells.values()) for row in rows] == [first, rest]


def test_header_can_be_declared_either_way(tmp_path: Path) -> None:
    path = save(tmp_path, "a.csv", "1,2\na,b\n")
    assert cells(path, ReadOptions(header=True)) == [{"1": "a", "2": "b"}]
    assert cells(save(tmp_path, "b.csv", "x,y\n"), ReadOptions(header=False)) == [{"column1": "x", "column2": "y"}]


def test_written_index_and_trailing_names_may_be_empty(tmp_path: Path) -> None:
    source, _ = open_rows(save(tmp_path, "a.csv", ", text ,label,,\n0,a,x,,\n"))
    assert source.columns == ("unnamed1", "text", "label", "unnamed4", "unnamed5")
    assert source.notes == ("columns without a name in the header: unnamed1, unnamed4, unnamed5",)


def test_names_that_occur_twice_are_refused(tmp_path: Path) -> None:
    assert refusal(save(tmp_path, "a.csv", "\ntext,text\na,b\n")) == (
        "a.csv:2: the header names two columns 'text'\n"
        "Rename one; if the first row is data and no header, add --set data.header=false"
    )


CELL = st.text(st.sampled_from('ab",;\n\r\x85\u2028 é汉'), max_size=6)


@steady
@given(st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=8))
def test_reads_what_an_independent_writer_wrote(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    assert [list(row.values()) for row in cells(path, ReadOptions(header=False, delimiter=","))] == rows


@steady
@given(st.text(st.sampled_from('a,"\n\r'), max_size=30))
def test_accepts_and_refuses_the_same_csv_as_an_independent_reader(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = save(tmp_path_factory.mktemp("csv"), "a.csv", "x,x\n" + text)
    try:
        lines = io.StringIO("x,x\n" + text, newline="").readlines()
        expected: Any = [row[:2] for row in csv.reader(lines, strict=True) if row]
    except csv.Error:
        expected = None
    try:
        options = ReadOptions(header=False, delimiter=",")
        found: Any = [list(row.values()) for row in cells(path, options, errors="keep")]
    except UserError:
        found = None
    assert found == expected


def test_every_line_of_a_ragged_file_is_used_or_reported(tmp_path: Path) -> None:
    draw = random.Random(7)
    lines = [",".join("x" * draw.randint(0, 2) for _ in range(draw.randint(1, 3))) for _ in range(500)]
    path = save(tmp_path, "a.csv", "text,label\n" + "\n".join(lines) + "\n")
    _, stream = open_rows(path, errors="keep")
    rows = list(stream)
    used = [row.line for row in rows if row.error is None]
    reported = [row.line for row in rows if row.error is not None]
    filled = [line for line, text in enumerate(lines, start=2) if text]
    assert used == [line for line, text in enumerate(lines, start=2) if text.count(",") == 1]
    assert sorted(used + reported) == filled


# Encodings.


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", ()),
        ("utf-8-sig", ("encoding utf-8 with BOM",)),
        ("utf-16", ("encoding utf-16-le with BOM",)),
        ("utf-32", ("encoding utf-32-le with BOM",)),
    ],
)
def test_unicode_is_recognised(tmp_path: Path, encoding: str, note: tuple[str, ...]) -> None:
    source, rows = open_rows(save(tmp_path, "a.csv", "文,label\n好,x\n".encode(encoding)))
    assert (source.notes, [row.cells for row in rows]) == (note, [{"文": "好", "label": "x"}])


def test_big_endian_utf16(tmp_path: Path) -> None:
    path = save(tmp_path, "a.txt", b"\xfe\xff" + "好\n".encode("utf-16-be"))
    assert cells(path) == [{"text": "好"}]


ENGLISH = "text,label\n" + "a plain line of English,1\n" * 50


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("标签,评论\n1,很好的酒店，我们下次还来。\n", "gb18030"),
        ("標籤,評論\n1,這個酒店很好，我們下次還來。\n", "big5"),
        ("ラベル,文\n1,とても良いホテルでした\n", "shift_jis"),
        ("텍스트,라벨\n1,아주 좋은 호텔이다\n", "euc_kr"),
        ("текст,метка\n1,очень хорошо\n", "cp1251"),
        (ENGLISH + "café naïve à déjà,1\n", "latin-1"),
        (ENGLISH + "it’s a “quote” – really,1\n", "cp1252"),
    ],
)
def test_other_encodings_are_refused_and_named(tmp_path: Path, text: str, encoding: str) -> None:
    path = save(tmp_path, "a.csv", text.encode(encoding))
    assert refusal(path).endswith(f": add --encoding {encoding}")
    assert cells(path, ReadOptions(encoding=encoding, header=True))


def test_damaged_utf8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    path = save(tmp_path, "a.txt", "很好的酒店\n".encode() * 3 + b"\xe5\xbe\n" + "很好的酒店\n".encode() * 3)
    assert refusal(path) == (
        "a.txt:4: byte 0xE5 at offset 48 is not utf-8 (invalid continuation byte)\n"
        "The rest is utf-8: mend the damaged characters, or make the file again"
    )


def test_bad_byte_far_into_the_file_is_told_with_its_place(tmp_path: Path) -> None:
    head = "".join(f"line {n}\r\n" for n in range(300_000)).encode()
    path = save(tmp_path, "a.txt", head + b"caf\xe9\r\n")
    assert f"a.txt:300001: byte 0xE9 at offset {len(head) + 3:,} is not utf-8" in refusal(path)


def test_named_encoding_is_strict(tmp_path: Path) -> None:
    path = save(tmp_path, "a.txt", "ok\ncaf\u00e9\n".encode("latin-1"))
    assert "a.txt:2: byte 0xE9 at offset 6 is not ascii" in refusal(path, ReadOptions(encoding="ascii"))


def test_byte_order_mark_contradicts_another_encoding(tmp_path: Path) -> None:
    path = save(tmp_path, "a.txt", "ok\n".encode("utf-8-sig"))
    assert "Leave out --encoding gb18030" in refusal(path, ReadOptions(encoding="gb18030"))
    assert cells(path, ReadOptions(encoding="UTF8")) == [{"text": "ok"}]


@pytest.mark.parametrize("encoding", ["utf-99", "base64", "rot13"])
def test_unknown_encoding(tmp_path: Path, encoding: str) -> None:
    message = refusal(save(tmp_path, "a.txt", "ok\n"), ReadOptions(encoding=encoding))
    assert message.startswith(f"'{encoding}' is no known encoding")


def test_utf16_without_mark_must_be_named(tmp_path: Path) -> None:
    path = save(tmp_path, "a.txt", "one\ntwo\n".encode("utf-16-le"))
    assert "a.txt:1: a NUL character" in refusal(path)
    assert "--encoding utf-16-le or --encoding utf-16-be" in refusal(path, ReadOptions(encoding="utf-16"))
    assert cells(path, ReadOptions(encoding="utf-16-le")) == [{"text": "one"}, {"text": "two"}]


def test_nul_is_refused(tmp_path: Path) -> None:
    assert "a.csv:3: a NUL character: this is a binary file" in refusal(save(tmp_path, "a.csv", "a,b\nc,d\ne,\0\n"))


# JSON.


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    lines = [
        '{"a": 1, "b": "007", "c": [1, null]}',
        "",
        '{"b": true, "d": {"e": 1.5}, "a": 12345678901234567890}',
    ]
    source, rows = open_rows(save(tmp_path, "a.jsonl", "\n".join(lines)))
    assert source.columns == ("a", "b", "c", "d")
    assert list(rows) == [
        Row(1, 1, {"a": 1, "b": "007", "c": [1, None]}),
        Row(2, 3, {"b": True, "d": {"e": 1.5}, "a": 12345678901234567890}),
    ]


BAD_LINES = [
    ('{"text": "b", "label": ', "column 24: Expecting value"),
    ('{"text": "b", "text": "c"}', "the key 'text' occurs twice"),
    ('{"text": {"a": 1, "a": 1}}', "the key 'a' occurs twice"),
    ('{"text": NaN}', "NaN is no JSON value; write null or leave the key out"),
    ('{"text": -Infinity}', "-Infinity is no JSON value; write null or leave the key out"),
    ('{"text": 1e999}', "the number 1e999 is too large"),
    ('["b"]', "an object was expected, found list"),
    ('{"text": "b"} x', "column 15: Extra data"),
    ('{"text": "\\ud83d"}', "half of a surrogate pair, which is no character"),
    ('{"text": "\\uDE00"}', "half of a surrogate pair, which is no character"),
]


@pytest.mark.parametrize(("line", "fault"), BAD_LINES)
def test_bad_json_line_is_told_or_kept(tmp_path: Path, line: str, fault: str) -> None:
    path = save(tmp_path, "a.jsonl", f'{{"text": "\\ud83d\\ude00"}}\n\n{line}\n{{"text": "c"}}\n')
    assert f"a.jsonl:3: {fault}\n" in refusal(path)
    _, rows = open_rows(path, errors="keep")
    assert list(rows) == [Row(1, 1, {"text": "😀"}), Row(2, 3, {}, fault), Row(3, 4, {"text": "c"})]


def test_deep_and_huge_json_is_a_fault_of_its_row(tmp_path: Path) -> None:
    path = save(tmp_path, "a.jsonl", "[" * 100_000 + '\n{"a": ' + "1" * 5_000 + '}\n{"a": 1}\n')
    _, rows = open_rows(path, errors="keep")
    assert [row.error is None for row in rows] == [False, False, True]


def test_truncated_json_lines(tmp_path: Path) -> None:
    whole = '{"text": "a", "label": "x"}\n' * 3
    assert "a.jsonl:3: column 10: Unterminated string" in refusal(save(tmp_path, "a.jsonl", whole[:-18]))


@pytest.mark.parametrize(
    ("document", "notes"),
    [
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], ()),
        ({"a": [1, 2], "b": ["x", "y"]}, ()),
        ({"data": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}, ("the rows are the list 'data'",)),
        (
            {"version": "1.1", "rows": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]},
            ("the rows are the list 'rows'",),
        ),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_documents(tmp_path: Path, document: Any, notes: tuple[str, ...], indent: int | None) -> None:
    source, rows = open_rows(save(tmp_path, "a.json", json.dumps(document, indent=indent)))
    assert (source.format, source.columns, source.notes) == ("json", ("a", "b"), notes)
    assert list(rows) == [Row(1, 0, {"a": 1, "b": "x"}), Row(2, 0, {"a": 2, "b": "y"})]


def test_json_document_longer_than_a_line_may_be(tmp_path: Path) -> None:
    path = save(tmp_path, "a.json", json.dumps([{"text": "x" * (LIMIT + 1)}]))
    assert [len(row["text"]) for row in cells(path)] == [LIMIT + 1]


def test_json_suffix_may_hold_json_lines(tmp_path: Path) -> None:
    path = save(tmp_path, "a.json", '{"a": 1}\n{"a": 2}\n')
    source, rows = open_rows(path)
    assert (source.format, source.notes) == ("jsonl", ("JSON Lines, although the name ends in .json",))
    assert [row.cells for row in rows] == [{"a": 1}, {"a": 2}]
    assert "add --format jsonl" in refusal(path, ReadOptions(format="json"))


def test_truncated_json_document(tmp_path: Path) -> None:
    path = save(tmp_path, "a.json", '[\n  {"text": "a"},\n  {"text":')
    assert "a.json:3:11: Expecting value: the file is cut off" in refusal(path)


@pytest.mark.parametrize("text", ['{"a": 1}', '"text"', '{"a": [1], "b": 2}'])
def test_json_without_rows_is_refused(tmp_path: Path, text: str) -> None:
    assert "a.json is neither a list of objects" in refusal(save(tmp_path, "a.json", text))


def test_json_columns_of_different_length(tmp_path: Path) -> None:
    message = refusal(save(tmp_path, "a.json", '{"a": [1, 2], "b": [1]}'))
    assert message.startswith("a.json: the columns differ in length: {'a': 2, 'b': 1}")


def test_json_row_that_is_no_object(tmp_path: Path) -> None:
    path = save(tmp_path, "a.json", '[{"a": 1}, 2]')
    assert "a.json, row 2: an object was expected, found int" in refusal(path)
    _, rows = open_rows(path, errors="keep")
    assert list(rows) == [Row(1, 0, {"a": 1}), Row(2, 0, {}, "an object was expected, found int")]


# Text and label-first.


def test_text_has_a_row_for_every_line(tmp_path: Path) -> None:
    path = save(tmp_path, "a.txt", '\na, b\t"c\n\n  d  \n')
    _, rows = open_rows(path)
    assert [(row.line, row.cells) for row in rows] == [
        (1, {"text": ""}),
        (2, {"text": 'a, b\t"c'}),
        (3, {"text": ""}),
        (4, {"text": "  d  "}),
    ]


def test_rows_of_text_are_the_lines_that_wc_counts(tmp_path: Path) -> None:
    path = save(tmp_path, "a.de", "a\rb\x85c\u2028d\x0ce\r\n\rf\r\r\ng")
    assert [(row.line, row.cells["text"]) for row in open_rows(path)[1]] == [
        (1, "a\rb\x85c\u2028d\x0ce"),
        (2, "\rf\r"),
        (3, "g"),
    ]


def test_text_whose_lines_all_end_in_carriage_returns(tmp_path: Path) -> None:
    assert cells(save(tmp_path, "a.txt", "a\rb\r")) == [{"text": "a"}, {"text": "b"}]


def test_text_that_looks_like_fasttext_is_told(tmp_path: Path) -> None:
    source, _ = open_rows(save(tmp_path, "a.txt", "__label__x a\n"))
    assert source.notes == ("the first line begins with __label__: if that is a label, add --format label-first",)


def test_fasttext_labels(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        "a.ft",
        "__label__2 Great CD: lovely  voice\n\n__label__a\t__label__b c __label__d\n__label__e\n",
    )
    assert cells(path) == [
        {"label": "2", "text": "Great CD: lovely  voice"},
        {"label": ["a", "b"], "text": "c __label__d"},
        {"label": "e", "text": ""},
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("A b\n c\n", "the line begins with a blank instead of a label"),
        ("A b\n__label__c d\n", "it begins with __label__, unlike the first line"),
        ("__label__a b\nc d\n", "it begins without __label__, unlike the first line"),
    ],
)
def test_line_without_a_proper_label(tmp_path: Path, text: str, fault: str) -> None:
    path = save(tmp_path, "a.label", text)
    assert f"a.label:2: {fault}\n" in refusal(path)
    _, rows = open_rows(path, errors="keep")
    assert [row.error for row in rows] == [None, fault]


# Parquet and Arrow.

TABLE = pa.table({"text": ["a", None, "NA"], "label": [1, 2, 3], "tags": [["x"], [], None]})
TABLE_ROWS = [
    {"text": "a", "label": 1, "tags": ["x"]},
    {"text": None, "label": 2, "tags": []},
    {"text": "NA", "label": 3, "tags": None},
]


def arrow_bytes(name: str, table: pa.Table = TABLE) -> bytes:
    sink = pa.BufferOutputStream()
    if name == "parquet":
        pq.write_table(table, sink)
    else:
        with (pa.ipc.new_file if name == "file" else pa.ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(("kind", "suffix"), [("parquet", "parquet"), ("file", "feather"), ("stream", "arrow")])
@pytest.mark.parametrize("packed", [False, True])
def test_arrow_formats(tmp_path: Path, kind: str, suffix: str, packed: bool) -> None:
    content = arrow_bytes(kind)
    path = save(tmp_path, f"a.{suffix}" + ".gz" * packed, gzip.compress(content) if packed else content)
    source, rows = open_rows(path)
    assert source.columns == ("text", "label", "tags")
    assert list(rows) == [Row(number, 0, cells) for number, cells in enumerate(TABLE_ROWS, start=1)]


@pytest.mark.parametrize(("kind", "suffix"), [("parquet", "parquet"), ("file", "arrow"), ("stream", "arrow")])
def test_truncated_arrow_formats(tmp_path: Path, kind: str, suffix: str) -> None:
    content = arrow_bytes(kind)
    message = refusal(save(tmp_path, f"a.{suffix}", content[: len(content) // 2]))
    assert message.startswith(f"a.{suffix} cannot be read as {suffix}: ")


def test_columns_of_one_name_in_arrow_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    message = refusal(save(tmp_path, "a.arrow", arrow_bytes("file", table)))
    assert message.startswith("a.arrow has two columns of one name: a, a")


# The file itself.


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "x,y\nb,c\n"),
        ("a.tsv", "x\ty\nb\tc\n"),
        ("a.jsonl", '{"x": "b"}'),
        ("a.txt", "b"),
        ("a.label", "x b"),
    ],
)
def test_gzip_by_suffix_and_by_content(tmp_path: Path, name: str, content: str) -> None:
    plain = cells(save(tmp_path, name, content))
    members = gzip.compress(content[:3].encode()) + gzip.compress(content[3:].encode()) + b"\0\0"
    for packed in (save(tmp_path, name + ".gz", members), save(tmp_path, name, members)):
        source, rows = open_rows(packed)
        assert source.notes[0] == "compressed with gzip"
        assert [row.cells for row in rows] == plain


def test_gzip_of_much_text_in_few_bytes(tmp_path: Path) -> None:
    path = save(tmp_path, "a.txt.gz", gzip.compress(b"the same line\n" * 700_001))
    assert sum(1 for _ in open_rows(path)[1]) == 700_001


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d,%d\n" % (n * n, n) for n in range(5_000)))
    checksum = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    for content, fault in [
        (whole[:-4], "a.csv.gz is cut off: its gzip stream has no end"),
        (whole[: len(whole) // 2], "a.csv.gz is cut off: its gzip stream has no end"),
        (checksum, "a.csv.gz is damaged: "),
        (whole + b"garbage", "a.csv.gz is damaged: "),
        (b"a,b\n", "a.csv.gz does not begin like a gzip file"),
    ]:
        assert refusal(save(tmp_path, "a.csv.gz", content)).startswith(fault)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_standard_input(format: str, packed: bool) -> None:
    content = {
        "csv": b"text,label\na,x\n",
        "tsv": b"text\tlabel\na\tx\n",
        "json": b'[{"text": "a", "label": "x"}]',
        "jsonl": b'{"text": "a", "label": "x"}\n',
        "parquet": arrow_bytes("parquet", pa.table({"text": ["a"], "label": ["x"]})),
        "arrow": arrow_bytes("stream", pa.table({"text": ["a"], "label": ["x"]})),
        "text": b"a\n",
        "label-first": b"x a\n",
        "squad": b'{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "x"}]}]}]}',
    }[format]
    stdin = io.BytesIO(gzip.compress(content) if packed else content)
    source, rows = open_rows("-", ReadOptions(format=format), stdin=stdin)
    expected = {"text": {"text": "a"}, "squad": {"context": "a", "question": "x"}}.get(
        format, {"text": "a", "label": "x"}
    )
    assert source.path == "-"
    assert [row.cells for row in rows] == [expected]


def test_standard_input_needs_a_format() -> None:
    assert "--format csv|tsv|json|jsonl|parquet|arrow|text|label-first" in refusal("-", stdin=io.BytesIO(b"a\n"))


def test_fault_on_standard_input_names_it() -> None:
    stdin = io.BytesIO(b"a,b\nc\n")
    assert refusal("-", ReadOptions(format="csv"), stdin=stdin).startswith("standard input:2: 1 field")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "a.csv.gz is empty"),
        ("a.csv", "text,label\n", "a.csv has a header (text, label) but no rows"),
        ("a.csv", "text,label\n\n\n", "a.csv has a header (text, label) but no rows"),
        ("a.csv", "\n\n", "a.csv holds blank lines only"),
        ("a.jsonl", "\n \n", "a.jsonl holds no rows"),
        ("a.json", "[]", "a.json holds no rows"),
        ("a.label", "\n", "a.label holds no rows"),
        ("a.parquet", arrow_bytes("parquet", TABLE.slice(0, 0)), "a.parquet holds no rows"),
        ("a.xlsx", "", "a.xlsx ends in .xlsx; known are .csv, .tsv, .json, "),
        ("reviews", "", "reviews has no suffix; known are .csv, "),
    ],
)
def test_file_without_rows_or_format_is_refused(tmp_path: Path, name: str, content: str | bytes, problem: str) -> None:
    assert refusal(save(tmp_path, name, content)).startswith(problem)


def test_missing_file_suggests_its_neighbours(tmp_path: Path) -> None:
    save(tmp_path, "reviews.csv", "a,b\n")
    assert refusal(tmp_path / "review.csv") == "review.csv does not exist\nDid you mean reviews.csv?"
    assert "nor does the folder" in refusal(tmp_path / "nowhere" / "a.csv")
    with pytest.raises(UserError, match="Did you mean"):
        sha256(tmp_path / "review.csv")


def test_folder_is_refused_with_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "data.csv"
    folder.mkdir()
    save(folder, "train.csv", "a,b\n")
    assert refusal(folder) == "data.csv is a folder, not a file\nName one file in it: train.csv"


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path, "a.csv", "a,b\n")
    monkeypatch.setattr("builtins.open", denied)
    assert refusal(path).startswith("a.csv cannot be read: Permission denied")


def test_unknown_format_suggests_the_nearest(tmp_path: Path) -> None:
    assert "did you mean jsonl?" in refusal(save(tmp_path, "a.txt", "a\n"), ReadOptions(format="jsonlines"))


def test_options_without_effect_are_told(tmp_path: Path) -> None:
    source, _ = open_rows(save(tmp_path, "a.jsonl", '{"a": 1}'), ReadOptions(delimiter=";", encoding="utf-8"))
    assert source.notes == ("encoding utf-8, as asked", "delimiter is not used: jsonl has none")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(save(tmp_path, "a.txt", "abc")) == expected


# Everything at once.


@pytest.mark.parametrize("format", FORMATS)
@steady
@given(content=st.binary(max_size=200), errors=st.sampled_from(["raise", "keep"]))
def test_random_bytes_give_rows_or_a_user_error(format: str, content: bytes, errors: Any) -> None:
    try:
        _, rows = open_rows("-", ReadOptions(format=format), errors=errors, stdin=io.BytesIO(content))
        assert all(isinstance(row, Row) for row in rows)
    except UserError as error:
        assert error.problem


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in ("parquet", "arrow")])
@steady
@given(text=st.text(st.sampled_from('ab1",;\t|\n\r{}[]:\\\0é\ufeff'), max_size=60), gz=st.booleans())
def test_random_text_gives_rows_or_a_user_error(format: str, text: str, gz: bool) -> None:
    content = gzip.compress(text.encode()) if gz else text.encode()
    try:
        _, rows = open_rows("-", ReadOptions(format=format), errors="keep", stdin=io.BytesIO(content))
        assert [row.number for row in rows] != [0]
    except UserError as error:
        assert error.problem


@pytest.mark.parametrize(("kind", "format"), [("parquet", "parquet"), ("file", "arrow"), ("stream", "arrow")])
def test_flipped_bytes_in_arrow_formats_give_rows_or_a_user_error(kind: str, format: str) -> None:
    content = arrow_bytes(kind)
    for position in range(len(content)):
        damaged = content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]
        try:
            _, rows = open_rows("-", ReadOptions(format=format), stdin=io.BytesIO(damaged))
            assert len(list(rows)) >= 0
        except UserError as error:
            assert error.problem


@pytest.mark.parametrize(
    ("name", "line"),
    [("a.csv", '"a short, quoted cell",1\n'), ("a.jsonl", '{"text": "a short text", "label": 1}\n')],
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str, line: str) -> None:
    path = save(tmp_path, name, ("text,label\n" if name == "a.csv" else "") + line * 200_000)
    _, rows = open_rows(path)
    next(rows)
    tracemalloc.start()
    count = sum(1 for _ in rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 199_999
    assert peak < 8 * 2**20
