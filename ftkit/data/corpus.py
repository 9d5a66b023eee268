"""Stand-in until the checks of corpora are joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def doubts(pairs: Sequence[tuple[str, str]], source: Any, target: Any) -> dict[str, int]:
    return {}
