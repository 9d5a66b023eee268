"""Models in shards: every process keeps a part of the weights, of their gradients and of the optimizer's state.

For models that fit on no single GPU. It is what ZeRO calls its third stage (Rajbhandari et al. 2020), by PyTorch's
FSDP2: a layer's weights are gathered for as long as it works, and its gradients are summed into the shards. Updates,
checkpoints and results are those of a training that is not sharded, up to rounding.

PyTorch's tensors in shards take seconds to import. So a training without them asks for `full_tensor` and `unshard`,
which only sharded tensors and modules have, and leaves the import to `shard`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ftkit.devices import Devices
from ftkit.errors import UserError


def shard(model: nn.Module, devices: Devices) -> None:
    """Spreads a model over the processes and their devices, layer by layer; what is in no layer is a unit of its own.

    Layers are not dropped any more (LayerDrop): each process would drop others, and wait for those of the rest.

    Raises:
        UserError: there is one process, or the precision is fp16, whose loss scaling knows no shards.
    """
    if devices.world == 1:
        raise UserError("a model is sharded over several processes, and there is one", "Add --processes, or no --shard")
    if devices.precision == "fp16":
        raise UserError("a sharded model cannot be trained in fp16", "--precision fp32, or bf16 on GPUs from Ampere")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(devices.device.type, (devices.world,))
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if hasattr(model, "generate"):
        register_fsdp_forward_method(model, "generate")  # may come before any other call
    parts: list[Any] = [module for module in model.modules() if hasattr(module, "layerdrop")]
    for part in parts:
        part.layerdrop = 0.0
    for unit in _units(model):  # gradients are summed: the loss of an update has been divided by its weight already
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo knows no other


@contextlib.contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Keeps all weights of a sharded model on every process, which then can work alone, as in evaluation.

    Does nothing to a model that is not sharded.
    """
    units = _units(model)
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(True, recurse=False)
            unit.reshard()


def in_shards(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def gathered(tensor: Any) -> torch.Tensor:
    """A tensor that may be in shards, whole; every process has to ask for it."""
    whole: torch.Tensor = tensor.full_tensor() if in_shards(tensor) else tensor
    return whole


def part_of(tensor: torch.Tensor, like: Any) -> torch.Tensor:
    """A whole tensor on the device of another, and in shards if that one is."""
    tensor = tensor.to(like.device)
    if not in_shards(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def state_dict(model: nn.Module, keep: bool) -> dict[str, torch.Tensor] | None:
    """The whole weights of a sharded model in main memory, None if it is not sharded; every process has to ask.

    Args:
        keep: whether this process wants them; if not, it gets an empty dict.
    """
    if not _units(model):
        return None
    found: dict[int, torch.Tensor] = {}  # tied weights stay one tensor
    named = model.state_dict(keep_vars=True)
    for tensor in {id(tensor): tensor for tensor in named.values()}.values():
        whole = gathered(tensor.detach())
        if keep:
            found[id(tensor)] = whole.cpu()
    return {name: found[id(tensor)] for name, tensor in named.items()} if keep else {}


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists of layers."""
    for child in module.children():
        if isinstance(child, nn.ModuleList) and len(child) > 1:
            yield from child
        else:
            yield from _layers(child)


def _units(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "unshard")]
