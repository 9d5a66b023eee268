"""One process against two (gloo, CPU, fp32, no dropout): the same training, the same answers, the same errors."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from ftkit import checkpoint
from ftkit.devices import Devices
from ftkit.metrics import classification
from ftkit.prediction import load_head, row_outputs
from ftkit.run import Run
from tests import tiny
from tests.conftest import Learned
from tests.tiny import FP32, Finished, Row, ftkit, read_jsonl, rows, write_csv

RunOf = Callable[[str], Learned]
CheckpointOf = Callable[[str], Path]

CPU = Devices(rank=0, world=1, device=torch.device("cpu"), precision="fp32")
TWO = ("--processes", "2")
TIMEOUT = 180  # seconds until processes that wait for each other are given up
ONE_EPOCH = ("--set", "training.epochs=1", "--learning-rate", "1e-3")
WINDOWS = ("--max-length", "16")


def together(*command: str | Path, stop_after: Path | None = None) -> list[Finished]:
    """Runs a Python command line on two processes, with the environment that torchrun gives them, and no GPU.

    Args:
        stop_after: a file that appears; then both get SIGTERM.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    place["CUDA_VISIBLE_DEVICES"] = ""
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=tiny.environment(**place, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        deadline = time.monotonic() + TIMEOUT
        while stop_after and not stop_after.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in started if stop_after else ():
            process.terminate()
        printed = [process.communicate(timeout=TIMEOUT) for process in started]
    finally:
        for process in started:
            process.kill()
    return [Finished(process.returncode, *texts) for process, texts in zip(started, printed, strict=True)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows for 20 updates of 16 rows, and one more update of a single row: smaller than two processes."""
    folder = tmp_path_factory.mktemp("data")
    write_csv(folder / "validation.csv", rows(41, seed=9))
    return write_csv(folder / "train.csv", rows(20 * 16 + 1, seed=8, fewest=2, most=40))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a weight that is not a number, so that the first update fails."""
    folder = tiny.checkpoint(tmp_path_factory.mktemp("broken") / "model", "distilbert")
    weights = load_file(folder / "model.safetensors")
    weights["distilbert.transformer.layer.1.ffn.lin2.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def train(data: Path, model: Path, out: Path, *arguments: str) -> dict[str, Any]:
    validation = ("--validation", str(data.with_name("validation.csv")))
    done = tiny.train(data, model, out, *ONE_EPOCH, *validation, "--json", *arguments)
    assert done.code == 0, done.err
    result: dict[str, Any] = done.json
    return result


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_jsonl(run / "log.jsonl") if "loss" in line]


# Training


@pytest.mark.parametrize("window", [(), WINDOWS], ids=["one window", "several windows"])
def test_two_processes_learn_what_one_learns(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path, window: tuple[str, ...]
) -> None:
    one = train(data, checkpoint_of("bert"), tmp_path / "one", *window)
    two = train(data, checkpoint_of("bert"), tmp_path / "two", *window, *TWO)

    assert (one["training"]["processes"], two["training"]["processes"]) == (1, 2)
    assert len(losses(tmp_path / "one")) == len(losses(tmp_path / "two")) == 21
    np.testing.assert_allclose(losses(tmp_path / "one"), losses(tmp_path / "two"), rtol=1e-5)
    assert [line["rows"] for line in read_jsonl(tmp_path / "two/log.jsonl") if "loss" in line].count(1) == 1
    assert one["validation"]["scores"] == two["validation"]["scores"]
    assert one["validation"]["confusion"] == two["validation"]["confusion"]


def test_processes_of_another_launcher_train_one_run(checkpoint_of: CheckpointOf, data: Path, tmp_path: Path) -> None:
    validation = ("--validation", data.with_name("validation.csv"))
    model = ("--model", checkpoint_of("bert"), "--out", tmp_path / "runs/x")
    learn = (*tiny.LEARN, *ONE_EPOCH, "--device", "auto", "--quiet")

    done = together("-m", "ftkit.cli", "train", data, *model, *validation, *learn)

    train(data, checkpoint_of("bert"), tmp_path / "one")
    assert [process.code for process in done] == [0, 0], done[0].err + done[1].err
    assert done[1].out == ""
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["x"]
    assert json.loads((tmp_path / "runs/x/metrics.json").read_text())["training"]["processes"] == 2
    np.testing.assert_allclose(losses(tmp_path / "runs/x"), losses(tmp_path / "one"), rtol=1e-5)


def test_processes_that_torchrun_s_only_one_starts_find_each_other(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")  # else all would wait for a store that nobody has

    assert train(data, checkpoint_of("bert"), tmp_path / "two", *ONE_EPOCH, *TWO)["training"]["processes"] == 2


# Errors


def test_an_error_of_a_job_on_two_processes_is_told_once(
    broken: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = tiny.train(data, broken, tmp_path / "run", "--quiet", *TWO)

    printed = done.err + capfd.readouterr().err
    assert done.code == 2
    assert printed.count("error:") == 1
    assert "the training has diverged: loss nan" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run/model").exists()


def test_an_error_of_a_job_ends_the_processes_of_another_launcher(broken: Path, data: Path, tmp_path: Path) -> None:
    model = ("--model", broken, "--out", tmp_path / "run", *tiny.LEARN)

    done = together("-m", "ftkit.cli", "train", data, *model, "--quiet")

    printed = done[0].err + done[1].err
    assert [process.code for process in done] == [2, 2], printed
    assert printed.count("error:") == 1
    assert "the training has diverged: loss nan" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run/model").exists()


def test_a_process_that_the_kernel_kills_is_told_with_a_remedy_and_the_checkpoint_stays(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = ("--set", "training.epochs=1000", "--set", "hardware.checkpoint_minutes=1e-9")
    command = ("train", data, "--model", checkpoint_of("distilbert"), "--out", run, *tiny.LEARN, *settings, *TWO)
    started = subprocess.Popen(
        [sys.executable, "-m", "ftkit.cli", *map(str, command), "--quiet"],
        env=tiny.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + TIMEOUT
    while not list((run / "checkpoints").glob("update-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    psutil.Process(started.pid).children()[1].kill()  # as the kernel does where memory is full
    told = started.communicate(timeout=TIMEOUT)[1]

    assert started.returncode == 2, told
    assert "a process of this job was killed (signal 9), often because the machine's memory was full" in told
    assert "hardware.tokens_per_microbatch=1024" in told
    assert checkpoint.newest(run / "checkpoints")[0] is not None


def test_a_signal_stops_the_processes_of_another_launcher(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    model = ("--model", checkpoint_of("distilbert"), "--out", run, *tiny.LEARN, "--set", "training.epochs=1000")

    done = together("-m", "ftkit.cli", "train", data, *model, "--quiet", stop_after=run / "checkpoints")

    assert [process.code for process in done] == [143, 143], done[0].err + done[1].err
    assert "Traceback" not in done[0].err + done[1].err
    assert len(list((run / "checkpoints").glob("update-*"))) == 1


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_an_error_before_the_job_ends_the_processes_of_another_launcher(
    data: Path, tmp_path: Path, device: str
) -> None:
    done = together("-m", "ftkit.cli", "train", data, "--out", tmp_path / "run", "--label", "lable", "--device", device)

    assert [process.code for process in done] == [2, 2], done[1].err
    assert "there is no column 'lable'" in done[0].err
    assert done[1].err == ""


def test_an_error_in_the_flags_ends_the_processes_of_another_launcher(data: Path, tmp_path: Path) -> None:
    done = together("-m", "ftkit.cli", "train", data, "--out", tmp_path / "run", "--set", "training.epoch=3")

    assert [process.code for process in done] == [2, 2]
    assert "did you mean training.epochs" in done[0].err
    assert "Traceback" not in done[0].err + done[1].err


# Answers


LOGITS_OF_ALL_SIZES = """
import sys
from pathlib import Path
import numpy as np
from ftkit.devices import open_devices
from ftkit.prediction import load_head, row_outputs
from ftkit.run import Run

run, texts, folder = Run(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
devices = open_devices("cpu", "fp32", expected=2)
head, model, _ = load_head(run, run.record(), devices)
rows = [(line,) for line in texts.read_text().splitlines()]
for budget in (1, 48, 4096):
    logits = [row_outputs(model, head, head.encode(rows[:n]), devices, budget) for n in range(1, len(rows) + 1)]
    np.savez(folder / f"{budget}-{devices.rank}.npz", *logits)
"""


@pytest.fixture(scope="module")
def two_windows_run(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: CheckpointOf, data: Path) -> Path:
    """A run that has not learned well, so that it makes mistakes, and reads many rows in several windows."""
    run = tmp_path_factory.mktemp("windows") / "run"
    train(data, checkpoint_of("bert"), run, *WINDOWS)
    return run


def test_any_number_of_rows_is_answered_on_two_processes_as_on_one(two_windows_run: Path, tmp_path: Path) -> None:
    run = Run(two_windows_run)
    made = rows(17, seed=5, fewest=2, most=40)
    texts = [row["text"] for row in made]
    (tmp_path / "texts.txt").write_text("\n".join(texts))

    done = together("-c", LOGITS_OF_ALL_SIZES, two_windows_run, tmp_path / "texts.txt", tmp_path)

    assert [process.code for process in done] == [0, 0], done[0].err + done[1].err
    head, model, _ = load_head(run, run.record(), CPU)
    assert (head.encode([(text,) for text in texts]).windows_of_rows > 1).any()
    numbers = np.asarray([run.record().labels.index(row["label"]) for row in made])
    for count in range(1, 18):
        alone = row_outputs(model, head, head.encode([(text,) for text in texts[:count]]), CPU)
        for name in ("1-0", "1-1", "48-0", "48-1", "4096-0", "4096-1"):
            shared = np.load(tmp_path / f"{name}.npz")[f"arr_{count - 1}"]
            np.testing.assert_allclose(shared, alone, rtol=0, atol=1e-5)
            scores = [classification.point_scores(numbers[:count], x.argmax(axis=1), 3) for x in (shared, alone)]
            assert scores[0] == scores[1]


def test_eval_on_two_processes_finds_the_same_scores(
    two_windows_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS")  # as it is for most users
    test = write_csv(tmp_path / "heldout.csv", rows(17, seed=5, fewest=2, most=40))

    one = ftkit("eval", two_windows_run, test, *FP32, "--json", "--name", "one").json
    done = ftkit("eval", two_windows_run, test, "--precision", "fp32", "--json", "--name", "two", *TWO)
    assert (done.code, done.err, capfd.readouterr().err) == (0, "", "")
    two = done.json

    assert 0 < one["scores"]["accuracy"]["value"] < 1
    for part in ("scores", "classes", "confusion", "baselines", "reading"):
        assert one[part] == two[part]


@pytest.fixture(scope="module")
def predicted(two_windows_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same rows answered by one process from a file, and by two from standard input."""
    folder = tmp_path_factory.mktemp("predicted")
    texts: list[Any] = [row["text"] for row in rows(1501, seed=6, fewest=2, most=40)]
    texts[7:9], texts[50] = ["", None], ["a", "list"]
    lines = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts))
    (folder / "new.jsonl").write_text(lines)
    options = (*FP32, "--all-scores", "--json", "-o")
    one = ftkit("predict", two_windows_run, folder / "new.jsonl", *options, folder / "one.jsonl")
    standard_input = ("-", "--format", "jsonl", *TWO)
    two = ftkit("predict", two_windows_run, *standard_input, *options, folder / "two.jsonl", stdin=lines.encode())
    assert (one.code, two.code) == (0, 0), one.err + two.err
    assert {**one.json, "seconds": 0} == {**two.json, "seconds": 0}
    assert (one.json["rows"], one.json["errors"]) == (1501, 3)
    return folder / "one.jsonl", folder / "two.jsonl"


def test_predict_on_two_processes_gives_the_same_answers(predicted: tuple[Path, Path]) -> None:
    one, two = (read_jsonl(path) for path in predicted)

    assert [row["id"] for row in two] == list(range(1501))
    scored = ("score", "score_animal", "score_fruit", "score_tool")
    for first, second in zip(one, two, strict=True):
        assert {key: first[key] for key in first if key not in scored} == {
            key: second[key] for key in second if key not in scored
        }
        for key in scored:
            assert first[key] == (None if first["label"] is None else pytest.approx(second[key], abs=1e-5))


def test_predict_on_two_processes_writes_the_same_bytes(predicted: tuple[Path, Path]) -> None:
    one, two = predicted

    assert one.read_bytes() == two.read_bytes()


def test_a_single_row_is_answered_on_two_processes(two_windows_run: Path, tmp_path: Path) -> None:
    made: list[Row] = [{"text": "the otter and"}]
    data = write_csv(tmp_path / "new.csv", made)

    for name, processes in (("one", ()), ("two", TWO)):
        done = ftkit("predict", two_windows_run, data, "-o", tmp_path / f"{name}.csv", *FP32, "--quiet", *processes)
        assert done.code == 0, done.err

    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
