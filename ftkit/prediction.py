"""The prediction engine: rows in, answers out, in order, whatever the batches and processes.

Windows are sorted by length, so that a batch holds windows of nearly equal length and little padding.
Each process takes its share. Where memory runs out, a batch is halved and tried again.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ftkit import models, plan, recipes
from ftkit.data import files, load, writers
from ftkit.data.features import Features
from ftkit.devices import Devices, out_of_memory
from ftkit.errors import UserError
from ftkit.heads.base import Head, Rows
from ftkit.plan import MicroBatch
from ftkit.progress import Progress
from ftkit.run import Run
from ftkit.signals import Stop

Part = TypeVar("Part")
TOKENS_PER_BATCH = {"cpu": 4096, "mps": 8192, "cuda": 65536}  # padded tokens that go through at once


class Stopped(Exception):
    """A signal asked this or another process of the job to stop."""


def row_outputs(
    model: Any,
    head: Head,
    features: Features,
    devices: Devices,
    token_budget: int | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> NDArray[np.float32]:
    """What the head says of each row (for spans: of each window), complete on every process.

    Raises:
        Stopped: on every process, once any of them was asked to stop.
    """
    found: list[NDArray[np.float32]] = []  # (windows, ...), made when the first batch shows its shape

    def keep(batch: MicroBatch) -> None:
        outputs = head.outputs(model, features, batch.items, devices.device).cpu().numpy()
        if not found:
            found.append(np.zeros((len(features.lengths), *outputs.shape[1:]), dtype=np.float32))
        if batch.counted:
            found[0][batch.items] = outputs

    _every_batch(model, features, devices, keep, token_budget, progress, stop)
    if not found:
        return np.zeros((0, 0), dtype=np.float32)
    devices.sum([torch.from_numpy(found[0])])  # in place
    return head.row_outputs(found[0], features)


def mean_loss(model: Any, head: Head, rows: Rows, devices: Devices, stop: Stop | None = None) -> float:
    """The loss of rows without dropout: over all processes, and weighted as an update's is.

    Raises:
        Stopped: on every process, once any of them was asked to stop.
    """
    features = rows.features
    total = torch.zeros(1, dtype=torch.float64)
    owner = features.row_of_window
    weight = (rows.weights[owner] / features.windows_of_rows[owner]).astype(np.float32)

    def add(batch: MicroBatch) -> None:
        weights = torch.from_numpy(weight[batch.items] * np.float32(batch.counted)).to(devices.device)
        total.add_(head.loss(model, rows, batch.items, weights, devices.device).double().cpu())

    _every_batch(model, features, devices, add, None, None, stop)
    devices.sum([total])
    return float(total.item() / rows.weights.sum())


def _every_batch(
    model: Any,
    features: Features,
    devices: Devices,
    work: Callable[[MicroBatch], None],
    token_budget: int | None,
    progress: Progress | None,
    stop: Stop | None,
) -> None:
    """Gives this process's share of the windows to `work`, batch by batch; a batch that memory lacks for is halved."""
    lengths = features.lengths
    budget = token_budget or TOKENS_PER_BATCH[devices.device.type]
    model.eval()
    with torch.inference_mode():
        # The same batches however many processes share them: a logit's last bits depend on its batch.
        batches = plan.cut(np.arange(len(lengths)), lengths, 1, budget) if features.rows else []
        # A process for which there is none runs one that does not count, to know the shape of the outputs.
        pending = batches[devices.rank :: devices.world] or [b._replace(counted=False) for b in batches[:1]]
        pending.reverse()  # taken from the end: the longest batch runs first and shows whether memory suffices
        while pending and not (stop and stop.number):
            batch = pending.pop()
            items, counted = batch
            try:
                with devices.autocast():
                    work(batch)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(items) == 1:
                    longest = int(lengths[items[0]])
                    raise UserError(
                        f"not even one window of {longest} tokens fits into memory", "Use a smaller model"
                    ) from None
                middle = len(items) // 2
                pending += [MicroBatch(items[:middle], counted), MicroBatch(items[middle:], counted)]
                continue
            if progress and counted:
                progress.advance(len(items))
    stopping = torch.tensor([float(bool(stop and stop.number))])
    devices.sum([stopping])
    if stopping.item():
        raise Stopped


CHUNK_ROWS = 4096  # rows read, answered and written together: bounds the memory, whatever the file's size
CHUNK_CHARACTERS = 4_000_000


def predict_file(job: dict[str, Any], devices: Devices) -> dict[str, Any]:
    """Answers every row of a file as one of the processes of a job; rank 0 writes.

    Returns:
        rows, errors (rows that could not be answered), windowed (rows of more than one window), notices,
        seconds, columns (those added), escaped (cells made safe for spreadsheets).
    """
    run = Run(Path(job["run"]))
    record = run.record()
    task = recipes.find(record.task)
    if job["to"]:
        record = task.restrict(record, job["to"])
    options = files.ReadOptions(**job["options"])
    source, rows = load.open_rows(job["input"], options, errors="keep")
    first = list(itertools.islice(rows, 100))
    given = _known_columns(record, job["columns"], source.columns)
    columns = task.columns(given, source.columns, first, labelled=False, record=record)
    here = replace(record, columns=columns)
    format = _output_format(job["output"], job["output_format"], source.format)
    flat = format in ("csv", "tsv", "text")
    columns_added = task.added(record, job["all_scores"])
    added = AddedColumns.beside(source.columns, columns_added, format)
    if format == "text" and len(getattr(record, "targets", ())) > 1:
        raise UserError("plain text holds one translation a line", f"--to {record.targets[0]}, or another format")
    head, model = load_head(run, record, devices)
    counts = {"rows": 0, "errors": 0, "windowed": 0}
    notices: Counter[str] = Counter()
    started = time.perf_counter()
    output: Any = contextlib.nullcontext()
    if devices.main:
        # Plain text holds one column: the answer alone, on one line a row.
        wanted = [added.names[0]] if format == "text" else [*source.columns, *added.names]
        output = writers.open_writer(job["output"], wanted, format=format, spreadsheet_safe=job["spreadsheet_safe"])
    show = devices.main and not job["quiet"]

    def prepared(chunk: list[files.Row]) -> tuple[list[files.Row], list[str | None], list[int], Any, Features]:
        problems = [row.error or task.problem(row, here) for row in chunk]
        numbers = [i for i, problem in enumerate(problems) if problem is None]
        examples = task.examples(job["input"], [chunk[i] for i in numbers], here)
        return chunk, problems, numbers, examples, head.encode(task.inputs(examples, record))

    made = map(prepared, _chunks(itertools.chain(first, rows)))
    # A stream may have no next rows for long, and heads that write need the tokenizer for their answers too.
    parts = made if job["input"] == "-" or record.head == "text" else ahead(made)
    with Stop() as stop, output as writer, Progress("predicting", None, show=show) as progress:
        for chunk, problems, numbers, examples, features in parts:
            each = max(1, len(examples) // max(1, len(numbers)))  # translations into several languages
            for unread in np.flatnonzero(features.windows_of_rows == 0).tolist():
                problems[numbers[unread // each]] = f"it does not fit into a window of {head.max_length} tokens"
            try:
                outputs = row_outputs(model, head, features, devices, stop=stop)
            except Stopped:
                raise SystemExit(stop.code if stop.number else 143) from None
            counts["rows"] += len(chunk)
            counts["errors"] += sum(problem is not None for problem in problems)
            counts["windowed"] += int((features.windows_of_rows > 1).sum())
            if devices.main:
                answers = task.answers(outputs, features, examples, head, record) if numbers else None
                if numbers:
                    notices.update(task.notices(answers))
                position = {i: place for place, i in enumerate(numbers) if problems[i] is None}
                for i, row in enumerate(chunk):
                    found = task.cells(answers, position[i], record, job["all_scores"], flat) if i in position else None
                    writer.write(added.row(row.cells, found, problems[i]))
            progress.advance(len(chunk))
    escaped = getattr(writer, "escaped", 0)
    seconds = time.perf_counter() - started
    return {
        **counts,
        "notices": dict(notices),
        "seconds": seconds,
        "columns": list(added.names),
        "escaped": escaped,
    }


def ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """The parts in their order; while one is in use, a thread makes the next.

    So rows are read and tokenized while the model computes. An error is raised where its part would have come.
    """
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, parts, None)
        while (part := following.result()) is not None:
            following = thread.submit(next, parts, None)
            yield part


def score_features(job: dict[str, Any], devices: Devices) -> dict[str, Any]:
    """Outputs for tokenized rows, as one of the processes of a job; rank 0 writes them."""
    run = Run(Path(job["run"]))
    features = Features.load(Path(job["features"]))
    if features is None:
        raise UserError(f"the tokenized rows in {job['features']} have been damaged", "Start again")
    head, model = load_head(run, run.record(), devices)
    share = len(features.lengths) // devices.world
    show = devices.main and not job["quiet"]
    with Stop() as stop, Progress("evaluating", share, "windows", show=show) as progress:
        try:
            outputs = row_outputs(model, head, features, devices, progress=progress, stop=stop)
        except Stopped:
            raise SystemExit(stop.code if stop.number else 143) from None
    if devices.main:
        np.save(job["out"], outputs)
    return {}


def _output_format(output: str, asked: str | None, read: str) -> str:
    """The format asked for, or of the output's name; standard output is like the input."""
    if asked is None and output == "-":
        return read if read in writers.WRITABLE and read != "text" else "csv"
    return files.file_format(output, asked, "--output-format")


def load_head(run: Run, record: Any, devices: Devices) -> tuple[Any, Any]:
    """A run's head and model, ready to answer."""
    config = models.load_config(run.model)
    tokenizer = models.load_tokenizer(run.model, config)
    model, _ = models.load_model(run.model, config, tokenizer, record, training=False)
    return recipes.find(record.task).head(record, tokenizer), model.to(devices.device)


def _known_columns(record: Any, given: dict[str, str], columns: Sequence[str]) -> dict[str, str]:
    """The columns that training used, where this file has them, and those that the user names."""
    trained = {r: c for r, c in record.columns.items() if r != "label" and c in columns and r not in given}
    return {**trained, **given}


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
    """What prediction adds to a row: the task's columns, and the reason why a row could not be answered.

    The names get `predicted_` before them where the file has columns of these names already.
    """

    plain: tuple[str, ...]
    names: tuple[str, ...]
    format: str

    @classmethod
    def beside(cls, columns: Sequence[str], added: Sequence[str], format: str) -> AddedColumns:
        plain = names = (*added, "error")
        taken = set(columns) if format != "text" else set()
        while taken & set(names):
            names = tuple(f"predicted_{name}" for name in names)
        return cls(plain, names, format)

    def row(self, cells: dict[str, Any], found: dict[str, Any] | None, problem: str | None) -> dict[str, Any]:
        """A row of the output: its own cells and the added ones.

        Plain text has the answer only, and JSON an error only where there is one.
        """
        values = {**dict.fromkeys(self.plain), **(found or {}), "error": problem}
        if self.format == "text":
            return {self.names[0]: values[self.plain[0]]}
        if problem is None and self.format in ("json", "jsonl"):
            del values["error"]
        return {
            **cells,
            **{name: values[key] for key, name in zip(self.plain, self.names, strict=True) if key in values},
        }
