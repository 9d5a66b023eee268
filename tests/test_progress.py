"""What people see of work that is going on, in a pipe."""

from __future__ import annotations

import threading

import pytest

from ftkit import progress


def test_what_was_done_before_says_nothing_of_the_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress("training", 1000) as shown:
        shown.go_on_from(600)
        now[0] += 20
        shown.advance(100, "epoch 2/3")

    assert capsys.readouterr().err == "training: 70%, 5 rows/s, 60 s left epoch 2/3\n"


def test_nothing_is_shown_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress("training", 10, show=False) as hidden:
        hidden.advance(10)
        hidden.line("a line")

    assert capsys.readouterr() == ("", "")


def test_a_stage_is_told_in_a_pipe_once_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.01)
    with progress.stage("tokenizing 7 rows"):
        threading.Event().wait(0.5)
    with progress.stage("hidden", show=False):
        threading.Event().wait(0.1)
    monkeypatch.setattr(progress, "LINE_EVERY", 60)
    with progress.stage("short"):
        pass

    assert capsys.readouterr().err == "tokenizing 7 rows ...\n"
