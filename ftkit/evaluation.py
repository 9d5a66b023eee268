"""How good answers are: scores with intervals, per label, and against two baselines.

Answers may come from a run or from any other system; both are scored in the same way. Results go to
`eval/NAME/` of the run: metrics.json, predictions.jsonl (one line a row, without its text) and
report.html.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftkit import baselines, launch, recipes
from ftkit.config import HardwareSection
from ftkit.data import load
from ftkit.errors import UserError
from ftkit.metrics import classification
from ftkit.recipes.base import Examples
from ftkit.run import Run, TaskRecord

WORST = 20  # confident errors that are listed
# Where answers stand in a file of answers; `label` comes last, because beside a prediction it is the reference.
ANSWER_COLUMNS = ("predicted_label", "prediction", "answer", "label")


def score(
    record: TaskRecord,
    examples: Examples,
    targets: NDArray[Any],
    predicted: NDArray[Any],
    probabilities: NDArray[np.float32] | None,
    rivals: baselines.Baselines | None,
    seed: int,
) -> dict[str, Any]:
    """Everything that can be said about answers to rows whose labels are known (JSON-like).

    Args:
        targets, predicted: (rows,) label numbers, -1 for a row without an answer; for multi-label
            (rows, labels) bool.
        probabilities: (rows, labels) of the system, if it gives them; order the worst errors.
        rivals: baselines trained on the same rows as the system.
    """
    metrics: Any = classification.multi_label if record.multi_label else classification.single_label
    result: dict[str, Any] = metrics(targets, predicted, record.labels, seed=seed)
    result["source"] = examples.source
    result["counts"] = examples.counts
    result["baselines"] = {}
    main = recipes.find(record.task).main_metric(record.label_map())
    if rivals is not None:
        linear = rivals.predict(examples.texts)
        for name, answered in (("majority", rivals.predict_majority(len(examples))), ("tfidf", linear)):
            scores = metrics(targets, answered, record.labels, seed=seed)
            difference = classification.difference(targets, predicted, answered, record.labels, metric=main, seed=seed)
            result["baselines"][name] = {
                "scores": scores["scores"],
                "difference": {main: difference.as_dict()},
            }
        result["baselines_trained_on"] = rivals.description
    result["worst_errors"] = worst_errors(record, examples, targets, predicted, probabilities)
    return result


def label_names(record: TaskRecord, answer: Any) -> Any:
    """A label number (or a row of bools) as the name (or names) it stands for."""
    if record.multi_label:
        return [name for name, on in zip(record.labels, answer, strict=True) if on]
    return record.labels[int(answer)] if answer >= 0 else None


def worst_errors(
    record: TaskRecord,
    examples: Examples,
    targets: NDArray[Any],
    predicted: NDArray[Any],
    probabilities: NDArray[np.float32] | None,
) -> list[dict[str, Any]]:
    """The wrong answers given with most confidence: where they stand, not what they say."""
    wrong = (targets != predicted).any(axis=1) if record.multi_label else targets != predicted
    rows = np.flatnonzero(wrong)
    if probabilities is not None:
        rows = rows[np.argsort(-confidence(record, probabilities, predicted)[rows], kind="stable")]
    return [
        {
            "place": examples.place(row),
            "position": int(row),
            "reference": label_names(record, targets[row]),
            "answer": label_names(record, predicted[row]),
            "score": None
            if probabilities is None
            else round(float(confidence(record, probabilities, predicted)[row]), 4),
        }
        for row in rows[:WORST].tolist()
    ]


def confidence(record: TaskRecord, probabilities: NDArray[np.float32], predicted: NDArray[Any]) -> NDArray[Any]:
    """(rows,) probability of the answer given; multi-label: the mean over labels of each one's answer."""
    if record.multi_label:
        return np.asarray(np.where(predicted, probabilities, 1 - probabilities).mean(axis=1))
    return np.asarray(probabilities[np.arange(len(predicted)), predicted])


def write(
    run: Run,
    name: str,
    result: dict[str, Any],
    record: TaskRecord,
    examples: Examples,
    targets: NDArray[Any],
    predicted: NDArray[Any],
    probabilities: NDArray[np.float32] | None,
) -> Path:
    """Writes metrics.json and predictions.jsonl of one evaluation; returns their folder."""
    folder = f"eval/{name}"
    run.write_json(f"{folder}/metrics.json", result)
    lines = []
    for row in range(len(examples)):
        line = {
            "row": examples.rows[row],
            "line": examples.lines[row],
            "reference": label_names(record, targets[row]),
            "label": label_names(record, predicted[row]),
        }
        if probabilities is not None:
            line["scores"] = [round(float(p), 6) for p in probabilities[row]]
        lines.append(json.dumps(line, ensure_ascii=False))
    run.write_text(f"{folder}/predictions.jsonl", "\n".join(lines) + "\n")
    return run.folder / folder


def data_name(source: str) -> str:
    """A folder name for the results on a source: the file's name without suffixes, or the data set's."""
    stem = re.sub(r"\.(gz|csv|tsv|jsonl?|ndjson|parquet|arrow|feather|txt)\b", "", Path(source).name)
    return re.sub(r"[^\w.@-]+", "-", stem).strip("-.") or "data"


def free_name(run: Run, name: str, sha256: str) -> str:
    """A name under eval/ that holds no results on other data: NAME, NAME-2, ..."""
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(c for c in candidates if _holds(run, c) in (None, sha256))


def _holds(run: Run, name: str) -> str | None:
    """The hash of the data whose results lie under eval/NAME; None if nothing lies there."""
    path = run.folder / "eval" / name / "metrics.json"
    return str(json.loads(path.read_text(encoding="utf-8")).get("sha256")) if path.exists() else None


def run_probabilities(
    run: Run, record: TaskRecord, examples: Examples, hardware: HardwareSection, quiet: bool
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """(rows, labels) the run's probabilities for rows, and counts about reading them."""
    from ftkit import models, preparation
    from ftkit.heads.labels import LabelsHead

    config = models.load_config(run.model)
    tokenizer = models.load_tokenizer(run.model, config)
    head = LabelsHead(tokenizer, record.multi_label, record.max_length, record.overlap)
    features, folder = preparation.cached_features(examples, run.model, head)
    run.work.mkdir(exist_ok=True)
    out = run.work / "logits.npy"
    job = {"verb": "score", "run": str(run.folder), "features": str(folder), "out": str(out), "quiet": quiet}
    try:
        launch.run(job | launch.place(hardware), launch.processes(hardware))
        logits = np.load(out)
    finally:
        out.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            run.work.rmdir()  # unless a training that goes on has its files there
    windowed = int((features.windows_of_rows > 1).sum())
    counts = {"rows of more than one window": windowed} if windowed else {}
    return head.probabilities(logits), counts | {"unknown tokens": int(features.text_tokens[1])}


def foreign_answers(table: load.Table, examples: Examples, record: TaskRecord) -> NDArray[Any]:
    """Answers made by another system, one a row of the data, in its order.

    A row without an answer counts as wrong (-1); for multi-label it is the empty set.

    Raises:
        UserError: another number of rows, no column that holds labels, or answers that are no labels.
    """
    if len(table.rows) != len(examples):
        raise UserError(
            f"{table.source} has {len(table.rows)} answers for the {len(examples)} rows of {examples.source}",
            "Give one answer a row, in the order of the data",
        )
    column = next((name for name in ANSWER_COLUMNS if name in table.columns), None)
    if column is None and len(table.columns) == 1:
        column = table.columns[0]
    if column is None:
        raise UserError(
            f"{table.source} has no column named label; it has {', '.join(table.columns)}",
            "Rename the column that holds the answers to `label`",
        )
    task = recipes.find(record.task)
    cells = [row.cells.get(column) for row in table.rows]
    given = Examples(
        table.source,
        examples.texts,
        [task.read_label(c, record.separator, record.multi_label) for c in cells],
    )
    labels = record.label_map()
    task.align(given, labels)
    index = {name: i for i, name in enumerate(labels.names)}
    strange = Counter(
        name
        for label in given.labels
        for name in (label if isinstance(label, tuple) else (label,))
        if name not in index
    )
    del strange[None]
    if strange:
        listed = ", ".join(f"{name!r} ({count} rows)" for name, count in strange.most_common(5))
        raise UserError(
            f"column {column!r} of {table.source} has answers that are none of the labels: {listed}",
            f"The labels are {', '.join(labels.names[:20])}; leave a cell empty where there is no answer",
        )
    if not record.multi_label:
        return np.asarray([-1 if label is None else index[label] for label in given.labels], dtype=np.int64)
    matrix = np.zeros((len(given), len(index)), dtype=bool)
    for row, names in enumerate(given.labels):
        matrix[row, [index[name] for name in names]] = True
    return matrix


def library_metric(name: str, targets: NDArray[Any], predicted: NDArray[Any]) -> dict[str, Any]:
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

    try:
        metric = library.load(name)
        found = metric.compute(predictions=predicted.astype(int).tolist(), references=targets.astype(int).tolist())
    except Exception as error:  # the code of a metric may raise anything
        first = str(error).strip().splitlines()[:1]
        raise UserError(f"the metric {name!r} failed: {type(error).__name__}: {' '.join(first)}") from None
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in (found or {}).items()}


def choose_threshold(
    record: TaskRecord, probabilities: NDArray[np.float32], targets: NDArray[Any], per_label: bool
) -> TaskRecord:
    """The record with the threshold(s) that suit these validation rows best (multi-label only)."""
    if not record.multi_label:
        return record
    if per_label:
        return replace(record, threshold=[float(t) for t in classification.thresholds(targets, probabilities)])
    return replace(record, threshold=float(classification.threshold(targets, probabilities)))
