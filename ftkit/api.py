"""The public functions, in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftkit import commands, config
from ftkit.config import Setting


def train(
    data: str | Path | None = None,
    *,
    recipe: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    set: Mapping[str, Any] | None = None,
    **flags: Any,
) -> dict[str, Any]:
    """Fine-tunes a model on a file and leaves a run directory: `ftkit train`.

    Args:
        data: a file, a folder, or hub:NAME[/CONFIG][@SPLIT].
        recipe: a recipe file.
        set: any key of the recipe, e.g. {"training.schedule": "cosine"}.
        flags: as on the command line: model, out, epochs, learning_rate, validation, ...

    Returns:
        run (the directory), training (seconds, rows_per_second, ...), validation and perhaps test:
        scores, each with value, low and high.

    Raises:
        ftkit.errors.UserError: what is wrong, and what to do about it.
    """
    given = {"data": None if data is None else str(data), **flags}
    assignments = [Setting(tuple(key.split(".")), value, key) for key, value in (set or {}).items()]
    resolved = commands.recipe_of(None if recipe is None else str(recipe), given, assignments)
    return commands.train(resolved, overwrite=overwrite, quiet=quiet)


def evaluate(run: str | Path, data: str | Path | None = None, *, quiet: bool = True, **options: Any) -> dict[str, Any]:
    """Scores a run on rows whose labels are known: `ftkit eval`.

    Args:
        options: benchmark, benchmark_dir, columns ({role: column}), name, device, precision, processes.

    Returns:
        scores (each with value, low and high), classes, confusion, baselines, worst_errors, folder.
    """
    section, hardware = _sections(options)
    source = None if data is None else str(data)
    return commands.evaluate(source, str(run), data=section, hardware=hardware, quiet=quiet, **options)


def predict(
    run: str | Path,
    data: str | Path | Sequence[str] | Sequence[tuple[str, str]],
    output: str | Path | None = None,
    *,
    quiet: bool = True,
    **options: Any,
) -> Any:
    """Answers texts, or every row of a file: `ftkit predict`.

    Args:
        data: a list of texts (or of pairs of texts), or the name of a file.
        output: for a file: where the answers go.
        options: for a file: all_scores, columns ({role: column}), spreadsheet_safe; device, precision,
            processes.

    Returns:
        for texts: a list with label, score and scores of each; for a file: rows, errors, seconds.
    """
    if isinstance(data, (str, Path)):
        if output is None:
            raise TypeError(
                "predict(run, FILE, output) needs the name of the output file; a single text goes in a list"
            )
        section, hardware = _sections(options)
        return commands.predict(
            str(run), str(data), str(output), data=section, hardware=hardware, quiet=quiet, **options
        )
    _, hardware = _sections(options)
    rows = [(row,) if isinstance(row, str) else tuple(row) for row in data]
    return commands.predict_texts(str(run), rows, hardware, **options)


def _sections(options: dict[str, Any]) -> tuple[config.DataSection, config.HardwareSection]:
    """Takes what belongs to the data and the hardware out of the options."""
    given: dict[str, Any] = {
        name: options.pop(name) for name in ("device", "precision", "processes") if name in options
    }
    recipe = commands.recipe_of(None, given)
    return config.DataSection(columns=options.pop("columns", {})), recipe.hardware
