"""Prediction: ftkit against pipeline("text-classification") at its best batch size and dtype.

    python -m benchmarks.prediction --data FOLDER [--only sst2 imdb] [--rows N] [--quick]

The model is one that ftkit has trained on a part of SST-2. Every batch size and dtype of the pipeline is tried on a
part of the rows; the fastest takes turns with ftkit, and so does the fastest in fp32, whose labels must be ftkit's in
fp32. rows/s is counted without the start; process is the whole command, reading and writing files included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import side_by_side, training
from benchmarks.side_by_side import MODEL, OUT, ftkit, median, rival, run

SETS = ("sst2", "imdb")
BATCHES = (1, 8, 32, 64)
TRIED = 2048  # rows on which the pipeline's settings are tried


def main() -> None:
    parser = side_by_side.arguments(__doc__, repeats=3, data=True)
    parser.add_argument("--only", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--rows", type=int, default=20_000)
    options = parser.parse_args()
    if options.quick:
        options.rows = 40
    folder = OUT / "prediction"
    for name in options.only:
        rows = training.shuffled(training.rows_of(name, options.data, "train"), options.rows)
        texts = [{"text": row["text"]} for row in rows]
        side_by_side.write_jsonl(folder / f"{name}.jsonl", texts)
        side_by_side.write_jsonl(folder / f"{name}-part.jsonl", texts[: 8 if options.quick else TRIED])
    model = trained(folder, options.data, 32 if options.quick else 5000)
    table = [row for name in options.only for row in measure(name, folder, model, options.repeats)]
    side_by_side.report("prediction", table, options.quick)


def trained(folder: Path, data: Path, rows: int) -> Path:
    """A run on some rows of SST-2, trained once."""
    if not (folder / f"run-{rows}" / "metrics.json").is_file():
        source = training.shuffled(training.rows_of("sst2", data, "train"), rows)
        train = side_by_side.write_jsonl(folder / "train.jsonl", source)
        words = ("--task", "classification", "--model", MODEL, "--epochs", "1", "--overwrite", "--quiet")
        run(ftkit("train", train, "--out", folder / f"run-{rows}", *words))
    return folder / f"run-{rows}"


def measure(name: str, folder: Path, model: Path, repeats: int) -> list[dict[str, Any]]:
    """The rows of the table for one set of texts, ftkit first."""
    from ftkit.devices import choose_precision, single_device

    precision = choose_precision(single_device("auto"))

    def pipeline(batch: int, dtype: str, part: str = "") -> list[str]:
        out = folder / f"{name}-pipeline-{dtype}.txt"
        return rival(
            "predict",
            model=model / "model",
            data=folder / f"{name}{part}.jsonl",
            out=out,
            batch_size=batch,
            dtype=dtype,
        )

    def ours(precision: str) -> list[str]:
        out = folder / f"{name}-ftkit-{precision}.jsonl"
        return ftkit("predict", model, folder / f"{name}.jsonl", "-o", out, "--precision", precision, "--json")

    kinds = ["float32"] if precision == "fp32" else ["float32", "bfloat16"]
    tried = {(b, d): run(pipeline(b, d, "-part")).result["rows_per_second"] for d in kinds for b in BATCHES}
    chosen = {dtype: max((b for b, d in tried if d == dtype), key=lambda b: tried[b, dtype]) for dtype in kinds}
    sides = {f"ftkit, {p}": ours(p) for p in dict.fromkeys((precision, "fp32"))}
    sides |= {f"pipeline, {dtype}, batches of {batch}": pipeline(batch, dtype) for dtype, batch in chosen.items()}
    found = side_by_side.take_turns(sides, repeats)
    equal = share_equal(folder / f"{name}-ftkit-fp32.jsonl", folder / f"{name}-pipeline-float32.txt")
    rates = {
        side: median(
            t.result["rows"] / t.result["seconds"] if "rows" in t.result else t.result["rows_per_second"] for t in turns
        )
        for side, turns in found.items()
    }
    wall = {side: median(t.seconds for t in turns) for side, turns in found.items()}
    first = next(iter(sides))
    return [
        {
            "texts": name,
            "side": side,
            "rows/s": rates[side],
            "process s": wall[side],
            "peak MB": median(t.peak_bytes / 1e6 for t in found[side]),
            "ftkit is x times as fast": rates[first] / rates[side],
            "as a process": wall[side] / wall[first],
            "labels equal in fp32": equal,
        }
        for side in sides
    ]


def share_equal(ours: Path, theirs: Path) -> float:
    """The share of rows with the same label. Texts longer than one window are read whole by ftkit alone."""
    pairs = zip(side_by_side.read_jsonl(ours), theirs.read_text(encoding="utf-8").splitlines(), strict=True)
    same = [row["label"] == label for row, label in pairs]
    return sum(same) / len(same)


if __name__ == "__main__":
    main()
