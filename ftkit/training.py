"""The training loop.

An update is a set of rows. Its micro-batches go through the model one after the other, each adding the
gradient of its weighted loss sum divided by the update's total weight; processes add up their gradients
once; then the optimizer steps. How an update is cut never changes what is learned.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ftkit import models, plan
from ftkit.config import Recipe
from ftkit.data.features import Features
from ftkit.devices import Devices, out_of_memory
from ftkit.errors import UserError
from ftkit.heads.labels import LabelsHead
from ftkit.metrics import classification
from ftkit.prediction import row_logits
from ftkit.progress import Progress
from ftkit.run import Run, TaskRecord

TOKENS_PER_MICROBATCH = {
    "cpu": 8192,
    "mps": 8192,
    "cuda": 32768,
}  # to begin with; halved when memory runs out
FORECAST_SECONDS = 2.0
SMALLEST_LOSS_SCALE = 1.0  # fp16 training that overflows even at this scale has diverged


@dataclass(frozen=True)
class Rows:
    """Rows ready to learn from.

    Attributes:
        features: their windows.
        targets: (rows,) label numbers or (rows, labels) float32.
        weights: (rows,) how much each row counts.
    """

    features: Features
    targets: NDArray[Any]
    weights: NDArray[np.float32]


@dataclass
class Fitting:
    """A model in training: everything that one update changes."""

    model: Any
    head: LabelsHead
    recipe: Recipe
    devices: Devices
    rows: Rows
    epochs: int = field(init=False)
    total_updates: int = field(init=False)
    peak_rate: float = field(init=False)
    token_budget: int = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    learning: list[torch.nn.Parameter] = field(init=False)
    done: int = 0  # updates so far, over all epochs

    def __post_init__(self) -> None:
        training, budget = self.recipe.training, self.recipe.hardware.tokens_per_microbatch
        if training.epochs == "auto" or training.learning_rate == "auto":
            raise ValueError("the recipe of a run has resolved numbers")
        self.epochs, self.peak_rate = training.epochs, training.learning_rate
        self.total_updates = self.epochs * -(-self.rows.features.rows // training.batch_size)
        self.token_budget = TOKENS_PER_MICROBATCH[self.devices.device.type] if budget == "auto" else budget
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.model, self.peak_rate, self.recipe.training.weight_decay)
        self.scaler = torch.amp.GradScaler(self.devices.device.type, enabled=self.devices.precision == "fp16")

    def update(self, epoch: int, number: int, rows: NDArray[np.int64]) -> dict[str, float]:
        """One optimizer update over `rows`, on all processes together.

        Returns:
            loss (mean over the rows' weights), learning_rate, gradient_norm, rows, tokens.

        Raises:
            UserError: the loss or the gradient is not finite, or not even one window fits into memory.
        """
        features = self.rows.features
        items = features.windows_of(rows)
        self.model.train()
        while True:
            loss, memory_lacks = self._accumulate(epoch, number, rows, items)
            flags = torch.tensor([loss, float(memory_lacks)], dtype=torch.float64)
            flags = flags.to(self.devices.device) if self.devices.device.type == "cuda" else flags
            self.devices.sum([flags])
            if not flags[1].item():
                break
            self.optimizer.zero_grad(set_to_none=True)
            longest = int(features.lengths[items].max())
            if self.token_budget < longest:
                raise UserError(
                    f"not even one window of {longest} tokens fits into memory",
                    "Shorter windows (--set window.max_length=128), --set hardware.gradient_checkpointing=true, "
                    "or a smaller model",
                )
            self.token_budget //= 2
        self.devices.sum(p.grad for p in self.learning if p.grad is not None)
        rate = self.peak_rate * plan.learning_rate_factor(
            self.done, self.total_updates, self.recipe.training.warmup, self.recipe.training.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.learning, self.recipe.training.max_gradient_norm).item()
        mean_loss = float(flags[0].item())
        self._check(mean_loss, norm, epoch, rows, rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return {
            "loss": mean_loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "rows": len(rows),
            "tokens": int(features.lengths[items].sum()),
        }

    def _accumulate(
        self, epoch: int, number: int, rows: NDArray[np.int64], items: NDArray[np.int64]
    ) -> tuple[float, bool]:
        """Adds up this process's share of the gradient; (its share of the loss, whether memory lacked)."""
        features, devices = self.rows.features, self.devices
        owner = np.repeat(rows, features.windows_of_rows[rows])
        weight = (self.rows.weights / features.windows_of_rows)[owner]
        total = float(self.rows.weights[rows].sum())
        row_of = dict(zip(items.tolist(), range(len(items)), strict=True))
        loss_sum = torch.zeros(
            (), dtype=torch.float64, device=devices.device if devices.device.type != "mps" else "cpu"
        )
        batches = plan.cut(items, features.lengths, devices.world, self.token_budget)
        try:
            for index in range(devices.rank, len(batches), devices.world):
                batch = batches[index]
                at = np.fromiter((row_of[i] for i in batch.items.tolist()), dtype=np.int64)
                weights = torch.from_numpy(weight[at] * (1.0 if batch.counted else 0.0)).to(
                    devices.device, torch.float32
                )
                targets = torch.from_numpy(self.rows.targets[owner[at]]).to(devices.device)
                torch.manual_seed(plan.dropout_seed(self.recipe.seed, epoch, number, index))
                inputs = self.head.collate(features, batch.items, devices.device)
                with devices.autocast():
                    logits = self.head.logits(self.model, inputs)
                loss = self.head.loss(logits, targets, weights) / total
                self.scaler.scale(loss).backward()
                loss_sum += loss.detach().to(loss_sum.device)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
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


def optimizer(model: Any, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Fused AdamW (Loshchilov and Hutter, 2019); vectors and embeddings do not decay."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    learning = [p for p in model.parameters() if p.requires_grad]
    decaying = [p for p in learning if p.ndim >= 2 and id(p) not in embeddings]
    constant = [p for p in learning if p.ndim < 2 or id(p) in embeddings]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": constant, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=rate, fused=learning[0].device.type != "mps")


def row_weights(targets: NDArray[Any], label_count: int, balanced: bool) -> NDArray[np.float32]:
    """(rows,) ones, or n / (labels * rows of the label), which average to one over the rows."""
    if not balanced:
        return np.ones(len(targets), dtype=np.float32)
    counts = np.bincount(targets, minlength=label_count)
    result: NDArray[np.float32] = (len(targets) / (np.count_nonzero(counts) * counts[targets])).astype(np.float32)
    return result


def fit(job: dict[str, Any], devices: Devices) -> dict[str, Any]:
    """Trains as one of the processes of a job; rank 0 writes the run.

    The job names the run, whose recipe.yaml, task.json and work folder hold the rest.

    Returns:
        updates, seconds, rows_per_second, precision, world, best_epoch, tokens_per_microbatch, notes.
    """
    from ftkit import config

    run = Run(Path(job["run"]))
    recipe = config.resolve(config.read(run.folder / "recipe.yaml"))
    task = run.task()
    train = _rows(run, job, "train", task, recipe.labels.weights == "balanced")
    validation = _rows(run, job, "validation", task, False)
    fitting, notes = _begin(recipe, task, Path(job["model"]), train, devices)
    model, head, epochs = fitting.model, fitting.head, fitting.epochs
    started = time.perf_counter()
    training_seconds = 0.0
    best: dict[str, Any] = {"epoch": -1, "score": -np.inf}
    lengths = train.features.row_lengths
    show = devices.main and not job["quiet"]
    with (
        Log(run.folder / "log.jsonl", devices.main) as log,
        Progress("training", train.features.rows * epochs, show=show) as progress,
    ):
        for epoch in range(epochs):
            order = plan.updates(
                lengths, recipe.training.batch_size, recipe.seed, epoch, recipe.training.window_of_updates
            )
            for number, rows in enumerate(order):
                before = time.perf_counter()
                facts = fitting.update(epoch, number, rows)
                seconds = time.perf_counter() - before
                training_seconds += seconds
                log.write({"update": fitting.done, "epoch": epoch + 1, **facts, "seconds": round(seconds, 4)})
                progress.advance(len(rows), f"epoch {epoch + 1}/{epochs}, loss {facts['loss']:.4f}")
            logits = row_logits(model, head, validation.features, devices)
            scores = quick_scores(head.probabilities(logits), validation.targets, task)
            score = scores[job["metric"]]
            log.write({"evaluation": epoch + 1, "update": fitting.done, **scores})
            improved = score > best["score"]
            if improved:
                best = {"epoch": epoch, "score": score, "logits": logits}
                if devices.main:
                    _keep_best(run, model, head.tokenizer)
            shown = f"{job['metric']} {score:.4f}" + (" (best so far)" if improved else "")
            progress.line(f"epoch {epoch + 1}/{epochs}: loss {facts['loss']:.4f}, validation {shown}")
            patience = recipe.training.patience
            if patience is not None and epoch - best["epoch"] >= patience:
                progress.line(f"no improvement in {patience} epochs: stopped early")
                break
        if best["epoch"] < 0:
            raise UserError("no epoch gave a finite score on the validation rows", "Try a lower --learning-rate")
    if devices.main:
        np.save(run.work / "validation-logits.npy", best["logits"])
        os.replace(run.folder / "checkpoints" / "best", run.model)
        shutil.rmtree(run.folder / "checkpoints")
    return {
        "updates": fitting.done,
        "epochs": epoch + 1,
        "best_epoch": best["epoch"] + 1,
        "seconds": time.perf_counter() - started,
        "rows_per_second": train.features.rows * (epoch + 1) / max(1e-9, training_seconds),
        "precision": devices.precision,
        "device": devices.device.type,
        "processes": devices.world,
        "tokens_per_microbatch": fitting.token_budget,
        "parameters": sum(p.numel() for p in model.parameters()),
        "notes": notes,
    }


def forecast(prepared: Any) -> dict[str, float]:
    """What a training would take, from a few real updates: seconds, peak memory in bytes, rows a second.

    The heaviest update runs first, so that the memory is what training will need at most.
    """
    import resource

    from ftkit.devices import open_devices

    recipe = prepared.recipe
    devices = open_devices(recipe.hardware.device, recipe.hardware.precision)
    fitting, _ = _begin(
        recipe,
        prepared.record(),
        prepared.model_folder,
        Rows(
            prepared.features["train"],
            prepared.targets["train"].astype(np.float32 if prepared.labels.multi_label else np.int64),
            np.ones(prepared.features["train"].rows, dtype=np.float32),
        ),
        devices,
    )
    lengths = fitting.rows.features.row_lengths
    order = plan.updates(lengths, recipe.training.batch_size, recipe.seed, 0)
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


def _begin(
    recipe: Recipe, task: TaskRecord, model_folder: Path, rows: Rows, devices: Devices
) -> tuple[Fitting, list[str]]:
    """The model on its device with its optimizer, before the first update; and notes about the model."""
    model_config = models.load_config(model_folder)
    if devices.precision == "fp16" and model_config.model_type in ("t5", "mt5"):
        raise UserError("T5 overflows in fp16", "--precision fp32, or bf16 on GPUs from Ampere")
    tokenizer = models.load_tokenizer(model_folder, model_config)
    model, notes = models.load_labels_model(
        model_folder,
        model_config,
        tokenizer,
        task.labels,
        multi_label=task.multi_label,
        training=True,
        seed=recipe.seed,
        dropout=recipe.training.dropout,
    )
    models.freeze(model, recipe.training.freeze)
    if recipe.hardware.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.to(devices.device)
    head = LabelsHead(tokenizer, task.multi_label, task.max_length, task.overlap)
    return Fitting(model, head, recipe, devices, rows), notes


def _rows(run: Run, job: dict[str, Any], split: str, task: TaskRecord, balanced: bool) -> Rows:
    features = Features.load(Path(job["features"][split]))
    if features is None:
        raise UserError(f"the tokenized rows in {job['features'][split]} have been damaged", "Start again")
    targets = np.load(run.work / f"{split}-targets.npy")
    weights = row_weights(targets, len(task.labels), balanced)
    return Rows(features, targets.astype(np.float32) if task.multi_label else targets, weights)


def quick_scores(probabilities: NDArray[np.float32], targets: NDArray[Any], task: TaskRecord) -> dict[str, float]:
    """Point scores of an epoch; for multi-label at the threshold that suits these rows best."""
    if task.multi_label:
        threshold = classification.threshold(targets > 0.5, probabilities)
        return classification.point_scores(targets > 0.5, probabilities >= threshold, len(task.labels))
    return classification.point_scores(targets, probabilities.argmax(axis=1), len(task.labels))


def _keep_best(run: Run, model: Any, tokenizer: Any) -> None:
    """Replaces checkpoints/best by the present model; it is there complete or as it was."""
    folder = run.folder / "checkpoints"
    stage, best, old = folder / "best.partial", folder / "best", folder / "best.old"
    for path in (stage, old):
        shutil.rmtree(path, ignore_errors=True)
    try:
        model.save_pretrained(stage)
        tokenizer.save_pretrained(stage)
    except OSError as error:
        shutil.rmtree(stage, ignore_errors=True)
        raise UserError(
            f"the model cannot be saved in {folder}: {error}", "Free some space, or choose another --out"
        ) from None
    if best.exists():
        os.replace(best, old)
    os.replace(stage, best)
    shutil.rmtree(old, ignore_errors=True)


class Log:
    """log.jsonl: one JSON object a line, appended as things happen."""

    def __init__(self, path: Path, writes: bool) -> None:
        self.file = path.open("a", encoding="utf-8", buffering=1) if writes else None

    def write(self, facts: dict[str, Any]) -> None:
        if self.file:
            self.file.write(json.dumps(facts) + "\n")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.file:
            self.file.close()
