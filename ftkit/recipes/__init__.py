"""The one list of tasks. A new task is one file in this folder and one line here."""

from __future__ import annotations

import difflib

from ftkit.errors import UserError
from ftkit.recipes.classification import Classification
from ftkit.recipes.sentiment import Sentiment

RECIPES = {recipe.name: recipe for recipe in (Classification(), Sentiment())}


def find(name: str) -> Classification:
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
