"""The prediction engine: rows in, answers out, in order, whatever the batches and processes.

Windows are sorted by length, so that a batch holds windows of nearly equal length and little padding.
Each process takes its share. Where memory runs out, a batch is halved and tried again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

import ftkit
from ftkit import checkpoint, fast, models, plan, recipes
from ftkit.data import files, load, writers
from ftkit.data.features import Features
from ftkit.devices import Devices, out_of_memory, sharing_threads
from ftkit.errors import UserError
from ftkit.heads.base import Head, Rows
from ftkit.journal import keep
from ftkit.plan import MicroBatch
from ftkit.progress import Progress
from ftkit.recipes.base import Examples, other_columns
from ftkit.run import Run
from ftkit.signals import Stop, Stopped, flags, heard

Part = TypeVar("Part")
TOKENS_PER_BATCH = {"cpu": 1536, "mps": 8192, "cuda": 65536}  # padded tokens that go through at once
MANY_BATCHES = 8  # from which on a full last one costs little


@dataclass
class Room:
    """The padded tokens for which this process has memory, as far as it is known: less, once it has run out."""

    tokens: float = float("inf")


class NotFinite(UserError):
    """What a model says of some rows is NaN or infinite, and no answer."""


def row_outputs(
    model: Any,
    head: Head,
    features: Features,
    devices: Devices,
    token_budget: int | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    room: Room | None = None,
) -> NDArray[np.float32]:
    """What the head says of each row (for spans: of each window), complete on every process.

    Args:
        token_budget: padded tokens of a batch, the same on every process, if there is room for less than usual.
        room: what earlier calls have found, and this one may find.

    Raises:
        Stopped: on every process, once any of them was asked to stop.
        NotFinite: on every process, where the model's numbers are NaN or infinite.
    """
    found: NDArray[np.float32] | None = None  # (windows, ...), made when the first batch shows its shape

    def outputs(batch: MicroBatch) -> torch.Tensor:
        return head.outputs(model, features, batch.items, devices.device).cpu()

    batches = _batches(features, devices, token_budget, devices.device.type == "cpu" and not model.can_generate())
    apart = token_budget is None  # else memory is short
    for batch, result in _results(outputs, model, features, devices, batches, stop, apart, room):
        if found is None:
            found = np.zeros((len(features.lengths), *result.shape[1:]), dtype=np.float32)
        if batch.counted:
            found[batch.items] = result.numpy()
            if progress:
                progress.advance(len(np.unique(batch.items)))
    if found is None:
        return np.zeros((0, 0), dtype=np.float32)
    devices.sum([torch.from_numpy(found)])  # in place
    broken = len(found) - int(np.isfinite(found.reshape(len(found), -1)).all(axis=1).sum())
    if broken:
        raise NotFinite(
            f"the model's answers to {broken:,} of {len(found):,} windows are no finite numbers "
            f"(in {devices.precision})",
            "Use --precision fp32" if devices.precision != "fp32" else "The model is broken: train it again",
        )
    return head.row_outputs(found, features)


def mean_loss(model: Any, head: Head, rows: Rows, devices: Devices, stop: Stop | None = None) -> float:
    """The loss of rows without dropout: over all processes, and weighted as an update's is.

    Raises:
        Stopped: on every process, once any of them was asked to stop.
    """
    features = rows.features
    total = torch.zeros(1, dtype=torch.float64)
    owner = features.row_of_window
    weight = (rows.weights[owner] / features.windows_of_rows[owner]).astype(np.float32)

    def loss(batch: MicroBatch) -> torch.Tensor:
        weights = torch.from_numpy(weight[batch.items] * np.float32(batch.counted)).to(devices.device)
        return head.loss(model, rows, batch.items, weights, devices.device).cpu().double()

    for _, result in _results(loss, model, features, devices, _batches(features, devices), stop):
        total += result
    devices.sum([total])
    return float(total.item() / rows.weights.sum())


def _batches(
    features: Features, devices: Devices, token_budget: int | None = None, topped_up: bool = False
) -> list[MicroBatch]:
    """All windows in batches, the longest first.

    They are the same however many processes share them, because a logit's last bits depend on its batch.

    Args:
        topped_up: of many batches the last has some windows twice, lest every part of a file bring a new shape
            (see `plan.padded`).
    """
    if not features.rows:
        return []
    usual = TOKENS_PER_BATCH[devices.device.type]
    budget = min(usual, token_budget or usual)
    widths = plan.padded(features.lengths)
    batches = plan.cut(np.arange(len(widths)), widths, 1, budget)
    if topped_up and len(batches) >= MANY_BATCHES:
        left = batches[-1].items
        batches[-1] = MicroBatch(np.resize(left, max(len(left), budget // max(1, int(widths[left].max())))), True)
    return batches


def _results(
    work: Callable[[MicroBatch], torch.Tensor],
    model: Any,
    features: Features,
    devices: Devices,
    batches: list[MicroBatch],
    stop: Stop | None,
    apart: bool = True,
    room: Room | None = None,
) -> Iterator[tuple[MicroBatch, torch.Tensor]]:
    """What `work` makes of this process's share of the batches, in their order.

    On CPUs several batches are worked on at once, each by its share of the threads: that is faster than all threads at
    one batch, most of whose steps are short. Once memory has run out, they are worked on one after the other, and one
    that it still lacks for is halved.

    Args:
        apart: whether several may be worked on at once.
    """
    # The longest batch runs first and shows whether memory suffices. A process for which there is none runs
    # one that does not count, to know the shape of the outputs.
    mine = batches[devices.rank :: devices.world] or [b._replace(counted=False) for b in batches[:1]]
    room = room or Room()
    apart = apart and room == Room() and len(mine) > 1 and fast.keeps_nothing(model)
    at_once = devices.threads_apart() if apart else 1
    rounds = -(-len(batches) // devices.world)
    begun: deque[tuple[MicroBatch, Future[torch.Tensor | None]]] = deque()
    failed: list[MicroBatch] = []

    def attempt(batch: MicroBatch) -> torch.Tensor | None:
        """None if memory ran out."""
        try:
            with torch.inference_mode(), devices.autocast():
                return work(batch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        return None

    def alone(batch: MicroBatch) -> Iterator[tuple[MicroBatch, torch.Tensor]]:
        waiting = [batch]
        while waiting:
            batch = waiting.pop()
            items, longest = batch.items, int(features.lengths[batch.items].max())
            if len(items) == 1 or len(items) * longest <= room.tokens:
                if (result := attempt(batch)) is not None:
                    yield batch, result
                    continue
                if len(items) == 1:
                    problem = f"not even one window of {longest} tokens fits into memory"
                    raise UserError(problem, "Use a smaller model", alone=True)
                room.tokens = len(items) * longest // 2
            waiting += [batch._replace(items=half) for half in np.array_split(items, 2)]

    model.eval()
    number = 0
    if at_once > 1:
        with sharing_threads(at_once) as pool:
            while begun or (number < rounds and not failed):
                if number < rounds and not failed:
                    _stop_together(devices, stop)
                    begun.append((mine[number], pool.submit(attempt, mine[number])))
                    number += 1
                    if len(begun) < at_once and number < rounds:
                        continue
                batch, future = begun.popleft()
                if (result := future.result()) is None:
                    failed.append(batch)  # perhaps only because of the others
                else:
                    yield batch, result
    for batch in failed:
        yield from alone(batch)
    for following in range(number, rounds):
        _stop_together(devices, stop)
        for batch in mine[following : following + 1]:
            yield from alone(batch)
    _stop_together(devices, stop)


def _stop_together(devices: Devices, stop: Stop | None) -> None:
    asked = torch.tensor(flags(stop.number if stop else 0))
    devices.sum([asked])
    if number := heard(asked.tolist()):
        raise Stopped(number)


def room_found(run: Run) -> int | None:
    """Padded tokens of a micro-batch that training has found room for; None if it had its usual room."""
    found = run.read_json("training.json")
    return int(found["tokens_per_microbatch"]) if found.get("short_of_memory") else None


CHUNK_ROWS = 4096  # rows read, answered and written together: bounds the memory, whatever the file's size
CHUNK_CHARACTERS = 4_000_000
MORE_ON_GPUS = 8  # times as many, lest batches be too few for several GPUs


class Asked(NamedTuple):
    """What the model is to answer of a chunk of rows.

    Attributes:
        problems: (rows,) why a row cannot be answered.
        numbers: the rows that can, by their places in the chunk.
        examples, features: of these.
    """

    problems: list[str | None]
    numbers: list[int]
    examples: Examples
    features: Features


def predict_file(job: dict[str, Any], devices: Devices) -> dict[str, Any]:
    """Answers every row of a file as one of the processes of a job; rank 0 writes.

    Where input and output are files, answered chunks are kept in a journal, and `resume` goes on from it.

    Returns:
        rows, errors (rows that could not be answered), windowed (rows of more than one window), notices,
        seconds, columns (those added), escaped (cells made safe for spreadsheets).

    Raises:
        SystemExit: a signal asked to stop; the exit code is that of `Stopped`.
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
    head, model, devices = load_head(run, record, devices)
    usual, room = room_found(run), Room()
    # Plain text holds one column: the answer alone, on one line a row.
    wanted = [added.names[0]] if format == "text" else [*source.columns, *added.names]

    def prepared(numbered: tuple[int, list[files.Row]], kept: int) -> tuple[list[files.Row], Asked | None]:
        """A chunk, and what the model is to answer of it; nothing if the answers are kept already."""
        number, chunk = numbered
        if number < kept:
            return chunk, None
        problems = [row.error or task.problem(row, here) for row in chunk]
        numbers = [i for i, problem in enumerate(problems) if problem is None]
        examples = task.examples(job["input"], [chunk[i] for i in numbers], here)
        return chunk, Asked(problems, numbers, examples, head.encode(task.inputs(examples, record)))

    def answer(asked: Asked) -> dict[str, Any]:
        """The answers to a chunk, on rank 0; every process takes part."""
        problems, numbers, examples, features = asked
        each = max(1, len(examples) // max(1, len(numbers)))  # translations into several languages
        for unread in np.flatnonzero(features.windows_of_rows == 0).tolist():
            problems[numbers[unread // each]] = f"it does not fit into a window of {head.max_length} tokens"
        outputs = row_outputs(model, head, features, devices, usual, stop=stop, room=room)
        found: list[Any] = [None] * len(problems)
        told: dict[str, int] = {}
        if devices.main and numbers:
            answers = task.answers(outputs, features, examples, head, record)
            told = task.notices(answers)
            for place, i in enumerate(numbers):
                if problems[i] is None:
                    found[i] = task.cells(answers, place, record, job["all_scores"], flat)
        windowed, tokens = int((features.windows_of_rows > 1).sum()), features.text_tokens.tolist()
        answered = [*zip(found, problems, strict=True)]
        return {"answers": answered, "windowed": windowed, "notices": told, "tokens": tokens}

    counts = {"rows": 0, "errors": 0, "windowed": 0}
    notices: Counter[str] = Counter()
    tokens = np.zeros(2, dtype=np.int64)  # of the texts, and those of them that are unknown to the model
    started = time.perf_counter()
    show = devices.main and not job["quiet"]
    journal: Any = None
    writer: Any = None
    with Stop() as stop, Progress("predicting", None, show=show) as progress, contextlib.ExitStack() as open_files:
        with devices.main_alone():
            if devices.main:
                if job["journal"]:
                    about = _about(job, run, columns, format, devices)
                    journal = open_files.enter_context(keep(job["output"], about, job["resume"]))
                opened = writers.open_writer(
                    job["output"], wanted, format=format, spreadsheet_safe=job["spreadsheet_safe"]
                )
                writer = open_files.enter_context(opened)
        for line in other_columns(record, columns):
            progress.line(line)
        kept = devices.share(journal.kept if journal else 0)
        following: Iterator[files.Row] = itertools.chain(first, rows)
        if job["input"] == "-":
            following = _waited_for(following, stop)
        made = map(
            prepared,
            enumerate(_chunks(following, MORE_ON_GPUS if devices.device.type == "cuda" else 1)),
            itertools.repeat(kept),
        )
        # A stream may have no next rows for long, and heads that write need the tokenizer for their answers too.
        parts = made if job["input"] == "-" or record.head == "text" else ahead(made)
        try:
            for number, (chunk, asked) in enumerate(parts):
                fresh = answer(asked) if asked else None
                with devices.main_alone():
                    if devices.main:
                        answered = fresh or journal.read()
                        if fresh and journal:
                            journal.add(fresh)
                        for row, (cells, problem) in zip(chunk, answered["answers"], strict=True):
                            writer.write(added.row(row, cells, problem))
                        counts["rows"] += len(chunk)
                        counts["errors"] += sum(problem is not None for _, problem in answered["answers"])
                        counts["windowed"] += answered["windowed"]
                        notices.update(answered["notices"])
                        tokens += answered.get("tokens", (0, 0))
                if number < kept:
                    progress.go_on_from(counts["rows"])
                else:
                    progress.advance(len(chunk))
                if number + 1 == kept:
                    progress.line(f"going on after row {counts['rows']:,}")
        except Stopped as stopped:
            kept_rows = f"the answers to the first {counts['rows']:,} rows are kept: go on with --resume"
            progress.line(f"stopped; {kept_rows if journal and counts['rows'] else 'nothing is kept'}")
            raise SystemExit(stopped.code) from None
        with devices.main_alone():
            open_files.close()  # the output takes its name
    escaped = getattr(writer, "escaped", 0)
    seconds = time.perf_counter() - started
    return {
        **counts,
        "notices": dict(notices),
        "unknown_token_share": float(tokens[1] / max(1, tokens[0])),
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


def _about(job: Mapping[str, Any], run: Run, columns: dict[str, str], format: str, devices: Devices) -> dict[str, Any]:
    """All that decides the bytes of an output, named as a user would."""
    model = hashlib.sha256()
    for path in [run.folder / "task.json", *sorted(run.model.iterdir())]:
        model.update(f"{path.name} {files.sha256(path)} ".encode())
    return {
        "input": [files.sha256(str(path)) for path in load.inputs(job["input"], files.ReadOptions(**job["options"]))],
        "run": model.hexdigest(),
        "columns": columns,
        **{f"reading {name}": value for name, value in job["options"].items()},
        "output format": format,
        "--to": job["to"],
        "--all-scores": job["all_scores"],
        "--spreadsheet-safe": job["spreadsheet_safe"],
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers")},
        "ftkit": ftkit.__version__,
        "device": devices.device.type,
        "precision": devices.precision,
        "threads": torch.get_num_threads() if devices.device.type == "cpu" else None,
    }


def score_features(job: dict[str, Any], devices: Devices) -> dict[str, Any]:
    """Outputs for tokenized rows, as one of the processes of a job; rank 0 writes them."""
    run = Run(Path(job["run"]))
    features = Features.load(Path(job["features"]))
    if features is None:
        raise UserError(f"the tokenized rows in {job['features']} have been damaged", "Start again")
    head, model, devices = load_head(run, run.record(), devices)
    share = len(features.lengths) // devices.world
    show = devices.main and not job["quiet"]
    with Stop() as stop, Progress("evaluating", share, "windows", show=show) as progress:
        try:
            outputs = row_outputs(model, head, features, devices, room_found(run), progress, stop)
        except Stopped as stopped:
            raise SystemExit(stopped.code) from None
    with devices.main_alone():
        if devices.main:
            np.save(job["out"], outputs)
    return {}


def _output_format(output: str, asked: str | None, read: str) -> str:
    """The format asked for, or of the output's name; standard output is like the input."""
    if asked is None and output == "-":
        read = "json" if read == "squad" else read
        return read if read in writers.WRITABLE and read != "text" else "csv"
    return files.file_format(output, asked, "--output-format")


def load_head(run: Run, record: Any, devices: Devices) -> tuple[Any, Any, Devices]:
    """A run's head and model, ready to answer, and the devices with a precision that suits the model.

    Raises:
        UserError: the model is not what training wrote.
    """
    written = run.read_json("training.json").get("model_sha256", {}) if (run.folder / "training.json").exists() else {}
    if problem := checkpoint.changed(run.model, written):
        raise UserError(
            f"{run.model} has changed since the training ended: {problem}",
            "Restore it from a copy; a model that was changed on purpose is to be copied elsewhere: --model COPY",
        )
    config = models.load_config(run.model)
    tokenizer = models.load_tokenizer(run.model, config)
    devices = models.suited(devices, config)
    model = models.load_model(run.model, config, tokenizer, record, training=False).model
    devices.put(model)
    fast.prepare(model, devices.device)
    return recipes.find(record.task).head(record, tokenizer), model, devices


def _known_columns(record: Any, given: dict[str, str], columns: Sequence[str]) -> dict[str, str]:
    """The columns that training used, where this file has them, and those that the user names."""
    trained = {r: c for r, c in record.columns.items() if r != "label" and c in columns and r not in given}
    return {**trained, **given}


def _waited_for(rows: Iterator[files.Row], stop: Stop) -> Iterator[files.Row]:
    """The rows of a stream, whose next one may be long in coming: a signal does not wait for it."""
    while True:
        with stop.waiting():
            row = next(rows, None)
        if row is None:
            return
        yield row


def _chunks(rows: Iterator[files.Row], times: int) -> Iterator[list[files.Row]]:
    chunk: list[files.Row] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += sum(len(value) for value in row.cells.values() if isinstance(value, str))
        if len(chunk) >= CHUNK_ROWS * times or characters >= CHUNK_CHARACTERS * times:
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

    def row(self, row: files.Row, found: dict[str, Any] | None, problem: str | None) -> dict[str, Any]:
        """A row of the output: its own cells and the added ones.

        Plain text has the answer only, and JSON an error only where there is one.

        Raises:
            UserError: the row has a cell of its own under a name of the added ones.
        """
        values = {**dict.fromkeys(self.plain), **(found or {}), "error": problem}
        if self.format == "text":
            answer = values[self.plain[0]]
            return {self.names[0]: " ".join(answer.split()) if isinstance(answer, str) else answer}
        if problem is None and self.format in ("json", "jsonl"):
            del values["error"]
        named = {name: values[key] for key, name in zip(self.plain, self.names, strict=True) if key in values}
        if clash := row.cells.keys() & named.keys():
            raise UserError(
                f"row {row.number} (line {row.line}) has a value under {min(clash)!r}, a name that the first rows lack "
                "and that the answer is to bear",
                "Rename it in the data, or give the first row all names",
            )
        return {**row.cells, **named}
