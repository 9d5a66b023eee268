"""What people see of work that is going on, in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

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


def test_a_stage_in_a_terminal_is_shown_word_for_word_and_leaves_the_cursor(tmp_path: Path) -> None:
    code = """
import os, signal, time
from ftkit.progress import stage
with stage("reading [b]:x:.csv"):
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
"""
    terminal, ours = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=ours, cwd=tmp_path, env=environment)
    os.close(ours)
    shown = b""
    try:
        while part := os.read(terminal, 1024):
            shown += part
    except OSError:  # the other end has been closed
        pass
    finally:
        os.close(terminal)
    assert process.wait() == -15
    assert b"reading [b]:x:.csv" in shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
