"""What looks wrong in pairs of translations."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ftkit.data import corpus, load
from ftkit.data.files import ReadOptions
from ftkit.languages import find

SAMPLES = Path(__file__).resolve().parents[2] / "recipes" / "samples"
ENGLISH, GERMAN, CHINESE, SERBIAN = map(find, ("en", "de", "zh", "sr"))

SOUND = [
    ("The house is old.", "Das Haus ist alt."),
    ("We are going home now.", "Wir gehen jetzt nach Hause."),
    ("No.", "Nein."),
]


def found(*pairs: tuple[str, str], source: str = "en", target: str = "de") -> dict[str, list[int]]:
    return {check: rows for check, rows in corpus.doubtful(pairs, find(source), find(target)).items() if rows}


def test_sound_pairs_raise_no_doubts() -> None:
    assert corpus.doubts(SOUND, ENGLISH, GERMAN) == {}
    assert corpus.doubts([], ENGLISH, GERMAN) == {}


def test_empty_sides_are_found_by_that_check_alone() -> None:
    assert found(*SOUND, ("", "Eins"), ("Two", " \t"), ("", "\u3000")) == {
        "pairs with an empty source": [3, 5],
        "pairs with an empty target": [4],
    }


def test_equal_sides_are_found_unless_they_have_no_letters() -> None:
    assert found(*SOUND, ("Hello there", " hello  THERE"), ("3.5 %", "3.5 %"), ("2024", "2024")) == {
        "pairs of two equal texts": [3]
    }


def test_a_side_nine_times_as_long_is_found() -> None:
    check = "pairs with one side 9 times as long as the other"
    even = ("abcdefghij", "jihgfedcba")
    assert found(even, even[::-1], ("b", "a" * 9)) == {}
    assert found(even, even[::-1], ("b", "a" * 10)) == {check: [2]}
    assert found(even, even[::-1], ("a" * 10, "b")) == {check: [2]}


def test_the_ratio_is_that_to_the_median_of_the_corpus() -> None:
    check = "pairs with one side 9 times as long as the other"
    chinese = [
        ("I would like to have a cup of tea.", "我想喝茶。"),
        ("The weather is very good today.", "今天天气好"),
    ] * 2
    assert found(*dict.fromkeys(chinese), ("The weather was good", "天气"), target="zh") == {}
    assert found(*dict.fromkeys(chinese), ("abcde", "天" * 9), target="zh") == {check: [2]}


@pytest.mark.parametrize(
    ("text", "language", "foreign"),
    [
        ("Dies ist Deutsch.", "zh", True),
        ("这是中文的句子，没有别的语言。", "zh", False),
        ("他在 NASA 工作。", "zh", False),
        ("GPU GPU GP 好", "zh", False),  # nine letters
        ("GPU GPU GPUs 好", "zh", True),
        ("这是中文的句子，没有别的语言。", "de", True),
        ("Ärger über Öl", "de", False),
        ("Это русский текст", "de", True),
        ("Ovo je srpski.", "sr", False),
        ("Ово је српски.", "sr", False),
        ("1234567890123", "zh", False),
    ],
)
def test_letters_of_no_script_of_the_language_are_found(text: str, language: str, foreign: bool) -> None:
    name = find(language).name
    assert (f"targets in no script of {name}" in found(("A sentence in English.", text), target=language)) == foreign
    assert (f"sources in no script of {name}" in found((text, "A sentence in English."), source=language)) == foreign


def test_repeated_pairs_are_found_after_the_first() -> None:
    again = ("the HOUSE is  old.", "das haus ist alt. ")
    other = ("The house is old.", "Alt ist das Haus.")
    assert found(*SOUND, again, other, again) == {"pairs that occurred before": [3, 5]}


def test_doubts_are_counts() -> None:
    pairs = [*SOUND, ("", "x"), ("y", ""), ("z", "")]
    assert corpus.doubts(pairs, ENGLISH, GERMAN) == {"pairs with an empty source": 1, "pairs with an empty target": 2}


def test_the_sample_phrases_raise_no_doubts() -> None:
    tables = {name: load.load(str(SAMPLES / f"{name}.tsv"), ReadOptions()).rows for name in ("phrases", "phrases_test")}
    for code in ("fr", "de", "zh"):
        pairs = {name: [(row.cells["en"], row.cells[code]) for row in rows] for name, rows in tables.items()}
        assert {name: corpus.doubts(each, ENGLISH, find(code)) for name, each in pairs.items()} == {
            "phrases": {},
            "phrases_test": {},
        }
        for side in (0, 1):
            assert {pair[side] for pair in pairs["phrases"]}.isdisjoint(pair[side] for pair in pairs["phrases_test"])


def test_many_pairs_take_seconds() -> None:
    pairs = [
        (f"Sentence {n} is about a large house with a garden.", f"句子{n}讲的是一座带花园的大房子。")
        for n in range(100_000)
    ]
    started = time.process_time()
    assert corpus.doubts(pairs, ENGLISH, CHINESE) == {}
    assert time.process_time() - started < 10
