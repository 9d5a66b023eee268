"""SQuAD's nested JSON: which files are taken for it, the rows of its questions, and the places of its faults."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data.files import ReadOptions, Row, open_rows
from ftkit.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
steady = settings(deadline=None, derandomize=True)

FIND_OUT = ReadOptions()
SQUAD = ReadOptions(format="squad")
NOTE = "SQuAD: a row for each question; for a row for each article, add --format json"

Q1 = {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}
Q2 = {"id": 2, "question": "Why?", "answers": [], "is_impossible": True}
Q3 = {"question": "When?"}
PARAGRAPHS = [{"context": "Ann went.", "qas": [Q1, Q2]}, {"context": "Bob stayed.", "qas": [Q3], "id": "P2"}]
ARTICLES = [{"title": "Ann and Bob", "paragraphs": PARAGRAPHS}, {"paragraphs": []}]


def save(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "a.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def refusal(path: Path, options: ReadOptions = FIND_OUT) -> str:
    with pytest.raises(UserError) as caught:
        list(open_rows(path, options)[1])
    return str(caught.value).replace(f"{path.parent}/", "")


def one_article(*paragraphs: Any) -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": "T", "paragraphs": list(paragraphs)}]}


@pytest.mark.parametrize("indent", [None, 1])
def test_every_question_is_a_row_with_what_it_has(tmp_path: Path, indent: int | None) -> None:
    source, rows = open_rows(save(tmp_path, json.dumps({"version": "v2.0", "data": ARTICLES}, indent=indent)))
    assert (source.format, source.notes) == ("squad", (NOTE,))
    assert source.columns == ("id", "title", "context", "question", "answers", "is_impossible")
    first = {"title": "Ann and Bob", "context": "Ann went."}
    assert list(rows) == [
        Row(1, 0, {**Q1, **first}),
        Row(2, 0, {**Q2, **first}),
        Row(3, 0, {**Q3, "title": "Ann and Bob", "context": "Bob stayed."}),
    ]


def test_further_keys_of_a_question_are_cells(tmp_path: Path) -> None:
    question = {"plausible_answers": [], "question": "Who?", "kind": "person"}
    source, rows = open_rows(save(tmp_path, one_article({"context": "Ann.", "qas": [question]})))
    assert source.columns == ("title", "context", "question", "plausible_answers", "kind")
    assert [row.cells for row in rows] == [{"title": "T", "context": "Ann.", **question}]


@pytest.mark.parametrize(
    "document",
    [
        {"data": [{"text": "a", "label": "x"}]},
        {"data": [{"title": "a", "paragraphs": "of text"}]},
        {"data": [{"title": "a", "paragraphs": ["of", "text"]}]},
        [{"title": "a", "paragraphs": PARAGRAPHS}],
    ],
)
def test_other_documents_are_not_taken_for_it(tmp_path: Path, document: Any) -> None:
    source, rows = open_rows(save(tmp_path, document))
    assert source.format == "json"
    assert [row.cells for row in rows] == (document if isinstance(document, list) else document["data"])


def test_json_that_was_asked_for_is_read_as_articles(tmp_path: Path) -> None:
    source, rows = open_rows(save(tmp_path, {"version": "1.1", "data": ARTICLES}), ReadOptions(format="json"))
    assert (source.format, source.notes) == ("json", ("the rows are the list 'data'",))
    assert [row.cells for row in rows] == ARTICLES


@pytest.mark.parametrize("document", [[], {"articles": ARTICLES}, {"data": {"a": 1}}, "text", None])
def test_another_document_is_refused_if_this_was_asked_for(tmp_path: Path, document: Any) -> None:
    assert refusal(save(tmp_path, json.dumps(document)), SQUAD) == (
        'a.json is no SQuAD file: it has no list "data" of articles\nIf it is a list of objects, add --format json'
    )


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    assert refusal(save(tmp_path, one_article({"context": "a", "qas": []}))).startswith("a.json holds no rows")


def test_options_without_effect_are_told(tmp_path: Path) -> None:
    path = save(tmp_path, one_article({"context": "a", "qas": [Q3]}))
    source, _ = open_rows(path, ReadOptions(header=True))
    assert source.notes == (NOTE, "header is not used: squad has none")


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        ('"Ann w', "1:81: Unterminated string starting at"),
        ('"Who?",', "1:134: Expecting property name enclosed in double quotes"),
        ('"qas": [', "1:102: Expecting value"),
    ],
)
def test_a_file_that_is_cut_off(tmp_path: Path, end: str, fault: str) -> None:
    text = json.dumps({"version": "2.0", "data": ARTICLES})
    path = save(tmp_path, text[: text.index(end) + len(end)])
    assert refusal(path).startswith(f"a.json:{fault}: the file is cut off\n")


# Faults of a row. Each stands in the second paragraph, after a row that is right.

RIGHT = {"context": "Ann went.", "qas": [Q1]}
HERE = "data[0].paragraphs[1]"
AND = {"title": "T", "context": "c"}  # the cells that the question takes from above


@pytest.mark.parametrize(
    ("paragraph", "cells", "fault"),
    [
        ("text", {"title": "T"}, f"{HERE}: an object was expected, found str"),
        ({"context": "c"}, {"title": "T"}, f'{HERE}: "qas" is missing'),
        ({"context": "c", "qas": {}}, {"title": "T"}, f"{HERE}.qas: a list was expected, found dict"),
        ({"qas": [Q3]}, {"title": "T", **Q3}, f'{HERE}: "context" is missing'),
        ({"context": None, "qas": [Q3]}, {"title": "T", **Q3}, f"{HERE}.context: text was expected, found NoneType"),
        ({"context": "c", "qas": ["Who?"]}, AND, f"{HERE}.qas[0]: an object was expected, found str"),
        ({"context": "c", "qas": [{"id": 1}]}, {**AND, "id": 1}, f'{HERE}.qas[0]: "question" is missing'),
    ],
)
def test_a_fault_is_told_or_kept(tmp_path: Path, paragraph: Any, cells: dict[str, Any], fault: str) -> None:
    path = save(tmp_path, one_article(RIGHT, paragraph))
    assert refusal(path).startswith(f"a.json, row 2: {fault}\nSQuAD is written as ")
    _, rows = open_rows(path, errors="keep")
    assert list(rows) == [Row(1, 0, {**Q1, "title": "T", "context": "Ann went."}), Row(2, 0, cells, fault)]


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        ({"question": 5}, "question: text was expected, found int"),
        ({"question": "a", "id": ["x"]}, "id: text or a number was expected, found list"),
        ({"question": "a", "id": True}, "id: text or a number was expected, found bool"),
        ({"question": "a", "is_impossible": "no"}, "is_impossible: true or false was expected, found str"),
        ({"question": "a", "answers": None}, "answers: a list was expected, found NoneType"),
        ({"question": "a", "answers": {"text": ["b"]}}, "answers: a list was expected, found dict"),
        ({"question": "a", "answers": ["b"]}, "answers[0]: an object was expected, found str"),
        ({"question": "a", "answers": [{"text": "b"}, {}]}, 'answers[1]: "text" is missing'),
        ({"question": "a", "answers": [{"text": 7}]}, "answers[0].text: text was expected, found int"),
        (
            {"question": "a", "answers": [{"text": "b", "answer_start": 1.5}]},
            "answers[0].answer_start: a whole number was expected, found float",
        ),
        (
            {"question": "a", "answers": [{"text": "b", "answer_start": True}]},
            "answers[0].answer_start: a whole number was expected, found bool",
        ),
    ],
)
def test_a_value_of_a_wrong_type_is_kept_with_its_place(tmp_path: Path, question: Any, fault: str) -> None:
    path = save(tmp_path, one_article(RIGHT, {"context": "c", "qas": [question]}))
    _, rows = open_rows(path, errors="keep")
    assert list(rows)[1:] == [Row(2, 0, {**AND, **question}, f"{HERE}.qas[0].{fault}")]


@pytest.mark.parametrize(
    ("article", "fault"),
    [
        (7, "data[1]: an object was expected, found int"),
        ({"title": "T"}, 'data[1]: "paragraphs" is missing'),
        ({"paragraphs": "none"}, "data[1].paragraphs: a list was expected, found str"),
    ],
)
def test_an_article_without_paragraphs_is_one_bad_row(tmp_path: Path, article: Any, fault: str) -> None:
    path = save(tmp_path, {"data": [{"paragraphs": [RIGHT]}, article]})
    _, rows = open_rows(path, errors="keep")
    assert list(rows) == [Row(1, 0, {**Q1, "context": "Ann went."}), Row(2, 0, {}, fault)]


def test_each_question_of_a_paragraph_without_context_is_a_bad_row(tmp_path: Path) -> None:
    _, rows = open_rows(save(tmp_path, one_article({"qas": [Q1, Q2]}, RIGHT)), errors="keep")
    fault = 'data[0].paragraphs[0]: "context" is missing'
    assert [(row.cells["id"], row.error) for row in rows] == [("q1", fault), (2, fault), ("q1", None)]


def test_half_of_a_surrogate_pair_is_a_fault_of_its_row(tmp_path: Path) -> None:
    text = json.dumps(one_article({"context": "whole \U0001f600", "qas": [Q1, {"question": "half \ud83d"}]}))
    _, rows = open_rows(save(tmp_path, text), errors="keep")
    fault = "half of a surrogate pair, which is no character"
    assert list(rows) == [
        Row(1, 0, {**Q1, "title": "T", "context": "whole \U0001f600"}),
        Row(2, 0, {}, fault),
    ]


text = st.text(st.sampled_from('aé中\n"\\{}[] \U0001f600'), max_size=8)
answers = st.lists(st.fixed_dictionaries({"text": text, "answer_start": st.integers(-1, 99)}), max_size=3)
questions = st.fixed_dictionaries(
    {"question": text},
    optional={"id": text | st.integers(), "answers": answers, "is_impossible": st.booleans(), "kind": text},
)
paragraphs = st.fixed_dictionaries({"context": text, "qas": st.lists(questions, max_size=4)}, optional={"id": text})
articles = st.fixed_dictionaries({"paragraphs": st.lists(paragraphs, max_size=3)}, optional={"title": text})


@steady
@given(data=st.lists(articles, max_size=3), ascii_only=st.booleans(), indent=st.sampled_from([None, 2]))
def test_each_question_is_read_once_and_in_order(data: Any, ascii_only: bool, indent: int | None) -> None:
    document = json.dumps({"version": "1.1", "data": data}, ensure_ascii=ascii_only, indent=indent)
    expected = [
        {**question, "context": paragraph["context"], **({"title": article["title"]} if "title" in article else {})}
        for article in data
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    stdin = io.BytesIO(document.encode())
    if expected:
        _, rows = open_rows("-", SQUAD, stdin=stdin)
        assert [(row.number, row.cells) for row in rows] == list(enumerate(expected, start=1))
    else:
        with pytest.raises(UserError, match="holds no rows"):
            open_rows("-", SQUAD, stdin=stdin)


plain = st.none() | st.booleans() | st.integers(-1, 1) | text
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "paragraphs", "context", "qas", "question", "answers"]), inner)
    ),
    max_leaves=12,
)


@steady
@given(document=anything, errors=st.sampled_from(["raise", "keep"]))
def test_any_document_gives_rows_or_a_user_error(document: Any, errors: Any) -> None:
    try:
        _, rows = open_rows("-", SQUAD, errors=errors, stdin=io.BytesIO(json.dumps({"data": document}).encode()))
        assert all(row.error or isinstance(row.cells["question"], str) for row in rows)
    except UserError as error:
        assert error.problem


@needs_shared
@pytest.mark.parametrize(
    ("name", "rows", "answers", "impossible"),
    [
        ("squad_v1/test.json", 758, 2411, 0),
        ("squad_v2/train.json", 2717, None, None),
        ("squad_v2/test.json", 1348, None, 591),
        ("cmrc2018/train.json", 2285, 6855, 0),
        ("cmrc2018/test.json", 934, 2802, 0),
    ],
)
def test_shared_data_is_read_question_for_question(
    name: str, rows: int, answers: int | None, impossible: int | None
) -> None:
    source, stream = open_rows(SHARED / name)
    cells = [row.cells for row in stream]
    assert (source.format, len(cells)) == ("squad", rows)
    assert len({row["id"] for row in cells}) == rows
    assert answers is None or sum(len(row["answers"]) for row in cells) == answers
    assert impossible is None or sum(row.get("is_impossible", False) for row in cells) == impossible
