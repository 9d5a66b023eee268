"""Hardware: the share of the processor's measured peak that a training update reaches.

    python -m benchmarks.hardware [--quick]

Every matrix product of one update is recorded with its shape; then each is run alone on random numbers. The products
alone are the least that the update could take on this machine (with this library), so their share of the update's
time is what ftkit and Transformers make of the machine. The peak is the fastest of all shapes, and of a large square.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import side_by_side
from benchmarks.growth import seconds_of

Product = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
PRODUCTS = {
    torch.ops.aten.mm.default: 0,
    torch.ops.aten.bmm.default: 0,
    torch.ops.aten.addmm.default: 1,
    torch.ops.aten.baddbmm.default: 1,
}
SHAPES = ((32, 16), (32, 32), (32, 128), (8, 512))  # rows x tokens of the updates


class Recorded(TorchDispatchMode):
    """Counts the matrix products that run inside it: (shape, shape, dtype) -> times."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        if function in PRODUCTS:
            a, b = given[PRODUCTS[function] :][:2]
            self.products[tuple(a.shape), tuple(b.shape), a.dtype] += 1
        return function(*given, **(named or {}))


def main() -> None:
    options = side_by_side.arguments(__doc__, repeats=5).parse_args()
    table = [measure(*shape, options) for shape in (SHAPES[:1] if options.quick else SHAPES)]
    side_by_side.report("hardware", table, options.quick)


def measure(rows: int, tokens: int, options: Any) -> dict[str, Any]:
    """One update of MiniLM over rows x tokens against its products alone; FLOP/s in units of 10^9."""
    repeats = options.repeats
    fitting = fitting_of(rows, tokens)
    update = update_of(fitting)
    update()
    with Recorded() as recorded:
        update()
    whole = seconds_of(update, repeats)
    alone, operations, fastest = 0.0, 0.0, 0.0
    square = 512 if options.quick else 2048
    products = Counter(recorded.products)
    dtype = next(iter(products))[2]
    products[(square, square), (square, square), dtype] = 0
    for (left, right, kind), count in products.items():
        a, b = torch.randn(left).to(kind), torch.randn(right).to(kind)
        seconds = seconds_of(lambda a=a, b=b: torch.matmul(a, b), repeats)
        work = 2.0 * a.numel() * right[-1]
        alone += count * seconds
        operations += count * work
        fastest = max(fastest, work / seconds)
    return {
        "rows x tokens": f"{rows} x {tokens}",
        "precision": fitting.devices.precision,
        "update ms": 1000 * whole,
        "its products alone ms": 1000 * alone,
        "share of the time": alone / whole,
        "GFLOP/s": operations / whole / 1e9,
        "products alone GFLOP/s": operations / alone / 1e9,
        "peak GFLOP/s": fastest / 1e9,
        "share of the peak": operations / whole / fastest,
    }


def fitting_of(rows: int, tokens: int) -> Any:
    """MiniLM in ftkit's training, on rows of random tokens."""
    import numpy as np
    import transformers

    from ftkit import fast, hub
    from ftkit.config import Recipe
    from ftkit.data.features import Features
    from ftkit.devices import Devices, choose_precision
    from ftkit.heads.base import Rows
    from ftkit.heads.labels import LabelsHead
    from ftkit.training import Fitting

    folder, cpu = hub.model_folder(side_by_side.MODEL, None), torch.device("cpu")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    fast.prepare(model, cpu)
    features = Features(
        tokens=np.random.default_rng(0).integers(1000, 20_000, rows * tokens, dtype=np.int32),
        starts=np.arange(rows + 1) * tokens,
        second=np.full(rows, tokens, dtype=np.int32),
        first_window=np.arange(rows + 1),
        text_tokens=np.zeros(2, dtype=np.int64),
    )
    training = {"epochs": 1, "learning_rate": 1e-5, "head_factor": 10, "batch_size": rows, "schedule": "constant"}
    recipe = Recipe.model_validate({"training": training})
    devices = Devices(0, 1, cpu, choose_precision(cpu))
    given = Rows(features, np.arange(rows) % 2, np.ones(rows, dtype=np.float32))
    return Fitting(model, LabelsHead(tokenizer, False, tokens, 0), recipe, devices, given)


def update_of(fitting: Any) -> Callable[[], Any]:
    """One update over all rows."""
    import numpy as np

    return lambda: fitting.update(0, 0, np.arange(fitting.rows.features.rows))


if __name__ == "__main__":
    main()
