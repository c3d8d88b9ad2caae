"""The command line inside this process: what it prints, and the status it ends with."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from coreml_sd.cli.main import main


@dataclass(frozen=True)
class Done:
    """What one command left behind."""

    status: int
    out: str
    err: str

    def refused(self, message: str) -> None:
        """The user's mistake: status 2, and one line that says what to do."""
        assert self.status == 2, self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("Error:")]
        assert message in line, line
        assert "Traceback" not in self.err


Run = Callable[..., Done]


def runner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `coreml-sd` with the given arguments."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["coreml-sd", *map(str, arguments)])
        capfd.readouterr()
        status: object = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        done = capfd.readouterr()
        assert isinstance(status, int)
        return Done(status, done.out, done.err)

    return run
