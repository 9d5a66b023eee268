"""Starting: how long until the help, the first answer and the first update, against the imports that they need.

    python -m benchmarks.startup [--quick]

The model is tiny, so that nearly all of the time is the start. The bare sides are the fewest lines that reach the
same thing with typer or Transformers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import side_by_side
from benchmarks.side_by_side import OUT, ftkit, median, rival, run

GOALS = {"help": 0.4, "one row": 1.3, "first update": 1.5}  # seconds; times the bare side
PATIENCE = 300.0  # seconds until a first update must have come


def main() -> None:
    options = side_by_side.arguments(__doc__, repeats=7).parse_args()
    repeats = options.repeats
    folder = OUT / "startup"
    model = side_by_side.new_model(folder / "model")
    train = side_by_side.write_jsonl(folder / "train.jsonl", side_by_side.made_rows(400))
    text = side_by_side.write_jsonl(folder / "one.jsonl", [{"text": "babe bad dogo"}])
    run(ftkit("train", train, "--model", model, "--out", folder / "run", "--epochs", "1", "--overwrite", "--quiet"))
    sides = {
        "help": ftkit("--help"),
        "help, bare": [sys.executable, "-c", "import typer"],
        "one row": ftkit("predict", folder / "run", text, "-o", folder / "answer.jsonl", "--quiet"),
        "one row, bare": rival("answer_one", model=folder / "run" / "model", text="babe bad dogo"),
        "first update, bare": rival("first_update", model=model, texts=["babe bad dogo"] * 32),
    }
    found = side_by_side.take_turns(sides, repeats)
    seconds = {name: [used.seconds for used in turns] for name, turns in found.items()}
    seconds["first update"] = [first_update(train, model, folder / "first") for _ in range(repeats)]
    table: list[dict[str, Any]] = []
    for name, goal in GOALS.items():
        ours, bare = median(seconds[name]), median(seconds[f"{name}, bare"])
        reached = ours < goal if name == "help" else ours < goal * bare
        table.append(
            {"what": name, "ftkit s": ours, "bare s": bare, "ratio": ours / bare, "goal": goal, "reached": reached}
        )
    side_by_side.report("startup", table, options.quick)


def first_update(train: Path, model: Path, out: Path) -> float:
    """Seconds from the start of `ftkit train` to the first line of its log; the rest of it is cut short."""
    log = out / "log.jsonl"
    log.unlink(missing_ok=True)
    command = ftkit("train", train, "--model", model, "--out", out, "--epochs", "100", "--overwrite", "--quiet")
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (log.is_file() and log.stat().st_size):
            if child.poll() is not None or time.perf_counter() - started > PATIENCE:
                sys.exit(f"{' '.join(command)}\nmade no update")
            time.sleep(0.005)
        return time.perf_counter() - started
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main()
