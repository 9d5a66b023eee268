"""The sample questions keep what is said of them: answers stand at their offsets, nothing comes twice, counts hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "recipes" / "samples"
TRAIN, TEST, CHINESE = FILES = ("questions.json", "questions_test.json", "questions_zh.json")
HAN = re.compile(r"[\u4e00-\u9fff]")


def articles(name: str) -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads((SAMPLES / name).read_text(encoding="utf-8"))
    assert content.keys() == {"version", "data"}
    assert content["version"] == "v2.0"
    return list(content["data"])


def passages(name: str) -> list[str]:
    return [paragraph["context"] for article in articles(name) for paragraph in article["paragraphs"]]


def questions(name: str) -> list[dict[str, Any]]:
    """The questions of a file, each with its context."""
    return [
        {**question, "context": paragraph["context"]}
        for article in articles(name)
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def answerable(name: str) -> list[dict[str, Any]]:
    return [question for question in questions(name) if not question["is_impossible"]]


def repeated(values: list[str]) -> set[str]:
    """Values that come more than once, apart from case and white space."""
    plain = [" ".join(value.lower().split()) for value in values]
    return {value for value in plain if plain.count(value) > 1}


@pytest.mark.parametrize("name", FILES)
def test_fields_are_those_of_squad_2(name: str) -> None:
    assert {tuple(article) for article in articles(name)} == {("title", "paragraphs")}
    assert {tuple(part) for article in articles(name) for part in article["paragraphs"]} == {("context", "qas")}
    fields = {tuple(question) for question in questions(name)}
    assert fields == {("id", "question", "is_impossible", "answers", "context")}


@pytest.mark.parametrize("name", FILES)
def test_every_answer_stands_in_its_context_at_its_start(name: str) -> None:
    spans = [(question["context"], answer) for question in questions(name) for answer in question["answers"]]
    assert spans
    for context, answer in spans:
        start = answer["answer_start"]
        assert context[start : start + len(answer["text"])] == answer["text"] == answer["text"].strip() != ""


@pytest.mark.parametrize("name", FILES)
def test_exactly_the_unanswerable_questions_have_no_answers(name: str) -> None:
    assert all(question["is_impossible"] is (question["answers"] == []) for question in questions(name))


@pytest.mark.parametrize("name", FILES)
def test_answers_of_a_question_differ_and_overlap(name: str) -> None:
    for question in answerable(name):
        spans = [
            (answer["answer_start"], answer["answer_start"] + len(answer["text"])) for answer in question["answers"]
        ]
        assert len(set(spans)) == len(spans) <= 2
        assert max(start for start, _ in spans) < min(end for _, end in spans)


def test_counts_are_as_promised() -> None:
    counts = {name: (len(passages(name)), len(questions(name)), len(answerable(name))) for name in FILES}
    assert counts == {TRAIN: (47, 290, 232), TEST: (12, 74, 60), CHINESE: (6, 31, 25)}


def test_most_answerable_test_questions_have_two_references() -> None:
    assert sum(len(question["answers"]) == 2 for question in answerable(TEST)) > len(answerable(TEST)) / 2
    assert {len(question["answers"]) for question in answerable(TRAIN) + answerable(CHINESE)} == {1}


def test_every_passage_has_four_questions_or_more() -> None:
    for name in FILES:
        assert min(len(part["qas"]) for article in articles(name) for part in article["paragraphs"]) >= 4


def test_ids_run_through_each_file() -> None:
    for name, letter in zip(FILES, "qtz", strict=True):
        ids = [question["id"] for question in questions(name)]
        assert ids == [f"{letter}{number:03}" for number in range(1, len(ids) + 1)]


def test_no_title_or_passage_comes_twice_in_any_file() -> None:
    assert repeated([article["title"] for name in FILES for article in articles(name)]) == set()
    assert repeated([context for name in FILES for context in passages(name)]) == set()


def test_no_question_comes_twice_in_any_file() -> None:
    assert repeated([question["question"] for name in FILES for question in questions(name)]) == set()


def test_english_passages_have_60_to_130_words_and_no_chinese() -> None:
    for name in (TRAIN, TEST):
        assert all(60 <= len(context.split()) <= 130 for context in passages(name))
        assert not HAN.search((SAMPLES / name).read_text(encoding="utf-8"))


def test_chinese_texts_are_chinese() -> None:
    texts = passages(CHINESE) + [question["question"] for question in questions(CHINESE)]
    assert all(HAN.search(text) and not re.search("[A-Za-z]", text) for text in texts)


def test_answers_are_short_spans() -> None:
    answers = [answer["text"] for name in (TRAIN, TEST) for row in questions(name) for answer in row["answers"]]
    assert max(len(answer.split()) for answer in answers) <= 20
    assert sum(len(answer.split()) <= 5 for answer in answers) > len(answers) / 2


@pytest.mark.parametrize(
    "before",
    ["  ", "\\n", "[\U0001f300-\U0001faff]", "[\u00c0-\u024f]"],
    ids=["two spaces", "newline", "emoji", "accent"],
)
def test_some_answers_follow_characters_that_shift_offsets(before: str) -> None:
    rows = answerable(TRAIN) + answerable(TEST)
    assert any(re.search(before, row["context"][: row["answers"][0]["answer_start"]]) for row in rows)


def test_files_are_utf8_without_mark_or_carriage_return() -> None:
    for name in FILES:
        content = (SAMPLES / name).read_bytes()
        assert not content.startswith(b"\xef\xbb\xbf")
        assert b"\r" not in content
        assert content.endswith(b"}\n")
