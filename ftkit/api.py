"""The public functions, in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftkit import commands
from ftkit.config import DataSection, Recipe, Setting
from ftkit.errors import UserError

READING = ("text", "pair", "label", "format", "encoding", "device", "precision", "processes")


def train(
    data: str | Path | None = None,
    *,
    recipe: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    columns: Mapping[str, str] | None = None,
    set: Mapping[str, Any] | None = None,
    **flags: Any,
) -> dict[str, Any]:
    """Fine-tunes a model on a file and leaves a run directory: `ftkit train`.

    Args:
        data: a file, a folder, or hub:NAME[/CONFIG][@SPLIT][#REVISION].
        recipe: a recipe file.
        quiet: show nothing while it trains.
        columns: role -> column, where `text`, `pair` and `label` do not suffice.
        set: any key of the recipe, e.g. {"training.schedule": "cosine"}.
        flags: as on the command line: model, out, epochs, learning_rate, validation, ...

    Returns:
        run (the directory), training (seconds, rows_per_second, ...), validation and perhaps test:
        scores, each with value, low and high.

    Raises:
        ftkit.errors.UserError: what is wrong, and what to do about it.
    """
    given = {"data": None if data is None else str(data), **flags}
    resolved = commands.recipe_of(None if recipe is None else str(recipe), given, _settings(columns, set))
    return commands.train(resolved, overwrite=overwrite, quiet=quiet)


def evaluate(
    run: str | Path | None,
    data: str | Path | None = None,
    *,
    benchmark: str | None = None,
    benchmark_dir: str | Path | None = None,
    predictions: str | Path | Sequence[str | Path] = (),
    metric: Sequence[str] = (),
    allow_metric_code: bool = False,
    name: str | None = None,
    to: str | Sequence[str] = (),
    quiet: bool = True,
    columns: Mapping[str, str] | None = None,
    set: Mapping[str, Any] | None = None,
    **flags: Any,
) -> dict[str, Any]:
    """Scores a run, or answers made elsewhere, on rows whose labels are known: `ftkit eval`.

    Args:
        run: None scores `predictions` without one.
        benchmark, benchmark_dir: a well-known benchmark instead of `data`, and a folder with a local copy of it.
        predictions: files of answers, one a row; further ones are compared with the first.
        metric, allow_metric_code: metrics of the library `evaluate`, and whether their code may run.
        name: of the folder under RUN/eval; default: the data's.
        to: of a run that translates into several languages: into which.
        columns, set: as in `train`; `set` takes keys of the section data.
        flags: text, pair, label, format, encoding, device, precision, processes.

    Returns:
        scores (each with value, low and high), classes, confusion (the last column: no answer), baselines,
        worst_errors, columns, folder.

    Raises:
        ftkit.errors.UserError: what is wrong, and what to do about it.
    """
    recipe = _reading(columns, set, flags)
    files = [predictions] if isinstance(predictions, (str, Path)) else predictions
    return commands.evaluate(
        None if data is None else str(data),
        None if run is None else str(run),
        benchmark=benchmark,
        benchmark_dir=None if benchmark_dir is None else str(benchmark_dir),
        predictions=[str(file) for file in files],
        data=recipe.data,
        languages=commands.recipe_of(None, {"to": _codes(to) or None}).languages,
        name=name,
        hardware=recipe.hardware,
        extra_metrics=metric,
        allow_metric_code=allow_metric_code,
        quiet=quiet,
    )


def predict(
    run: str | Path,
    data: str | Path | Sequence[str] | Sequence[tuple[str, str]],
    output: str | Path | None = None,
    *,
    to: str | Sequence[str] = (),
    output_format: str | None = None,
    all_scores: bool = False,
    spreadsheet_safe: bool = False,
    resume: bool = False,
    quiet: bool = True,
    columns: Mapping[str, str] | None = None,
    set: Mapping[str, Any] | None = None,
    **flags: Any,
) -> Any:
    """Answers texts, or every row of a file: `ftkit predict`.

    Args:
        data: a list of texts (or of pairs of texts), or the name of a file.
        output: for a file: where the answers go.
        to: of a run that translates into several languages: into which.
        output_format, all_scores, spreadsheet_safe, resume, columns, set: for a file.
        flags: for a file text, pair, format, encoding; device, precision, processes.

    Returns:
        for texts: a list with label, score and scores of each; for a file: rows, errors, seconds.

    Raises:
        ftkit.errors.UserError: what is wrong, and what to do about it.
    """
    recipe = _reading(columns, set, flags)
    if isinstance(data, (str, Path)):
        if output is None:
            raise TypeError(
                "predict(run, FILE, output) needs the name of the output file; a single text goes in a list"
            )
        return commands.predict(
            str(run),
            str(data),
            str(output),
            output_format=output_format,
            data=recipe.data,
            to=_codes(to),
            all_scores=all_scores,
            spreadsheet_safe=spreadsheet_safe,
            resume=resume,
            hardware=recipe.hardware,
            quiet=quiet,
        )
    if output or output_format or all_scores or spreadsheet_safe or resume or recipe.data != DataSection():
        raise UserError("only answers to a file are written somewhere", "Leave out what is for files")
    rows = [(row,) if isinstance(row, str) else tuple(row) for row in data]
    return commands.predict_texts(str(run), rows, recipe.hardware, to=_codes(to))


def _codes(to: str | Sequence[str]) -> list[str]:
    return [code.strip() for code in to.split(",")] if isinstance(to, str) else list(to)


def _settings(columns: Mapping[str, str] | None, given: Mapping[str, Any] | None) -> list[Setting]:
    named = [Setting(("data", "columns", role), column, "columns") for role, column in (columns or {}).items()]
    return [*named, *(Setting(tuple(key.split(".")), value, key) for key, value in (given or {}).items())]


def _reading(columns: Mapping[str, str] | None, given: Mapping[str, Any] | None, flags: Mapping[str, Any]) -> Recipe:
    """What a recipe says of data and hardware, from the arguments of functions that only read.

    Raises:
        UserError: an argument or a key that would have no effect.
    """
    idle = [*(name for name in flags if name not in READING), *(k for k in given or () if not k.startswith("data."))]
    if idle:
        raise UserError(
            f"{idle[0]!r} has no effect here",
            f"There are {', '.join(READING)}, and set with keys such as data.header",
        )
    return commands.recipe_of(None, flags, _settings(columns, given))
