"""The one list of tasks. A new task is one file in this folder and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ftkit.config import Recipe
from ftkit.data.files import Row
from ftkit.errors import UserError
from ftkit.recipes.base import Task, TaskRecord
from ftkit.recipes.classification import Classification
from ftkit.recipes.question_answering import QuestionAnswering
from ftkit.recipes.sentiment import Sentiment
from ftkit.recipes.translation import Translation

RECIPES: dict[str, Task] = {
    recipe.name: recipe for recipe in (QuestionAnswering(), Translation(), Sentiment(), Classification())
}


def find(name: str) -> Task:
    """The recipe of a task by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1)
    raise UserError(
        f"there is no task {name!r}; there are {', '.join(RECIPES)}",
        f"Did you mean {close[0]}?" if close else "",
    )


def recognise(recipe: Recipe, columns: Sequence[str], rows: Sequence[Row]) -> Task:
    """The first task of the list that a file's columns and rows speak for; classification, the last, takes any."""
    return next(task for task in RECIPES.values() if task.recognises(recipe, columns, rows))


def record(saved: Mapping[str, Any]) -> TaskRecord:
    """A task's record from what a run keeps of it.

    Raises:
        UserError: it is not what this version of ftkit writes.
    """
    try:
        found: TaskRecord = find(saved["task"]).record_type(**saved)
    except (TypeError, KeyError) as error:
        raise UserError(
            f"task.json is not one of this version of ftkit: {error}", "Train again, or use the version that made it"
        ) from None
    return found
