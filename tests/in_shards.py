"""One of several processes that train models whole and in shards: `python -m tests.in_shards OUT.json RECIPES`.

Rank 0 writes of each recipe and each way: losses, gradient norms, weights' norms, and what the model then says of the
validation rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ftkit import config, plan, preparation, sharding, training
from ftkit.devices import Devices, leave, open_devices
from ftkit.prediction import mean_loss, row_outputs

UPDATES = 6


def trained(prepared: preparation.Prepared, devices: Devices, shard: bool) -> dict[str, Any]:
    hardware = prepared.recipe.hardware.model_copy(update={"shard": shard})
    recipe = prepared.recipe.model_copy(update={"hardware": hardware})
    rows, validation = prepared.rows["train"], prepared.rows["validation"]
    fitting, _ = training.begin(recipe, prepared.record, prepared.model_folder, rows, devices)
    order = plan.updates(rows.features.row_lengths, recipe.training.batch_size, recipe.seed, 0)
    with sharding.whole(fitting.model):  # as a training does that was stopped in an evaluation
        before = row_outputs(fitting.model, fitting.head, validation.features, devices)
    if shard:
        fitting.try_heaviest()  # teaches nothing
    facts = [fitting.update(0, number, order[number]) for number in range(UPDATES)]
    with sharding.whole(fitting.model):
        loss = mean_loss(fitting.model, fitting.head, validation, devices)
        outputs = row_outputs(fitting.model, fitting.head, validation.features, devices)
    weights = sharding.state_dict(fitting.model, keep=True) or fitting.model.state_dict()
    weight_norms = {name: float(tensor.double().norm()) for name, tensor in weights.items()}
    facts.append(fitting.update(1, 0, order[0]))  # the evaluation has left everything as it was
    parameters = [p for p in fitting.model.parameters() if p.ndim > 1]
    return {
        "losses": [fact["loss"] for fact in facts],
        "norms": [fact["gradient_norm"] for fact in facts],
        "validation": [loss, np.asarray(outputs, dtype=np.float64).tolist()],
        "weights": weight_norms,
        "before": np.asarray(before, dtype=np.float64).tolist(),
        "held": sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in parameters),
        "all": sum(p.numel() for p in parameters),
    }


def main(out: str, *files: str) -> None:
    devices = open_devices("cpu", "fp32")
    found = []
    for file in files:
        recipe = config.resolve(config.read(Path(file)))
        with devices.main_alone():
            if devices.main:
                preparation.prepare(recipe)  # the others find it in the cache
        prepared = preparation.prepare(recipe)
        found.append([trained(prepared, devices, shard) for shard in (False, True)])
    if devices.main:
        Path(out).write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
