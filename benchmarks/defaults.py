"""Defaults: what ftkit's defaults and their neighbours reach on validation rows, one setting changed at a time.

    python -m benchmarks.defaults --data FOLDER [--only training.epochs ...] [--sets trec-3k ...] [--seeds 0 1 2]

Every run is one `ftkit train`; its score is the best epoch's on the rows that it held out of the training file, so the
rows that `benchmarks.quality` reports on choose nothing. Large parts are held out, and two runs with the same seed hold
out the same rows, so that settings are compared row by row. With the batch the default number of epochs changes too.
What has been finished is not repeated, and a training that was interrupted goes on. Prints a Markdown table: the
defaults' accuracy by set, and how much more each other setting reaches, with 95% bootstrap intervals over the rows of
all seeds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import quality
from ftkit.metrics import bootstrap

# The settings that are tried in place of the default; numbers after x multiply it.
TRIED: dict[str, tuple[str, ...]] = {
    "training.learning_rate": ("x0.5", "x2"),
    "training.head_factor": ("1", "3", "30"),
    "training.epochs": ("x0.5", "x2"),
    "training.batch_size": ("16", "64"),
    "training.warmup": ("0", "0.2"),
    "training.weight_decay": ("0", "0.1"),
    "training.schedule": ("cosine",),
    "training.freeze": ("backbone",),
    "window.max_length": ("128", "256"),
    "window.overlap": ("0", "128"),
}


def holding_out(name: str, share: str, *flags: str, rows: int | None = None) -> quality.Set:
    """A set of `benchmarks.quality` of which a large part is held out."""
    chosen = quality.SETS[name]
    return replace(chosen, rows=rows, flags=(*chosen.flags, "--validation", share, *flags))


SETS = {
    "trec-3k": holding_out("trec", "0.4"),
    "sst2-5k": holding_out("sst2", "0.5", rows=10_000),
    "banking77-4k": holding_out("banking77", "0.5"),
    "imdb-2k": holding_out("imdb", "0.5", "--epochs", "3", rows=4_000),
    "trec-200": holding_out("trec", "0.9", rows=2_000),
    "sst2-200": holding_out("sst2", "0.9", rows=2_000),
    "banking77-400": holding_out("banking77", "0.9", rows=4_000),
}
LONG = {"imdb-2k"}  # the sets on which windows make a difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(TRIED), choices=list(TRIED))
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/defaults"))
    options = parser.parse_args()
    print("| setting | value | " + " | ".join(options.sets) + " |")
    print("|---|---|" + "---|" * len(options.sets), flush=True)
    defaults = {name: right(name, "", "", options) for name in options.sets}
    scores = [f"{bootstrap.mean_interval(rows).value:.4f} ({len(rows):,} rows)" for rows in defaults.values()]
    print("| (defaults) | | " + " | ".join(scores) + " |", flush=True)
    for key in options.only:
        for value in TRIED[key]:
            cells = [more(name, key, value, rows, options) for name, rows in defaults.items()]
            print(f"| {key} | {value} | " + " | ".join(cells) + " |", flush=True)


def more(name: str, key: str, value: str, defaults: bootstrap.Floats, options: Any) -> str:
    """How much more than the defaults a setting reaches, with its interval; nothing where it can change nothing."""
    if key.startswith("window.") and name not in LONG:
        return ""
    found = bootstrap.mean_difference(right(name, key, value, options), defaults, bounds=(0.0, 1.0))
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def right(name: str, key: str, value: str, options: Any) -> bootstrap.Floats:
    """For every row that was held out, one seed after the other, whether its label was found: (rows of all seeds,)."""
    found = []
    for seed in options.seeds:
        predictions = run(name, key, value, seed, options) / "eval" / "validation" / "predictions.jsonl"
        lines = map(json.loads, predictions.read_text(encoding="utf-8").splitlines())
        found += [float(line["label"] == line["reference"]) for line in sorted(lines, key=lambda line: line["row"])]
    return np.array(found)


def run(name: str, key: str, value: str, seed: int, options: Any) -> Path:
    """The finished run of one set with one setting changed; with none where `key` is empty."""
    flags: list[str] = []
    if key:
        if value.startswith("x"):
            section, setting = key.split(".")
            recipe = yaml.safe_load((run(name, "", "", seed, options) / "recipe.yaml").read_text())
            product = float(value[1:]) * recipe[section][setting]
            value = str(max(1, round(product)) if setting == "epochs" else product)
        flags = ["--set", f"{key}={value}"]
    folder: Path = options.out / "-".join(filter(None, (name, key, value, str(seed))))
    quality.train(SETS[name], folder, seed, options.data, options.out / name, lambda: quality.MODEL, flags)
    return folder


if __name__ == "__main__":
    main()
