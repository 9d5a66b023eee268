"""From a recipe to everything that has to be known before the first update.

The parent process does this once: it reads the files, finds out the task, the columns and the labels,
holds out validation rows, tokenizes, and counts whatever it leaves out. What it inferred is kept beside
what it prepared, so that it can be printed before work starts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ftkit import recipes
from ftkit.config import Recipe
from ftkit.data import load, splits
from ftkit.data.features import Features, cache_folder
from ftkit.errors import UserError
from ftkit.recipes.base import Examples
from ftkit.recipes.classification import Classification, LabelMap
from ftkit.run import TaskRecord

if TYPE_CHECKING:
    from ftkit.heads.labels import LabelsHead

FEATURES_VERSION = 1  # part of the cache key; raised when the arrays' meaning changes
LEAST_UPDATES, UPDATES_PER_LABEL, LEAST_EPOCHS, MOST_EPOCHS = 600, 20, 3, 20


@dataclass
class Prepared:
    """What a training starts from.

    Attributes:
        recipe: with every "auto" resolved.
        examples, targets, features: by split: train, validation and perhaps test.
        feature_folders: where the features lie on disk, for other processes.
        inferred: (what, value) pairs that the user did not say and ftkit found out.
        left_out: reason -> training rows that are not learned from.
        sources: split -> (source, sha256 of its content); read: split -> rows in it.
        from_training_rows: whether the validation rows were carved from the training file.
    """

    recipe: Recipe
    task: Classification
    columns: dict[str, str]
    labels: LabelMap
    examples: dict[str, Examples]
    targets: dict[str, NDArray[Any]]
    model_name: str
    model_folder: Path
    head: LabelsHead
    features: dict[str, Features]
    feature_folders: dict[str, Path]
    inferred: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    from_training_rows: bool = False

    def record(self) -> TaskRecord:
        return TaskRecord(
            task=self.task.name,
            columns=self.columns,
            labels=list(self.labels.names),
            multi_label=self.labels.multi_label,
            separator=self.labels.separator,
            threshold=0.5 if self.labels.multi_label else None,
            max_length=self.head.max_length,
            overlap=self.head.overlap,
            base_model=self.model_name,
            revision=self.recipe.revision,
        )


def prepare(recipe: Recipe) -> Prepared:
    """Reads the data and settles everything that the recipe leaves open.

    Raises:
        UserError: anything in the data, the model or the recipe that training could not be based on.
    """
    tables = _tables(recipe)
    inferred = [(f"{split}: {table.source}", note) for split, table in tables.items() for note in table.notes]
    task, columns, multi_label, separator = _task(recipe, tables["train"], inferred)
    examples = {
        split: task.examples(t.source, t.rows, _columns_of(task, columns, t), separator, multi_label)
        for split, t in tables.items()
    }
    sources = {split: (table.source, table.sha256) for split, table in tables.items()}
    from ftkit import models  # brings torch and transformers, which take seconds: the data come first

    model_name, model_folder = models.locate(recipe.model, recipe.revision, task.default_models)
    if recipe.model == "auto":
        inferred.append(("model", model_name))
    config = models.load_config(model_folder)
    known = [name for name in (config.id2label or {}).values() if not str(name).startswith("LABEL_")]
    labels = task.label_map(examples["train"], multi_label, separator, known)
    for split in ("validation", "test"):
        if split in examples:
            task.align(examples[split], labels)
    labels.targets(examples["train"])  # a missing label is told before rows are left out or held out
    left_out = _leave_out(examples)
    carved = "validation" not in examples
    if carved:
        share = load.sources(recipe.data)["validation"]
        _carve(examples, float(share), recipe.seed, labels)
        inferred.append(("validation", f"{len(examples['validation'])} rows held out of {examples['train'].source}"))
    targets = {split: labels.targets(rows) for split, rows in examples.items()}
    tokenizer = models.load_tokenizer(model_folder, config)
    head = _head(recipe, config, tokenizer, labels.multi_label)
    cached = {split: cached_features(rows, model_folder, head) for split, rows in examples.items()}
    return Prepared(
        recipe=_resolve(recipe, task, columns, labels, config, head, len(examples["train"]), model_name, inferred),
        task=task,
        columns=columns,
        labels=labels,
        examples=examples,
        targets=targets,
        model_name=model_name,
        model_folder=model_folder,
        head=head,
        features={split: features for split, (features, _) in cached.items()},
        feature_folders={split: folder for split, (_, folder) in cached.items()},
        inferred=inferred,
        left_out=left_out,
        sources=sources,
        read={split: len(table.rows) for split, table in tables.items()},
        from_training_rows=carved,
    )


def look(recipe: Recipe) -> tuple[str, dict[str, str], int]:
    """The task, its columns and the number of rows of the training file, without a model."""
    source = load.sources(recipe.data)["train"]
    table = load.load(str(source), load.read_options(recipe.data))
    task, columns, _, _ = _task(recipe, table, [])
    return task.name, columns, len(table.rows)


def _tables(recipe: Recipe) -> dict[str, load.Table]:
    options = load.read_options(recipe.data)
    found = load.sources(recipe.data)
    return {split: load.load(str(source), options, split) for split, source in found.items() if isinstance(source, str)}


def _task(
    recipe: Recipe, table: load.Table, inferred: list[tuple[str, str]]
) -> tuple[Classification, dict[str, str], bool, str | None]:
    """The task, its columns, and how labels are written."""
    task = recipes.find(recipe.task or "classification")
    columns = task.columns(recipe.data.columns, table.columns, table.rows)
    for role, column in columns.items():
        if role not in recipe.data.columns:
            inferred.append((f"{role} column", column))
    unused = [column for column in table.columns if column not in columns.values()]
    if unused:
        inferred.append(("columns not used", ", ".join(unused[:12]) + (", ..." if len(unused) > 12 else "")))
    multi_label, separator = task.find_separator(table.rows, columns["label"], recipe.labels)
    if multi_label and recipe.labels.multi_label is None:
        inferred.append(
            ("labels", f"several a row, separated by {separator!r}" if separator else "lists: several a row")
        )
    if recipe.task is None:
        task = _recognise(task, table, columns, multi_label)
        inferred.append(("task", task.name))
    return task, columns, multi_label, separator


def _recognise(task: Classification, table: load.Table, columns: dict[str, str], multi_label: bool) -> Classification:
    if multi_label or "pair" in columns:
        return task
    labels = {label for row in table.rows if (label := task.read_label(row.cells.get(columns["label"]), None, False))}
    special = [other for other in recipes.RECIPES.values() if other is not task]
    return next((other for other in special if other.recognises(labels, columns["label"])), task)


def _columns_of(task: Classification, columns: dict[str, str], table: load.Table) -> dict[str, str]:
    """The training file's columns if this file has them too, else as they can be found in it."""
    if set(columns.values()) <= set(table.columns):
        return columns
    given = {role: column for role, column in columns.items() if column in table.columns}
    return task.columns(given, table.columns, table.rows, pair="pair" in columns)


def _leave_out(examples: dict[str, Examples]) -> dict[str, int]:
    """Takes rows out of training that have no text, or whose text is in a validation or test file."""
    held = {
        splits.text_key(texts): split
        for split in ("test", "validation")
        if split in examples
        for texts in examples[split].texts
    }
    reasons: Counter[str] = Counter()
    kept = []
    for row, texts in enumerate(examples["train"].texts):
        if not any(text.strip() for text in texts):
            reasons["empty text"] += 1
        elif (split := held.get(splits.text_key(texts))) is not None:
            reasons[f"text is in the {split} rows too"] += 1
        else:
            kept.append(row)
    if reasons:
        examples["train"] = examples["train"].take(kept)
        if not kept:
            raise UserError(f"no training rows are left: {_counts(reasons)}", "Choose another validation file")
    return dict(reasons)


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} rows: {reason}" for reason, count in reasons.items())


def _carve(examples: dict[str, Examples], share: float, seed: int, labels: LabelMap) -> None:
    everything = examples["train"]
    alone = [name for name, count in Counter(x for x in everything.labels if isinstance(x, str)).items() if count < 2]
    if alone:
        raise UserError(
            f"{len(alone)} labels have a single row: {', '.join(sorted(alone)[:5])}; "
            "a row cannot be both learned from and used to validate",
            "Merge or remove these labels, add rows, or name a validation file: --validation FILE",
        )
    keys = [splits.text_key(texts) for texts in everything.texts]
    sets = Counter(label for label in everything.labels if isinstance(label, tuple))
    # Sets of labels that are too rare to give a row each are drawn from together.
    strata = [None if 0 < share * sets[label] < 0.5 else label for label in everything.labels]
    train, validation = splits.carve(keys, strata, share, seed)
    if not len(train) or not len(validation):
        raise UserError(
            f"{len(everything)} rows with {len(set(keys))} different texts are too few to hold some out for validation",
            "Add rows, or name a validation file: --validation FILE",
        )
    examples["train"], examples["validation"] = (
        everything.take(train.tolist()),
        everything.take(validation.tolist()),
    )


def _head(recipe: Recipe, config: Any, tokenizer: Any, multi_label: bool) -> LabelsHead:
    from ftkit import models
    from ftkit.heads.labels import LabelsHead

    limit = models.window_limit(config, tokenizer)
    wanted = recipe.window.max_length
    length = min(limit or models.WINDOW_LIMIT, models.WINDOW_LIMIT) if wanted == "auto" else wanted
    if limit is not None and length > limit:
        raise UserError(
            f"window.max_length is {length}; this model reads at most {limit} tokens at once",
            f"Set at most {limit}: longer texts are read in overlapping windows, not cut",
        )
    overlap = length // 8 if recipe.window.overlap == "auto" else recipe.window.overlap
    if overlap > length // 2:
        raise UserError(f"window.overlap {overlap} is more than half of the window of {length} tokens")
    return LabelsHead(tokenizer, multi_label, length, overlap)


def _feature_folder(rows: Examples, model_folder: Path, head: LabelsHead) -> Path:
    """The cache folder named by everything that the features depend on."""
    digest = hashlib.sha256(json.dumps([FEATURES_VERSION, head.max_length, head.overlap]).encode())
    digest.update(head.tokenizer.backend_tokenizer.to_str().encode() if head.tokenizer.is_fast else b"")
    if not head.tokenizer.is_fast:
        for path in sorted(model_folder.glob("*")):
            if path.suffix in {".json", ".txt", ".model"}:
                digest.update(path.read_bytes())
    for texts in rows.texts:
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        digest.update(b"\n")
    return cache_folder() / "features" / digest.hexdigest()[:32]


def cached_features(rows: Examples, model_folder: Path, head: LabelsHead) -> tuple[Features, Path]:
    """The rows tokenized, and the folder where they are kept for the next time and for other processes."""
    folder = _feature_folder(rows, model_folder, head)
    features = Features.load(folder)
    if features is None:
        shutil.rmtree(folder, ignore_errors=True)
        features = head.encode(rows.texts)
        try:
            features.save(folder)
        except OSError as error:
            raise UserError(
                f"the tokenized rows cannot be kept in {folder.parent}: {error.strerror}",
                "Set FTKIT_CACHE to a folder that can be written to and has space",
            ) from None
    return features, folder


def default_learning_rate(config: Any) -> float:
    """0.04 over the width of the model: 5e-5 for 768 (base), 1e-4 for 384 (MiniLM), 4e-5 for 1024."""
    width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or 768
    return float(f"{0.04 / width:.2g}")


def default_epochs(rows: int, batch_size: int, labels: int) -> int:
    """Three epochs; or as many as give 600 updates, and 20 for each label, but at most 20 epochs."""
    wanted = max(LEAST_UPDATES, UPDATES_PER_LABEL * labels)
    per_epoch = -(-rows // batch_size)
    return int(np.clip(-(-wanted // per_epoch), LEAST_EPOCHS, MOST_EPOCHS))


def _resolve(
    recipe: Recipe,
    task: Classification,
    columns: dict[str, str],
    labels: LabelMap,
    config: Any,
    head: LabelsHead,
    rows: int,
    model_name: str,
    inferred: list[tuple[str, str]],
) -> Recipe:
    """The recipe with every open value filled in."""
    training = recipe.training
    epochs, rate = training.epochs, training.learning_rate
    if epochs == "auto":
        epochs = default_epochs(rows, training.batch_size, len(labels.names))
        inferred.append(("epochs", f"{epochs} (for {rows:,} rows and {len(labels.names)} labels)"))
    if rate == "auto":
        rate = default_learning_rate(config)
        inferred.append(("learning rate", f"{rate:g} (for this model's width)"))
    metric = training.metric or task.main_metric(labels)
    known = task.metrics(labels)
    if metric not in known:
        raise UserError(f"training.metric {metric!r} is unknown", f"It is one of {', '.join(known)}")
    if recipe.labels.weights == "balanced" and labels.multi_label:
        raise UserError(
            "labels.weights: balanced is for single-label tasks",
            "Leave it out, or --set labels.threshold=per_label",
        )
    if recipe.labels.threshold == "per_label" and not labels.multi_label:
        raise UserError("labels.threshold is for multi-label tasks, and these rows have one label each", "Leave it out")
    found = load.sources(recipe.data)
    return recipe.model_copy(
        update={
            "task": task.name,
            "model": model_name,
            "data": recipe.data.model_copy(update={"columns": columns, **found}),
            "labels": recipe.labels.model_copy(
                update={"multi_label": labels.multi_label, "separator": labels.separator}
            ),
            "window": recipe.window.model_copy(update={"max_length": head.max_length, "overlap": head.overlap}),
            "training": training.model_copy(update={"epochs": epochs, "learning_rate": rate, "metric": metric}),
        }
    )


def facts(prepared: Prepared) -> dict[str, Any]:
    """The data report (JSON-like): what was read, what it holds, what was left out and what to know."""
    keys = {split: [splits.text_key(t) for t in rows.texts] for split, rows in prepared.examples.items()}
    return {
        "task": prepared.task.name,
        "columns": prepared.columns,
        "labels": list(prepared.labels.names),
        "sources": {
            split: {"source": source, "sha256": digest} for split, (source, digest) in prepared.sources.items()
        },
        "read": prepared.read,
        "left_out": prepared.left_out,
        "window": {"max_length": prepared.head.max_length, "overlap": prepared.head.overlap},
        "splits": {split: _split_facts(prepared, split, keys[split]) for split in prepared.examples},
        "shared_texts": _shared_texts(keys),
    }


def _split_facts(prepared: Prepared, split: str, keys: list[tuple[str, ...]]) -> dict[str, Any]:
    examples, features = prepared.examples[split], prepared.features[split]
    lengths = features.row_lengths
    counts = Counter(name for label in examples.labels for name in (label if isinstance(label, tuple) else (label,)))
    labels_of_text: dict[tuple[str, ...], set[Any]] = defaultdict(set)
    for key, label in zip(keys, examples.labels, strict=True):
        labels_of_text[key].add(label)
    conflicting = {key for key, found in labels_of_text.items() if len(found) > 1}
    return {
        "rows": len(examples),
        "labels": {name: counts.get(name, 0) for name in prepared.labels.names},
        "rows_without_labels": sum(1 for label in examples.labels if label == ()),
        "empty_texts": sum(1 for texts in examples.texts if not any(t.strip() for t in texts)),
        "duplicate_rows": len(keys) - len(labels_of_text),
        "conflicting_rows": sum(1 for key in keys if key in conflicting),
        "rows_of_several_windows": int((features.windows_of_rows > 1).sum()),
        "windows": len(features.lengths),
        "unknown_token_share": features.unknown_share,
        "tokens": {
            "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)),
            "longest": int(lengths.max()),
            "all": int(lengths.sum()),
        },
    }


def _shared_texts(keys: dict[str, list[tuple[str, ...]]]) -> dict[str, int]:
    """How many rows of one split have a text that occurs in another (after rows were left out)."""
    found = {}
    for first, second in itertools.combinations(keys, 2):
        known = set(keys[first])
        found[f"{first}/{second}"] = sum(1 for key in keys[second] if key in known)
    return found
