"""Line-aligned files: which files a name means, and which rows they hold."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.config import DataSection
from ftkit.data import load, parallel
from ftkit.data.files import ReadOptions, Row, file_format, language_ending
from ftkit.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FIND_OUT = ReadOptions()
steady = settings(deadline=None, derandomize=True)


def save(folder: Path, **contents: str | bytes) -> str:
    """Writes train.LANGUAGE for each language; returns the path without the ending."""
    for language, content in contents.items():
        (folder / f"train.{language}").write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / "train")


def cells(source: str, options: ReadOptions = FIND_OUT) -> list[dict[str, Any]]:
    return [row.cells for row in load.load(source, options).rows]


def refusal(source: str, options: ReadOptions = FIND_OUT) -> str:
    with pytest.raises(UserError) as caught:
        load.load(source, options)
    return str(caught.value)


# Names.


@pytest.mark.parametrize("form", ["{0}", "{0}.{{de,en}}", "{0}.{{ de, en }}", "{0}.de,{0}.en", "{0}.de, {0}.en"])
def test_the_ways_to_name_files_together(tmp_path: Path, form: str) -> None:
    stem = save(tmp_path, en="One\n", de="Eins\n")
    source = form.format(stem)
    table = load.load(source, FIND_OUT)
    assert (table.source, table.columns) == (source, ("de", "en"))
    assert table.rows == [Row(1, 1, {"de": "Eins", "en": "One"})]
    assert table.notes == ("line-aligned: train.de, train.en",)


def test_the_columns_are_in_the_order_that_was_named(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", de="Eins\n", fr="Un\n")
    assert load.load(f"{stem}.{{fr,en}}", FIND_OUT).columns == ("fr", "en")
    assert load.load(f"{stem}.fr,{stem}.de", FIND_OUT).columns == ("fr", "de")
    assert load.load(stem, FIND_OUT).columns == ("de", "en", "fr")


def test_files_of_different_names_are_named_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "source.en").write_text("One\n")
    (tmp_path / "reference.zh-Hant").write_text("一\n")
    assert cells(f"{tmp_path}/source.en,{tmp_path}/reference.zh-Hant") == [{"en": "One", "zh-Hant": "一"}]


def test_a_name_in_the_working_folder(tmp_path: Path, monkeypatch: Any) -> None:
    save(tmp_path, en="One\n", de="Eins\n")
    monkeypatch.chdir(tmp_path)
    expected = [{"de": "Eins", "en": "One"}]
    assert [cells(source) for source in ("train", "train.{de,en}", "train.de,train.en")] == [expected] * 3


@pytest.mark.parametrize("form", ["{0}", "{0}.{{de,en}}", "{0}.{{de,en}}.gz", "{0}.de.gz,{0}.en.gz"])
def test_gzipped_files(tmp_path: Path, form: str) -> None:
    stem = save(tmp_path, **{"en.gz": gzip.compress(b"One\n"), "de.gz": gzip.compress(b"Eins\n")})
    assert cells(form.format(stem)) == [{"de": "Eins", "en": "One"}]


def test_only_one_of_the_files_is_gzipped(tmp_path: Path) -> None:
    stem = save(tmp_path, **{"en.gz": gzip.compress(b"One\n"), "de": b"Eins\n"})
    table = load.load(stem, FIND_OUT)
    assert table.rows[0].cells == {"de": "Eins", "en": "One"}
    assert table.notes == ("line-aligned: train.de, train.en.gz", "en: compressed with gzip")


def test_files_that_end_in_no_language_are_left_alone(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", de="Eins\n", csv="x\n", bak="x\n", md="x\n", txt="x\n")
    assert load.load(stem, FIND_OUT).columns == ("de", "en")


def test_a_file_that_exists_is_one_file(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", de="Eins\n")
    for name in ("train", "a.en,b.de"):
        (tmp_path / name).write_text("x\n")
        assert cells(str(tmp_path / name), ReadOptions("text")) == [{"text": "x"}]
    assert cells(f"{stem}.en") == [{"text": "One"}]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.en", "en"),
        ("a.EN", "EN"),
        ("a.zh-Hant", "zh-Hant"),
        ("a.zh_CN", "zh_CN"),
        ("a.b.deu_Latn.gz", "deu_Latn"),
        ("a.pt-BR.GZ", "pt-BR"),
        ("a.de-en", None),  # a pair, not German of a region
        ("a.bak", None),
        ("a.english", None),
        ("a.xx", None),
        ("en", None),
        ("a.txt", None),
        ("a.tsv.gz", None),
    ],
)
def test_endings_that_name_a_language(name: str, expected: str | None) -> None:
    assert language_ending(name) == expected
    if expected:
        assert file_format(name, None) == "text"


def test_a_language_alone_is_refused(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", csv="a\n")
    assert f"of line-aligned files of that name there is only {stem}.en" in refusal(stem)
    assert "names one language only" in refusal(f"{stem}.{{en}}")


def test_a_brace_that_is_no_language_is_refused(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", src="Eins\n")
    assert "'src' in " in refusal(f"{stem}.{{en,src}}")
    assert "'' in " in refusal(f"{stem}.{{en,}}")


@pytest.mark.parametrize("other", ["en.gz", "eng_Latn", "en-US"])
def test_two_files_in_a_language_are_refused(tmp_path: Path, other: str) -> None:
    content = gzip.compress(b"One\n") if other.endswith("gz") else b"One\n"
    stem = save(tmp_path, en="One\n", de="Eins\n", **{other: content})
    message = refusal(stem)
    assert "has two files in English: " in message
    assert f"train.{other}" in message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", fr="Un\n")
    assert f"{stem}.de does not exist" in refusal(f"{stem}.{{en,de}}")
    assert f"{stem}x does not exist" in refusal(f"{stem}x")


# Lines.


def test_rows_are_the_lines_that_wc_counts(tmp_path: Path) -> None:
    english = "a\x85b\u2028c\x0bd\x0ce\x1cf\rg\n\n  i \n"
    stem = save(tmp_path, en=english, de="1\n2\n3\n")
    rows = load.load(stem, FIND_OUT).rows
    assert [(row.number, row.line, row.cells["en"]) for row in rows] == [
        (1, 1, "a\x85b\u2028c\x0bd\x0ce\x1cf\rg"),
        (2, 2, ""),
        (3, 3, "  i "),
    ]
    assert len(rows) == english.count("\n")


def test_byte_order_marks_and_line_ends_of_windows(tmp_path: Path) -> None:
    stem = save(tmp_path, en=b"\xef\xbb\xbfOne\r\nTwo\r\n", de="Eins\nZwei", fr="Un\nDeux\n".encode("utf-16"))
    table = load.load(stem, FIND_OUT)
    assert [row.cells for row in table.rows] == [
        {"de": "Eins", "en": "One", "fr": "Un"},
        {"de": "Zwei", "en": "Two", "fr": "Deux"},
    ]
    assert table.notes[1:] == ("en: encoding utf-8 with BOM", "fr: encoding utf-16-le with BOM")


@settings(steady, max_examples=50)
@given(st.lists(st.tuples(*[st.text(st.sampled_from('ab \t,"\r\x85\u2028é汉'), max_size=4)] * 2), min_size=1))
def test_lines_come_back_as_they_were(tmp_path_factory: Any, lines: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.getbasetemp()
    lines = [("first", "first"), *((en.rstrip("\r"), de.rstrip("\r")) for en, de in lines)]
    stem = save(folder, en="".join(f"{en}\n" for en, _ in lines), de="".join(f"{de}\r\n" for _, de in lines))
    assert [(row["en"], row["de"]) for row in cells(stem)] == lines


def test_the_encoding_of_the_options_is_that_of_all_files(tmp_path: Path) -> None:
    stem = save(tmp_path, en="café\n".encode("latin-1"), de="schön\n".encode("latin-1"))
    assert cells(stem, ReadOptions(encoding="latin-1")) == [{"de": "schön", "en": "café"}]
    assert f"{stem}.de:1: byte 0xF6" in refusal(stem)


@pytest.mark.parametrize(
    ("english", "german"), [("1\n2\n3\n4\n", "1\n2\n"), ("1\n2", "1\n2\n3\n4\n5\n"), ("1\n", "1\n\n")]
)
def test_unequal_numbers_of_lines_are_refused_with_both(tmp_path: Path, english: str, german: str) -> None:
    message = refusal(save(tmp_path, en=english, de=german))
    assert f"train.de {len(german.splitlines())}, train.en {len(english.splitlines())}" in message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", de="")
    assert f"{stem}.de is empty" in refusal(stem)


def test_the_hash_is_of_the_content_and_not_of_the_order(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", de="Eins\n")
    digests = [load.load(f"{stem}.{{{order}}}", FIND_OUT).sha256 for order in ("en,de", "de,en")]
    assert digests[0] == digests[1] == load.load(stem, FIND_OUT).sha256
    save(tmp_path, en="Eins\n", de="One\n")
    assert load.load(stem, FIND_OUT).sha256 != digests[0]


def test_the_files_that_a_source_consists_of(tmp_path: Path) -> None:
    stem = save(tmp_path, en="One\n", de="Eins\n")
    assert load.inputs(stem, FIND_OUT) == [Path(f"{stem}.de"), Path(f"{stem}.en")]
    assert load.inputs(f"{stem}.en", FIND_OUT) == [Path(f"{stem}.en")]
    assert load.inputs("-", FIND_OUT) == load.inputs("hub:a/b", FIND_OUT) == []


# Folders.


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("x\n")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.en", "train.de"], {"train": "train.{de,en}", "validation": 0.1}),
        (
            ["train.en", "train.de", "dev.en", "dev.de", "test.en", "test.de", "README.md"],
            {"train": "train.{de,en}", "validation": "dev.{de,en}", "test": "test.{de,en}"},
        ),
        (
            ["train.en", "train.de", "valid.en", "valid.de", "test_2016_flickr.en", "test_2016_flickr.de"],
            {"train": "train.{de,en}", "validation": "valid.{de,en}", "test": "test_2016_flickr.{de,en}"},
        ),
        (
            ["train.en", "train.de", "train.raw.en", "train.raw.de", "test_a.en", "test_a.de", "test.en", "test.de"],
            {"train": "train.{de,en}", "validation": 0.1, "test": "test.{de,en}"},
        ),
        (["train.en", "train.de", "val.tsv"], {"train": "train.{de,en}", "validation": "val.tsv"}),
    ],
)
def test_a_folder_names_its_splits(tmp_path: Path, names: list[str], expected: dict[str, Any]) -> None:
    fill(tmp_path, *names)
    whole = {split: f"{tmp_path}/{name}" if isinstance(name, str) else name for split, name in expected.items()}
    assert load.sources(DataSection(train=str(tmp_path))) == whole


def test_several_test_sets_in_a_folder_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "train.en", "train.de", "test_a.en", "test_a.de", "test_b.en", "test_b.de")
    with pytest.raises(UserError) as caught:
        load.sources(DataSection(train=str(tmp_path)))
    assert caught.value.problem == f"{tmp_path} has several test files: test_a.{{de,en}}, test_b.{{de,en}}"
    assert caught.value.remedy == f"Name the one you mean: --test {tmp_path}/test_a.{{de,en}}"
    named = f"{tmp_path}/test_b"
    assert load.sources(DataSection(train=str(tmp_path), test=named))["test"] == named


def test_gzipped_files_of_a_folder_can_be_read_by_the_name_that_it_gives(tmp_path: Path) -> None:
    for language in ("en", "de"):
        (tmp_path / f"train.{language}.gz").write_bytes(gzip.compress(b"x\n"))
    source = load.sources(DataSection(train=str(tmp_path)))["train"]
    assert source == f"{tmp_path}/train.{{de,en}}.gz"
    assert cells(str(source)) == [{"de": "x", "en": "x"}]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("corpus/train.{en,de}.gz", "corpus/train"),
        ("corpus/train.en,corpus/train.de", "corpus/train"),
        ("corpus/train", "corpus/train"),
        ("reviews.csv", "reviews.csv"),
        ("a,b.csv", "a,b.csv"),
    ],
)
def test_the_name_without_languages(source: str, expected: str) -> None:
    assert parallel.stem(source) == expected


@pytest.mark.skipif(not (SHARED / "multi30k").is_dir(), reason="the shared data sets are not here")
def test_multi30k_is_read_whole() -> None:
    sources = load.sources(DataSection(train=str(SHARED / "multi30k")))
    tables = {split: load.load(str(source), FIND_OUT) for split, source in sources.items()}
    assert {split: len(table.rows) for split, table in tables.items()} == {
        "train": 28_991,
        "validation": 1_014,
        "test": 1_000,
    }
    assert {table.columns for table in tables.values()} == {("cs", "de", "en", "fr")}
