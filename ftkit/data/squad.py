"""SQuAD's nested JSON, versions 1.1 and 2.0, as flat rows: one for each question.

    {"version": ..., "data": [{"title", "paragraphs": [{"context", "qas": [
        {"id", "question", "answers": [{"text", "answer_start"}], "is_impossible"}]}]}]}

CMRC 2018, DRCD, XQuAD and many others are written in it too. Only a context, its list of questions and the
question itself must be there; what else a question has is checked if it is known and kept as it stands, so
that files to predict on need no answers. The keys of articles and paragraphs beside title and context
(CMRC's own ids of both) are no cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from ftkit.errors import UserError

COLUMNS = ("id", "title", "context", "question", "answers", "is_impossible")

EXPECTED: dict[str, tuple[str, tuple[type, ...]]] = {
    "paragraphs": ("a list", (list,)),
    "context": ("text", (str,)),
    "qas": ("a list", (list,)),
    "id": ("text or a number", (str, int, float)),
    "question": ("text", (str,)),
    "answers": ("a list", (list,)),
    "text": ("text", (str,)),
    "answer_start": ("a whole number", (int,)),
    "is_impossible": ("true or false", (bool,)),
}

# The cells of a row, and why it cannot be used.
Found = tuple[dict[str, Any], str | None]


def recognises(document: Any) -> bool:
    """Whether a JSON document is of this kind: below its list "data" is a paragraph with a context or questions."""
    data = document.get("data") if isinstance(document, dict) else None
    articles = [article for article in data if isinstance(article, dict)] if isinstance(data, list) else []
    lists = [article["paragraphs"] for article in articles if isinstance(article.get("paragraphs"), list)]
    paragraphs = itertools.chain.from_iterable(lists)
    return any(isinstance(paragraph, dict) and paragraph.keys() & {"context", "qas"} for paragraph in paragraphs)


def rows(place: str, document: Any) -> Iterator[Found]:
    """Every question in the order of the file; its cells are those of COLUMNS that it has, and its other keys.

    A fault begins with its place in the document, such as data[3].paragraphs[0].qas[2], counted from 0. What
    holds no list of questions is one row; where only the context is at fault, each of its questions is.

    Args:
        place: the file's name for messages.

    Raises:
        UserError: the document has no list "data".
    """
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise UserError(
            f'{place} is no SQuAD file: it has no list "data" of articles',
            "If it is a list of objects, add --format json",
        )
    for number, article in enumerate(data):
        where = f"data[{number}]"
        if fault := _fault(where, article, "paragraphs"):
            yield {}, fault
            continue
        title = {key: article[key] for key in ("title",) if key in article}
        for index, paragraph in enumerate(article["paragraphs"]):
            yield from _questions(f"{where}.paragraphs[{index}]", paragraph, title)


def _questions(where: str, paragraph: Any, title: dict[str, Any]) -> Iterator[Found]:
    if fault := _fault(where, paragraph, "qas"):
        yield title, fault
        return
    fault = _fault(where, paragraph, "context")
    shared = title if fault else title | {"context": paragraph["context"]}
    for number, question in enumerate(paragraph["qas"]):
        place = f"{where}.qas[{number}]"
        cells = (question if isinstance(question, dict) else {}) | shared
        known = {column: cells[column] for column in COLUMNS if column in cells}
        yield known | cells, fault or _question_fault(place, question)


def _question_fault(where: str, question: Any) -> str | None:
    if fault := _fault(where, question, "question", optional=("id", "answers", "is_impossible")):
        return fault
    places = enumerate(question.get("answers", ()))
    faults = (_fault(f"{where}.answers[{n}]", answer, "text", optional=("answer_start",)) for n, answer in places)
    return next(filter(None, faults), None)


def _fault(where: str, value: Any, key: str, optional: tuple[str, ...] = ()) -> str | None:
    """What keeps `value` from being an object that has `key` and perhaps the `optional` ones, rightly typed."""
    if not isinstance(value, dict):
        return f"{where}: an object was expected, found {type(value).__name__}"
    if key not in value:
        return f'{where}: "{key}" is missing'
    for name in (key, *optional):
        expected, types = EXPECTED[name]
        found = type(value.get(name))
        if name in value and found not in types:  # the very type: true is no number
            return f"{where}.{name}: {expected} was expected, found {found.__name__}"
    return None
