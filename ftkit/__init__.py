"""ftkit: fine-tune pretrained text models on your own file, and know how good they are.

from ftkit import train, evaluate, predict

train("reviews.csv", epochs=3, out="runs/reviews")
evaluate("runs/reviews", "test.csv")["scores"]["accuracy"]
predict("runs/reviews", ["Came cold, and nobody apologised."])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftkit.api import evaluate, predict, train

__version__ = "0.1.0"
__all__ = ["evaluate", "predict", "train"]


def __getattr__(name: str) -> Any:
    """Imports the public functions, and the libraries behind them, when they are first used."""
    if name in __all__:
        from ftkit import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
