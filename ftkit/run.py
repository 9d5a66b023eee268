"""The run directory: the only product of a training, and the only memory of later commands.

recipe.yaml   the resolved recipe; `ftkit train --recipe` repeats the run
task.json     what training fixed: task, columns, labels or languages, thresholds, window
model/        the model in plain Transformers format; appears once, complete, at the end
baselines/    the baselines trained on the same rows
log.jsonl     one line an update and an evaluation
metrics.json  the scores on the validation rows (and the test rows, if there are any)
eval/NAME/    the results of each evaluation: metrics.json, predictions.jsonl, report.html; where answers are
              texts, this is the one place of a run that holds texts of rows: answers and references
README.md     the model card
checkpoints/  the best model so far, while training goes on
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftkit import model_files, recipes
from ftkit.errors import UserError


@dataclass(frozen=True)
class Run:
    """A run directory by its path."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def work(self) -> Path:
        """Arrays that the processes of a running command share; gone when it ends."""
        return self.folder / ".work"

    def record(self) -> Any:
        """What training fixed: the record of the run's task."""
        return recipes.record(self.read_json("task.json"))

    def write_record(self, record: Any) -> None:
        self.write_json("task.json", asdict(record))

    def read_json(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}", "The run is damaged; train it again") from None

    def write_json(self, name: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
        self.write_text(name, text + "\n")

    def write_text(self, name: str, text: str) -> None:
        """The file is replaced as a whole or not at all.

        Raises:
            UserError: the name leads out of the run, as one of a forged task.json may.
        """
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(f"{name} would be written outside the run {self.folder}", "Do not trust this run")
        path.parent.mkdir(parents=True, exist_ok=True)
        stage = path.with_name(f".{path.name}.partial")
        stage.write_text(text, encoding="utf-8")
        os.replace(stage, path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for one writing command; the lock goes with the process, however it ends.

        Raises:
            UserError: another process holds it, or a link in it leads out, so that writing would change other files.
        """
        model_files.refuse_links(self.folder)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another ftkit process is working in {self.folder}",
                    "Wait for it to end, or choose another directory: --out runs/OTHER",
                ) from None
            except OSError:  # a file system that knows no locks
                pass
            yield


def open_run(path: str | Path) -> Run:
    """An existing, finished run.

    Raises:
        UserError: there is no run at that path, or its training has not finished.
    """
    folder = Path(path)
    if not (folder / "recipe.yaml").is_file():
        others = sorted(str(p.parent) for p in folder.parent.glob("*/recipe.yaml"))
        hint = f"Runs beside it: {', '.join(others[:5])}" if others else "Train one: ftkit train DATA"
        raise UserError(f"{folder} is not a run directory (it has no recipe.yaml)", hint)
    run = Run(folder)
    if not (run.folder / "metrics.json").is_file():  # written last, after the model and its thresholds
        raise UserError(
            f"the training in {folder} has not finished",
            f"Go on with it: ftkit train --resume {folder}",
        )
    return run


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Raises a UserError if something is there that may not be overwritten."""
    folder = Path(path)
    is_run = (folder / "recipe.yaml").is_file() or (folder / ".lock").is_file()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not is_run)):
        raise UserError(f"{folder} exists and is no run directory", "Choose another one: --out runs/OTHER")
    if is_run and not overwrite:
        raise UserError(
            f"the run {folder} exists already",
            f"Go on with it if it was stopped: ftkit train --resume {folder}\n"
            f"Replace it: --overwrite\nKeep it: --out {folder}-2",
        )
    if is_run:
        model_files.refuse_links(folder)


def create_run(path: str | Path, overwrite: bool) -> Run:
    """A new run directory, or one that is about to be overwritten.

    Raises:
        UserError: something is there already, and it is not a run that may be overwritten.
    """
    refuse_existing(path, overwrite)
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the directory {folder}: {error.strerror}", "Choose another: --out") from None
    return Run(folder)


def clear(run: Run) -> None:
    """Empties a run that is about to be overwritten; call it while holding the lock."""
    for path in run.folder.iterdir():
        if path.name == ".lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
