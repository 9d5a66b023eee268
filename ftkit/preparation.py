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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit import recipes
from ftkit.config import Recipe
from ftkit.data import load, splits
from ftkit.data.features import Features, cache_folder
from ftkit.errors import UserError
from ftkit.progress import stage
from ftkit.recipes.base import Examples, Task

if TYPE_CHECKING:
    from ftkit.heads.base import Head, Rows

FEATURES_VERSION = 3  # part of the cache key; raised when the arrays' meaning changes


@dataclass
class Prepared:
    """What a training starts from.

    Attributes:
        recipe: with every "auto" resolved.
        record: what training fixes.
        examples, rows: by split: train, validation and perhaps test.
        feature_folders: where the features lie on disk, for other processes.
        inferred: (what, value) pairs that the user did not say and ftkit found out.
        left_out: reason -> training rows that are not learned from.
        sources: split -> (source, sha256 of its content); read: split -> rows in it.
        precision: in which training will compute, where all devices are like the first one here.
    """

    recipe: Recipe
    task: Task
    record: Any
    examples: dict[str, Examples]
    model_folder: Path
    head: Head
    rows: dict[str, Rows]
    feature_folders: dict[str, Path]
    precision: str
    inferred: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)


def prepare(recipe: Recipe, quiet: bool = False) -> Prepared:
    """Reads the data and settles everything that the recipe leaves open.

    Args:
        quiet: does not show what goes on.

    Raises:
        UserError: anything in the data, the model or the recipe that training could not be based on.
    """
    tables = _tables(recipe, quiet)
    inferred = [(f"{split}: {table.source}", note) for split, table in tables.items() for note in table.notes]
    task, record = _begin(recipe, tables["train"], inferred)
    examples = {
        split: task.examples(t.source, t.rows, replace(record, columns=_columns_of(task, record, t)))
        for split, t in tables.items()
    }
    sources = {split: (table.exact, table.sha256) for split, table in tables.items()}
    with stage("loading torch and transformers", show=not quiet):  # takes seconds: the data come first
        from ftkit import devices, hub, models
        from ftkit.heads.base import Rows

    hardware = recipe.hardware
    place = devices.alone(hardware.device, hardware.precision)  # that there is such a device, before more is done
    model_name, model_folder = models.locate(recipe.model, recipe.revision, task.default_models, recipe.allow_pickle)
    if recipe.model == "auto":
        inferred.append(("model", model_name))
    config = models.load_config(model_folder, recipe.allow_pickle)
    if (suited := models.suited(place, config)) != place:
        inferred.append(("precision", f"{suited.precision} ({config.model_type} overflows in {place.precision})"))
    tokenizer = models.load_tokenizer(model_folder, config)
    record = replace(record, base_model=model_name, revision=hub.commit(model_name, model_folder) or recipe.revision)
    for found in examples.values():
        if not len(found):
            why = {reason: count for reason, count in found.counts.items() if reason != "read"}
            raise UserError(f"none of the rows of {found.source} can be used ({_counts(why)})")
    left_out = _leave_out(examples, {})  # before it is settled which labels there are to be learned
    try:
        record = task.settle(record, recipe, examples, config, tokenizer, inferred)
    except UserError as error:
        if not left_out:
            raise
        raise UserError(f"{error.problem}\n(left out of the training: {_counts(left_out)})", error.remedy) from None
    if unusable := {reason: rows for reason, rows in task.unusable(examples["train"], record).items() if rows}:
        left_out |= _leave_out(examples, unusable)
    if "validation" not in examples:
        share = float(load.sources(recipe.data)["validation"])
        _carve(examples, share, recipe.seed, task)
        inferred.append(("validation", f"{len(examples['validation'])} rows held out of {examples['train'].source}"))
    record = _with_windows(recipe, config, tokenizer, record, task)
    head = task.head(record, tokenizer)
    rows, folders = {}, {}
    for split, found in examples.items():
        texts = task.inputs(found, record, training=True)
        features, folders[split] = cached_features(texts, model_folder, head, quiet)
        rows[split] = Rows(features, *task.targets(found, features, head, record))
        if split == "validation" and record.head == "text":
            _check_validation(rows[split], record, inferred)
        if split == "train" and (lost := _lost(rows[split], task, record)):
            left_out |= {reason: len(numbers) for reason, numbers in lost.items()}
            gone = {number for numbers in lost.values() for number in numbers}
            examples[split] = found = found.take([i for i in range(len(found)) if i not in gone])
            if not len(found):
                raise UserError(
                    f"no training rows are left: {_counts(left_out)}", "Use longer windows: --set window.max_length=512"
                )
            texts = task.inputs(found, record, training=True)
            features, folders[split] = cached_features(texts, model_folder, head, quiet)
            rows[split] = Rows(features, *task.targets(found, features, head, record))
    return Prepared(
        recipe=_resolve(recipe, task, record, config, len(examples["train"]), sources, inferred),
        task=task,
        record=record,
        examples=examples,
        model_folder=model_folder,
        head=head,
        rows=rows,
        feature_folders=folders,
        precision=suited.precision,
        inferred=inferred,
        left_out=left_out,
        sources=sources,
        read={split: len(table.rows) for split, table in tables.items()},
    )


def look(recipe: Recipe) -> tuple[str, dict[str, str], int]:
    """The task, its columns and the number of rows of the training file, without a model."""
    source = load.sources(recipe.data)["train"]
    table = load.load(str(source), load.read_options(recipe.data))
    task, record = _begin(recipe, table, [])
    return task.name, record.columns, len(table.rows)


def _tables(recipe: Recipe, quiet: bool) -> dict[str, load.Table]:
    options = load.read_options(recipe.data)
    named = {split: source for split, source in load.sources(recipe.data).items() if isinstance(source, str)}
    return {split: load.load(source, options, split, quiet) for split, source in named.items()}


def _begin(recipe: Recipe, table: load.Table, inferred: list[tuple[str, str]]) -> tuple[Task, Any]:
    """The task, its columns, and how answers are written."""
    task = recipes.find(recipe.task) if recipe.task else recipes.recognise(recipe, table.columns, table.rows)
    columns = task.columns(recipe.data.columns, table.columns, table.rows, recipe=recipe)
    for role, column in columns.items():
        if role not in recipe.data.columns:
            inferred.append((f"{role} column", column))
    unused = [column for column in table.columns if column not in columns.values()]
    if unused:
        inferred.append(("columns not used", ", ".join(unused[:12]) + (", ..." if len(unused) > 12 else "")))
    record = task.begin(task.record_type(task=task.name, columns=columns), recipe, table.rows, inferred)
    if recipe.task is None:
        inferred.append(("task", task.name))
    return task, record


def _columns_of(task: Task, record: Any, table: load.Table) -> dict[str, str]:
    """The training file's columns if this file has them too, else as they can be found in it."""
    if set(record.columns.values()) <= set(table.columns):
        return dict(record.columns)
    given = {role: column for role, column in record.columns.items() if column in table.columns}
    try:
        return task.columns(given, table.columns, table.rows, record=record)
    except UserError as error:
        names = ", ".join(record.columns.values())
        raise UserError(
            f"{table.source}: {error.problem}", f"Give its columns the names of the training file's: {names}"
        ) from None


def _leave_out(examples: dict[str, Examples], unusable: dict[str, list[int]]) -> dict[str, int]:
    """Takes rows out of training that have no text, or whose text is in a validation or test file.

    Args:
        unusable: further rows that cannot be learned from: reason -> positions.
    """
    known = {row: reason for reason, rows in unusable.items() for row in rows}
    held = {
        splits.text_key(texts): split
        for split in ("test", "validation")
        if split in examples
        for texts in examples[split].texts
    }
    reasons: Counter[str] = Counter()
    kept = []
    for row, texts in enumerate(examples["train"].texts):
        if row in known:
            reasons[known[row]] += 1
        elif not any(text.strip() for text in texts):
            reasons["empty text"] += 1
        elif (split := held.get(splits.text_key(texts))) is not None:
            reasons[f"text is in the {split} rows too"] += 1
        else:
            kept.append(row)
    if reasons:
        examples["train"] = examples["train"].take(kept)
        if not kept:
            taker = next((split for split in ("validation", "test") if split in held.values()), "training")
            raise UserError(f"no training rows are left: {_counts(reasons)}", f"Choose another {taker} file")
    return dict(reasons)


def _check_validation(rows: Rows, record: Any, inferred: list[tuple[str, str]]) -> None:
    """Tells of validation rows that have no loss.

    Raises:
        UserError: none has one.
    """
    without = int((rows.weights == 0).sum())
    if without == len(rows.weights):
        raise UserError(
            f"none of the {without} validation rows fits into a window of {record.max_length} tokens",
            "Use longer windows (--set window.max_length=512), or other rows: --validation FILE",
        )
    if without:
        inferred.append(("validation loss", f"without {without} rows that a window of {record.max_length} cannot hold"))


def _lost(rows: Rows, task: Task, record: Any) -> dict[str, list[int]]:
    """Training rows that their windows make useless: reason -> positions."""
    long = task.too_long(rows.features, record)
    found = {
        f"longer than the window of {record.max_length} tokens": np.flatnonzero(long).tolist(),
        "no window holds the whole answer": np.flatnonzero(~long & (rows.weights == 0)).tolist(),
    }
    return {reason: numbers for reason, numbers in found.items() if numbers}


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} rows: {reason}" for reason, count in reasons.items())


def _carve(examples: dict[str, Examples], share: float, seed: int, task: Task) -> None:
    everything = examples["train"]
    keys = task.groups(everything)
    train, validation = splits.carve(keys, task.strata(everything, share), share, seed)
    if not len(train) or not len(validation):
        raise UserError(
            f"{len(everything)} rows with {len(set(keys))} different texts are too few to hold some out for validation",
            "Add rows, or name a validation file: --validation FILE",
        )
    examples["train"], examples["validation"] = (
        everything.take(train.tolist()),
        everything.take(validation.tolist()),
    )
    examples["validation"].counts = {"read": len(validation)}  # what happened on the way is told once


def _with_windows(recipe: Recipe, config: Any, tokenizer: Any, record: Any, task: Task) -> Any:
    """The record with the length and the overlap of the windows."""
    from ftkit import models

    limit = models.window_limit(config, tokenizer)
    wanted = recipe.window.max_length
    length = min(limit or models.WINDOW_LIMIT, models.WINDOW_LIMIT) if wanted == "auto" else wanted
    if limit is not None and length > limit:
        raise UserError(
            f"window.max_length is {length}; this model reads at most {limit} tokens at once",
            f"Set at most {limit}: longer texts are read in overlapping windows, not cut",
        )
    overlap = recipe.window.overlap
    if overlap == "auto":
        overlap = length // 8 if task.windows_overlap else 0
    if overlap > length // 2:
        raise UserError(f"window.overlap {overlap} is more than half of the window of {length} tokens")
    return replace(record, max_length=length, overlap=overlap)


def _feature_folder(texts: Sequence[tuple[str, ...]], model_folder: Path, head: Head) -> Path:
    """The cache folder named by everything that the features depend on."""
    settings = {name: value for name, value in vars(head).items() if name != "tokenizer"}
    digest = hashlib.sha256(json.dumps([FEATURES_VERSION, type(head).__name__, settings], default=repr).encode())
    digest.update(json.dumps(head.tokenizer.special_tokens_map, default=str, sort_keys=True).encode())
    digest.update(head.tokenizer.backend_tokenizer.to_str().encode() if head.tokenizer.is_fast else b"")
    if not head.tokenizer.is_fast:
        for path in sorted(model_folder.glob("*")):
            if path.suffix in {".json", ".txt", ".model"}:
                digest.update(path.read_bytes())
    for row in texts:
        for text in row:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        digest.update(b"\n")
    return cache_folder() / "features" / digest.hexdigest()[:32]


def cached_features(
    texts: Sequence[tuple[str, ...]], model_folder: Path, head: Head, quiet: bool = False
) -> tuple[Features, Path]:
    """Rows tokenized, and the folder where they are kept for the next time and for other processes."""
    folder = _feature_folder(texts, model_folder, head)
    features = Features.load(folder)
    if features is None:
        shutil.rmtree(folder, ignore_errors=True)
        with stage(f"tokenizing {len(texts):,} rows", show=not quiet):
            features = head.encode(texts)
        try:
            features.save(folder)
        except OSError as error:
            raise UserError(
                f"the tokenized rows cannot be kept in {folder.parent}: {error.strerror}",
                "Set FTKIT_CACHE to a folder that can be written to and has space",
            ) from None
    return features, folder


def default_rates(config: Any, record: Any) -> tuple[float, float, str]:
    """The learning rate at its peak, how many times as fast the head learns, and what the rate is for.

    0.04 over the width of the model: 5.2e-5 for 768 (base), 1e-4 for 384 (MiniLM), 3.9e-5 for 1024; 10 times that for a
    new head, but not for one that has learned before, nor for what a model writes with, which has been pretrained.
    All of a model that has learned nothing yet learns alike: at 1e-3 if it is to write, else at 3e-4 (a small BERT did
    not begin to learn at 1e-3).
    """
    from ftkit import models

    if models.untrained(config):
        return 1e-3 if record.head == "text" else 3e-4, 1.0, "for a new model"
    part = getattr(config, "decoder", None) or config  # of an encoder coupled with a decoder
    width = getattr(part, "hidden_size", None) or getattr(part, "d_model", None) or 768
    new = record.head != "text" and not models.has_head(config, record)
    return float(f"{0.04 / width:.2g}"), 10.0 if new else 1.0, "for this model's width"


def _resolve(
    recipe: Recipe,
    task: Task,
    record: Any,
    config: Any,
    rows: int,
    sources: Mapping[str, tuple[str, str]],
    inferred: list[tuple[str, str]],
) -> Recipe:
    """The recipe with every open value filled in."""
    training = recipe.training
    epochs, rate, factor = training.epochs, training.learning_rate, training.head_factor
    if epochs == "auto":
        epochs, why = task.default_epochs(rows, training.batch_size, record)
        inferred.append(("epochs", f"{epochs} ({why})"))
    usual_rate, usual_factor, why = default_rates(config, record)
    if rate == "auto":
        rate = usual_rate
        inferred.append(("learning rate", f"{rate:g} ({why})"))
    if factor == "auto":
        factor = usual_factor
        if factor != 1:
            inferred.append(("head", f"learns {factor:g} times as fast"))
    elif factor != 1 and record.head == "text":
        raise UserError(
            f"training.head_factor is {factor:g}, and a model that writes has no new head",
            "Leave it out: all of such a model learns alike",
        )
    if training.freeze == "backbone" and record.head == "text":
        raise UserError(
            "training.freeze=backbone leaves nothing of a model that writes to learn",
            "Leave it out, or --set training.freeze=embeddings",
        )
    for section in sorted({"labels", "languages", "questions", "text"}.difference(task.sections(record))):
        if idle := getattr(recipe, section).model_dump(exclude_defaults=True):
            raise UserError(f"{section}.{next(iter(idle))} has no effect on {task.name} here", "Leave it out")
    known = task.metrics(record)
    metric = training.metric or known[0]
    if metric not in known:
        raise UserError(f"training.metric {metric!r} is unknown", f"It is one of {', '.join(known)}")
    found = load.sources(recipe.data) | {split: source for split, (source, _) in sources.items()}
    resolved = recipe.model_copy(
        update={
            "task": task.name,
            "model": record.base_model,
            "revision": record.revision,
            "data": recipe.data.model_copy(update={"columns": record.columns, **found}),
            "window": recipe.window.model_copy(update={"max_length": record.max_length, "overlap": record.overlap}),
            "training": training.model_copy(
                update={"epochs": epochs, "learning_rate": rate, "head_factor": factor, "metric": metric}
            ),
        }
    )
    return task.resolve(resolved, record)


def facts(prepared: Prepared) -> dict[str, Any]:
    """The data report (JSON-like): what was read, what it holds, what was left out and what to know."""
    keys = {split: _keys(found) for split, found in prepared.examples.items()}
    return {
        "task": prepared.task.name,
        "columns": prepared.record.columns,
        "sources": {
            split: {"source": source, "sha256": digest} for split, (source, digest) in prepared.sources.items()
        },
        "read": prepared.read,
        "left_out": prepared.left_out,
        "window": {"max_length": prepared.head.max_length, "overlap": prepared.head.overlap},
        "splits": {split: _split_facts(prepared, split, keys[split]) for split in prepared.examples},
        "shared_texts": _shared_texts(keys),
        "validation_sha256": _digest(keys["validation"], prepared.examples["validation"]),
        **prepared.task.facts(prepared.record),
    }


def _keys(examples: Examples) -> list[tuple[str, ...]]:
    """What makes rows alike: their texts, and where there are several target languages the language."""
    keys = [splits.text_key(texts) for texts in examples.texts]
    return [(code, *key) for code, key in zip(examples.languages, keys, strict=True)] if examples.languages else keys


def _split_facts(prepared: Prepared, split: str, keys: list[tuple[str, ...]]) -> dict[str, Any]:
    examples, features = prepared.examples[split], prepared.rows[split].features
    lengths = features.row_lengths
    return {
        "rows": len(examples),
        **prepared.task.split_facts(examples, keys, prepared.record),
        "empty_texts": sum(1 for texts in examples.texts if not any(t.strip() for t in texts)),
        "duplicate_rows": len(keys) - len(set(keys)),
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


def _digest(keys: list[tuple[str, ...]], examples: Examples) -> str:
    """Which rows and answers these are: a resumed training must not be judged by others, which it may have learned."""
    digest = hashlib.sha256()
    for row in zip(keys, examples.labels, strict=True):
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _shared_texts(keys: dict[str, list[tuple[str, ...]]]) -> dict[str, int]:
    """How many rows of one split have a text that occurs in another (after rows were left out)."""
    found = {}
    for first, second in itertools.combinations(keys, 2):
        known = set(keys[first])
        found[f"{first}/{second}"] = sum(1 for key in keys[second] if key in known)
    return found
