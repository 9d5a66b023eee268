"""Growth: what a row, a token and a planned row cost as there are more of them.

    python -m benchmarks.growth [--quick]

Rows x1, x10 and x100 with a tiny model (the whole process, less that of an eighth of the rows: no fixed costs);
lengths of 16 to 512 tokens with MiniLM's shape (one update, in this process); the plan of an epoch of 10 million rows.
A cost that grows faster than its cause shows as a rising last column.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import side_by_side
from benchmarks.side_by_side import OUT, ftkit, median, run


def main() -> None:
    options = side_by_side.arguments(__doc__, repeats=3).parse_args()
    base, planned = (80, 100_000) if options.quick else (2_000, 10_000_000)
    factors, repeats = ((1, 2) if options.quick else (1, 10, 100)), options.repeats
    table = [*rows(base, factors, repeats), *lengths(options), *planning(planned)]
    side_by_side.report("growth", table, options.quick)


def rows(base: int, factors: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """Seconds a row of training and predicting, the start of the process left out."""
    folder, found = OUT / "growth", []
    model = side_by_side.new_model(folder / "model")
    held_out = side_by_side.write_jsonl(folder / "held_out.jsonl", side_by_side.made_rows(200, seed=1))

    def seconds(count: int) -> dict[str, float]:
        data, out = folder / f"{count}.jsonl", folder / "run"
        side_by_side.write_jsonl(data, side_by_side.made_rows(count))
        training = ["--model", model, "--out", out, "--validation", held_out, "--task", "classification"]
        train = ftkit("train", data, *training, "--epochs", "1", "--batch-size", "64", "--overwrite", "--quiet")
        predict = ftkit("predict", out, data, "-o", folder / "answers.jsonl", "--quiet")
        commands = {"training": train, "predicting": predict}
        return {verb: median(run(command).seconds for _ in range(repeats)) for verb, command in commands.items()}

    for factor in factors:
        whole, part = seconds(factor * base), seconds(factor * base // 8)
        for verb in whole:
            each = (whole[verb] - part[verb]) / (factor * base * 7 / 8)
            found.append({"what": f"rows, {verb}", "size": factor * base, "microseconds each": 1e6 * each})
    return sorted(found, key=lambda row: str(row["what"]))


def lengths(options: Any) -> list[dict[str, Any]]:
    """Seconds a token of forward and backward passes over windows of one length; 4096 tokens at once."""
    import torch
    import transformers

    from ftkit import fast, hub

    config = transformers.AutoConfig.from_pretrained(hub.model_folder(side_by_side.MODEL, None), num_labels=2)
    model = transformers.AutoModelForSequenceClassification.from_config(config).train()
    fast.prepare(model, torch.device("cpu"))
    found = []
    for length in (16, 64) if options.quick else (16, 32, 64, 128, 256, 512):
        ids = torch.randint(1000, 20_000, (4096 // length, length))

        def step(ids: Any = ids) -> None:
            fast.forget_gradients(model)
            model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()

        each = seconds_of(step, options.repeats) / ids.numel()
        found.append({"what": "tokens, by length", "size": length, "microseconds each": 1e6 * each})
    return found


def planning(count: int) -> list[dict[str, Any]]:
    """Seconds a row of the plan of an epoch, and what it adds to the memory of this process."""
    from ftkit import plan

    found = []
    for rows in (count // 100, count // 10, count):
        row_lengths = np.random.default_rng(0).integers(8, 512, rows)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        updates = plan.updates(row_lengths, 32, seed=0, epoch=0)
        seconds = time.perf_counter() - started
        added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        found.append(
            {"what": f"planned rows (+{added:,.0f} MB)", "size": rows, "microseconds each": 1e6 * seconds / rows}
        )
        started = time.perf_counter()
        some = updates[:: max(1, len(updates) // 1000)]
        for update in some:
            plan.cut(update, row_lengths, 1, 4096)
        each = (time.perf_counter() - started) / sum(map(len, some))
        found.append({"what": "rows cut into micro-batches", "size": rows, "microseconds each": 1e6 * each})
    return found


def seconds_of(work: Callable[[], Any], repeats: int) -> float:
    """The median over `repeats`, after one that warms up."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken)


if __name__ == "__main__":
    main()
