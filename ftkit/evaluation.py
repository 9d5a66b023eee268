"""Where the answers of a run come from when they are scored, and where the scores go.

Results go to `eval/NAME/` of the run: metrics.json, predictions.jsonl (one line a row, without its text)
and report.html. What is scored, and how, is the task's to say.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit import hub, launch, recipes
from ftkit.config import HardwareSection
from ftkit.data import parallel
from ftkit.data.features import Features
from ftkit.errors import UserError
from ftkit.progress import stage
from ftkit.recipes.base import Examples
from ftkit.run import Run

if TYPE_CHECKING:
    from ftkit.heads.base import Head


def write(run: Run, name: str, result: dict[str, Any], lines: Iterable[dict[str, Any]]) -> Path:
    """Writes metrics.json and predictions.jsonl of one evaluation; returns their folder."""
    folder = f"eval/{name}"
    run.write_json(f"{folder}/metrics.json", result)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    run.write_text(f"{folder}/predictions.jsonl", text)
    return run.folder / folder


def data_name(source: str) -> str:
    """A folder name for the results on a source: the file's name without suffixes, or the data set's."""
    if source.startswith("hub:"):
        source = str(hub.parse(source)._replace(revision=None)).removeprefix("hub:")
    stem = re.sub(r"\.(gz|csv|tsv|jsonl?|ndjson|parquet|arrow|feather|txt)\b", "", Path(parallel.stem(source)).name)
    return re.sub(r"[^\w.@-]+", "-", stem).strip("-.") or "data"


def free_name(run: Run, name: str, sha256: str) -> str:
    """A name under eval/ that holds no results on other data: NAME, NAME-2, ..."""
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(c for c in candidates if _holds(run, c) in (None, sha256))


def _holds(run: Run, name: str) -> str | None:
    """The hash of the data whose results lie under eval/NAME; None if nothing lies there."""
    path = run.folder / "eval" / name / "metrics.json"
    return str(json.loads(path.read_text(encoding="utf-8")).get("sha256")) if path.exists() else None


def run_answers(
    run: Run, record: Any, examples: Examples, hardware: HardwareSection, quiet: bool
) -> tuple[Any, dict[str, int]]:
    """The run's answers to rows, and counts about reading them."""
    with stage("loading torch and transformers", show=not quiet):
        from ftkit import models, preparation

    task = recipes.find(record.task)
    tokenizer = models.load_tokenizer(run.model, models.load_config(run.model))
    head = task.head(record, tokenizer)
    features, folder = preparation.cached_features(task.inputs(examples, record), run.model, head, quiet)
    run.work.mkdir(exist_ok=True)
    out = run.work / "outputs.npy"
    job = {"verb": "score", "run": str(run.folder), "features": str(folder), "out": str(out), "quiet": quiet}
    try:
        launch.run(job | launch.place(hardware), launch.processes(hardware))
        outputs = np.load(out)
    finally:
        out.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            run.work.rmdir()  # unless a training that goes on has its files there
    return task.answers(outputs, features, examples, head, record), reading(features, head)


def reading(features: Features, head: Head) -> dict[str, int]:
    """How rows were read: reason -> number."""
    windowed, unread = int((features.windows_of_rows > 1).sum()), int((features.windows_of_rows == 0).sum())
    counts = {
        "rows of more than one window": windowed,
        f"rows that do not fit into a window of {head.max_length} tokens, not answered": unread,
    }
    tokens = dict(zip(("tokens", "unknown tokens"), map(int, features.text_tokens), strict=True))
    return {what: count for what, count in counts.items() if count} | tokens


def library_metric(name: str, references: Any, predictions: Any) -> dict[str, Any]:
    """A metric of the library `evaluate`, by its name there or as a local folder; runs its code.

    Raises:
        UserError: it cannot be loaded or computed.
    """
    if Path(name).exists() and not name.startswith((".", "/")):
        raise UserError(
            f"there is a file or folder {name!r} here, which `evaluate` would run in place of the published metric",
            f"Write --metric ./{name} if you mean it, or work in another folder",
        )
    import evaluate as library
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        library.config.HF_EVALUATE_OFFLINE = True  # the library has a switch of its own
    try:
        metric = library.load(name)
        found = metric.compute(predictions=predictions, references=references)
    except Exception as error:  # the code of a metric may raise anything
        first = str(error).strip().splitlines()[:1]
        raise UserError(f"the metric {name!r} failed: {type(error).__name__}: {' '.join(first)}") from None
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in (found or {}).items()}
