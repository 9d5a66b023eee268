"""The training loop.

An update is a set of rows. Its micro-batches go through the model one after the other, each adding the
gradient of its weighted loss sum divided by the update's total weight; processes add up their gradients
once; then the optimizer steps. How an update is cut never changes what is learned.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ftkit import checkpoint, fast, models, plan, recipes, sharding
from ftkit.config import Recipe
from ftkit.data.features import Features
from ftkit.devices import Devices, out_of_memory
from ftkit.errors import UserError
from ftkit.heads.base import Head, Rows
from ftkit.heads.labels import log_odds
from ftkit.prediction import NotFinite, mean_loss, row_outputs
from ftkit.progress import Progress
from ftkit.recipes.base import Examples
from ftkit.run import Run
from ftkit.signals import FAILED, Stop, Stopped, flags, heard

TOKENS_PER_MICROBATCH = {
    "cpu": 4096,
    "mps": 8192,
    "cuda": 32768,
}  # to begin with; halved when memory runs out
FORECAST_SECONDS = 2.0
OUTPUTS = "validation-outputs.npy"
SMALLEST_LOSS_SCALE = 1.0  # fp16 training that overflows even at this scale has diverged


@dataclass
class Fitting:
    """A model in training: everything that one update changes."""

    model: Any
    head: Head
    recipe: Recipe
    devices: Devices
    rows: Rows
    new: frozenset[str] = frozenset()  # the parameters that began at random; see `optimizer`
    epochs: int = field(init=False)
    total_updates: int = field(init=False)
    widths: plan.Ints = field(init=False)  # (windows,) to which they are padded
    peak_rate: float = field(init=False)
    token_budget: int = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    learning: list[torch.nn.Parameter] = field(init=False)
    done: int = 0  # updates of the schedule so far, over all epochs

    def __post_init__(self) -> None:
        self.widths = plan.padded(self.rows.features.lengths)
        training, budget = self.recipe.training, self.recipe.hardware.tokens_per_microbatch
        if training.epochs == "auto" or training.learning_rate == "auto" or training.head_factor == "auto":
            raise ValueError("the recipe of a run has resolved numbers")
        self.epochs, self.peak_rate = training.epochs, training.learning_rate
        self.total_updates = self.epochs * -(-self.rows.features.rows // training.batch_size)
        self.token_budget = TOKENS_PER_MICROBATCH[self.devices.device.type] if budget == "auto" else budget
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.model, self.peak_rate, training.weight_decay, training.head_factor, self.new)
        self.scaler = torch.amp.GradScaler(self.devices.device.type, enabled=self.devices.precision == "fp16")
        fast.forget_gradients(self.model)

    @property
    def sharded(self) -> bool:
        return self.recipe.hardware.shard

    @property
    def short_of_memory(self) -> bool:
        """Whether micro-batches are smaller than usual: memory has run out, or the recipe says so."""
        return self.token_budget < TOKENS_PER_MICROBATCH[self.devices.device.type]

    def update(self, epoch: int, number: int, rows: NDArray[np.int64], stop: int = 0) -> dict[str, Any]:
        """One optimizer update over `rows`, on all processes together.

        Args:
            stop: the signal that asked this process to stop; 0 if none did.

        Returns:
            loss (mean over the rows' weights), learning_rate, gradient_norm, rows, tokens; `stopping` is the
            signal that asked any of the processes to stop.

        Raises:
            UserError: the loss or the gradient is not finite, or not even one window fits into memory.
        """
        features = self.rows.features
        items = features.windows_of(rows)
        self.model.train()
        while True:
            loss, memory_lacks = self._accumulate(epoch, number, rows, items)
            shared = torch.tensor([loss, float(memory_lacks), *flags(stop)], dtype=torch.float64)
            self.devices.sum([shared])
            if not shared[1].item():
                break
            fast.forget_gradients(self.model)
            longest = int(features.lengths[items].max())
            if self.token_budget < longest:
                raise UserError(
                    f"not even one window of {longest} tokens fits into memory",
                    "Shorter windows (--set window.max_length=128), --set hardware.gradient_checkpointing=true, "
                    "or a smaller model",
                )
            self.token_budget //= 2
        if self.devices.world > 1 and not self.sharded:  # the same list on all, whatever parts of the model they used
            for p in self.learning:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            self.devices.sum(p.grad for p in self.learning if p.grad is not None)
        rate = self.peak_rate * plan.learning_rate_factor(
            self.done, self.total_updates, self.recipe.training.warmup, self.recipe.training.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.scaler.unscale_(self.optimizer)
        norms = torch.nn.utils.clip_grad_norm_(self.learning, self.recipe.training.max_gradient_norm)
        norm = sharding.gathered(norms).item()
        mean_loss = float(shared[0].item())
        self._check(mean_loss, norm, epoch, rows, rate)
        try:
            self.scaler.step(self.optimizer)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                "the optimizer's state does not fit into memory", "Use a smaller model", alone=True
            ) from None
        self.scaler.update()
        fast.forget_gradients(self.model)
        self.done += 1
        return {
            "loss": mean_loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "rows": len(rows),
            "tokens": int(features.lengths[items].sum()),
            "stopping": heard(shared[2:].tolist()),
        }

    def try_heaviest(self) -> None:
        """Has the longest rows go through the model as one update, and forgets their gradient.

        An update of a sharded model cannot be cut finer midway: memory that does not suffice had better run out
        before the first. The optimizer's state, which is not there yet, is stood in for.

        Raises:
            UserError: memory ran out, here or for the whole model that an evaluation needs.
        """
        features = self.rows.features
        rows = np.argsort(features.row_lengths, kind="stable")[-self.recipe.training.batch_size :]
        self.model.train()
        try:
            state = [torch.ones_like(p) for p in self.learning for _ in range(0 if self.optimizer.state else 2)]
            self._accumulate(0, 0, rows, features.windows_of(rows))
            fast.forget_gradients(self.model)
            with sharding.whole(self.model):
                del state
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                "the model in shards with its optimizer's state, or the whole model, which every process needs for "
                "evaluation, does not fit into memory",
                "Use a smaller model",
                alone=True,
            ) from None

    def _accumulate(
        self, epoch: int, number: int, rows: NDArray[np.int64], items: NDArray[np.int64]
    ) -> tuple[float, bool]:
        """Adds up this process's share of the gradient; (its share of the loss, whether memory lacked)."""
        features, devices = self.rows.features, self.devices
        owner = np.repeat(rows, features.windows_of_rows[rows])
        weight = self.rows.weights[owner] / features.windows_of_rows[owner]
        total = float(self.rows.weights[rows].sum())
        row_of = dict(zip(items.tolist(), range(len(items)), strict=True))
        loss_sum = torch.zeros(
            (), dtype=torch.float64, device=devices.device if devices.device.type != "mps" else "cpu"
        )
        on_cpu = devices.device.type == "cpu"
        batches = plan.cut(items, self.widths, devices.world, self.token_budget, powers_of_two=on_cpu)
        try:
            for index in range(devices.rank, len(batches), devices.world):
                batch = batches[index]
                at = np.fromiter((row_of[i] for i in batch.items.tolist()), dtype=np.int64)
                weights = torch.from_numpy(weight[at] * (1.0 if batch.counted else 0.0)).to(
                    devices.device, torch.float32
                )
                torch.manual_seed(plan.dropout_seed(self.recipe.seed, epoch, number, index))
                with devices.autocast():
                    loss = self.head.loss(self.model, self.rows, batch.items, weights, devices.device) / total
                self.scaler.scale(loss).backward()
                loss_sum += loss.detach().to(loss_sum.device)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if self.sharded:  # the others are waiting within the model's layers, and cannot be told
                raise UserError(
                    f"memory ran out at update {self.done + 1}; a sharded update cannot be cut finer and done again",
                    f"Take smaller micro-batches: --set hardware.tokens_per_microbatch={self.token_budget // 2} "
                    "(with --resume RUN, where there is a checkpoint)",
                    alone=True,
                ) from None
            return 0.0, True
        return loss_sum.item(), False

    def _check(self, loss: float, norm: float, epoch: int, rows: NDArray[np.int64], rate: float) -> None:
        if np.isfinite(loss) and np.isfinite(norm):
            return
        if np.isfinite(loss) and self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_LOSS_SCALE:
            return  # fp16 overflow: the scaler skips this step and lowers its scale
        listed = ", ".join(str(row + 1) for row in sorted(rows.tolist())[:8])
        raise UserError(
            f"the training has diverged: loss {loss}, gradient norm {norm} at update {self.done + 1} of "
            f"{self.total_updates} (epoch {epoch + 1}, learning rate {rate:.2e}, training rows {listed}, ...)",
            "Try a lower learning rate (--learning-rate), or --precision fp32",
        )


def optimizer(
    model: Any, rate: float, weight_decay: float, head_factor: float, new: frozenset[str]
) -> torch.optim.Optimizer:
    """Fused AdamW (Loshchilov and Hutter, 2019); vectors and embeddings do not decay.

    The parameters named in `new`, a head that begins at random, learn `head_factor` times as fast; each group's
    `factor` says so to the schedule.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            decay = weight_decay if p.ndim >= 2 and id(p) not in embeddings else 0.0
            groups.setdefault((head_factor if name in new else 1.0, decay), []).append(p)
    listed = [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (factor, decay), parameters in groups.items()
    ]
    device = next(model.parameters()).device
    return torch.optim.AdamW(listed, lr=rate, fused=device.type != "mps")


@dataclass
class State:
    """How far a training has come; all that a resumed one needs beside weights and optimizer.

    Attributes:
        epoch: epochs completed, evaluation included.
        number: updates done in the epoch after those.
        done: updates of the schedule done in all: what the learning rate follows.
        made: updates made in all. Checkpoints are named and ordered by it; unlike `done` it never goes back.
        best_epoch, best_score, best_folder: of the best model so far; -1, None and "" before the first. If the best
            model is lost the epoch is that from which patience counts.
        token_budget: of a micro-batch, as far as memory has been found to allow.
        tokens_asked: what the recipe said of it.
        loss_scale: the state of fp16's loss scaling.
        seconds: spent in updates.
        log_bytes: length of log.jsonl; what a killed process wrote after it is cut off.
        updates_of_epoch: of which an epoch consists.
    """

    epoch: int = 0
    number: int = 0
    done: int = 0
    made: int = 0
    best_epoch: int = -1
    best_score: float | None = None
    best_folder: str = ""
    token_budget: int = 0
    tokens_asked: int | str = "auto"
    loss_scale: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    log_bytes: int = 0
    updates_of_epoch: int = 0


@dataclass
class Course:
    """One training from its first (or next) update to its last."""

    run: Run
    record: Any
    metric: str
    fitting: Fitting
    validation: Rows
    examples: Examples | None
    log: Log
    progress: Progress
    stop: Stop
    writer: ThreadPoolExecutor  # of one thread, so that checkpoints are written one after the other
    writing: Future[None] | None = None
    state: State = field(default_factory=State)
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def recipe(self) -> Recipe:
        return self.fitting.recipe

    @property
    def devices(self) -> Devices:
        return self.fitting.devices

    @property
    def folder(self) -> Path:
        return self.run.folder / "checkpoints"

    def go(self) -> None:
        """All epochs that are left, until the last or until patience ends."""
        training, epochs = self.recipe.training, self.fitting.epochs
        lengths = self.fitting.rows.features.row_lengths
        while self.state.epoch < epochs and not self._out_of_patience():
            epoch = self.state.epoch
            order = plan.updates(lengths, training.batch_size, self.recipe.seed, epoch, training.window_of_updates)
            try:
                for number in range(self.state.number, len(order)):
                    self._update(epoch, number, order[number])
                self._evaluate(epoch)
            except Stopped:
                self.finish_writing()
                self.save()
                self.finish_writing()
                raise
            self.state.epoch, self.state.number = epoch + 1, 0
            self.save(after=60)
        self.finish_writing()
        self._end_if_asked()
        if not self.state.best_folder:
            raise UserError("no epoch gave a finite score on the validation rows", "Try a lower --learning-rate")

    def _end_if_asked(self) -> None:
        """Ends with a checkpoint if a signal came when no update and no evaluation was there to hear it."""
        asked = torch.tensor(flags(self.stop.number), dtype=torch.float64)
        self.devices.sum([asked])
        if number := heard(asked.tolist()):
            self.save()
            self.finish_writing()
            raise Stopped(number)

    def _update(self, epoch: int, number: int, rows: NDArray[np.int64]) -> None:
        before = time.perf_counter()
        facts = self.fitting.update(epoch, number, rows, FAILED if self._failed() else self.stop.number)
        stopping = facts.pop("stopping")
        seconds = time.perf_counter() - before
        self.state.number, self.state.done = number + 1, self.fitting.done
        self.state.made += 1
        self.state.seconds += seconds
        self.log.write({"update": self.fitting.done, "epoch": epoch + 1, **facts, "seconds": round(seconds, 4)})
        epochs = self.fitting.epochs
        self.progress.advance(len(rows), f"epoch {epoch + 1}/{epochs}, loss {facts['loss']:.4f}")
        if stopping:
            raise Stopped(stopping)
        self.save(after=60 * self.recipe.hardware.checkpoint_minutes)

    def _evaluate(self, epoch: int) -> None:
        """Scores the validation rows and keeps the model if it is the best so far."""
        head, model, task = self.fitting.head, self.fitting.model, recipes.find(self.record.task)
        outputs = None
        self.progress.advance(0, f"epoch {epoch + 1}/{self.fitting.epochs}, scoring the validation rows")
        with sharding.whole(model):
            if self.metric == "loss":
                scores = {"loss": mean_loss(model, head, self.validation, self.devices, stop=self.stop)}
            else:
                budget = self.fitting.token_budget if self.fitting.short_of_memory else None
                try:
                    outputs = row_outputs(model, head, self.validation.features, self.devices, budget, stop=self.stop)
                    scores = task.quick_scores(outputs, self.validation, self.examples, head, self.record)
                except NotFinite as error:
                    self.progress.line(str(error))
                    scores = {self.metric: float("nan")}
        self.log.write({"evaluation": epoch + 1, "update": self.fitting.done, **scores})
        improved = self.judge(epoch, -scores["loss"] if self.metric == "loss" else scores[self.metric], outputs)
        shown = f"{self.metric} {scores[self.metric]:.4f}" + (" (best so far)" if improved else "")
        self.progress.line(f"epoch {epoch + 1}/{self.fitting.epochs}: validation {shown}")

    def judge(self, epoch: int, score: float, outputs: NDArray[np.float32] | None) -> bool:
        """Whether the score is the best so far; then the model is kept. NaN never is."""
        improved = np.isfinite(score) and (self.state.best_score is None or score > self.state.best_score)
        if improved:
            self.state.best_epoch, self.state.best_score = epoch, score
            self.state.best_folder = f"best-{self.state.made:08}"
            self.finish_writing()
            weights = sharding.state_dict(self.fitting.model, keep=self.devices.main)
            with self.devices.main_alone():
                if self.devices.main:
                    self._keep_best(weights, outputs)
        return bool(improved)

    def _out_of_patience(self) -> bool:
        patience = self.recipe.training.patience
        if patience is None or self.state.epoch - 1 - self.state.best_epoch < patience:
            return False
        self.progress.line(f"no improvement in {patience} epochs: stopped early")
        return True

    def _keep_best(self, weights: dict[str, torch.Tensor] | None, outputs: NDArray[np.float32] | None) -> None:
        model, tokenizer = self.fitting.model, self.fitting.head.tokenizer

        def fill(stage: Path) -> None:
            model.save_pretrained(stage, state_dict=weights)
            tokenizer.save_pretrained(stage)
            if outputs is not None:
                np.save(stage / OUTPUTS, outputs)

        size = sum(p.numel() * p.element_size() for p in model.parameters())
        size = int(size * 1.05) + 10_000_000 + (outputs.nbytes if outputs is not None else 0)
        checkpoint.write(self.folder / self.state.best_folder, size, fill)
        checkpoint.prune(self.folder, self.state.best_folder)

    def save(self, after: float = 0.0) -> None:
        """Begins to write a checkpoint to go on from, beside the training where memory allows it.

        Only rank 0 does, so that no process waits for it; what goes wrong is told by `finish_writing`. Of a sharded
        model every process hands in its part.

        Args:
            after: seconds that have to have passed since the last one.
        """
        busy = self.writing is not None and not self.writing.done()
        due = self.devices.main and time.monotonic() - self.saved_at > after and not busy and not self._failed()
        if self.fitting.sharded:
            due = self.devices.share(due)
        if not due:
            return
        self.saved_at = time.monotonic()
        self.state.token_budget = self.fitting.token_budget
        self.state.tokens_asked = self.recipe.hardware.tokens_per_microbatch
        self.state.loss_scale = self.fitting.scaler.state_dict()
        self.state.log_bytes = self.log.bytes_kept()
        self.state.updates_of_epoch = self.fitting.total_updates // self.fitting.epochs
        tensors, copied = checkpoint.snapshot(self.fitting.model, self.fitting.optimizer, keep=self.devices.main)
        if not self.devices.main:
            return
        self.writing = self.writer.submit(self._write, tensors, asdict(self.state))
        if not copied:
            wait([self.writing])

    def _write(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Writes a checkpoint; older ones go once it has been read back and is whole.

        One that is there already is never written again: it is the one that this training went on from.
        """
        scored = "" if state["number"] else f"-epoch-{state['epoch']}"  # after the evaluation of that epoch
        folder = self.folder / f"update-{state['made']:08}{scored}"
        if checkpoint.damage(folder) is not None:
            checkpoint.save_training(folder, tensors, state)
        if damage := checkpoint.damage(folder):
            raise UserError(f"the checkpoint {folder} was written, and reads back damaged: {damage}", "Check the disk")
        checkpoint.prune(self.folder, state["best_folder"])

    def _failed(self) -> bool:
        """Whether rank 0 knows of something that could not be written."""
        writing = self.writing
        return bool(self.log.error or (writing and writing.done() and writing.exception()))

    def finish_writing(self) -> None:
        """Waits until all is written.

        Raises:
            UserError: on every process, if something could not be written.
        """
        with self.devices.main_alone():
            if self.log.error:
                raise self.log.error
            if self.writing:
                self.writing.result()

    def load(self, folder: Path) -> None:
        """Goes on from a checkpoint.

        Where an epoch has another number of updates than it had (`--resume-anyway`), what has been done is counted
        in parts of an epoch. If the best model is damaged it is forgotten; after an epoch the checkpoint's model is
        scored again.
        """
        state = checkpoint.load_training(folder, self.fitting.model, self.fitting.optimizer)
        try:
            self.state = State(**state)
        except TypeError as error:
            raise UserError(f"the checkpoint {folder} does not fit this training: {error}", "Train again") from None
        updates_of_epoch = self.fitting.total_updates // self.fitting.epochs
        if self.state.updates_of_epoch not in (0, updates_of_epoch):
            self.state.number = round(self.state.number * updates_of_epoch / self.state.updates_of_epoch)
            self.state.done = self.state.epoch * updates_of_epoch + self.state.number
        best = self.state.best_folder
        if self.devices.share(bool(self.devices.main and best and checkpoint.damage(self.folder / best) is not None)):
            if self.state.number == 0:
                self.state.epoch, self.state.number = self.state.epoch - 1, updates_of_epoch
            # Patience counts from here.
            self.state.best_epoch, self.state.best_score, self.state.best_folder = self.state.epoch - 1, None, ""
        if self.devices.main:
            checkpoint.forget_later(self.folder, folder.name)
        self.fitting.done = self.state.done
        if self.recipe.hardware.tokens_per_microbatch == self.state.tokens_asked:
            self.fitting.token_budget = self.state.token_budget
        if self.state.loss_scale and self.fitting.scaler.is_enabled():
            self.fitting.scaler.load_state_dict(self.state.loss_scale)
        if not self.log.cut(self.state.log_bytes):
            self.progress.line(f"{self.log.path} has lost its end: the updates before this one are not all in it")
        rows = self.fitting.rows.features.rows
        self.progress.go_on_from(
            self.state.epoch * rows + min(rows, self.state.number * self.recipe.training.batch_size)
        )


def fit(job: dict[str, Any], devices: Devices) -> dict[str, Any]:
    """Trains as one of the processes of a job; rank 0 writes the run.

    The job names the run, whose recipe.yaml, task.json and work folder hold the rest; `resume` names the
    checkpoint to go on from, if there is one.

    Returns:
        updates, seconds, rows_per_second, precision, processes, best_epoch, tokens_per_microbatch, notes.

    Raises:
        SystemExit: a signal asked to stop; a checkpoint has been saved, the exit code is that of `Stopped`.
    """
    from ftkit import config

    run = Run(Path(job["run"]))
    recipe = config.resolve(config.read(run.folder / "recipe.yaml"))
    record = run.record()
    train, validation = _rows(run, job, "train"), _rows(run, job, "validation")
    texts = run.work / "validation.json"
    examples = Examples(**json.loads(texts.read_text(encoding="utf-8"))) if texts.exists() else None
    fitting, notes = begin(recipe, record, Path(job["model"]), train, devices)
    devices = fitting.devices
    started = time.perf_counter()
    total = train.features.rows * fitting.epochs
    with (
        Stop() as stop,
        Log(run.folder / "log.jsonl", devices.main) as log,
        Progress("training", total, show=devices.main and not job["quiet"]) as progress,
        ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as writer,
    ):
        course = Course(run, record, job["metric"], fitting, validation, examples, log, progress, stop, writer)
        if job.get("resume"):
            course.load(Path(job["resume"]))
        else:
            log.cut(0)
            if devices.main:
                checkpoint.forget_later(course.folder, "")
            for note in notes:
                progress.line(note)
        if fitting.sharded:
            fitting.try_heaviest()
        earlier = course.state.seconds  # of the updates before a resume
        try:
            course.go()
        except Stopped as stopped:
            progress.line(
                f"stopped after update {fitting.done} of {fitting.total_updates}, saved; "
                f"go on with: ftkit train --resume {run.folder}"
            )
            raise SystemExit(stopped.code) from None
    state = course.state
    facts = {
        "updates": fitting.done,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch + 1,
        "seconds": earlier + time.perf_counter() - started,
        "rows_per_second": train.features.rows * state.epoch / max(1e-9, state.seconds),
        "precision": devices.precision,
        "device": devices.device.type,
        "processes": devices.world,
        "tokens_per_microbatch": fitting.token_budget,
        "short_of_memory": fitting.short_of_memory,
        "parameters": sum(p.numel() for p in fitting.model.parameters()),
        "notes": notes,
    }
    with devices.main_alone():
        if devices.main:
            _put_model(run, course, facts)
    return facts


def _put_model(run: Run, course: Course, facts: dict[str, Any]) -> None:
    """Makes the best model the run's, and removes the checkpoints.

    Raises:
        UserError: it has been damaged.
    """
    best = course.folder / course.state.best_folder
    if damage := checkpoint.damage(best):
        raise UserError(
            f"the best model, {best}, has been damaged since it was written: {damage}",
            f"Check the disk, and go on from the newest whole checkpoint with: ftkit train --resume {run.folder}",
        )
    hashes = json.loads((best / checkpoint.MANIFEST).read_text())
    hashes.pop(OUTPUTS, None)
    run.write_json("training.json", facts | {"model_sha256": hashes})
    os.replace(best, run.model)
    tidy(run)


def tidy(run: Run) -> None:
    """What is left to do once the run has its model; a training that was killed on the way does it when it resumes."""
    if (run.model / OUTPUTS).exists():
        os.replace(run.model / OUTPUTS, run.work / OUTPUTS)
    (run.model / checkpoint.MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)


def forecast(prepared: Any) -> dict[str, float]:
    """What a training would take, from a few real updates: seconds, peak memory in bytes, rows a second.

    The heaviest update runs first, so that the memory is what training will need at most.
    """
    import resource

    from ftkit.devices import open_devices

    hardware = prepared.recipe.hardware.model_copy(update={"shard": False})  # there is one process here
    recipe = prepared.recipe.model_copy(update={"hardware": hardware})
    devices = replace(open_devices(recipe.hardware.device, recipe.hardware.precision), rank=0, world=1)
    fitting, _ = begin(recipe, prepared.record, prepared.model_folder, prepared.rows["train"], devices)
    lengths = fitting.rows.features.row_lengths
    order = plan.updates(lengths, recipe.training.batch_size, recipe.seed, 0, recipe.training.window_of_updates)
    tokens = np.asarray([lengths[rows].sum() for rows in order])
    fitting.update(0, 0, order[int(tokens.argmax())])
    typical = np.argsort(tokens)[len(tokens) // 2]
    started, measured = time.perf_counter(), 0
    while time.perf_counter() - started < FORECAST_SECONDS:
        fitting.update(0, 0, order[typical])
        measured += int(tokens[typical])
    seconds = float(tokens.sum()) * fitting.epochs * (time.perf_counter() - started) / measured
    if devices.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "seconds": seconds,
        "memory_bytes": memory,
        "rows_per_second": len(lengths) * fitting.epochs / seconds,
    }


def begin(recipe: Recipe, record: Any, model_folder: Path, rows: Rows, devices: Devices) -> tuple[Fitting, list[str]]:
    """The model on its device with its optimizer, before the first update; and notes about the model."""
    model_config = models.load_config(model_folder, recipe.allow_pickle)
    devices = models.suited(devices, model_config)
    tokenizer = models.load_tokenizer(model_folder, model_config)
    model, notes, new = models.load_model(
        model_folder,
        model_config,
        tokenizer,
        record,
        training=True,
        seed=recipe.seed,
        dropout=recipe.training.dropout,
        allow_pickle=recipe.allow_pickle,
        first_logits=log_odds(rows.targets) if record.head == "labels" and record.multi_label else None,
    )
    if recipe.training.head_factor != 1 and not new:
        notes.append("no head is new, so that all learns at the same rate, whatever training.head_factor says")
    models.freeze(model, recipe.training.freeze)
    if recipe.hardware.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise UserError(
                f"models of type {model_config.model_type} cannot compute activations anew",
                "Leave out hardware.gradient_checkpointing; shorter windows take less memory too",
            )
        model.activation_checkpointing_enable()
    if recipe.hardware.shard:
        sharding.shard(model, devices)
    devices.put(model)
    fast.prepare(model, devices.device)
    return Fitting(model, recipes.find(record.task).head(record, tokenizer), recipe, devices, rows, new), notes


def save_rows(rows: Rows, folder: Path, split: str) -> None:
    """Puts targets and weights where the processes of a training find them; the features are in the cache."""
    np.save(folder / f"{split}-targets.npy", rows.targets, allow_pickle=False)
    np.save(folder / f"{split}-weights.npy", rows.weights, allow_pickle=False)


def _rows(run: Run, job: dict[str, Any], split: str) -> Rows:
    features = Features.load(Path(job["features"][split]))
    if features is None:
        raise UserError(f"the tokenized rows in {job['features'][split]} have been damaged", "Start again")
    return Rows(features, *(np.load(run.work / f"{split}-{what}.npy") for what in ("targets", "weights")))


class Log:
    """log.jsonl: one JSON object a line, appended as things happen.

    Attributes:
        error: why it cannot be written any more; the training ends with it after its next update.
    """

    def __init__(self, path: Path, writes: bool) -> None:
        self.path = path
        self.error: UserError | None = None
        self.file = path.open("ab", buffering=0) if writes else None

    def write(self, facts: dict[str, Any]) -> None:
        if self.file:
            with self._failing():
                left = memoryview((json.dumps(facts) + "\n").encode())
                while left:  # a disk that is nearly full takes a part
                    left = left[self.file.write(left) :]

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = UserError(
                f"{self.path} cannot be written: {error.strerror}",
                f"Free some space and go on with: ftkit train --resume {self.path.parent}",
            )

    def bytes_kept(self) -> int:
        """The file's length, all of which is on the disk."""
        if not self.file:
            return 0
        with self._failing():
            os.fsync(self.file.fileno())
        return self.file.tell()

    def cut(self, length: int) -> bool:
        """Forgets what was written after the first `length` bytes; whether the file had so many.

        If it had not, a last line without an end is forgotten.
        """
        if self.file:
            whole = self.path.stat().st_size >= length
            if not whole:
                length = self.path.read_bytes().rfind(b"\n") + 1
            self.file.truncate(length)
            self.file.seek(length)
            return whole
        return True

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.file:
            self.file.close()
