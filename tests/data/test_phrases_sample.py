"""The sample phrases in four languages keep what a small demo needs: whole rows, new test rows, known test words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "recipes" / "samples"
COLUMNS = ["en", "fr", "de", "zh"]
FILES = ["phrases.tsv", "phrases_test.tsv"]
CHINESE = re.compile(r"[\u4e00-\u9fff，、。？！]+")  # ideographs and full-width punctuation, nothing else
FINAL_MARKS = {".": "。", "?": "？", "!": "！"}


def read_cells(name: str) -> list[list[str]]:
    """The lines of a file, its header first, each as its cells."""
    text = (SAMPLES / name).read_bytes().decode("utf-8")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")]


CELLS = {name: read_cells(name) for name in FILES}
TRAIN, TEST = (CELLS[name][1:] for name in FILES)


def words(sentence: str) -> list[str]:
    return re.sub(r"[^\w\s']", "", sentence.lower()).split()


def repeated(sentences: list[str]) -> list[str]:
    counts = Counter(sentence.strip().casefold() for sentence in sentences)
    return [sentence for sentence, count in counts.items() if count > 1]


def test_there_are_enough_rows() -> None:
    assert len(TRAIN) >= 400
    assert len(TEST) >= 60


@pytest.mark.parametrize("name", FILES)
def test_every_row_has_four_trimmed_texts_under_the_header(name: str) -> None:
    assert CELLS[name][0] == COLUMNS
    wrong = [row for row in CELLS[name] if len(row) != 4 or any(not cell or cell != cell.strip() for cell in row)]
    assert wrong == []


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_plain_lines_without_quotation_marks(name: str) -> None:
    text = (SAMPLES / name).read_bytes().decode("utf-8")
    assert text.endswith("\n")
    assert set(text) & set('\r\ufeff\u00a0"“”„«»’') == set()


def test_no_english_sentence_occurs_twice() -> None:
    assert repeated([row[0] for row in TRAIN + TEST]) == []


def test_no_translation_of_a_test_row_is_in_training() -> None:
    seen = {cell.casefold() for row in TRAIN for cell in row}
    assert [cell for row in TEST for cell in row if cell.casefold() in seen] == []


def test_english_sentences_are_short() -> None:
    assert [row[0] for row in TRAIN + TEST if not 3 <= len(words(row[0])) <= 10] == []


def test_chinese_is_chinese_throughout() -> None:
    assert [row[3] for row in TRAIN + TEST if not CHINESE.fullmatch(row[3])] == []


def test_a_sentence_ends_alike_in_all_languages() -> None:
    marks = [(row[0][-1], row[1][-1], row[2][-1], row[3][-1]) for row in TRAIN + TEST]
    assert set(marks) == {(mark, mark, mark, full) for mark, full in FINAL_MARKS.items()}


def test_french_sets_a_space_before_high_marks() -> None:
    assert [row[1] for row in TRAIN + TEST if re.search(r"\S[?!;:]", row[1])] == []


def test_test_words_are_known_from_training() -> None:
    known = {word for row in TRAIN for word in words(row[0])}
    in_test = [word for row in TEST for word in words(row[0])]
    unknown = [word for word in in_test if word not in known]
    assert len(unknown) <= len(in_test) / 10, unknown
