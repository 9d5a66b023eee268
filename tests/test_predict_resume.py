"""A prediction that is stopped or killed goes on where it stopped, and its output is the same to the byte."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ftkit import journal, prediction
from tests import forks, tiny
from tests.conftest import Learned
from tests.tiny import FP32, Finished, ftkit, rows, write_csv

RunOf = Callable[[str], Learned]
ROWS, CHUNK = 230, 50  # five chunks


@pytest.fixture(scope="module")
def run(run_of: RunOf) -> Path:
    return run_of("distilbert").folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which some cannot be answered, and some are read in several windows."""
    made = rows(ROWS, seed=4, fewest=2, most=12)
    made[60]["text"], made[120]["text"] = "", " ".join(["the otter"] * 90)
    return write_csv(tmp_path_factory.mktemp("data") / "new.csv", made)


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "CHUNK_ROWS", CHUNK)


def predict(run: Path, data: Path, out: Path, *options: str) -> Finished:
    return ftkit("predict", run, data, "-o", out, *FP32, *options)


def interrupt(run: Path, data: Path, out: Path, *options: str, after: int, number: int = signal.SIGKILL) -> int:
    """Predicts in a process that sends itself a signal once so many chunks have been answered; its exit code."""

    def before() -> None:
        journal.Journal.add = forks.kill_self_at(after, journal.Journal.add, number)  # type: ignore[method-assign]

    said = out.with_name("said")
    return forks.run("predict", run, data, "-o", out, *FP32, *options, before=before, said=said)


def left(out: Path) -> list[str]:
    """What lies beside an output."""
    return sorted(path.name for path in out.parent.iterdir() if path.name not in (out.name, "said"))


@pytest.mark.parametrize("name", ["csv", "csv.gz", "tsv", "json", "jsonl", "txt", "parquet", "arrow"])
def test_a_killed_prediction_goes_on_and_its_output_is_the_same_to_the_byte(
    run: Path, data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / f"whole.{name}", tmp_path / "new" / f"out.{name}"
    out.parent.mkdir()
    expected = predict(run, data, whole, "--all-scores", "--json")
    assert interrupt(run, data, out, "--all-scores", after=3) == -signal.SIGKILL
    assert not out.exists()

    answered: list[int] = []
    inner = prediction.row_outputs
    monkeypatch.setattr(prediction, "row_outputs", lambda *a, **k: answered.append(a[2].rows) or inner(*a, **k))
    done = predict(run, data, out, "--all-scores", "--json", "--resume")

    assert done.code == 0, done.err
    assert out.read_bytes() == whole.read_bytes()
    assert left(out) == []
    assert answered == [50, 30]
    assert {**done.json, "seconds": 0} == {**expected.json, "seconds": 0}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_a_prediction_which_says_how_to_go_on(
    run: Path, data: Path, tmp_path: Path, number: int, code: int
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    predict(run, data, whole)

    assert interrupt(run, data, out, after=2, number=number) == code

    assert "the answers to the first 100 rows are kept: go on with --resume" in (tmp_path / "said").read_text()
    assert not out.exists()
    assert "going on after row 100" in predict(run, data, out, "--resume").err
    assert out.read_bytes() == whole.read_bytes()


def test_a_prediction_killed_three_times_is_the_same_to_the_byte(run: Path, data: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    predict(run, data, whole)
    for _ in range(3):
        assert interrupt(run, data, out, "--resume", after=1) == -signal.SIGKILL

    assert "going on after row 150" in predict(run, data, out, "--resume").err
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("fault", ["cut in a line", "a flipped bit", "an empty journal"])
def test_damaged_answers_are_not_used(run: Path, data: Path, tmp_path: Path, fault: str) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "new" / "out.csv"
    out.parent.mkdir()
    predict(run, data, whole)
    interrupt(run, data, out, after=3)
    kept = next(out.parent.glob(".*.answers"))
    content = kept.read_bytes()
    lines = content.splitlines(keepends=True)
    if fault == "cut in a line":
        kept.write_bytes(content[:-100])
    elif fault == "an empty journal":
        kept.write_bytes(b"")
    else:
        position = len(b"".join(lines[:3])) + len(lines[3]) // 2
        kept.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])

    done = predict(run, data, out, "--resume")

    assert done.code == 0, done.err
    assert ("going on after row 100" in done.err) == (fault != "an empty journal")
    assert out.read_bytes() == whole.read_bytes()


@pytest.fixture
def interrupted(run: Path, data: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Copies of run and data, and the output of a prediction with them that was killed."""
    copies = tmp_path / "run", tmp_path / "new.csv"
    shutil.copytree(run, copies[0])
    shutil.copy(data, copies[1])
    out = tmp_path / "out.csv"
    assert interrupt(*copies, out, after=2) == -signal.SIGKILL
    return *copies, out


def test_going_on_with_other_rows_is_refused(interrupted: tuple[Path, Path, Path]) -> None:
    run, data, out = interrupted
    data.write_text(data.read_text().replace("the", "teh", 1))

    done = predict(run, data, out, "--resume")

    assert (done.code, out.exists()) == (2, False)
    assert "1 things differ from when this prediction began:\n  input: " in done.err


def test_going_on_with_another_model_is_refused(interrupted: tuple[Path, Path, Path]) -> None:
    run, data, out = interrupted
    weights = run / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    tiny.forge(run)

    done = predict(run, data, out, "--resume")

    assert (done.code, out.exists()) == (2, False)
    assert "\n  run: " in done.err


def test_going_on_with_other_options_is_refused_and_the_first_ones_still_work(
    interrupted: tuple[Path, Path, Path],
) -> None:
    run, data, out = interrupted

    done = predict(run, data, out, "--resume", "--all-scores")

    assert (done.code, out.exists()) == (2, False)
    assert "\n  --all-scores: False -> True\n" in done.err
    assert "going on after row 100" in predict(run, data, out, "--resume").err


def test_without_resume_a_prediction_begins_anew(interrupted: tuple[Path, Path, Path]) -> None:
    run, data, out = interrupted
    done = predict(run, data, out, "--all-scores")

    assert (done.code, "going on" in done.err) == (0, False)
    assert left(out) == ["new.csv", "run"]


def test_resuming_where_nothing_is_kept_begins(run: Path, data: Path, tmp_path: Path) -> None:
    assert predict(run, data, tmp_path / "out.csv", "--resume").code == 0
    assert left(tmp_path / "out.csv") == []


def test_standard_input_and_output_cannot_be_resumed(run: Path, data: Path) -> None:
    for arguments in ((data, "-o", "-"), ("-", "--format", "csv", "-o", "out.csv")):
        done = ftkit("predict", run, *arguments, "--resume")
        assert (done.code, "--resume goes on from file to file only" in done.err) == (2, True)


def test_a_second_prediction_into_the_same_file_is_refused_while_the_first_goes_on(
    interrupted: tuple[Path, Path, Path],
) -> None:
    run, data, out = interrupted
    with next(out.parent.glob(".*.answers")).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = predict(run, data, out)

    assert (done.code, "another ftkit process is writing" in done.err) == (2, True)


def test_a_disk_that_fills_up_keeps_what_was_answered(run: Path, data: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the disk: writing past it fails as on a full one."""
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    predict(run, data, whole)

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))

    code = forks.run("predict", run, data, "-o", out, *FP32, before=before, said=tmp_path / "said")

    assert (code, out.exists()) == (2, False)
    assert "cannot be written" in (tmp_path / "said").read_text()
    assert "going on after row" in predict(run, data, out, "--resume").err
    assert out.read_bytes() == whole.read_bytes()


def test_a_prediction_begun_on_one_process_goes_on_on_two(run: Path, data: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    predict(run, data, whole)
    interrupt(run, data, out, after=2)

    codes = forks.together("predict", run, data, "-o", out, *FP32, "--resume", before=lambda rank: None, said=tmp_path)

    assert codes == [0, 0], (tmp_path / "0").read_text()
    assert out.read_bytes() == whole.read_bytes()


def test_a_pipe_is_answered_to_its_end(run: Path, data: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    rows = data.read_bytes()
    many = rows + rows.split(b"\n", 1)[1] * (1 + 1_500_000 // len(rows))  # more than is read to know the format
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(many))
    writer.start()
    out = tmp_path / "out.jsonl"
    done = ftkit("predict", run, tmp_path / "pipe", "--format", "csv", "-o", out, *FP32)
    writer.join()
    assert done.code == 0, done.err
    assert len(out.read_text().splitlines()) == many.count(b"\n") - 1


def test_a_file_system_without_locks_is_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*given: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with journal.keep(str(tmp_path / "out.csv"), {"a": 1}, resume=False) as kept:
        assert kept.kept == 0


def test_the_journal_holds_no_more_than_the_answers(run: Path, data: Path, tmp_path: Path) -> None:
    interrupt(run, data, tmp_path / "out.csv", after=1)
    header, chunk = (json.loads(line[65:]) for line in next(tmp_path.glob(".*.answers")).read_text().splitlines())

    assert header["input"] == [prediction.files.sha256(data)]
    assert [sorted(cells) for cells, problem in chunk["answers"] if cells] == [["label", "score"]] * CHUNK
    assert os.stat(next(tmp_path.glob(".*.answers"))).st_size < 10_000
