"""Tokenized rows and their cache: found again by their content, never used when damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftkit import preparation
from ftkit.data.features import Features, cache_folder
from ftkit.errors import UserError
from ftkit.heads.labels import LabelsHead
from ftkit.recipes.base import Examples
from ftkit.recipes.classification import Classification
from ftkit.recipes.labelled import LabelsRecord

NAMES = [field.name for field in fields(Features)]


def features() -> Features:
    """Three rows: of one window, of two, of one."""
    return Features(
        tokens=np.asarray([2, 5, 3, 2, 6, 7, 3, 2, 7, 8, 3, 2, 3], dtype=np.int32),
        starts=np.asarray([0, 3, 7, 11, 13]),
        second=np.asarray([3, 4, 4, 2], dtype=np.int32),
        first_window=np.asarray([0, 1, 3, 4]),
        text_tokens=np.asarray([5, 1]),
    )


def as_lists(found: Features | None) -> dict[str, list[int]]:
    assert found is not None
    return {name: getattr(found, name).tolist() for name in NAMES}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "features" / "abc"
    features().save(folder)
    return folder


# What the arrays say.


def test_rows_and_their_windows() -> None:
    found = features()
    assert found.rows == 3
    assert found.lengths.tolist() == [3, 4, 4, 2]
    assert found.windows_of_rows.tolist() == [1, 2, 1]
    assert found.row_lengths.tolist() == [3, 8, 2]
    assert found.row_of_window.tolist() == [0, 1, 1, 2]
    assert found.unknown_share == 0.2


def test_the_windows_of_rows_come_in_the_order_of_the_rows() -> None:
    assert features().windows_of(np.asarray([2, 1])).tolist() == [3, 1, 2]


def test_a_row_that_cannot_be_read_has_no_windows() -> None:
    found = replace(features(), first_window=np.asarray([0, 0, 2, 4]))
    assert found.windows_of_rows.tolist() == [0, 2, 2]
    assert found.windows_of(np.asarray([2, 0, 1])).tolist() == [2, 3, 0, 1]
    assert found.row_of_window.tolist() == [1, 1, 2, 2]
    as_many = replace(features(), first_window=np.asarray([0, 0, 2, 3, 4]))  # rows as windows
    assert as_many.windows_of(np.asarray([1, 0])).tolist() == [0, 1]


def test_rows_of_one_window_each_are_their_own_windows() -> None:
    found = Features(
        tokens=np.zeros(6, dtype=np.int32),
        starts=np.asarray([0, 2, 4, 6]),
        second=np.full(3, 2, dtype=np.int32),
        first_window=np.asarray([0, 1, 2, 3]),
        text_tokens=np.asarray([0, 0]),
    )
    assert found.windows_of(np.asarray([2, 0])).tolist() == [2, 0]
    assert found.unknown_share == 0.0


# On disk.


def test_what_was_saved_is_loaded(saved: Path) -> None:
    assert as_lists(Features.load(saved)) == as_lists(features())


def test_loaded_arrays_keep_their_types_and_lie_on_disk(saved: Path) -> None:
    found = Features.load(saved)
    assert [getattr(found, name).dtype for name in NAMES] == [getattr(features(), name).dtype for name in NAMES]
    assert all(isinstance(getattr(found, name), np.memmap) for name in NAMES)


def test_nothing_else_is_left_beside_it(saved: Path) -> None:
    assert [path.name for path in saved.parent.iterdir()] == ["abc"]


def test_saving_the_same_twice_is_no_error(saved: Path) -> None:
    features().save(saved)
    assert as_lists(Features.load(saved)) == as_lists(features())
    assert [path.name for path in saved.parent.iterdir()] == ["abc"]


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        features().save(tmp_path / "features" / "abc")
    assert list((tmp_path / "features").iterdir()) == []


def test_features_that_are_absent_are_none(tmp_path: Path) -> None:
    assert Features.load(tmp_path / "nothing") is None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_array_is_not_used(saved: Path, name: str, damage: Any) -> None:
    damage(saved / f"{name}.npy")
    assert Features.load(saved) is None


def test_an_edited_array_of_the_same_size_and_time_is_not_used(saved: Path) -> None:
    path = saved / "tokens.npy"
    before = path.stat()
    tokens = np.load(path)
    tokens[1] = 9
    np.save(path, tokens)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert Features.load(saved) is None


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"tokens": 1}'])
def test_a_damaged_list_of_hashes_is_not_trusted(saved: Path, content: str) -> None:
    (saved / "sha256.json").write_text(content)
    assert Features.load(saved) is None


def test_arrays_are_never_unpickled(saved: Path) -> None:
    path = saved / "tokens.npy"
    np.save(path, np.asarray([{"harm": 1}], dtype=object), allow_pickle=True)
    hashes = json.loads((saved / "sha256.json").read_text())
    hashes["tokens"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (saved / "sha256.json").write_text(json.dumps(hashes))
    assert Features.load(saved) is None


# The cache of a training.


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tokenizer(words: str = "good bad food") -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", *words.split()]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def head(words: str = "good bad food", max_length: int = 16, overlap: int = 2) -> LabelsHead:
    return LabelsHead(tokenizer(words), False, max_length, overlap)


def rows(*texts: tuple[str, ...] | str) -> Examples:
    listed = [(text,) if isinstance(text, str) else text for text in texts]
    return Examples("reviews.csv", listed, [None] * len(listed))


def window_ids(found: Features) -> list[list[int]]:
    return [found.tokens[a:b].tolist() for a, b in pairwise(found.starts)]


GOOD_FOOD, BAD_FOOD = [2, 5, 7, 3], [2, 6, 7, 3]


def cached(examples: Examples, by: LabelsHead | None = None) -> tuple[list[list[int]], Path]:
    record = LabelsRecord(task="classification", columns={"text": "text"})
    texts = Classification().inputs(examples, record, training=True)
    found, folder = preparation.cached_features(texts, Path("model"), by or head())
    return window_ids(found), folder


def test_rows_are_tokenized_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached(rows("good food", "bad food"))
    monkeypatch.setattr(LabelsHead, "encode", lambda *a: pytest.fail("tokenized again"))
    assert cached(rows("good food", "bad food")) == first == ([GOOD_FOOD, BAD_FOOD], first[1])
    assert [path.name for path in (cache / "features").iterdir()] == [first[1].name]


def test_the_name_and_the_time_of_a_file_do_not_count() -> None:
    renamed = Examples("other.csv", [("good food",)], ["x"], [7], [8])
    assert cached(renamed) == cached(rows("good food"))


def test_special_tokens_of_another_checkpoint_count() -> None:
    other = head()
    other.tokenizer.eos_token = "bad"
    assert cached(rows("good food"), other)[1] != cached(rows("good food"))[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_that_was_edited_is_made_again(name: str) -> None:
    _, folder = cached(rows("good food"))
    flip(folder / f"{name}.npy")
    assert cached(rows("good food")) == ([GOOD_FOOD], folder)
    assert as_lists(Features.load(folder))["tokens"] == GOOD_FOOD


@pytest.mark.parametrize(
    ("examples", "by"),
    [
        (rows("bad food"), head()),
        (rows("food good"), head()),
        (rows("good", "food"), head()),
        (rows(("good", "food")), head()),
        (rows("good food "), head()),
        (rows("good food"), head(words="bad good food")),
        (rows("good food"), head(max_length=17)),
        (rows("good food"), head(overlap=3)),
    ],
)
def test_whatever_changes_the_windows_changes_the_folder(examples: Examples, by: LabelsHead) -> None:
    _, folder = cached(rows("good food"))
    assert cached(examples, by)[1] != folder


def test_pairs_that_are_the_same_when_joined_are_not_the_same_rows() -> None:
    assert cached(rows(("good", "food bad")))[1] != cached(rows(("good food", "bad")))[1]
    assert cached(rows(("ab", "c")))[1] != cached(rows(("a", "bc")))[1]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError) as caught:
        cached(rows("good food"))
    assert str(caught.value) == (
        f"the tokenized rows cannot be kept in {tmp_path / 'file' / 'features'}: Not a directory\n"
        "Set FTKIT_CACHE to a folder that can be written to and has space"
    )


def test_half_a_cache_is_replaced(cache: Path) -> None:
    _, folder = cached(rows("good food"))
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "tokens.npy").write_bytes(b"half")
    assert cached(rows("good food")) == ([GOOD_FOOD], folder)
    assert as_lists(Features.load(folder))["tokens"] == GOOD_FOOD


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FTKIT_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/ftkit"),
        ({"HOME": "/c"}, "/c/.cache/ftkit"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FTKIT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
