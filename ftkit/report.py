"""What people read after a training or an evaluation: a page, RUN/report.html, and a model card, RUN/README.md.

Both are views of what the run holds: the scores, data.json, recipe.yaml and log.jsonl. The page is one file
that runs no script and loads nothing. Every value is escaped where it is printed, as HTML in both files
and as Markdown too in the card, so that a label may be any text. No text of a row is in either.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ftkit import __version__, config, terminal
from ftkit.recipes.labelled import LabelsRecord
from ftkit.run import Run

Floats = NDArray[np.float64]

MATRIX_LABELS = 25  # with more labels, the most confused pairs take the place of the confusion matrix
PAIRS = 30
CURVE_POINTS = 240  # the losses of many updates are averaged to so many points
SMOOTHING = 20  # the smooth line is a moving mean over this part of the points: a twentieth
METRICS = {
    "accuracy": "accuracy",
    "subset_accuracy": "all labels of a row right",
    "f1_micro": "F1 (micro)",
    "f1_macro": "F1 (macro)",
    "f1_weighted": "F1 (weighted)",
    "f1_samples": "F1 (mean of rows)",
    "precision_micro": "precision (micro)",
    "precision_macro": "precision (macro)",
    "precision_weighted": "precision (weighted)",
    "recall_micro": "recall (micro)",
    "recall_macro": "recall (macro)",
    "recall_weighted": "recall (weighted)",
    "matthews": "Matthews correlation",
    "hamming_loss": "hamming loss (lower is better)",
    "f1": "F1",
    "exact_match": "exact match",
    "precision": "precision",
    "recall": "recall",
    "bleu": "BLEU",
    "chrf2pp": "chrF2++",
    "ter": "TER (lower is better)",
    "loss": "loss",
}
SYSTEMS = {
    "model": "This model",
    "tfidf": "TF-IDF",
    "majority": "Majority answer",
    "sentence": "Sentence most like the question",
    "copy": "Copied source",
}


def write_run_report(run: Run, result: Mapping[str, Any], record: Any) -> None:
    """Writes RUN/report.html and RUN/README.md after a training.

    Args:
        result: of `commands.train`. The test rows are shown in full; without them, the validation rows.
    """
    facts = run.read_json("data.json")
    recipe = config.resolve(config.read(run.folder / "recipe.yaml"))
    split = "test" if "test" in result else "validation"
    also = {"rows": "validation rows", "scores": result["validation"], "chart": chart(result["validation"])}
    page = _page(run, result[split], record, facts) | {
        "rows": f"{split} rows",
        "also": also if split == "test" else None,
        "facts": facts,
        "data_table": data_table(facts),
        "warnings": terminal.warnings(facts),
        "training": result["training"],
        "curves": curves(run, str(recipe.training.metric)),
        "recipe": config.to_yaml(recipe),
        "repeat": ["ftkit", "train", "--recipe", str(run.folder / "recipe.yaml"), "--out", f"{run.folder}-again"],
    }
    run.write_text("report.html", _render("report.html.jinja", page))
    run.write_text("README.md", _render("README.md.jinja", page | {"front_matter": front_matter(record)}))


def write_evaluation_report(run: Run, folder: str, result: Mapping[str, Any], record: Any) -> None:
    """Writes RUN/eval/FOLDER/report.html; `result` is that of `commands.evaluate`."""
    page = _page(run, result, record, run.read_json("data.json")) | {
        "rows": f"rows of {source_name(result['source'])}",
        "also": None,
        "training": None,
        "repeat": ["ftkit", "eval", str(run.folder), *result.get("repeat", [result["source"]]), "--name", folder],
    }
    run.write_text(f"eval/{folder}/report.html", _render("report.html.jinja", page))


def _page(run: Run, scores: Mapping[str, Any], record: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates show of one set of rows."""
    classes = _classes(scores, record, facts) if "classes" in scores else []
    many = len(classes) > MATRIX_LABELS
    single = "confusion" in scores
    source = scores["source"]
    return {
        "version": __version__,
        "name_of_run": run.folder.resolve().name,
        "record": record,
        "subject": subject(record),
        "auto_class": auto_class(record),
        "base_model": model_name(record.base_model),
        "scores": scores,
        "verdicts": verdicts(scores),
        "chart": chart(scores),
        "metrics": METRICS,
        "systems": SYSTEMS,
        "rivals": [name for name in SYSTEMS if name in scores["baselines"]],
        "main_metric": _headline_metrics(scores)[0],
        "classes": sorted(classes, key=lambda row: (row["f1"], -row["support"])) if many else classes,
        "many": many,
        "matrix": confusion_matrix(scores) if single and not many else None,
        "pairs": confused_pairs(scores) if single and many else None,
        "errors": [
            error | {"place": source_name(source) + error["place"].removeprefix(source)}
            for error in scores["worst_errors"]
        ],
    }


def _classes(scores: Mapping[str, Any], record: Any, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scores of each label with its training rows and its threshold."""
    learned_from = facts["splits"]["train"]["labels"]
    thresholds = record.threshold if isinstance(record.threshold, list) else [None] * len(record.labels)
    return [
        row | {"trained": learned_from[row["label"]], "threshold": threshold}
        for row, threshold in zip(scores["classes"], thresholds, strict=True)
    ]


def subject(record: Any) -> str:
    """What the model does, in a few words."""
    if isinstance(record, LabelsRecord):
        return f"{record.task} with {len(record.labels)} labels{', several a row' if record.multi_label else ''}"
    how = {"spans": "answers cut out of the text", "text": "written answers"}[record.head]
    return f"{record.task}, {how}"


def auto_class(record: Any) -> str:
    """The class of Transformers that loads the model."""
    writer = "CausalLM" if getattr(record, "decoder", False) else "Seq2SeqLM"
    heads = {"labels": "SequenceClassification", "spans": "QuestionAnswering", "text": writer}
    return f"AutoModelFor{heads[record.head]}"


def verdicts(scores: Mapping[str, Any]) -> list[dict[str, str]]:
    """Whether the model beats each baseline, the strongest one first: a sentence and wins, even or loses."""
    found = []
    for name in SYSTEMS:
        for metric, difference in scores["baselines"].get(name, {}).get("difference", {}).items():
            tone = "wins" if difference["low"] > 0 else "loses" if difference["high"] < 0 else "even"
            found.append({"text": terminal.verdict(name, METRICS[metric], difference), "tone": tone})
    return found


def _headline_metrics(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """The scores that are drawn, the main one first."""
    every = (
        ("accuracy", "f1_macro", "f1_weighted"),
        ("f1_micro", "f1_macro", "subset_accuracy"),
        ("bleu", "chrf2pp"),
        ("f1", "exact_match"),
    )
    return next(names for names in every if names[0] in scores["scores"] and names[-1] in scores["scores"])


def chart(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The headline scores of the model and the baselines as intervals on one axis, in percent of its width."""
    systems = {"model": scores["scores"], **{name: rival["scores"] for name, rival in scores["baselines"].items()}}
    drawn = {
        metric: {name: systems[name][metric] for name in SYSTEMS if name in systems}
        for metric in _headline_metrics(scores)
    }
    every = [value for row in drawn.values() for value in row.values()]
    least, most, ticks = axis(min(value["low"] for value in every), max(value["high"] for value in every))

    def place(value: float) -> float:
        return round(100 * (value - least) / (most - least), 2)

    bars = {
        metric: {
            name: value | {"left": place(value["low"]), "at": place(value["value"]), "right": place(value["high"])}
            for name, value in row.items()
        }
        for metric, row in drawn.items()
    }
    return {"ticks": ticks, "metrics": bars}


def axis(low: float, high: float) -> tuple[float, float, list[tuple[float, str]]]:
    """Two round numbers that enclose the values from low to high, and the round numbers between and at them.

    Returns:
        least, most, and the ticks (place from 0 for the least to 100 for the most, number as text).
    """
    span = max(high - low, 1e-3)
    decade = 10.0 ** math.floor(math.log10(span))
    step = next(step for step in (0.2 * decade, 0.5 * decade, decade, 2 * decade) if span / step <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    digits = max(0, -math.floor(math.log10(step)))
    ticks = [
        (round(100 * (number - first) / (last - first), 2), f"{number * step:.{digits}f}")
        for number in range(first, last + 1)
    ]
    return first * step, last * step, ticks


def confusion_matrix(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Counts with their share of the reference label's rows; without the column of no answer if it is empty."""
    counts = np.asarray(scores["confusion"])
    columns: list[str | None] = [row["label"] for row in scores["classes"]]
    if counts[:, -1].any():
        columns.append(None)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return {
        "columns": columns,
        "rows": [
            {"label": row["label"], "cells": list(zip(counts[i].tolist(), shares[i].tolist(), columns, strict=False))}
            for i, row in enumerate(scores["classes"])
        ],
    }


def confused_pairs(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The wrong answers that were given most often: reference, answer (None: no answer), count, support."""
    names = [row["label"] for row in scores["classes"]]
    counts = np.asarray(scores["confusion"])
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:PAIRS]
    return [
        {
            "reference": names[i],
            "answer": names[j] if j < len(names) else None,
            "count": int(counts[i, j]),
            "support": scores["classes"][i]["support"],
        }
        for i, j in zip(*(each.tolist() for each in np.unravel_index(order, counts.shape)), strict=True)
        if counts[i, j]
    ]


def data_table(facts: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What was read: a title and a value for each split. Counts that are zero for all splits are left out."""
    splits = facts["splits"]
    sources, read = facts["sources"], facts["read"]
    rows = [
        ("file", [source_name(sources[s]["source"]) if s in sources else "held out of train" for s in splits]),
        ("SHA-256", [sources[s]["sha256"][:12] if s in sources else "" for s in splits]),
        ("rows read", [f"{read[s]:,}" if s in read else "" for s in splits]),
    ]
    for reason, count in facts["left_out"].items():
        rows.append((f"left out: {reason}", [f"{count:,}" if s == "train" else "" for s in splits]))
    rows.append((f"{terminal.unit(facts)} used", [f"{each['rows']:,}" for each in splits.values()]))
    rows += [(title, [f"{value:,}" for value in values]) for title, values in terminal.counted(facts)]
    return [
        *rows,
        ("tokens a row, median", [f"{each['tokens']['median']:,.0f}" for each in splits.values()]),
        ("tokens a row, longest", [f"{each['tokens']['longest']:,}" for each in splits.values()]),
        ("tokens unknown to the model", [f"{each['unknown_token_share']:.2%}" for each in splits.values()]),
    ]


def curves(run: Run, metric: str) -> list[dict[str, Any]]:
    """The learning curves of log.jsonl: the loss of the updates, and the validation score of the epochs."""
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in log if "loss" in line and "evaluation" not in line]
    scores = [line[metric] for line in log if "evaluation" in line and np.isfinite(line[metric])]
    means = [part.mean() for part in np.array_split(losses, min(CURVE_POINTS, len(losses)) or 1) if len(part)]
    width = max(1, len(means) // SMOOTHING)
    smooth: Sequence[float] | Floats = np.convolve(means, np.full(width, 1 / width), "valid") if means else []
    margin = 50 * (width - 1) / max(1, len(means) - 1)
    loss_axis = axis(0.0, max(means, default=1.0))
    score_axis = axis(min(scores, default=0.0), max(scores, default=1.0))
    return [
        {
            "title": "loss of the training rows by update",
            "ticks": loss_axis[2],
            "count": len(losses),
            "faint": _line(means, loss_axis),
            "line": _line(smooth, loss_axis, margin),
            "dots": False,
        },
        {
            "title": f"{METRICS.get(metric, metric)} of the validation rows by epoch",
            "ticks": score_axis[2],
            "count": len(scores),
            "faint": [],
            "line": _line(scores, score_axis),
            "dots": True,
        },
    ]


def _line(
    values: Sequence[float] | Floats, scale: tuple[float, float, Any], margin: float = 0
) -> list[tuple[float, float]]:
    """Points (x, y) from left to right, of values on an axis, in a square of 100 with y from the top down."""
    least, most, _ = scale
    places = np.linspace(margin, 100 - margin, len(values)) if len(values) > 1 else [50.0][: len(values)]
    return [
        (round(float(x), 2), round(float(100 * (most - value) / (most - least)), 2))
        for x, value in zip(places, values, strict=True)
    ]


def front_matter(record: Any) -> str:
    """What the Hugging Face Hub reads of a model card."""
    fields: dict[str, Any] = {}
    if is_hub_name(record.base_model):
        fields["base_model"] = record.base_model
    tag = record.task if record.task in ("question-answering", "translation") else "text-classification"
    fields |= {"library_name": "transformers", "pipeline_tag": tag, "tags": ["ftkit", record.task]}
    return yaml.safe_dump(fields, sort_keys=False)


def is_hub_name(name: str) -> bool:
    """Whether a model's name is one of the hub: no package and nothing on this disk bears it."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII) is not None and not Path(name).exists()


def model_name(name: str) -> str:
    """A model as others may know it: without the folders of this machine."""
    return name if is_hub_name(name) or name.startswith("package:") else Path(name).name


def source_name(source: str) -> str:
    """A file's name without its folders; a data set of the hub as it is."""
    return source if source.startswith("hub:") else Path(source).name


def _render(template: str, values: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ftkit"),
        autoescape=True,
        finalize=markdown if template.endswith(".md.jinja") else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "count": "{:,}".format,
        "score": _score,
        "share": "{:.0%}".format,
        "interval": lambda value: f"{_score(value['value'])} [{_score(value['low'])}, {_score(value['high'])}]",
        "duration": terminal.duration,
        "source_name": source_name,
        "command": shlex.join,
    }
    environment.filters |= filters
    return environment.get_template(template).render(values)


def _score(value: float) -> str:
    """0.912; two digits for scores that go up to 100."""
    return f"{value:.2f}" if abs(value) > 1 else f"{value:.3f}"


def markdown(value: Any) -> Any:
    """A value as one line of Markdown text that means nothing but itself; HTML is escaped after this.

    What is marked as safe stays as it is. Besides the punctuation that formats, the beginnings of what
    GitHub makes links of without being asked are escaped: www., :// and @.
    """
    if hasattr(value, "__html__"):
        return value
    line = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+", " ", str(value))
    return re.sub(r"[\\`*_\[\]|~$#+@]|(?<=www)\.|(?<=:)/(?=/)", r"\\\g<0>", line, flags=re.IGNORECASE)
