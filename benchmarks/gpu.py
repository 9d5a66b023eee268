"""GPUs: ftkit against Trainer on models of the shapes of BERT-base, T5-base and GPT-2, with random weights and text.

    python -m benchmarks.gpu [--rows N] [--quick]

Nothing is downloaded: vocabularies are learned from made-up text and padded to the usual size. Both sides classify
the same rows with the same updates of 32 rows in bf16 (fp16 before Ampere). MFU is 6 FLOP a weight (embeddings left
out) and token, over the rate of a large bf16 matrix product on this GPU, measured first.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import side_by_side
from benchmarks.side_by_side import OUT, median, rival

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT-base": (
        "bert",
        {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
        | {"vocab_size": 30522},
    ),
    "T5-base": (
        "t5",
        {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12}
        | {"vocab_size": 32128},
    ),
    "GPT-2": ("gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None, "vocab_size": 50257}),
}
LEARNING_RATE = 5e-5


def main() -> None:
    parser = side_by_side.arguments(__doc__, repeats=3)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--ours", help="for the benchmark's own processes")
    options = parser.parse_args()
    if options.ours:
        return ours(**json.loads(options.ours))
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # one for each side
    if not torch.cuda.is_available():
        return print("There is no CUDA GPU here, so nothing was measured.")
    rows, repeats = (256 if options.quick else options.rows), options.repeats
    side_by_side.write_jsonl(OUT / "gpu" / "train.jsonl", side_by_side.made_rows(rows, words=(20, 120)))
    side_by_side.write_jsonl(OUT / "gpu" / "held_out.jsonl", side_by_side.made_rows(200, seed=1))
    peak = matrix_peak()
    table = [row for name in SHAPES for row in measure(name, rows, repeats, peak)]
    side_by_side.report("gpu", table, options.quick)


def measure(name: str, rows: int, repeats: int, peak: float) -> list[dict[str, Any]]:
    """The rows of the table for one shape, ftkit first."""
    family, shape = SHAPES[name]
    folder = OUT / "gpu"
    model, weights = base_model(folder / name, family, shape)
    given = {"model": str(model), "data": str(folder / "train.jsonl"), "out": str(folder / f"{name}-ftkit")}
    bf16 = torch.cuda.get_device_capability() >= (8, 0)
    settings = {"epochs": 1, "learning_rate": LEARNING_RATE, "batch_size": 32, "max_length": 512}
    best = {
        **settings,
        "seed": 0,
        "padded": False,
        "grouped": True,
        "bf16": bf16,
        "fp16": not bf16,
        "task": "classification",
    }
    sides = {
        "ftkit": [sys.executable, "-m", "benchmarks.gpu", "--ours", json.dumps(given | settings)],
        "Trainer, best flags": rival("train", **given | best | {"out": folder / f"{name}-trainer"}),
    }
    found = side_by_side.take_turns(sides, repeats)
    tokens = median(t.result["tokens"] for t in found["Trainer, best flags"])
    rates = {side: tokens * median(t.result["rows_per_second"] for t in turns) / rows for side, turns in found.items()}
    return [
        {
            "shape": name,
            "side": side,
            "tokens/s": rates[side],
            "MFU": 6 * weights * rates[side] / peak,
            "peak GPU MB": median(t.result["peak_gpu_bytes"] / 1e6 for t in turns),
            "process s": median(t.seconds for t in turns),
            "ftkit is x times as fast": rates["ftkit"] / rates[side],
        }
        for side, turns in found.items()
    ]


def ours(model: str, data: str, out: str, epochs: int, learning_rate: float, batch_size: int, max_length: int) -> None:
    """A training by ftkit in this process, which then knows how much of the GPU's memory it took."""
    import ftkit

    held_out = str(Path(data).with_name("held_out.jsonl"))
    result = ftkit.train(
        data,
        task="classification",
        model=model,
        out=out,
        validation=held_out,
        overwrite=True,
        processes=1,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
    )
    print(json.dumps(result["training"] | {"peak_gpu_bytes": torch.cuda.max_memory_allocated()}))


def base_model(folder: Path, family: str, shape: dict[str, Any]) -> tuple[Path, int]:
    """A random checkpoint of a shape, and how many weights it has besides embeddings."""
    import transformers

    side_by_side.new_model(folder, family)
    config = transformers.AutoConfig.from_pretrained(folder)
    for key, value in shape.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    return folder, sum(p.numel() for p in model.parameters() if id(p) not in tables)


def matrix_peak(size: int = 8192) -> float:
    """FLOP/s of the product of two large square bf16 matrices (fp16 before Ampere)."""
    dtype = torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    return 20 * 2.0 * size**3 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
