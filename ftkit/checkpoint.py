"""Checkpoints: complete or absent, immutable, and checked before they are used.

A checkpoint is a directory. It is staged beside its place under another name, each file is flushed to
the disk and hashed, and one rename puts it there; so a process may be killed at any moment, or the disk
be full, and there is either the whole new checkpoint or none. Tensors are safetensors, all else is JSON.

    checkpoints/update-00000120/   training.safetensors (weights and optimizer), state.json, sha256.json
    checkpoints/best-00000100/     the model in plain Transformers format, validation-outputs.npy, sha256.json
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ftkit import sharding
from ftkit.devices import free_memory, out_of_memory
from ftkit.errors import UserError

MANIFEST = "sha256.json"
BEST = re.compile(r"best-\d+")


def write(folder: Path, needed_bytes: int, fill: Callable[[Path], None]) -> None:
    """Makes a directory whose content `fill` writes; it is there complete or not at all.

    Args:
        needed_bytes: about how much will be written, compared with what the disk has free.

    Raises:
        UserError: the disk is full, or cannot be written to; nothing is left behind.
    """
    parent, stage = folder.parent, folder.with_name(f".{folder.name}.partial")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for litter in parent.glob(".*.partial"):  # of a process that was killed; there is one writer at a time
            shutil.rmtree(litter, ignore_errors=True)
        free = shutil.disk_usage(parent).free
        if needed_bytes > free:
            raise UserError(
                f"a checkpoint needs {needed_bytes / 1e6:,.0f} MB; the disk of {parent} has {free / 1e6:,.0f} MB free",
                "Free some space and go on with: ftkit train --resume RUN",
            )
        stage.mkdir()
        fill(stage)
        hashes = {path.name: _hash(path) for path in sorted(stage.iterdir())}
        (stage / MANIFEST).write_text(json.dumps(hashes, indent=1))
        readable = (stage / MANIFEST).stat().st_mode  # safetensors' files are for their owner alone
        for path in stage.iterdir():
            path.chmod(readable)
            _sync(path)
        _sync(stage)
        if folder.exists():  # damaged, or a best model that no checkpoint refers to yet
            shutil.rmtree(folder)
        os.replace(stage, folder)
        _sync(parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(stage, ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"the checkpoint {folder} cannot be written: {reason}",
            "Free some space and go on with: ftkit train --resume RUN",
        ) from None
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, naming the file; None if every file is as it was written."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        hashes = None
    if not isinstance(hashes, dict) or any(Path(name).name != name for name in hashes):
        return f"{MANIFEST} is missing or cannot be read"
    return changed(folder, hashes)


def changed(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """Which file of a folder is not what was written, and why; None if all are."""
    for name, expected in hashes.items():
        try:
            if _hash(folder / name) != expected:
                return f"{name} is not what was written"
        except OSError:
            return f"{name} is missing"
    return None


def newest(parent: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint to resume from whose files are whole, and what is wrong with newer ones.

    A checkpoint is whole together with the best model that it refers to. Where none is, the newest one with
    damage to its best model alone will do; that model is then forgotten.
    """
    problems: list[str] = []
    without_best = None
    for folder in sorted(parent.glob("update-*"), reverse=True):
        problem = damage(folder)
        if problem is None:
            best = _best_of(folder)
            if not best or (problem := damage(parent / best)) is None:
                return folder, problems
            without_best = without_best or folder
            problem = f"its best model {best}: {problem}"
        problems.append(f"{folder.name}: {problem}")
    return without_best, problems


def forget_later(parent: Path, name: str) -> None:
    """Removes the checkpoints after one that is resumed from: they are damaged, or belong to an earlier attempt."""
    for folder in parent.glob("update-*"):
        if folder.name > name:
            shutil.rmtree(folder, ignore_errors=True)


def snapshot(model: Any, optimizer: torch.optim.Optimizer, keep: bool = True) -> tuple[dict[str, torch.Tensor], bool]:
    """Weights and optimizer as they are now, and whether they are copies.

    They are where memory allows it: then training can go on while they are written. Else they are the tensors
    that the next update changes. Of a sharded model they are always copies, gathered by all processes.

    Args:
        keep: whether this process will write them; if not, nothing is kept.
    """
    tensors = _tensors(model, optimizer)
    if any(map(sharding.in_shards, tensors.values())):
        copies = {}
        for name, tensor in tensors.items():
            whole = sharding.gathered(tensor)
            if keep:
                copies[name] = whole.to("cpu", copy=True)
        return copies, True
    if 2 * _size(tensors) > free_memory():
        return tensors, False
    try:
        return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}, True
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    return tensors, False


def save_training(folder: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Writes weights, optimizer and state as one checkpoint."""
    size = _size(tensors)

    def fill(stage: Path) -> None:
        save_file(tensors, stage / "training.safetensors")
        (stage / "state.json").write_text(json.dumps(state))

    write(folder, int(size * 1.02) + 1_000_000, fill)


def load_training(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts weights and optimizer back as they were, and returns the state.

    Raises:
        UserError: the files do not fit this model. Their hashes only say that they were written so, not by whom.
    """
    try:
        parameters = dict(model.named_parameters())
        with torch.no_grad(), safe_open(folder / "training.safetensors", "pt") as file:
            for name, own in _model_tensors(model).items():
                own.copy_(sharding.part_of(file.get_tensor(name), own))
            for name in file.keys():  # noqa: SIM118 - a file, no dict
                kind, _, rest = name.partition(".")
                if kind == "optimizer":
                    owner, _, key = rest.rpartition(".")
                    parameter, saved = parameters[owner], file.get_tensor(name)
                    step = key == "step"  # one number for the whole of a parameter
                    if not step and saved.shape != parameter.shape:
                        raise ValueError(f"{name} has the shape {list(saved.shape)}, not {list(parameter.shape)}")
                    if parameter.requires_grad:  # what --resume-anyway has frozen since needs no memory
                        optimizer.state[parameter][key] = (
                            saved.to(parameter.device) if step else sharding.part_of(saved, parameter)
                        )
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
        if state["best_folder"] and not BEST.fullmatch(state["best_folder"]):
            raise ValueError(f"best_folder is {state['best_folder']!r}")
    except (SafetensorError, OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        raise UserError(f"the checkpoint {folder} does not fit this training: {error}", "Train again") from None
    return state


def prune(parent: Path, also: str) -> None:
    """Removes all but the two newest checkpoints, the best models they refer to, and `also`.

    The one before the newest stays in case the newest turns out to be damaged. Whatever an interrupted
    write has left goes too.
    """
    whole = [folder for folder in sorted(parent.glob("update-*")) if (folder / "state.json").is_file()]
    keep = {also, *(folder.name for folder in whole[-2:]), *map(_best_of, whole[-2:])}
    for path in parent.iterdir():
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _best_of(folder: Path) -> str:
    """The best model that a checkpoint refers to, a folder beside it; empty before the first."""
    try:
        name = str(json.loads((folder / "state.json").read_text())["best_folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return name if BEST.fullmatch(name) else ""


def _model_tensors(model: Any) -> dict[str, torch.Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {f"model.{name}": tensor.data for name, tensor in named}


def _tensors(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    result = {name: tensor.contiguous() for name, tensor in _model_tensors(model).items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            result[f"optimizer.{name}.{key}"] = value.contiguous()
    return result


def _size(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
