"""Training: ftkit against transformers.Trainer at its defaults and at its best flags.

    python -m benchmarks.training --data FOLDER [--only sst2 trec imdb squad multi30k] [--rows N] [--held-out N]
        [--against best] [--quick]

The same model, rows, epochs and learning rate, and Trainer's defaults for the rest of the mathematics; every turn has a
seed of its own. The models of all sides are scored by one program in one way, so that speed bought with quality would
show: the mean over the turns, with the lowest and the highest. "defaults" are those of Transformers' examples: batches
of 8, padded to 128 tokens (384 for questions). "best flags" are ftkit's batch size, padding to the longest row of a
batch, batches of rows of similar length, and bf16 where the processor multiplies it fast. rows/s counts the updates
alone; process is everything from the start to the saved model, for ftkit also its report with baselines and intervals.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import side_by_side
from benchmarks.side_by_side import MODEL, OUT, ftkit, median, rival, run

BATCH = 32
RIVALS = {"best": "Trainer, best flags", "defaults": "Trainer, defaults"}


@dataclass(frozen=True)
class Case:
    """One data set: its task, windows of the examples' defaults and at most, and what tells how good a model is."""

    task: str
    default_length: int
    longest: int
    learning_rate: float
    metric: str


CASES = {
    "sst2": Case("classification", 128, 512, 1e-4, "accuracy"),
    "trec": Case("classification", 128, 512, 1e-4, "accuracy"),
    "imdb": Case("classification", 128, 512, 1e-4, "accuracy"),
    "squad": Case("question-answering", 384, 384, 1e-4, "f1"),
    "multi30k": Case("translation", 128, 128, 5e-4, "loss"),
}


def main() -> None:
    parser = side_by_side.arguments(__doc__, repeats=3, data=True)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rows", type=int, help="learn from this many rows only")
    parser.add_argument("--held-out", type=int, default=2000, help="score the models on so many rows at most")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--against", nargs="*", default=list(RIVALS), choices=list(RIVALS))
    options = parser.parse_args()
    if options.quick:
        options.rows, options.held_out = 32, 20
    table = []
    for name in options.only:
        table += measure(name, CASES[name], options)
    side_by_side.report("training", table, options.quick)


def measure(name: str, case: Case, options: Any) -> list[dict[str, Any]]:
    """The rows of the table for one data set, ftkit first."""
    folder = OUT / "training" / name
    train, held_out = rows_of(name, options.data, "train"), rows_of(name, options.data, "held out")
    train, held_out = shuffled(train, options.rows), shuffled(held_out, options.held_out)
    side_by_side.write_jsonl(folder / "train.jsonl", train)
    side_by_side.write_jsonl(folder / "held_out.jsonl", held_out)
    model = base_model(case, folder)

    def sides(turn: int) -> dict[str, list[str]]:
        given = case, model, folder, options.epochs, turn
        rivals = {RIVALS[flags]: trainer_side(*given, best=flags == "best") for flags in options.against}
        return {"ftkit": ftkit_side(*given), **rivals}

    def quality(side: str, turn: int) -> float:
        trained = folder / (f"ftkit-{turn}/model" if side == "ftkit" else f"{side}-{turn}")
        held_out = folder / "held_out.jsonl"
        scores = run(rival("score", task=case.task, model=trained, data=held_out, max_length=case.longest)).result
        return float(scores[case.metric])

    found = side_by_side.take_turns(sides, options.repeats)
    figures: dict[str, dict[str, Any]] = {}
    for side, turns in found.items():
        results = [t.result.get("training", t.result) for t in turns]
        figures[side] = {
            "rows/s": median(r["rows_per_second"] for r in results),
            "process s": median(t.seconds for t in turns),
            "peak MB": median(t.peak_bytes / 1e6 for t in turns),
            "quality": [quality(side, turn) for turn in range(options.repeats)],
        }
    ours = figures["ftkit"]
    return [
        {
            "set": name,
            "rows": len(train),
            "side": side,
            **figure,
            "ftkit is x times as fast": ours["rows/s"] / figure["rows/s"],
            "as a process": figure["process s"] / ours["process s"],
            "quality": f"{case.metric} {statistics.mean(figure['quality']):.4f} "
            f"({min(figure['quality']):.4f} to {max(figure['quality']):.4f})",
        }
        for side, figure in figures.items()
    ]


# What Trainer does where its flags say nothing.
TRAINERS_MATHEMATICS = ("training.head_factor=1", "training.warmup=0", "training.weight_decay=0")


def ftkit_side(case: Case, model: str, folder: Path, epochs: int, seed: int) -> list[str]:
    translated = ("data.columns={source: source, de: target}", "languages.source=en", "languages.targets=[de]")
    settings = (*TRAINERS_MATHEMATICS, *(translated if case.task == "translation" else ()))
    return ftkit(
        "train", folder / "train.jsonl", "--validation", folder / "held_out.jsonl", "--task", case.task,
        "--model", model, "--out", folder / f"ftkit-{seed}", "--epochs", str(epochs), "--batch-size", str(BATCH),
        "--seed", str(seed),
        "--learning-rate", str(case.learning_rate), "--max-length", str(case.longest),
        *(word for item in settings for word in ("--set", item)), "--overwrite", "--json",
    )  # fmt: skip


def trainer_side(case: Case, model: str, folder: Path, epochs: int, seed: int, best: bool) -> list[str]:
    from ftkit import hub
    from ftkit.devices import choose_precision, single_device

    return rival(
        "train",
        task=case.task,
        model=hub.model_folder(model, None),
        data=folder / "train.jsonl",
        out=folder / f"{RIVALS['best' if best else 'defaults']}-{seed}",
        seed=seed,
        epochs=epochs,
        learning_rate=case.learning_rate,
        batch_size=BATCH if best else 8,
        max_length=case.longest if best else case.default_length,
        padded=not best,
        grouped=best,
        bf16=best and choose_precision(single_device("auto")) == "bf16",
    )


def base_model(case: Case, folder: Path) -> str:
    """MiniLM; for translation a new Marian model over the training sentences, because none is installed.

    A classifier's pooler begins on all sides as ftkit has it begin: the one of MiniLM has learned nothing.
    """
    if case.task == "question-answering":
        return MODEL
    if case.task == "classification":
        made = folder / "minilm"
        if not (made / "model.safetensors").is_file():
            import torch
            import transformers

            from ftkit import hub

            source = hub.model_folder(MODEL, None)
            model = transformers.AutoModel.from_pretrained(source)
            torch.nn.init.eye_(model.pooler.dense.weight)
            transformers.AutoTokenizer.from_pretrained(source).save_pretrained(made)
            model.save_pretrained(made)
        return str(made)
    made = folder / "marian"
    if not (made / "config.json").is_file():
        from ftkit import new_model

        new_model.create("marian", "small", [str(folder / "train.jsonl")], 4000, str(made))
    return str(made)


def shuffled(rows: Iterator[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    listed = list(rows)
    random.Random(0).shuffle(listed)
    return listed[:count]


def rows_of(name: str, data: Path, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set as it was downloaded; of SST-2's only those of at least 16 words are learned from."""
    train = split == "train"
    if name == "sst2":
        with (data / "sst2" / ("train.tsv" if train else "dev.tsv")).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if not train or len(row["sentence"].split()) >= 16:
                    yield {"text": row["sentence"], "label": {"0": "negative", "1": "positive"}[row["label"]]}
    elif name == "trec":
        with (data / "trec" / ("train.csv" if train else "val.csv")).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield {"text": row["text"], "label": row["label"]}
    elif name == "imdb":
        with (data / "imdb" / ("train.csv" if train else "test.csv")).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield {"text": row["review"], "label": row["sentiment"]}
    elif name == "squad":
        yield from _squad(data / "squad_v1" / ("train.json" if train else "test.json"))
    else:
        part = data / "multi30k" / ("train" if train else "val")
        with gzip.open(f"{part}.en.gz", "rt") as english, gzip.open(f"{part}.de.gz", "rt") as german:
            for one, other in zip(english, german, strict=True):
                yield {"source": one.strip(), "target": other.strip()}


def _squad(path: Path) -> Iterator[dict[str, Any]]:
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                yield {
                    "id": asked["id"],
                    "question": asked["question"],
                    "context": paragraph["context"],
                    "answer": asked["answers"][0]["text"],
                    "start": asked["answers"][0]["answer_start"],
                    "answers": sorted({answer["text"] for answer in asked["answers"]}),
                }


if __name__ == "__main__":
    main()
