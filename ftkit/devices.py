"""The hardware: which device, which precision, which of how many processes.

The only room that imports Accelerate, and the only one that knows rank and world.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from ftkit.errors import UserError

CONTROL_GROUPS = Path("/sys/fs/cgroup")
# How torch's own allocators, oneDNN, CUDA's libraries and C++ say that there is no memory.
NO_MEMORY = re.compile(
    r"can't allocate memory|could not create a (memory|primitive(?! descriptor))|bad_alloc|out of memory|_ALLOC_FAILED"
)
PRECISIONS = ("fp32", "fp16", "bf16")  # those that more devices can do come first
MOST_APART = 8  # beyond which Python itself, one thread at a time, would hold the others up
BUCKET_ELEMENTS = 8_000_000  # gradients summed over the processes in one message: 32 MB in fp32


@dataclass(frozen=True)
class Devices:
    """One process's place among all: rank 0 <= rank < world, its device, its precision."""

    rank: int
    world: int
    device: torch.device
    precision: str  # one of PRECISIONS
    asked: bool = False  # for this precision, by the user

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Matrix products in the chosen precision; weights stay fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def agreed(self) -> Devices:
        """The same place, with the precision that every process can do: GPUs of one job may differ."""
        chosen = torch.tensor([float(self.precision == precision) for precision in PRECISIONS])
        self.sum([chosen])
        return replace(self, precision=PRECISIONS[int(chosen.nonzero()[0])])

    def put(self, model: Any) -> None:
        """Moves a model to the device.

        Raises:
            UserError: there is no room for it.
        """
        try:
            model.to(self.device)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"the model does not fit into the memory of the device ({self.device})",
                "Use a smaller model, or --device cpu; several GPUs can share a model in training: --shard",
                alone=True,
            ) from None

    def threads_apart(self) -> int:
        """How many computations a process had better run side by side, each with its share of the threads.

        1 on GPUs, and where there are several processes.
        """
        return min(torch.get_num_threads(), MOST_APART) if self.device.type == "cpu" and self.world == 1 else 1

    def sum(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replaces each tensor by its sum over all processes, in few large messages."""
        if self.world == 1:
            return
        bucket: list[torch.Tensor] = []
        filled = 0
        for tensor in tensors:
            if bucket and (tensor.dtype != bucket[0].dtype or filled + tensor.numel() > BUCKET_ELEMENTS):
                self._sum_bucket(bucket)
                bucket, filled = [], 0
            bucket.append(tensor)
            filled += tensor.numel()
        if bucket:
            self._sum_bucket(bucket)

    def _sum_bucket(self, bucket: list[torch.Tensor]) -> None:
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        if self.device.type == "cuda":
            flat = flat.to(self.device)  # GPUs exchange only what lies on them
        torch.distributed.all_reduce(flat)
        start = 0
        for tensor in bucket:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def share(self, value: Any) -> Any:
        """Rank 0's value (JSON-like), on every process."""
        if self.world == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    @contextlib.contextmanager
    def main_alone(self) -> Iterator[None]:
        """For what rank 0 does alone: if it fails, every process ends, and none waits for it in vain.

        Raises:
            UserError: rank 0's, on every process.
            SystemExit: on the others, after any other error of rank 0.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # raised again below, once the others have been told
            failure = error
        told = [getattr(failure, "problem", None), getattr(failure, "remedy", None)] if failure else None
        told = self.share(told)
        if failure is not None:
            raise failure
        if told is not None:
            raise UserError(*told) if told[0] else SystemExit(1)


@contextlib.contextmanager
def sharing_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool for computations of which `count` run side by side, each with its share of torch's threads."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(max(1, threads // count),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # MKL has one number for all


def choose_precision(device: torch.device, wanted: str = "auto") -> str:
    """bf16 where the hardware multiplies it fast, fp16 on older GPUs, else fp32.

    GPUs from Ampere and CPUs with AVX512-BF16 or AMX multiply bf16 several times as fast as fp32.

    Raises:
        UserError: fp16 was asked for on a device that does not train in it.
    """
    if wanted == "fp16" and device.type != "cuda":
        raise UserError(f"precision fp16 needs a CUDA GPU; the device here is {device.type}", "Use bf16 or fp32")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    return "fp32"


def check_available(device: str) -> None:
    """Refuses a device that is not there.

    Raises:
        UserError: with what to use instead.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA GPU is available", "Use --device auto, or run: ftkit doctor")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("Apple's MPS is not available", "Use --device auto, or run: ftkit doctor")


def single_device(wanted: str) -> torch.device:
    """The kind of device that a process alone would use.

    Raises:
        UserError: it is not there.
    """
    check_available(wanted)
    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def alone(device: str, precision: str) -> Devices:
    """The place of a process that has joined no others.

    Raises:
        UserError: there is no such device, or it does not train in that precision.
    """
    chosen = single_device(device)
    return Devices(0, 1, chosen, choose_precision(chosen, precision), precision != "auto")


def gpu_count() -> int:
    return torch.cuda.device_count()


def open_devices(device: str = "auto", precision: str = "auto", expected: int | None = None) -> Devices:
    """Joins the processes that a launcher started, or stands alone.

    Args:
        expected: the number of processes that were asked for; another number that joined is an error,
            because some launchers silently start fewer.
    """
    check_available(device)
    # cuDNN's attention, which torch prefers on newer GPUs, makes a plan for every shape of a batch, and has given NaN.
    torch.backends.cuda.enable_cudnn_sdp(False)
    if os.environ.get("WORLD_SIZE", "1") == "1" and expected in (None, 1):
        return alone(device, precision)
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs, check_cuda_p2p_ib_support

    os.environ.pop("ACCELERATE_USE_FSDP", None)  # of `accelerate launch`: else weights are left out on ranks 1 and up
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    # Accelerate joins processes on CPUs only if it is told that the CPU is meant.
    cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if not cpu and not check_cuda_p2p_ib_support():  # without these Accelerate does not start
        os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[patience])
    world, rank = accelerator.num_processes, accelerator.process_index
    if expected is not None and world != expected:
        raise UserError(
            f"{expected} processes were asked for and {world} joined",
            "Let ftkit start them: --processes N (`accelerate launch --cpu` starts one whatever it is told)",
        )
    chosen = accelerator.device
    return Devices(rank, world, chosen, choose_precision(chosen, precision), precision != "auto")


_left = False


def joined() -> bool:
    """Whether this process has joined others, and not left them."""
    return torch.distributed.is_initialized() and not _left


def leave(failed: bool = False) -> None:
    """Parts from the other processes. One that ends without it is now and then aborted by gloo's threads.

    Args:
        failed: the others may not be about to leave too, for which NCCL would wait: from there the process just goes.
    """
    global _left
    if joined():
        if not (failed and torch.distributed.get_backend() == "nccl"):
            torch.distributed.destroy_process_group()
        _left = torch.distributed.is_initialized()


def free_memory() -> int:
    """Bytes of main memory that can be had without pushing anything out, on this machine and in this container."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_left_in_groups(Path("/proc/self/cgroup"), CONTROL_GROUPS)])


def _left_in_groups(memberships: Path, root: Path) -> list[int]:
    """What the control groups of this process leave it, version 2 and 1; [] where there are none."""
    try:
        lines = [line.split(":", 2) for line in memberships.read_text().splitlines()]
    except OSError:
        return []
    left = []
    for _, kinds, path in lines:
        if kinds not in ("", "memory"):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        for folder in (root / kinds / path.lstrip("/"), root / kinds):  # containers often see only their own root
            with contextlib.suppress(OSError, ValueError):
                limit, used = (int((folder / name).read_text()) for name in names)
                cached = re.search(
                    r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE
                )
                left.append(max(0, limit - used + (int(cached[1]) if cached else 0)))
                break
    return left


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the device or the machine had no memory for a micro-batch."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None
