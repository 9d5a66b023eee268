"""Defaults: what ftkit's defaults and their neighbours reach on validation rows, one setting changed at a time.

    python -m benchmarks.defaults --data FOLDER [--only learning_rate ...] [--sets trec ...] [--seeds 0 1 2]

Every run is one `ftkit train`; the score is the best epoch's on the rows that it held out of the training file, so the
rows that `benchmarks.quality` reports on choose nothing. What has been finished is not repeated, and a training that
was interrupted goes on. Prints a Markdown table: for each setting the score by set, the mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks import quality

# The settings of `training` that are tried in place of the default; numbers after x multiply it.
TRIED: dict[str, tuple[str, ...]] = {
    "learning_rate": ("x0.5", "x2"),
    "head_factor": ("1", "30"),
    "epochs": ("x0.5", "x2"),
    "batch_size": ("16", "64"),
    "warmup": ("0", "0.2"),
    "weight_decay": ("0", "0.1"),
    "schedule": ("cosine",),
}
SETS = {
    "trec": quality.SETS["trec"],
    "sst2-5k": replace(quality.SETS["sst2"], rows=5_000),
    "banking77-4k": replace(quality.SETS["banking77"], rows=4_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(TRIED), choices=list(TRIED))
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/defaults"))
    options = parser.parse_args()
    print("| training. | value | " + " | ".join(options.sets) + " |")
    print("|---|---|" + "---:|" * len(options.sets), flush=True)
    rows = [("", ""), *((key, value) for key in options.only for value in TRIED[key])]
    for key, value in rows:
        scores = [mean_score(name, key, value, options) for name in options.sets]
        print(f"| {key or '(defaults)'} | {value} | " + " | ".join(scores) + " |", flush=True)


def mean_score(name: str, key: str, value: str, options: Any) -> str:
    """The mean over the seeds, with the lowest and the highest."""
    values = [score(run(name, key, value, seed, options)) for seed in options.seeds]
    spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def run(name: str, key: str, value: str, seed: int, options: Any) -> Path:
    """The finished run of one set with one setting changed; with none where `key` is empty."""
    flags: list[str] = []
    if key:
        if value.startswith("x"):
            defaults = yaml.safe_load((run(name, "", "", seed, options) / "recipe.yaml").read_text())["training"]
            product = float(value[1:]) * defaults[key]
            value = str(max(1, round(product)) if key == "epochs" else product)
        flags = ["--set", f"training.{key}={value}"]
    folder: Path = options.out / "-".join(filter(None, (name, key, value, str(seed))))
    quality.train(SETS[name], folder, seed, options.data, options.out / name, lambda: quality.MODEL, flags)
    return folder


def score(folder: Path) -> float:
    """Accuracy on the rows that were held out."""
    found = json.loads((folder / "metrics.json").read_text())
    return float(found["validation"]["scores"]["accuracy"]["value"])


if __name__ == "__main__":
    main()
