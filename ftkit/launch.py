"""Processes: one job, run here or on several processes that this module starts.

A job is a JSON-like dict with the verb and what it needs; everything large is in files. ftkit starts
its own processes, because torchrun turns exit code 2 into 1 and a SIGTERM into a traceback. Processes
that torchrun, `accelerate launch` or Slurm has started are used as they are: rank 0 prepares the job
and the others wait for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ftkit import streams
from ftkit.config import HardwareSection
from ftkit.errors import UserError
from ftkit.signals import listen

GRACE = 10.0  # seconds that the other processes get to end after one has failed


def external() -> tuple[int, int] | None:
    """(rank, world) if another launcher started this process beside others, else None."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        rank, world = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"])
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_RANK": os.environ["SLURM_LOCALID"],
            "MASTER_ADDR": os.environ.get("MASTER_ADDR") or first_host(os.environ["SLURM_STEP_NODELIST"]),
            "MASTER_PORT": os.environ.get(
                "MASTER_PORT", str(20_000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10_000)
            ),
        }
    else:
        refuse_half_started()
        return None
    return (rank, world) if world > 1 else None


def first_host(nodes: str) -> str:
    """The first of a list of hosts as Slurm writes them: gpu07 of `gpu[07-09,12],cpu1`."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes


def refuse_half_started() -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process, and it shows only here.

    It says where several processes should meet, and gives the one that it starts no rank.

    Raises:
        UserError: this is such a process.
    """
    ranks = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(os.environ) and not any(r in os.environ for r in ranks):
        raise UserError(
            "`accelerate launch` was asked for several processes and has started one",
            "Let ftkit start them: ftkit ... --processes N; or use torchrun",
        )


def place(hardware: HardwareSection) -> dict[str, str]:
    """What every job has to say about the hardware."""
    return {"device": hardware.device, "precision": hardware.precision}


def processes(hardware: HardwareSection) -> int:
    """How many processes to start: as many as asked for; else one per GPU, or one.

    Raises:
        UserError: another number has been started by a launcher, or there are not so many GPUs.
    """
    if (at := external()) and hardware.processes not in ("auto", at[1]):
        raise UserError(
            f"{hardware.processes} processes were asked for and the launcher has started {at[1]}",
            "Leave out --processes, or tell the launcher the same number",
        )
    if at:
        return at[1]
    if hardware.processes == "auto" and "RANK" in os.environ:
        return 1  # a launcher was asked for one
    if hardware.device in ("cpu", "mps") or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        found = 1 if hardware.device == "mps" else 0
    else:
        from ftkit.devices import gpu_count

        found = gpu_count()
    if hardware.processes == "auto":
        return max(1, found)
    if 0 < found < hardware.processes:
        there = "there is one GPU" if found == 1 else f"there are {found} GPUs"
        raise UserError(
            f"{hardware.processes} processes were asked for and {there}", f"--processes {found}, or --device cpu"
        )
    return hardware.processes


def run(job: dict[str, Any], processes: int) -> dict[str, Any]:
    """Runs a job and returns what rank 0 made of it (JSON-like).

    Raises:
        UserError: as raised by the job; from several processes, as reported by the first that failed.
        SystemExit: with the exit code of a process that a signal ended.
    """
    if at := external():
        from ftkit import devices

        here = devices.open_devices(job["device"], job["precision"], expected=at[1])
        try:
            return work(here.share(job), here)
        except BaseException:  # the others end in the same way
            devices.leave(failed=True)
            raise
    if processes == 1:
        from ftkit.devices import open_devices

        return work(job, open_devices(job["device"], job["precision"], expected=1))
    return _start(job, processes)


def join(device: str) -> int | None:
    """Joins the processes of an external launcher; ranks 1 and up take part in rank 0's jobs until it ends.

    Returns:
        None on rank 0 and where there is no launcher, else the exit code of rank 0.
    """
    at = external()
    if at is None:
        return None
    from ftkit import devices

    here = devices.open_devices(device, expected=at[1])
    if at[0] == 0:
        return None
    try:
        while (job := here.share(None))["verb"] != "stop":
            work(job, devices.open_devices(device, job["precision"]))
    except BaseException as error:
        devices.leave(failed=True)
        if not isinstance(error, UserError):
            raise
        if error.alone:  # else rank 0 meets the same one, and tells it
            print(f"error: {error}", file=sys.stderr)
        return 2
    devices.leave()
    return int(job["code"])


def release(code: int) -> None:
    """Tells the waiting ranks of an external launcher, if they have been joined, that there is no more to do."""
    from ftkit import devices

    if devices.joined():
        devices.open_devices().share({"verb": "stop", "code": code})
        devices.leave()


def end(code: int) -> NoReturn:
    """Ends a process that has joined others at once: gloo's threads now and then abort one that ends as others do."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # its reader may have left
            stream.flush()
    os._exit(code)


def work(job: dict[str, Any], devices: Any) -> dict[str, Any]:
    """Does a job as one of its processes."""
    devices = devices.agreed()
    if job["verb"] == "fit":
        from ftkit.training import fit

        return fit(job, devices)
    from ftkit import prediction

    return {"score": prediction.score_features, "predict": prediction.predict_file}[job["verb"]](job, devices)


def _start(job: dict[str, Any], processes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ftkit-job-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        threads = max(1, (os.cpu_count() or 1) // processes)
        children = []
        for rank in range(processes):
            inherited = {key: value for key, value in os.environ.items() if not key.startswith("TORCHELASTIC_")}
            environment = inherited | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            }
            command = [sys.executable, "-P", "-m", "ftkit.launch", str(folder)]  # never from beside the user's data
            # A session of its own: Ctrl-C reaches a child once, through this process, and not twice.
            # The pipe on its standard input tells the child when this process has died.
            children.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True))
        code = _wait(children)
        if (folder / "error.json").exists():
            error = json.loads((folder / "error.json").read_text())
            raise UserError(error["problem"], error["remedy"])
        if code == 128 + signal.SIGKILL:
            raise UserError(
                "a process of this job was killed (signal 9), often because the machine's memory was full",
                "Go on with fewer processes"
                + (", or --set hardware.tokens_per_microbatch=1024" if job["verb"] == "fit" else ""),
            )
        if code:
            raise SystemExit(code)
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return result


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    """Waits for all, forwarding signals; the first failure's exit code, 128 + n for signal n."""

    def forward(number: int, frame: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    before = listen(forward)
    code, failed_at = 0, 0.0
    try:
        while any(child.poll() is None for child in children):
            for child in children:
                if child.poll() and not code:
                    code = child.returncode if child.returncode > 0 else 128 - child.returncode
                    failed_at = time.monotonic()
            if code and time.monotonic() - failed_at > GRACE:
                for child in children:
                    child.kill()
            time.sleep(0.05)
        return code or next((c.returncode for c in children if c.returncode), 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in children:
            if child.poll() is None:
                child.kill()


def _die_with_parent() -> None:
    os.read(0, 1)  # nothing is ever written: this returns when the parent is gone
    os._exit(137)


def _child(folder: Path) -> int:
    """One process of a job: `python -m ftkit.launch FOLDER`, its rank in the environment.

    One that fails does not part from the others, for which NCCL would wait until they part too: `end` ends it.
    """
    from ftkit.devices import leave, open_devices

    streams.prepare()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    job = json.loads((folder / "job.json").read_text())
    world = int(os.environ["WORLD_SIZE"])
    try:
        devices = open_devices(job["device"], job["precision"], expected=world)
        result = work(job, devices)
    except KeyboardInterrupt:  # before the job has begun to listen
        return 130
    except UserError as error:
        report = folder / f"error.{os.environ['RANK']}.json"
        report.write_text(json.dumps({"problem": error.problem, "remedy": error.remedy}))
        os.replace(report, folder / "error.json")
        return 2
    except RuntimeError:  # the others are cut off when one process has failed: only that one's error is told
        time.sleep(1)
        if (folder / "error.json").exists():
            return 2
        raise
    leave()
    if devices.main:
        (folder / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    try:
        code = _child(Path(sys.argv[1]))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    end(code)
