"""Checkpoints under every sequence of scores, and under a kill at every write: best and last are never lost."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ftkit import checkpoint, config, training
from ftkit.devices import Devices
from ftkit.errors import UserError
from ftkit.prediction import NotFinite
from ftkit.progress import Progress
from ftkit.signals import Stop, Stopped
from tests import forks
from tests.test_checkpoint import names


class Tiny(torch.nn.Linear):
    """A model of six weights."""

    def __init__(self) -> None:
        super().__init__(3, 2, bias=False)

    def save_pretrained(self, folder: Path, state_dict: None = None) -> None:
        save_file({"weight": self.weight.detach()}, folder / "model.safetensors")


class Course(training.Course):
    """The checkpoints of a training of tiny models; everything else of it is left out."""

    @property
    def devices(self) -> Devices:
        return Devices(0, 1, torch.device("cpu"), "fp32")


@contextmanager
def course_in(folder: Path) -> Iterator[Any]:
    model = Tiny()
    fitting: Any = SimpleNamespace(
        model=model,
        head=SimpleNamespace(tokenizer=SimpleNamespace(save_pretrained=lambda folder: None)),
        optimizer=torch.optim.AdamW(model.parameters()),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        recipe=config.Recipe(),
        token_budget=100,
        done=0,
        sharded=False,
        rows=SimpleNamespace(features=SimpleNamespace(rows=50)),  # two updates, of 32 rows and of the rest
        total_updates=100,
        epochs=50,
    )
    run: Any = SimpleNamespace(folder=folder)
    with (
        training.Log(folder / "log.jsonl", True) as log,
        Progress("training", None, show=False) as progress,
        ThreadPoolExecutor(1) as writer,
    ):
        yield Course(run, None, "accuracy", fitting, None, None, log, progress, Stop(), writer)  # type: ignore[arg-type]


def one_epoch(course: Any, epoch: int, score: float) -> None:
    """Two updates, each with a checkpoint, and a score between them; the model becomes the update's number."""
    if course.state.done <= 2 * epoch:
        update(course, 2 * epoch + 1)
        course.save()
    course.judge(epoch, score, None)
    course.state.epoch = epoch + 1
    course.finish_writing()
    update(course, 2 * epoch + 2)
    course.save()
    course.finish_writing()


def update(course: Any, number: int) -> None:
    """Makes every weight and the optimizer's memory of it the number of the update."""
    course.state.made += number - course.state.done
    course.fitting.done = course.state.done = number
    course.state.number = 1
    weight = course.fitting.model.weight
    with torch.no_grad():
        weight.fill_(number)
    course.fitting.optimizer.state[weight] = {"exp_avg": torch.full_like(weight, number)}


def weight_in(path: Path) -> float:
    tensors = load_file(path)
    return float(next(tensor for name, tensor in tensors.items() if name.endswith("weight")).mean())


scores = st.one_of(st.floats(0, 1), st.sampled_from([math.nan, math.inf, -math.inf, 0.5]))


@settings(max_examples=25, deadline=None)
@given(st.lists(scores, min_size=1, max_size=6))
def test_best_and_last_survive_any_sequence_of_scores_and_nan_is_never_best(sequence: list[float]) -> None:
    finite = [score for score in sequence if math.isfinite(score)]
    with tempfile.TemporaryDirectory() as name, course_in(Path(name)) as course:
        for epoch, score in enumerate(sequence):
            one_epoch(course, epoch, score)
            last, problems = checkpoint.newest(course.folder)
            assert (last and last.name, problems) == (f"update-{2 * epoch + 2:08}", [])
            assert last and weight_in(last / "training.safetensors") == 2 * epoch + 2
        state = json.loads((course.folder / f"update-{2 * len(sequence):08}" / "state.json").read_text())
        if not finite:
            assert (state["best_folder"], state["best_score"]) == ("", None)
            return
        best = sequence.index(max(finite))
        assert (state["best_epoch"], state["best_score"]) == (best, max(finite))
        assert checkpoint.damage(course.folder / state["best_folder"]) is None
        assert weight_in(course.folder / state["best_folder"] / "model.safetensors") == 2 * best + 1


# A kill at every write

WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate")


def die_at(number: int, folder: Path) -> None:
    """This process kills itself at its so-many-th write below the folder, before or in the middle of it."""
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        writing = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        # What rmtree removes is named within its folder.
        if (writing or event in WRITES) and (event in ("os.rmdir", "os.remove") or str(folder) in str(arguments[0])):
            count()

    inner_save, inner_sync = checkpoint.save_file, os.fsync

    def save_in_two(tensors: dict[str, torch.Tensor], path: Path) -> None:
        inner_save(tensors, path)  # written by no Python code, so that no event tells of it
        whole = path.read_bytes()
        os.truncate(path, len(whole) // 2)
        count()
        path.write_bytes(whole)

    def sync(handle: int) -> None:
        count()
        inner_sync(handle)

    checkpoint.save_file, os.fsync = save_in_two, sync
    sys.addaudithook(hear)


def second_epoch(folder: Path, die: int | None = None) -> None:
    """Goes on from the newest checkpoint with what is left of an epoch that is better than the first."""
    with course_in(folder) as course:
        newest, _ = checkpoint.newest(course.folder)
        assert newest is not None
        course.load(newest)
        if die:
            die_at(die, folder)
        if course.state.epoch < 2:
            one_epoch(course, 1, 0.9)
        update(course, 5)
        course.save()
        course.finish_writing()


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the log."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_kill_at_any_write_leaves_a_whole_checkpoint_and_going_on_ends_as_if_nothing_had_happened(
    tmp_path: Path,
) -> None:
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    begun.mkdir()
    with course_in(begun) as course:
        one_epoch(course, 0, 0.8)
    shutil.copytree(begun, whole)
    second_epoch(whole)
    expected = content(whole)
    number, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        folder = tmp_path / f"killed-{number}"
        shutil.copytree(begun, folder)
        code = forks.wait(forks.begin(partial(second_epoch, folder, number)))
        newest, problems = checkpoint.newest(folder / "checkpoints")
        assert newest and problems == [], f"write {number}"
        state = json.loads((newest / "state.json").read_text())
        assert weight_in(newest / "training.safetensors") == state["done"] >= 2, f"write {number}"
        best = folder / "checkpoints" / state["best_folder"] / "model.safetensors"
        assert weight_in(best) == 2 * state["best_epoch"] + 1, f"write {number}"
        second_epoch(folder)
        assert content(folder) == expected, f"write {number}"
    assert code == 0
    assert number > 50


def test_a_checkpoint_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    """So no kill can come between the old one and the new one of the same update."""
    with course_in(tmp_path) as course:
        update(course, 1)
        course.save()
        course.finish_writing()
        before = content(tmp_path / "checkpoints")
        course.state.seconds = 5.0
        course.save()
        course.finish_writing()
        assert content(tmp_path / "checkpoints") == before
        course.state.epoch, course.state.number = 1, 0  # the same update, and its evaluation
        course.save()
        course.finish_writing()
        newest, _ = checkpoint.newest(course.folder)

    assert newest and newest.name == "update-00000001-epoch-1"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def test_progress_of_a_resumed_training_counts_rows_not_whole_batches(tmp_path: Path) -> None:
    with course_in(tmp_path) as course:
        course.state.epoch, course.state.number = 3, 2
        course.save()
        course.finish_writing()
        course.load(course.folder / "update-00000000")

        assert course.progress.done == 4 * 50


def test_damage_to_the_best_model_costs_only_that_model(tmp_path: Path) -> None:
    with course_in(tmp_path) as course:
        one_epoch(course, 0, 0.8)
        one_epoch(course, 1, 0.5)
        flip(course.folder / course.state.best_folder / "model.safetensors")
    with course_in(tmp_path) as course:
        newest, problems = checkpoint.newest(course.folder)
        assert newest and newest.name == "update-00000004"
        assert ["its best model best-00000001" in problem for problem in problems] == [True, True]
        course.load(newest)
        assert (course.state.done, course.state.best_epoch, course.state.best_folder) == (4, 1, "")
        one_epoch(course, 2, 0.1)
        assert course.state.best_epoch == 2
        assert checkpoint.newest(course.folder)[1] == []


def test_patience_does_not_end_a_training_that_has_lost_its_best_model(tmp_path: Path) -> None:
    with course_in(tmp_path) as course:
        for epoch, score in enumerate((0.8, 0.7, 0.6)):
            one_epoch(course, epoch, score)
        flip(course.folder / course.state.best_folder / "model.safetensors")
        course.state.number = 0
        course.save()
        course.finish_writing()
    for number in (0, 1):  # after an epoch, and within one
        with course_in(tmp_path) as course:
            training = config.TrainingSection(patience=2)
            course.fitting.recipe = config.Recipe(training=training)
            newest = max(f for f in course.folder.glob("update-*") if f.name.endswith("-epoch-3") == (number == 0))
            course.load(newest)

            assert (course.state.epoch, course.state.number) == ((2, 2) if number == 0 else (3, 1))
            assert not course._out_of_patience()
            assert course.judge(course.state.epoch, 0.1, None)


def test_after_the_last_epoch_a_damaged_best_model_is_found_anew(tmp_path: Path) -> None:
    with course_in(tmp_path) as course:
        one_epoch(course, 0, 0.8)
        course.state.epoch, course.state.number = course.fitting.epochs, 0
        course.save()
        course.finish_writing()
        flip(course.folder / course.state.best_folder / "model.safetensors")
    with course_in(tmp_path) as course:
        newest, _ = checkpoint.newest(course.folder)
        assert newest
        course.load(newest)

        assert (course.state.epoch, course.state.number) == (course.fitting.epochs - 1, 2)


def test_a_damaged_newest_checkpoint_does_not_push_out_those_that_are_written_after_a_resume(tmp_path: Path) -> None:
    with course_in(tmp_path) as course:
        for number in (1, 2):
            update(course, number)
            course.save()
            course.finish_writing()
        flip(course.folder / "update-00000002" / "training.safetensors")
    with course_in(tmp_path) as course:
        course.load(course.folder / "update-00000001")
        update(course, 2)
        course.save()
        course.finish_writing()

        assert checkpoint.newest(course.folder) == (course.folder / "update-00000002", [])


def test_an_epoch_of_another_number_of_updates_is_gone_on_with_at_the_same_part_of_it(tmp_path: Path) -> None:
    with course_in(tmp_path) as course:
        course.fitting.total_updates, course.fitting.epochs = 30, 3
        course.state.epoch, course.state.number, course.state.done, course.state.made = 1, 5, 15, 15
        course.save()
        course.finish_writing()
    with course_in(tmp_path) as course:
        course.fitting.total_updates, course.fitting.epochs = 12, 3  # larger batches
        newest, _ = checkpoint.newest(course.folder)
        assert newest
        course.load(newest)
        assert (course.state.epoch, course.state.number, course.fitting.done) == (1, 2, 6)
        for number in (7, 8):  # what is made now is newer than all that was made before
            update(course, number)
            course.judge(course.state.epoch, number / 10, None)
            course.save()
            course.finish_writing()
            assert checkpoint.newest(course.folder) == (course.folder / f"update-{number + 9:08}", [])
    with course_in(tmp_path) as course:  # after another interruption
        course.fitting.total_updates, course.fitting.epochs = 12, 3
        course.load(course.folder / "update-00000017")

        assert (course.state.done, course.state.made) == (8, 17)
        assert weight_in(course.folder / course.state.best_folder / "model.safetensors") == 8
        assert names(course.folder) == ["best-00000016", "best-00000017", "update-00000016", "update-00000017"]


def test_litter_of_a_killed_write_goes_before_room_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".update-00000009.partial").mkdir(parents=True)
    with course_in(tmp_path) as course:
        update(course, 1)
        course.save()
        course.finish_writing()

    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update-00000001"]


def test_a_signal_after_the_last_evaluation_ends_the_training_with_a_checkpoint(tmp_path: Path) -> None:
    with course_in(tmp_path) as course:
        one_epoch(course, 0, 0.8)
        course._end_if_asked()
        course.stop.number = signal.SIGTERM
        course.state.epoch, course.state.number = 1, 0
        with pytest.raises(Stopped) as stopped:
            course._end_if_asked()

        assert stopped.value.code == 143
        assert (course.folder / "update-00000002-epoch-1").is_dir()


def test_a_log_that_has_lost_its_end_is_told_and_costs_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with course_in(tmp_path) as course:
        course.log.write({"update": 1})
        update(course, 1)
        course.save()
        course.finish_writing()
    for left in ("", '{"upd'):
        (tmp_path / "log.jsonl").write_text(left)
        with course_in(tmp_path) as course:
            course.progress.show = True
            course.load(course.folder / "update-00000001")
            course.log.write({"update": 2})

        assert "log.jsonl has lost its end" in capsys.readouterr().err
        assert (tmp_path / "log.jsonl").read_text() == '{"update": 2}\n'


def test_a_best_model_that_was_damaged_since_it_was_written_does_not_become_the_model(tmp_path: Path) -> None:
    with course_in(tmp_path) as course:
        one_epoch(course, 0, 0.8)
        flip(course.folder / course.state.best_folder / "model.safetensors")
        with pytest.raises(UserError, match=r"model\.safetensors is not what was written"):
            training._put_model(course.run, course, {})

    assert (tmp_path / "checkpoints").is_dir()


# Written beside the training


def test_a_checkpoint_is_of_the_moment_when_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    go_on = threading.Event()
    inner = checkpoint.save_training
    monkeypatch.setattr(checkpoint, "save_training", lambda *a: go_on.wait(60) and inner(*a))
    with course_in(tmp_path) as course:
        update(course, 1)
        course.save()
        update(course, 2)  # training goes on: nothing has been written yet
        assert list(tmp_path.glob("checkpoints/*")) == []
        course.save()  # and no second checkpoint is begun beside the first
        go_on.set()
        course.finish_writing()

    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update-00000001"]
    assert weight_in(tmp_path / "checkpoints" / "update-00000001" / "training.safetensors") == 1


def test_without_memory_for_a_copy_the_training_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "free_memory", lambda: 10)
    with course_in(tmp_path) as course:
        update(course, 1)
        course.save()
        update(course, 2)

        assert weight_in(tmp_path / "checkpoints" / "update-00000001" / "training.safetensors") == 1


def test_a_checkpoint_that_cannot_be_written_asks_the_next_update_to_stop(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with course_in(tmp_path) as course:
        course.state.done = 1
        course.save()
        training.wait([course.writing])

        assert course._failed()
        with pytest.raises(UserError, match="cannot be written: File exists"):
            course.finish_writing()


def test_an_epoch_whose_answers_are_no_numbers_is_never_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **more: Any) -> Any:
        raise NotFinite("the model's answers are no finite numbers")

    monkeypatch.setattr(training, "row_outputs", broken)
    with course_in(tmp_path) as course:
        course.record, course.validation = SimpleNamespace(task="classification"), SimpleNamespace(features=None)
        course.fitting.short_of_memory = False
        course._evaluate(0)
        assert (course.state.best_epoch, course.state.best_score) == (-1, None)
        course.judge(1, 0.5, None)
        assert course.state.best_epoch == 1
