"""Progress says what is left, on a terminal and in a log."""

import io
import subprocess
import sys
import time
from typing import Any

import pytest
from rich.console import Console

from coreml_sd.cli import console as module
from coreml_sd.cli.console import ConsoleProgress, Memory, clock
from coreml_sd.progress import Stage


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    file = io.StringIO()
    recorded = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    monkeypatch.setattr(module, "console", recorded)
    return file


def test_a_terminal_shows_stages_time_left_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    file = shown(monkeypatch, terminal=True)
    with ConsoleProgress() as progress:
        progress.left = lambda: 83.0
        with progress.stage(Stage("load", "unet")) as advance:
            advance(1, 2)
            time.sleep(0.2)
    told = file.getvalue()
    assert "unet: load" in told and "0:00 elapsed, about 1:23 left, " in told
    assert "GB of memory" in told


def test_many_stages_leave_the_line_below_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    shown(monkeypatch, terminal=True)
    with ConsoleProgress() as progress:
        for number in range(40):
            with progress.stage(Stage("draw", detail=f"stage {number}")):
                pass
        bars, status = progress._bars.get_renderables()
        assert bars.row_count == module.console.height - 2 and "elapsed" in status.plain
    bars, _ = progress._bars.get_renderables()
    assert bars.row_count == 40  # all of them are in the terminal's history


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    file = shown(monkeypatch, terminal=False)
    monkeypatch.setattr(module, "_LINE_EVERY", 0.1)
    with ConsoleProgress() as progress:
        progress.left = lambda: 83.0
        with progress.stage(Stage("load", "unet")):
            while len(file.getvalue().splitlines()) < 2:
                time.sleep(0.01)
    lines = file.getvalue().splitlines()
    assert len(lines) <= 3
    assert all("about 1:23 left" in line and line.endswith(": unet: load") for line in lines)


def test_a_short_command_leaves_no_line_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    file = shown(monkeypatch, terminal=False)
    with ConsoleProgress() as progress, progress.stage(Stage("checksums")):
        pass
    assert file.getvalue() == ""


def test_a_stage_that_begins_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shown(monkeypatch, terminal=False)
    begun: list[Any] = []
    with ConsoleProgress() as progress:
        progress.begun = begun.append
        with progress.stage(Stage("load", "unet")), progress.stage(Stage("load", "vae_decoder")):
            pass
    assert begun == [Stage("load", "unet"), Stage("load", "vae_decoder")]


def test_memory_counts_what_was_started() -> None:
    alone = Memory().held()
    code = "held = b'x' * 200_000_000; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout and child.stdout.readline()
        assert Memory().held() > alone + 150_000_000
        child.communicate(b"\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (-3, "0:00"), (59.6, "1:00"), (83, "1:23"), (3725, "1:02:05")],
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert clock(seconds) == text
