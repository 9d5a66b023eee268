"""What a device says of itself, and how processes find each other."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch

from ftkit import devices, launch
from ftkit.config import HardwareSection
from ftkit.devices import Devices, out_of_memory
from ftkit.errors import UserError


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor"), False),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(error: BaseException, memory: bool) -> None:
    assert out_of_memory(error) is memory


@pytest.mark.parametrize(
    ("here", "there", "agreed"),
    [("bf16", "bf16", "bf16"), ("bf16", "fp16", "fp16"), ("fp16", "bf16", "fp16"), ("bf16", "fp32", "fp32")],
)
def test_processes_agree_on_a_precision_that_all_can_do(here: str, there: str, agreed: str) -> None:
    def add(self: Devices, tensors: list[torch.Tensor]) -> None:
        tensors[0] += torch.tensor([float(there == precision) for precision in devices.PRECISIONS])

    place = Devices(rank=0, world=2, device=torch.device("cpu"), precision=here)
    with mock.patch.object(Devices, "sum", add):
        assert place.agreed() == Devices(rank=0, world=2, device=torch.device("cpu"), precision=agreed)


def test_a_model_that_does_not_fit_is_told_with_what_to_do() -> None:
    class Large:
        def to(self, device: torch.device) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"does not fit into the memory of the device \(cpu\)"):
        Devices(rank=0, world=1, device=torch.device("cpu"), precision="fp32").put(Large())


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("a-b[3,5]-ib,c", "a-b3-ib"),
        ("rack1.node[001-004]", "rack1.node001"),
    ],
)
def test_slurm_s_first_host_is_found(nodes: str, first: str) -> None:
    assert launch.first_host(nodes) == first


def test_a_launcher_that_was_asked_for_one_process_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: 4)
    assert launch.processes(HardwareSection()) == 4
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launch.processes(HardwareSection()) == 1


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: 1)
    with pytest.raises(UserError, match="3 processes were asked for and there is one GPU"):
        launch.processes(HardwareSection(processes=3))
    assert launch.processes(HardwareSection(processes=3, device="cpu")) == 3
    with pytest.raises(UserError, match="there is one GPU"):
        launch.processes(HardwareSection(processes=2, device="mps"))
