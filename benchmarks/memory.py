"""Memory: peak resident size of training on and predicting ever more rows with a tiny model.

    python -m benchmarks.memory [--rows 10000 100000 1000000] [--train-up-to 1000000] [--quick]

Predicting streams: its peak must not grow with the rows. Training keeps the texts and maps the tokens from disk. The
answers must be complete and in the order of the rows. "above the model" is what a peak has above that of one row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import side_by_side
from benchmarks.side_by_side import OUT, ftkit, median, run


def main() -> None:
    parser = side_by_side.arguments(__doc__, repeats=1)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--train-up-to", type=int, default=1_000_000, help="more rows are predicted by the last run")
    options = parser.parse_args()
    counts = [1000, 2000] if options.quick else options.rows
    folder = OUT / "memory"
    model = side_by_side.new_model(folder / "model")
    held_out = side_by_side.write_jsonl(folder / "held_out.jsonl", side_by_side.made_rows(1000, seed=1))
    table: list[dict[str, Any]] = []
    for count in counts:
        data = side_by_side.write_jsonl(folder / f"{count}.jsonl", side_by_side.made_rows(count))
        sides = {}
        if not table or count <= options.train_up_to:
            out = folder / f"run-{count}"
            training = ["--model", model, "--out", out, "--validation", held_out, "--overwrite", "--json"]
            training += ["--task", "classification", "--epochs", "1", "--batch-size", "256"]
            sides["training"] = ftkit("train", data, *training)
        sides["predicting"] = ftkit("predict", out, data, "-o", folder / "answers.jsonl", "--json")
        for verb, command in sides.items():
            used = [run(command) for _ in range(options.repeats)]
            table.append({"verb": verb, "rows": count, "peak MB": median(u.peak_bytes / 1e6 for u in used)})
            table[-1]["rows/s of the process"] = count / median(u.seconds for u in used)
        table[-1]["complete and in order"] = in_order(folder / "answers.jsonl", count)
    one = run(ftkit("predict", out, "--text", "good")).peak_bytes / 1e6
    for row in table:
        if row["verb"] == "predicting":
            row["MB above the model"] = row["peak MB"] - one
        first = next(other for other in table if other["verb"] == row["verb"])
        row["bytes more a row"] = (row["peak MB"] - first["peak MB"]) * 1e6 / max(1, row["rows"] - first["rows"])
    side_by_side.report("memory", table, options.quick)


def in_order(answers: Path, count: int) -> bool:
    """Whether every row has its answer, in its place."""
    import json

    number = -1
    with answers.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            if row["id"] != number or "predicted_label" not in row:
                return False
    return number + 1 == count


if __name__ == "__main__":
    main()
