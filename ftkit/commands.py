"""The verbs, as the command line and Python share them.

Each takes plain values, does the work through the lower rooms, and returns what it found as a
JSON-like dict; printing is left to the caller, who may pass `tell` to hear of facts as they are found.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import ftkit
from ftkit import config, evaluation, hub, launch, recipes, run
from ftkit.config import HardwareSection, Recipe, Setting
from ftkit.data import files, load, parallel
from ftkit.errors import UserError
from ftkit.progress import stage
from ftkit.recipes.base import other_columns

Tell = Callable[[str, Any], None]
# What a resumed training cannot change, whatever the user says: its weights, or its best score, would mean something
# else, or it would be judged by rows that it has learned from.
FIXED = (
    "data.labels",
    "data.sources.test: ",
    "data.sources.test.sha256",
    "data.task",
    "data.validation_sha256",
    "recipe.model",
    "recipe.task",
    "recipe.training.metric",
)
ANY_HARDWARE = HardwareSection()  # all of it decided by what is there


def _silent(what: str, value: Any) -> None:
    pass


def train(recipe: Recipe, *, overwrite: bool = False, quiet: bool = False, tell: Tell = _silent) -> dict[str, Any]:
    """Fine-tunes as the recipe says and leaves a run directory.

    Returns:
        run (its path), training (updates, seconds, rows_per_second, ...), validation and, if there are
        test rows, test (scores as `evaluation.score` gives them).
    """
    from ftkit import preparation

    out = recipe.out or default_out(recipe)
    run.refuse_existing(out, overwrite)  # before any work is done
    prepared = preparation.prepare(recipe, quiet)
    target = run.create_run(out, overwrite)
    with target.locked():
        run.clear(target)
        prepared.recipe = prepared.recipe.model_copy(update={"out": str(target.folder)})
        target.write_text("recipe.yaml", config.to_yaml(prepared.recipe))
        target.write_record(prepared.record)
        target.write_json("data.json", preparation.facts(prepared))
        target.write_json("environment.json", environment(prepared.recipe, prepared.precision))
        try:
            return _fit(target, prepared, None, quiet, tell)
        except UserError:
            log = target.folder / "log.jsonl"
            if not target.model.is_dir() and not (log.exists() and log.stat().st_size):
                shutil.rmtree(target.folder, ignore_errors=True)  # it never came to learn anything
            raise


def resume(
    run_path: str,
    changes: Iterable[Setting] = (),
    *,
    anyway: bool = False,
    quiet: bool = False,
    tell: Tell = _silent,
) -> dict[str, Any]:
    """Goes on with a training that was stopped or killed, at the very update it had come to.

    Raises:
        UserError: the training has finished, or recipe, data or libraries differ from when it began (and
            not `anyway`): going on would not give what an uninterrupted training gives.
    """
    from ftkit import checkpoint, preparation

    target = run.Run(Path(run_path))
    if not (target.folder / "recipe.yaml").is_file():
        run.open_run(run_path)
    if (target.folder / "metrics.json").is_file():
        raise UserError(f"the training in {target.folder} has finished", f"ftkit eval {target.folder} DATA")
    with target.locked():
        written = config.read(target.folder / "recipe.yaml")
        before = config.resolve(written)
        prepared = preparation.prepare(config.resolve([*written, *changes]), quiet)
        recipe = prepared.recipe = prepared.recipe.model_copy(update={"out": before.out})
        now = {
            "recipe": recipe.model_dump(exclude={"hardware"}),
            "data": json.loads(json.dumps(preparation.facts(prepared))),
            "environment": environment(recipe, prepared.precision),
        }
        then = {
            "recipe": before.model_dump(exclude={"hardware"}),
            "data": target.read_json("data.json"),
            "environment": target.read_json("environment.json"),
        }
        changed = [line for line in differences(then, now) if not line.startswith("environment.processes")]
        fixed = [line for line in changed if line.startswith(FIXED)]
        if fixed and anyway:
            raise UserError(
                "these cannot change within a training:\n  " + "\n  ".join(fixed[:10]),
                "Put them back, or begin another training (--model takes a finished run too)",
            )
        if changed and not anyway:
            raise UserError(
                f"{len(changed)} things differ from when this training began:\n  " + "\n  ".join(changed[:10]),
                "Put them back"
                + ("" if fixed else ", or go on all the same with --resume-anyway (environment.json will say so)"),
            )
        trained = target.read_json("training.json") if target.model.is_dir() else None
        newest, problems = checkpoint.newest(target.folder / "checkpoints")
        if newest is None and problems and not anyway and trained is None:
            raise UserError(
                "no checkpoint of this training is whole:\n  " + "\n  ".join(problems),
                "Restore one from a copy, or begin this training again with --resume-anyway",
            )
        tell(
            "resuming",
            {
                "from": newest.name if newest else None,
                "problems": problems,
                "changed": changed,
                "processes": (then["environment"]["processes"], now["environment"]["processes"]),
            },
        )
        faster = differences({"hardware": before.hardware.model_dump()}, {"hardware": recipe.hardware.model_dump()})
        despite = [*then["environment"]["resumed_despite"], *changed, *faster]
        target.write_json("environment.json", now["environment"] | {"resumed_despite": despite})
        earlier = [*then["data"].get("earlier_sources", []), *(s["sha256"] for s in then["data"]["sources"].values())]
        target.write_json("data.json", now["data"] | {"earlier_sources": sorted(set(earlier))})
        target.write_text("recipe.yaml", config.to_yaml(recipe))
        return _fit(target, prepared, newest, quiet, tell, trained)


def environment(recipe: Recipe, precision: str) -> dict[str, Any]:
    """What besides recipe and data decides the last bits of a result."""
    from ftkit.devices import single_device

    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
    threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())
    return {
        "ftkit": ftkit.__version__,
        **versions,
        "machine": platform.machine(),
        "threads": threads,
        "processes": launch.processes(recipe.hardware),
        "device": single_device(recipe.hardware.device).type,
        "precision": precision,
        "resumed_despite": [],
    }


def differences(then: Any, now: Any, path: str = "") -> list[str]:
    """Where two JSON-like values differ: path: before -> after."""
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [*then, *(key for key in now if key not in then)]
        return [
            line
            for k in keys
            if k not in ("resumed_despite", "earlier_sources")
            for line in differences(then.get(k), now.get(k), f"{path}.{k}".strip("."))
        ]
    return [] if then == now else [f"{path}: {then} -> {now}"]


def _fit(
    target: run.Run,
    prepared: Any,
    checkpoint: Path | None,
    quiet: bool,
    tell: Tell,
    trained: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains, from the beginning or a checkpoint, and scores; the caller holds the run's lock.

    Args:
        trained: the facts about a training that had ended when its scoring was interrupted.
    """
    from ftkit.training import save_rows, tidy

    recipe, task = prepared.recipe, prepared.task
    facts = target.read_json("data.json")
    precision = target.read_json("environment.json")["precision"]
    told = {"recipe": recipe, "inferred": prepared.inferred, "facts": facts, "precision": precision}
    tell("prepared", told | {"run": str(target.folder)})
    shutil.rmtree(target.work, ignore_errors=True)
    target.work.mkdir()
    try:
        if trained:
            tidy(target)
        for split, rows in prepared.rows.items():
            save_rows(rows, target.work, split)
        if task.scores_texts:
            validation = json.dumps(asdict(prepared.examples["validation"]), ensure_ascii=False)
            (target.work / "validation.json").write_text(validation, encoding="utf-8")
        job = {
            "verb": "fit",
            "run": str(target.folder),
            "model": str(prepared.model_folder),
            "features": {split: str(folder) for split, folder in prepared.feature_folders.items()},
            "metric": recipe.training.metric,
            "resume": str(checkpoint) if checkpoint else None,
            "quiet": quiet,
            **launch.place(recipe.hardware),
        }
        training = trained or launch.run(job, launch.processes(recipe.hardware))
        tell("trained", training)
        return _finish(target, prepared, training, quiet)
    finally:
        shutil.rmtree(target.work, ignore_errors=True)


def _finish(target: run.Run, prepared: Any, training: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Baselines, thresholds, scores and the card, after the model is there."""
    from ftkit import report

    task, record, recipe, examples = prepared.task, prepared.record, prepared.recipe, prepared.examples
    with stage("training the baselines", show=not quiet):
        rivals = task.train_rivals(examples, record, recipe.seed)
    task.save_rivals(rivals, target.folder / "baselines")
    result: dict[str, Any] = {"run": str(target.folder), "training": training}
    for split in ("validation", "test"):
        if split not in examples:
            continue
        known = target.work / f"{split}-outputs.npy"
        if known.exists() and record.head != "text":  # windows of rows with known answers are not those of others
            features = prepared.rows[split].features
            answers = task.answers(np.load(known), features, examples[split], prepared.head, record)
            counts = evaluation.reading(features, prepared.head)
        else:
            answers, counts = evaluation.run_answers(target, record, examples[split], recipe.hardware, quiet)
        if split == "validation":
            record = task.choose(answers, examples[split], recipe, record)
            target.write_record(record)
            answers = task.decide(answers, record)
        with stage(f"scoring the {split} rows", show=not quiet):
            scores = score_answers(target, split, record, examples[split], answers, rivals, recipe.seed)
        scores["reading"] = counts
        scores["chosen_on_these_rows"] = chosen_here(split, record.chooses_threshold, training)
        target.write_json(f"eval/{split}/metrics.json", scores)
        result[split] = scores
    report.write_run_report(target, result, record)
    target.write_json("metrics.json", result)  # last: a run that has it has finished
    return result


def chosen_here(split: str, threshold: bool, training: Mapping[str, Any]) -> list[str]:
    """What was chosen by looking at these rows, so that their scores flatter the model a little."""
    if split != "validation":
        return []
    return (["the best epoch"] if training["epochs"] > 1 else []) + (["the threshold"] if threshold else [])


def score_answers(
    target: run.Run, name: str, record: Any, examples: Any, answers: Any, rivals: Any, seed: int = 0
) -> dict[str, Any]:
    """Scores a run's answers and writes them to eval/NAME."""
    task = recipes.find(record.task)
    result = task.score(answers, examples, rivals, record, seed)
    result |= {"task": record.task, "source": examples.source, "counts": examples.counts}
    evaluation.write(target, name, result, task.lines(answers, examples, record))
    for file, content in task.official(answers, examples, record).items():
        write = target.write_text if isinstance(content, str) else target.write_json
        write(f"eval/{name}/{file}", content)
    return result


def evaluate(
    source: str | None,
    run_path: str | None = None,
    *,
    benchmark: str | None = None,
    benchmark_dir: str | None = None,
    predictions: str | Sequence[str] = (),
    data: config.DataSection | None = None,
    languages: config.LanguagesSection | None = None,
    name: str | None = None,
    hardware: HardwareSection = ANY_HARDWARE,
    extra_metrics: Iterable[str] = (),
    allow_metric_code: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Scores a run, or answers made elsewhere, on rows whose labels are known.

    Returns:
        the scores as `evaluation.score` gives them; `texts` holds the texts of the worst errors.
    """
    from ftkit import report

    data = data or config.DataSection()
    published = None
    if extra_metrics and not allow_metric_code:
        raise UserError(
            f"--metric {next(iter(extra_metrics))} downloads and runs code of the library `evaluate`",
            "If you trust it, add --allow-metric-code",
        )
    if benchmark is not None and source is not None:
        raise UserError(f"both {source} and the benchmark {benchmark} were given", "Name one of them")
    if name is not None and name != evaluation.data_name(name):
        raise UserError(f"--name {name} is no name for a folder", f"For example --name {evaluation.data_name(name)}")
    repeat = [source] if source else []
    repeat += _flags({"benchmark": benchmark, "benchmark-dir": benchmark_dir, "metric": extra_metrics})
    repeat += ["--allow-metric-code"] if extra_metrics else []
    repeat += _flags_of(data, languages or config.LanguagesSection(), hardware)
    if benchmark is not None:
        source, data, published = _benchmark(benchmark, benchmark_dir, data)
        name = name or benchmark
    if source is None:
        raise UserError("nothing to evaluate on", "ftkit eval RUN DATA, or ftkit eval RUN --benchmark sst2")
    table = _load_or_spool(source, data, quiet)
    if table.commit and benchmark is None:
        repeat[0] = table.exact
    languages = languages or config.LanguagesSection()
    if predictions and (extra_metrics or name):
        raise UserError("--metric and --name do not apply to --predictions", "Leave them out")
    if languages.source is not None and run_path is not None:
        raise UserError("the run knows its source language", "Leave out --from")
    if predictions:
        systems = [predictions] if isinstance(predictions, str) else predictions
        with stage(f"scoring {len(table.rows):,} rows", show=not quiet):
            return _evaluate_foreign(table, run_path, systems, data, languages)
    if run_path is None:
        raise UserError("nothing to evaluate", "ftkit eval RUN DATA, or ftkit eval DATA --predictions FILE")
    target = run.open_run(run_path)
    record = target.record()
    task = recipes.find(record.task)
    if languages.targets:
        record = task.restrict(record, languages.targets)
    examples, columns = _examples(record, table, data.columns)
    task.align(examples, record)
    parts = [evaluation.data_name(source), *(record.targets if languages.targets else ())]
    folder = name or evaluation.free_name(target, "-".join(parts), table.sha256)
    with target.locked():
        answers, counts = evaluation.run_answers(target, record, examples, hardware, quiet)
        rivals = task.load_rivals(target.folder / "baselines")
        with stage(f"scoring {len(examples):,} rows", show=not quiet):
            result = score_answers(target, folder, record, examples, answers, rivals)
        facts = target.read_json("data.json")
        seen = {*(s["sha256"] for s in facts["sources"].values()), *facts.get("earlier_sources", ())}
        result |= {
            "run": str(target.folder),
            "folder": str(target.folder / "eval" / folder),
            "sha256": table.sha256,
            "reading": counts,
            "chosen_on_these_rows": ["the model itself (the same content was used in training)"]
            if table.sha256 in seen
            else [],
            "published": published,
            "columns": columns,
            "other_columns": other_columns(record, columns),
            "repeat": repeat,
        }
        if extra_metrics:
            pair = task.library_values(answers, examples, record)
            result["extra_metrics"] = {metric: evaluation.library_metric(metric, *pair) for metric in extra_metrics}
        target.write_json(f"eval/{folder}/metrics.json", result)
        report.write_evaluation_report(target, folder, result, record)
    return result | {"texts": _worst_texts(result, examples)}


def _load_or_spool(source: str, data: config.DataSection, quiet: bool) -> load.Table:
    """The rows of a source; those of standard input by way of a temporary file."""
    if source != "-":
        return load.load(source, load.read_options(data), "test", quiet)
    if data.format is None:
        raise UserError("standard input has no name that tells its format", "--format csv names it")
    with load.spooled(source) as spool:
        return replace(load.load(spool, load.read_options(data)), source="standard input")


def _worst_texts(result: Mapping[str, Any], examples: Any) -> dict[int, str]:
    return {e["position"]: " | ".join(examples.texts[e["position"]]) for e in result["worst_errors"]}


def _benchmark(
    name: str, folder: str | None, data: config.DataSection
) -> tuple[str, config.DataSection, dict[str, Any] | None]:
    """The rows that a well-known benchmark reports on, their columns, and the published figure."""
    from ftkit.data import benchmarks

    known = benchmarks.find(name)
    columns = {**known.columns, **data.columns}
    if folder is None:
        source = f"{known.source}@{known.reported_split}"
    else:
        source = benchmarks.local_file(known, Path(folder))
        columns = dict(data.columns)  # a local copy has its own column names
    return source, data.model_copy(update={"columns": columns}), known.published_figure()


def _evaluate_foreign(
    table: load.Table,
    run_path: str | None,
    predictions: Sequence[str],
    data: config.DataSection,
    languages: config.LanguagesSection,
) -> dict[str, Any]:
    """Scores answers of another system; with a run, in the run's terms and against its baselines.

    Further systems are scored too, and compared with the first one on the same rows.
    """
    rivals = None
    if run_path is not None:
        target = run.open_run(run_path)
        record = target.record()
        task = recipes.find(record.task)
        if languages.targets:
            record = task.restrict(record, languages.targets)
        rivals = task.load_rivals(target.folder / "baselines")
    else:
        like = Recipe(data=data, languages=languages)
        task = recipes.recognise(like, table.columns, table.rows)
        if task.name == "sentiment":  # without a training, labels mean what is written
            task = recipes.find("classification")
        record = task.foreign_record(table, like)
    examples, columns = _examples(record, table, data.columns)
    task.align(examples, record)
    options = files.ReadOptions(encoding=data.encoding)
    answers = task.foreign_answers(predictions[0], options, examples, record)
    result = task.score(answers, examples, rivals, record)
    others = {}
    for other in predictions[1:]:
        theirs = task.foreign_answers(other, options, examples, record)
        found = task.score(theirs, examples, rivals, record)
        parts = {f"({code})": part["scores"] for code, part in found.get("by_target", {}).items()}
        difference = task.compare(answers, theirs, examples, record)
        others[other] = {"scores": found["scores"], "scores_by_target": parts, "difference": difference}
    result |= {"task": record.task, "source": examples.source, "counts": examples.counts, "others": others}
    result |= {"columns": columns, "other_columns": other_columns(record, columns)}
    return result | {"predictions": list(predictions), "chosen_on_these_rows": [], "reading": {}}


def _examples(record: Any, table: load.Table, given: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """The rows of a table in the terms of a training, and the columns that they were found in."""
    task = recipes.find(record.task)
    kept = {r: c for r, c in record.columns.items() if c in table.columns and r not in given}
    columns = task.columns({**kept, **given}, table.columns, table.rows, record=record)
    return task.examples(table.source, table.rows, replace(record, columns=columns)), columns


def _flags(given: Mapping[str, Any]) -> list[str]:
    """Flags of the command line with their values; a list repeats its flag, None leaves it out."""
    named = [(name, value if isinstance(value, (list, tuple)) else [value]) for name, value in given.items()]
    return [part for name, values in named for value in values if value is not None for part in (f"--{name}", value)]


def _flags_of(data: config.DataSection, languages: config.LanguagesSection, hardware: HardwareSection) -> list[str]:
    """The flags of `ftkit eval` that say what these sections say."""
    keys = ("format", "encoding", "delimiter", "header", "quoting")
    reading = {key: value for key in keys if (value := getattr(data, key)) is not None}
    return _flags(
        {
            "column": [f"{role}={column}" for role, column in data.columns.items()],
            "set": [f"data.{key}={config.inline(value)}" for key, value in reading.items()],
            "to": ",".join(languages.targets) if languages.targets else None,
            "device": None if hardware.device == "auto" else hardware.device,
            "precision": None if hardware.precision == "auto" else hardware.precision,
        }
    )


def predict(
    run_path: str,
    source: str,
    output: str,
    *,
    output_format: str | None = None,
    data: config.DataSection | None = None,
    to: Sequence[str] = (),
    all_scores: bool = False,
    spreadsheet_safe: bool = False,
    resume: bool = False,
    hardware: HardwareSection = ANY_HARDWARE,
    quiet: bool = False,
) -> dict[str, Any]:
    """Answers every row of a file, in order, into another file.

    Args:
        resume: go on with what an interrupted prediction of the same has answered; begins where there is none.

    Raises:
        UserError: input, run or options have changed since, naming what; or there is no file to go on with.
    """
    target = run.open_run(run_path)
    data = data or config.DataSection()
    options = load.read_options(data)
    for path in load.inputs(source, options):
        if path.exists() and Path(output).exists() and path.samefile(output):
            raise UserError(f"the answers would replace {path} while it is read", "Name another file: -o answers.csv")
    files_only = source != "-" and output != "-" and (Path(output).is_file() or not Path(output).exists())
    piped = any(map(files.is_pipe, load.inputs(source, options)))
    files_only = files_only and not piped
    if resume and not files_only:
        raise UserError("--resume goes on from file to file only", "Name a file for DATA, and one for the answers: -o")
    count = launch.processes(hardware)
    job = {
        "verb": "predict",
        "run": str(target.folder),
        "input": source,
        "output": output,
        "output_format": output_format,
        "options": {name: getattr(options, name) for name in options.__dataclass_fields__},
        "columns": dict(data.columns),
        "to": list(to),
        "all_scores": all_scores,
        "spreadsheet_safe": spreadsheet_safe,
        "journal": files_only,
        "resume": resume,
        "quiet": quiet,
        **launch.place(hardware),
    }
    if (source == "-" or piped) and (count > 1 or launch.external()):
        with load.spooled(source) as spool:  # every process reads the rows
            return launch.run(job | {"input": spool}, count)
    return launch.run(job, count)


def check(recipe: Recipe, *, forecast: bool = True, quiet: bool = False) -> dict[str, Any]:
    """The data report of what a recipe would train on; writes nothing but the cache of tokenized rows."""
    from ftkit import preparation

    if not forecast:
        recipe = recipe.model_copy(update={"hardware": ANY_HARDWARE})  # nothing is computed that would need it
    prepared = preparation.prepare(recipe, quiet)
    result = {"inferred": prepared.inferred, "model": prepared.record.base_model, **preparation.facts(prepared)}
    if forecast:
        from ftkit import training

        with stage("timing a few updates", show=not quiet):
            result["forecast"] = training.forecast(prepared)
    return result


def new_recipe(recipe: Recipe) -> str:
    """A recipe for a file as YAML: what was found out is set, every other key a comment with its default."""
    from ftkit import preparation

    task, columns, rows = preparation.look(recipe)
    read_with = {f"data.{key}": value for key, value in recipe.data.model_dump().items() if value}
    chosen = {**read_with, "task": task, "data.columns": columns}
    lines = [
        f"# What to learn from {recipe.data.train} ({rows:,} rows). Lines with a # in front show defaults; to "
        "change one, take off its '# ', and that of its section."
    ]
    for section, entries in itertools.groupby(config.entries(), key=lambda entry: entry[0].rpartition(".")[0]):
        body = []
        for name, default, meaning in entries:
            value = config.inline(chosen.get(name, default))
            mark = "" if name in chosen else "# "
            body.append(f"{mark}{'  ' if section else ''}{name.rpartition('.')[2]}: {value}  # {meaning}")
        if section:
            lines.append(("# " if all(line.startswith("#") for line in body) else "") + f"{section}:")
        lines += body
    return "\n".join(lines) + "\n"


def new_model(
    family: str,
    corpus: Iterable[str],
    out: str,
    *,
    size: str = "small",
    vocabulary_size: int = 8000,
    column: str | None = None,
    target_codes: Iterable[str] = (),
    seed: int = 0,
    data: config.DataSection | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Writes a random checkpoint with a vocabulary learned from files; returns what `new_model.create` does."""
    from ftkit import new_model

    return new_model.create(
        family,
        size,
        list(corpus),
        vocabulary_size,
        out,
        seed=seed,
        column=column,
        target_codes=list(target_codes),
        options=load.read_options(data or config.DataSection()),
        quiet=quiet,
    )


def predict_texts(
    run_path: str,
    texts: Iterable[tuple[str, ...]],
    hardware: HardwareSection = ANY_HARDWARE,
    *,
    to: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Answers texts at once: the cells that `predict` would add to a row of a file, with every score."""
    from ftkit import devices, prediction

    target = run.open_run(run_path)
    record = target.record()
    task = recipes.find(record.task)
    if to:
        record = task.restrict(record, to)
    place = devices.open_devices(hardware.device, hardware.precision)
    rows = list(texts)
    examples = task.from_texts(rows, record)
    if not rows:
        return []
    head, model, place = prediction.load_head(target, record, place)
    features = head.encode(task.inputs(examples, record))
    if (unread := np.flatnonzero(features.windows_of_rows == 0)).size:
        raise UserError(f"text {unread[0] + 1} does not fit into a window of {head.max_length} tokens", "Shorten it")
    answers = task.answers(prediction.row_outputs(model, head, features, place), features, examples, head, record)
    return [task.answer(answers, row, examples, record) for row in range(len(rows))]


def default_out(recipe: Recipe) -> str:
    """runs/NAME, after the data."""
    source = recipe.data.train
    if source is None:
        raise UserError("no data to train on", "ftkit train reviews.csv, or data: {train: ...} in the recipe")
    if source.startswith("hub:"):
        return f"runs/{evaluation.data_name(str(hub.parse(source)._replace(split=None)))}"
    name = evaluation.data_name(source)
    if name in ("train", "training"):
        name = Path(parallel.stem(source)).resolve().parent.name or name
    return f"runs/{name}"


# The short names that flags and Python's keyword arguments share, and the keys of the recipe they set.
FLAGS = {
    "data": "data.train",
    "task": "task",
    "model": "model",
    "revision": "revision",
    "allow_pickle": "allow_pickle",
    "out": "out",
    "text": "data.columns.text",
    "pair": "data.columns.pair",
    "label": "data.columns.label",
    "from_": "languages.source",
    "to": "languages.targets",
    "validation": "data.validation",
    "test": "data.test",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "max_length": "window.max_length",
    "seed": "seed",
    "format": "data.format",
    "encoding": "data.encoding",
    "device": "hardware.device",
    "precision": "hardware.precision",
    "processes": "hardware.processes",
    "shard": "hardware.shard",
}


def assignments(flags: Mapping[str, Any], others: Iterable[Setting] = ()) -> list[Setting]:
    """Flags (None: not given) as settings, followed by `--set` assignments, which win."""
    unknown = set(flags) - set(FLAGS)
    if unknown:
        raise UserError(
            f"there is no setting {sorted(unknown)[0]!r}", f"There are {', '.join(FLAGS)}; others through set="
        )
    given = [
        Setting(tuple(FLAGS[name].split(".")), value, f"--{name.rstrip('_').replace('_', '-')}")
        for name, value in flags.items()
        if value is not None
    ]
    return [*given, *others]


def recipe_of(file: str | None, flags: Mapping[str, Any], others: Iterable[Setting] = ()) -> Recipe:
    """The recipe of a file, overridden by flags, overridden by `--set` assignments."""
    written = config.read(file) if file else []
    if flags.get("model") is not None:  # the revision in the file is another model's
        written = [setting for setting in written if setting.path != ("revision",)]
    recipe = config.resolve([*written, *assignments(flags, others)])
    if file and recipe.out is None:
        recipe = recipe.model_copy(update={"out": f"runs/{Path(file).stem}"})
    return recipe
