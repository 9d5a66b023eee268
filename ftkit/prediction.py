"""The prediction engine: rows in, logits out, in order, whatever the batches and processes.

Windows are sorted by length, so that a batch holds windows of nearly equal length and little padding.
Each process takes its share; the logits of a row's windows are averaged. Where memory runs out, a
batch is halved and tried again.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ftkit import models, plan, recipes
from ftkit.data import files, writers
from ftkit.data.features import Features
from ftkit.devices import Devices, out_of_memory
from ftkit.errors import UserError
from ftkit.heads.labels import LabelsHead
from ftkit.progress import Progress
from ftkit.recipes.classification import Classification
from ftkit.run import Run, TaskRecord
from ftkit.signals import Stop

TOKENS_PER_BATCH = {"cpu": 4096, "mps": 8192, "cuda": 65536}  # padded tokens that go through at once


class Stopped(Exception):
    """A signal asked this or another process of the job to stop."""


def row_logits(
    model: Any,
    head: LabelsHead,
    features: Features,
    devices: Devices,
    token_budget: int | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> NDArray[np.float32]:
    """(rows, labels): the mean of the logits of each row's windows, complete on every process.

    Raises:
        Stopped: on every process, once any of them was asked to stop.
    """
    lengths, owner = features.lengths, features.row_of_window
    share = 1.0 / features.windows_of_rows[owner]
    budget = token_budget or TOKENS_PER_BATCH[devices.device.type]
    result = torch.zeros((features.rows, model.config.num_labels), dtype=torch.float32)
    model.eval()
    with torch.inference_mode():
        everything = np.arange(len(lengths))
        # The same batches however many processes share them: a logit's last bits depend on its batch.
        batches = plan.cut(everything, lengths, 1, budget) if features.rows else []
        pending = [batch.items for batch in batches[devices.rank :: devices.world]]
        pending.reverse()  # taken from the end: the longest batch runs first and shows whether memory suffices
        while pending and not (stop and stop.number):
            items = pending.pop()
            try:
                with devices.autocast():
                    logits = head.logits(model, head.collate(features, items, devices.device)).cpu()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(items) == 1:
                    longest = int(lengths[items[0]])
                    raise UserError(
                        f"not even one window of {longest} tokens fits into memory", "Use a smaller model"
                    ) from None
                pending += [items[: len(items) // 2], items[len(items) // 2 :]]
                continue
            weights = torch.from_numpy(share[items].astype(np.float32))[:, None]
            result.index_add_(0, torch.from_numpy(owner[items]), logits * weights)
            if progress:
                progress.advance(len(items))
    stopping = torch.tensor([float(bool(stop and stop.number))])
    devices.sum([result, stopping])
    if stopping.item():
        raise Stopped
    return result.numpy()


CHUNK_ROWS = 4096  # rows read, answered and written together: bounds the memory, whatever the file's size
CHUNK_CHARACTERS = 4_000_000


def predict_file(job: dict[str, Any], devices: Devices) -> dict[str, Any]:
    """Answers every row of a file as one of the processes of a job; rank 0 writes.

    Returns:
        rows, errors (rows that could not be answered), windowed (rows of more than one window),
        seconds, columns (those added), escaped (cells made safe for spreadsheets).
    """
    run = Run(Path(job["run"]))
    record = run.task()
    task = recipes.find(record.task)
    options = files.ReadOptions(**job["options"])
    source, rows = files.open_rows(job["input"], options, errors="keep")
    first = list(itertools.islice(rows, 100))
    columns = task.columns(
        _known_columns(record, job["columns"], source.columns),
        source.columns,
        first,
        labelled=False,
        pair="pair" in record.columns,
    )
    format = _output_format(job["output"], job["output_format"], source.format)
    added = AddedColumns.beside(source.columns, record, job["all_scores"], format)
    head, model = load_head(run, record, devices)
    counts = {"rows": 0, "errors": 0, "windowed": 0}
    started = time.perf_counter()
    output: Any = contextlib.nullcontext()
    if devices.main:
        # Plain text holds one column: the label alone, on one line a row.
        wanted = [added.label] if format == "text" else [*source.columns, *added.names]
        output = writers.open_writer(job["output"], wanted, format=format, spreadsheet_safe=job["spreadsheet_safe"])
    show = devices.main and not job["quiet"]
    with Stop() as stop, output as writer, Progress("predicting", None, show=show) as progress:
        for chunk in _chunks(itertools.chain(first, rows)):
            problems = [row.error or _problem(task, row, columns) for row in chunk]
            numbers = [i for i, problem in enumerate(problems) if problem is None]
            features = head.encode([task.texts(chunk[i].cells, columns) for i in numbers])
            try:
                logits = row_logits(model, head, features, devices, stop=stop)
            except Stopped:
                raise SystemExit(stop.code if stop.number else 143) from None
            matrix = np.zeros((len(chunk), len(record.labels)), dtype=np.float32)
            matrix[numbers] = head.probabilities(logits)
            counts["rows"] += len(chunk)
            counts["errors"] += len(chunk) - len(numbers)
            counts["windowed"] += int((features.windows_of_rows > 1).sum())
            if devices.main:
                chosen = record.answers(matrix)
                for i, row in enumerate(chunk):
                    cells = added.cells(None if problems[i] else matrix[i], chosen[i], problems[i])
                    writer.write(cells if format == "text" else {**row.cells, **cells})
            progress.advance(len(chunk))
    escaped = getattr(writer, "escaped", 0)
    seconds = time.perf_counter() - started
    return {**counts, "seconds": seconds, "columns": list(added.names), "escaped": escaped}


def score_features(job: dict[str, Any], devices: Devices) -> dict[str, Any]:
    """Logits for tokenized rows, as one of the processes of a job; rank 0 writes them."""
    run = Run(Path(job["run"]))
    features = Features.load(Path(job["features"]))
    if features is None:
        raise UserError(f"the tokenized rows in {job['features']} have been damaged", "Start again")
    head, model = load_head(run, run.task(), devices)
    share = len(features.lengths) // devices.world
    show = devices.main and not job["quiet"]
    with Stop() as stop, Progress("evaluating", share, "windows", show=show) as progress:
        try:
            logits = row_logits(model, head, features, devices, progress=progress, stop=stop)
        except Stopped:
            raise SystemExit(stop.code if stop.number else 143) from None
    if devices.main:
        np.save(job["out"], logits)
    return {}


def _output_format(output: str, asked: str | None, read: str) -> str:
    """The format asked for, or of the output's name; standard output is like the input."""
    if asked is None and output == "-":
        return read if read in writers.WRITABLE and read != "text" else "csv"
    return files.file_format(output, asked, "--output-format")


def load_head(run: Run, record: TaskRecord, devices: Devices) -> tuple[LabelsHead, Any]:
    """A run's head and model, ready to answer."""
    config = models.load_config(run.model)
    tokenizer = models.load_tokenizer(run.model, config)
    head = LabelsHead(tokenizer, record.multi_label, record.max_length, record.overlap)
    model, _ = models.load_labels_model(
        run.model, config, tokenizer, record.labels, multi_label=record.multi_label, training=False
    )
    return head, model.to(devices.device)


def _known_columns(record: TaskRecord, given: dict[str, str], columns: Sequence[str]) -> dict[str, str]:
    """The columns that training used, where this file has them, and those that the user names."""
    trained = {r: c for r, c in record.columns.items() if r != "label" and c in columns and r not in given}
    return {**trained, **given}


def _problem(task: Classification, row: files.Row, columns: dict[str, str]) -> str | None:
    for column in columns.values():
        value = row.cells.get(column)
        if value is None or isinstance(value, (list, dict)):
            return f"no {'value' if value is None else 'text'} in column {column}"
    return None if any(text.strip() for text in task.texts(row.cells, columns)) else "the text is empty"


def _chunks(rows: Iterator[files.Row]) -> Iterator[list[files.Row]]:
    chunk: list[files.Row] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += sum(len(value) for value in row.cells.values() if isinstance(value, str))
        if len(chunk) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


@dataclass(frozen=True)
class AddedColumns:
    """What prediction adds to a row: label, score, error, and if wanted a score for every label.

    The names get `predicted_` before them where the file has columns of these names already.
    """

    label: str
    score: str
    error: str
    every: tuple[str, ...]
    record: TaskRecord
    format: str

    @classmethod
    def beside(cls, columns: Sequence[str], record: TaskRecord, all_scores: bool, format: str) -> AddedColumns:
        wanted = ["label", "score", "error"]
        every = [f"score_{label}" for label in record.labels] if all_scores else []
        taken = set(columns) if format != "text" else set()
        while taken & {*wanted, *every}:
            wanted = [f"predicted_{name}" for name in wanted]
            every = [f"predicted_{name}" for name in every]
        return cls(wanted[0], wanted[1], wanted[2], tuple(every), record, format)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.label, self.score, *self.every, self.error)

    def cells(self, probabilities: NDArray[np.float32] | None, chosen: Any, problem: str | None) -> dict[str, Any]:
        """The added cells of one row.

        Several labels, and their scores, are a list; in formats without lists they are joined by the
        separator of the training labels, so that the file can be read back as labels. Plain text has the
        label only, and JSON an error only where there is one.
        """
        label: Any = None
        score: Any = None
        every: dict[str, Any] = dict.fromkeys(self.every)
        if probabilities is not None:
            rounded = [round(float(p), 6) for p in probabilities]
            every = dict(zip(self.every, rounded, strict=False))
            if self.record.multi_label:
                label = [name for name, answered in zip(self.record.labels, chosen, strict=True) if answered]
                score = [p for p, answered in zip(rounded, chosen, strict=True) if answered]
                if self.format in ("csv", "tsv", "text"):
                    separator = self.record.separator or ","
                    label, score = separator.join(label), separator.join(map(str, score))
            else:
                label, score = self.record.labels[int(chosen)], rounded[int(chosen)]
        if self.format == "text":
            return {self.label: label}
        error = {} if problem is None and self.format in ("json", "jsonl") else {self.error: problem}
        return {self.label: label, self.score: score, **every, **error}
