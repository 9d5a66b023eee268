"""What this machine offers, for people who ask why something is slow or does not work."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from ftkit import __version__, hub
from ftkit.data.features import cache_folder

LIBRARIES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "scikit-learn",
    "safetensors",
    "numpy",
)


def examine() -> dict[str, dict[str, Any]]:
    """Facts in sections: machine, devices, versions, caches, hub (JSON-like)."""
    return {
        "machine": _machine(),
        "devices": _devices(),
        "versions": {"ftkit": __version__, "python": platform.python_version()} | _versions(),
        "cache": _cache(),
        "hub": hub.describe(),
    }


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.platform(), "cores": usable, "memory": f"{memory:.1f} GiB"}


def _devices() -> dict[str, Any]:
    import torch

    from ftkit.devices import choose_precision, gpu_count

    found: dict[str, Any] = {}
    for index in range(gpu_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"GPU {index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        found["MPS"] = "available"
    device = torch.device("cuda" if gpu_count() else "mps" if "MPS" in found else "cpu")
    found["used_by_default"] = f"{device.type}, {max(1, gpu_count())} process(es)"
    found["default_precision"] = choose_precision(device)
    found["CPU_threads"] = torch.get_num_threads()
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _cache() -> dict[str, Any]:
    folder = cache_folder()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    here = next(path for path in (folder, *folder.parents) if path.exists())
    return {
        "tokenized_rows": f"{folder} ({size / 2**20:.0f} MiB; may be deleted)",
        "writable": os.access(here, os.W_OK),
        "disk_free": f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB here",
    }
