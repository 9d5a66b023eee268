"""From what the user named to rows: files, folders that name their splits, and hub data sets."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit import hub
from ftkit.config import DataSection
from ftkit.data import load
from ftkit.data.files import ReadOptions, Row
from ftkit.errors import UserError

CSV = "text,label\ngood,1\nbad,0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., str]:
    """Makes a folder of files with these names."""

    def make(*names: str) -> str:
        place = tmp_path / "reviews"
        place.mkdir()
        for name in names:
            (place / name).write_text(CSV)
        return str(place)

    return make


def refusal(data: DataSection) -> str:
    with pytest.raises(UserError) as caught:
        load.sources(data)
    return str(caught.value)


# Files.


def test_a_file_is_its_rows_with_what_was_found_out(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"\xef\xbb\xbf" + CSV.replace(",", ";").encode())
    assert load.load(str(path), ReadOptions()) == load.Table(
        source=str(path),
        columns=("text", "label"),
        rows=[Row(1, 2, {"text": "good", "label": "1"}), Row(2, 3, {"text": "bad", "label": "0"})],
        notes=("encoding utf-8 with BOM", "separator semicolon"),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def test_the_options_of_a_recipe_reach_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "reviews.dat"
    path.write_bytes("好|1\n坏|0\n".encode("gb18030"))
    options = load.read_options(
        DataSection(format="csv", encoding="gb18030", delimiter="|", header=False, quoting=False)
    )
    assert options == ReadOptions("csv", "gb18030", "|", False, False)
    assert [row.cells for row in load.load(str(path), options).rows] == [
        {"column1": "好", "column2": "1"},
        {"column1": "坏", "column2": "0"},
    ]


def test_a_bad_row_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text(CSV + "one\n")
    with pytest.raises(UserError, match=r"reviews\.csv:4: 1 field, but the header has 2"):
        load.load(str(path), ReadOptions())


@pytest.mark.parametrize("content", ["", "text,label\n", "\n\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text(content)
    with pytest.raises(UserError):
        load.load(str(path), ReadOptions())


# Objects of languages.


def jsonl(tmp_path: Path, *rows: Any) -> load.Table:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return load.load(str(path), ReadOptions())


def test_texts_in_an_object_of_languages_become_columns(tmp_path: Path) -> None:
    table = jsonl(
        tmp_path,
        {"id": 1, "translation": {"en": "One", "de": "Eins"}, "meta": {"en": 1, "de": 2}},
        {"id": 2, "translation": {"de": "Zwei", "fr": "Deux"}, "meta": {}},
        {"id": 3, "translation": None, "meta": {}},
    )
    assert table.columns == ("id", "en", "de", "fr", "meta")
    assert [row.cells for row in table.rows] == [
        {"id": 1, "en": "One", "de": "Eins", "meta": {"en": 1, "de": 2}},
        {"id": 2, "de": "Zwei", "fr": "Deux", "meta": {}},
        {"id": 3, "meta": {}},
    ]
    assert [(row.number, row.line) for row in table.rows] == [(1, 1), (2, 2), (3, 3)]
    assert table.notes == ("the texts in 'translation' are the columns en, de, fr",)


def test_a_file_to_translate_may_hold_its_source_alone(tmp_path: Path) -> None:
    assert jsonl(tmp_path, {"translation": {"en": "One"}}).columns == ("en",)


@pytest.mark.parametrize(
    "row",
    [
        {"translation": "One"},
        {"translation": None},
        {"translation": {"en": "One", "klingon": "wa"}},
        {"translation": {"en": "One", "de": "Eins"}, "en": "1"},
        {"texts": {"en": "One", "de": "Eins"}},
    ],
)
def test_other_objects_stay_as_they_are(tmp_path: Path, row: dict[str, Any]) -> None:
    table = jsonl(tmp_path, row)
    assert table.columns == tuple(row)
    assert [found.cells for found in table.rows] == [row]


# Which source each split comes from.


def test_a_file_alone_gives_a_tenth_of_its_rows_for_validation() -> None:
    assert load.sources(DataSection(train="a.csv")) == {"train": "a.csv", "validation": 0.1}


def test_what_the_user_named_is_taken() -> None:
    data = DataSection(train="a.csv", validation="b.csv", test="c.csv")
    assert load.sources(data) == {"train": "a.csv", "validation": "b.csv", "test": "c.csv"}


def test_a_share_is_taken() -> None:
    assert load.sources(DataSection(train="a.csv", validation=0.25)) == {"train": "a.csv", "validation": 0.25}


def test_no_data_are_refused() -> None:
    assert refusal(DataSection()) == (
        "no data to train on\nftkit train reviews.csv, or data: {train: ...} in the recipe"
    )


# Folders.


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.csv"], {"train": "train.csv", "validation": 0.1}),
        (["train.csv", "dev.csv"], {"train": "train.csv", "validation": "dev.csv"}),
        (["training.jsonl", "valid.tsv", "test.csv.gz"], {"train": "training.jsonl", "validation": "valid.tsv"}),
        (["Train.CSV", "VAL.csv"], {"train": "Train.CSV", "validation": "VAL.csv"}),
        (["train.csv", "README.md", ".train.csv.swp", "train", "retrain.csv"], {"train": "train.csv"}),
    ],
)
def test_a_folder_names_its_splits(folder: Callable[..., str], names: list[str], expected: dict[str, Any]) -> None:
    place = folder(*names)
    if "test.csv.gz" in names:
        expected = {**expected, "test": "test.csv.gz"}
    whole = {split: f"{place}/{name}" if isinstance(name, str) else name for split, name in expected.items()}
    assert load.sources(DataSection(train=place)) == {"validation": 0.1, **whole}


def test_what_the_user_named_goes_before_what_the_folder_names(folder: Callable[..., str]) -> None:
    place = folder("train.csv", "dev.csv", "test.csv")
    data = DataSection(train=place, validation=0.2, test="other.csv")
    assert load.sources(data) == {"train": f"{place}/train.csv", "validation": 0.2, "test": "other.csv"}


def test_a_folder_without_training_rows_is_refused_with_what_it_has(folder: Callable[..., str]) -> None:
    place = folder("test.csv", "reviews.csv")
    assert refusal(DataSection(train=place)) == (
        f"the folder {place} has no file named train.*; it has reviews.csv, test.csv\n"
        "Rename one, or name the file itself: ftkit train FOLDER/FILE"
    )


def test_an_empty_folder_is_refused(folder: Callable[..., str]) -> None:
    assert "has no file named train.*; it has no files" in refusal(DataSection(train=folder()))


def test_a_folder_with_two_files_for_a_split_is_refused(folder: Callable[..., str]) -> None:
    place = folder("train.csv", "train.jsonl")
    assert refusal(DataSection(train=place)) == (
        f"{place} has several train files: train.csv, train.jsonl\nName the one you mean: ftkit train {place}/train.csv"
    )


# Data sets of the hub; `tests/test_hub.py` fetches them.


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the hub is asked for; it has one data set, of two rows in each of its splits, at the commit "abc"."""
    calls: list[tuple[Any, ...]] = []

    def splits(source: hub.DataSource) -> list[str]:
        calls.append(source)
        return ["train", "val", "test"] if source.name == "a/b" else ["everything"]

    def rows(source: hub.DataSource) -> tuple[str, tuple[str, ...], Any]:
        calls.append(source)
        cells = [{"text": "good", "label": 1}, {"text": "bad", "label": None}]
        return "abc", ("text", "label"), iter(cells)

    monkeypatch.setattr(hub, "dataset_splits", splits)
    monkeypatch.setattr(hub, "dataset_rows", rows)
    return calls


def test_a_hub_data_set_names_its_splits(asked: list[tuple[Any, ...]]) -> None:
    assert load.sources(DataSection(train="hub:a/b/small")) == {
        "train": "hub:a/b/small@train",
        "validation": "hub:a/b/small@val",
        "test": "hub:a/b/small@test",
    }
    assert asked == [("a/b", "small", None, None)]


@pytest.mark.usefixtures("asked")
def test_the_splits_of_a_pinned_data_set_are_pinned() -> None:
    assert load.sources(DataSection(train="hub:a/b#v1"))["validation"] == "hub:a/b@val#v1"


def test_a_named_split_of_a_hub_data_set_is_the_only_one_taken(asked: list[tuple[Any, ...]]) -> None:
    assert load.sources(DataSection(train="hub:a/b@test")) == {"train": "hub:a/b@test", "validation": 0.1}
    assert asked == []


@pytest.mark.usefixtures("asked")
def test_a_hub_data_set_without_training_rows_is_refused_with_its_splits() -> None:
    assert refusal(DataSection(train="hub:c/d")) == (
        "hub:c/d has the splits everything and no train split\nhub:c/d@SPLIT names one"
    )


def test_rows_of_a_hub_data_set_have_numbers_and_no_lines(asked: list[tuple[Any, ...]]) -> None:
    table = load.load("hub:a/b", ReadOptions(), split="test")
    assert asked == [("a/b", None, "test", None)]
    assert (table.source, table.exact, table.columns) == ("hub:a/b@test", "hub:a/b@test#abc", ("text", "label"))
    assert table.notes == ("at commit abc",)
    assert table.rows == [Row(1, 0, {"text": "good", "label": 1}), Row(2, 0, {"text": "bad", "label": None})]


@pytest.mark.usefixtures("asked")
def test_a_named_split_is_named_once_in_the_source() -> None:
    assert load.load("hub:a/b@val", ReadOptions()).source == "hub:a/b@val"


@pytest.mark.usefixtures("asked")
def test_a_branch_of_a_data_set_is_told_by_its_commit() -> None:
    table = load.load("hub:a/b#main", ReadOptions())
    assert (table.source, table.exact, table.notes) == (
        "hub:a/b@train#main",
        "hub:a/b@train#abc",
        ("at commit abc",),
    )
    assert load.load("hub:a/b#abc", ReadOptions()).notes == ()


def test_a_named_split_goes_before_the_one_that_is_needed(asked: list[tuple[Any, ...]]) -> None:
    load.load("hub:a/b@val", ReadOptions(), split="test")
    assert asked == [("a/b", None, "val", None)]


def test_the_content_of_a_hub_data_set_has_a_hash(
    asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = (load.load("hub:a/b", ReadOptions()).sha256 for _ in range(2))
    other = ("text", "label"), iter([{"text": "x", "label": 1}])
    monkeypatch.setattr(hub, "dataset_rows", lambda source: ("abc", *other))
    assert first == again != load.load("hub:a/b", ReadOptions()).sha256


def test_an_empty_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "dataset_rows", lambda source: ("abc", ("text",), iter([])))
    with pytest.raises(UserError, match="hub:a/b holds no rows in its split train"):
        load.load("hub:a/b", ReadOptions())


# Cells in messages.


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("good", "good"),
        ("two\nlines \t here", "two lines here"),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 39 + "…"),
        (None, "None"),
        (1.5, "1.5"),
        (["a", "b"], "['a', 'b']"),
    ],
)
def test_a_cell_in_a_message_is_short_and_on_one_line(value: Any, shown: str) -> None:
    assert load.describe_cell(value) == shown


def test_names_that_only_late_rows_have_are_columns_too(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"
    early = '{"text": "' + "a" * 100 + '"}\n'
    path.write_text(early * 20_000 + '{"text": "b", "is_impossible": true}\n', encoding="utf-8")
    found = load.load(str(path), ReadOptions())
    assert found.columns == ("text", "is_impossible")
    assert found.rows[-1].cells == {"text": "b", "is_impossible": True}


def test_a_pipe_is_read_once_and_known_by_what_came_through_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    os.mkfifo(tmp_path / "pipe.csv")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe.csv").write_text(CSV))
    writer.start()
    piped, plain = (
        load.load(str(tmp_path / "pipe.csv"), ReadOptions()),
        load.load(str(tmp_path / "a.csv"), ReadOptions()),
    )
    writer.join()
    assert (piped.rows, piped.sha256) == (plain.rows, plain.sha256)
    assert piped.source == str(tmp_path / "pipe.csv")
