"""What whole-run tests share: a cache of their own, tiny checkpoints, and runs that have learned."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import tiny

# Before torch is imported: on tiny models several threads are slower than one, and they add up in another order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LLAMA = Path(__file__).resolve().parents[2] / "shared/data/checkpoints/stories260K/hf"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tokenized rows are kept in a folder of this test session."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a family: tiny and random, but for Llama, which is a real one."""

    @functools.cache
    def checkpoint(family: str) -> Path:
        if family != "llama":
            return tiny.checkpoint(tmp_path_factory.mktemp("checkpoints") / family, family)
        if not LLAMA.is_dir():
            pytest.skip(f"{LLAMA} is not there")
        return LLAMA

    return checkpoint


@dataclass(frozen=True)
class Learned:
    """A run that has learned the task, and how it went.

    Attributes:
        folder: of the run.
        train, test: files of rows that it learned from, and of rows that it never saw.
        result: what `ftkit train --json` printed.
    """

    folder: Path
    train: Path
    test: Path
    result: dict[str, Any]


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[[str], Path]) -> Callable[[str], Learned]:
    """A run of a family that has learned the task; trained when it is first asked for."""

    @functools.cache
    def run(family: str) -> Learned:
        model = checkpoint_of(family)
        folder = tmp_path_factory.mktemp(f"learned-{family}")
        train = tiny.write_csv(folder / "train.csv", tiny.rows(700, seed=1))
        test = tiny.write_csv(folder / "heldout.csv", tiny.rows(100, seed=2))
        pretrained = ("--set", "training.epochs=2") if family == "llama" else ()
        done = tiny.train(train, model, folder / "run", "--test", test, "--json", *pretrained)
        assert done.code == 0, done.err
        return Learned(folder / "run", train, test, done.json)

    return run
