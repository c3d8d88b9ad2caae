"""Runs pytest in forks of a process that has loaded the libraries, but nothing that is tested.

Started as a file, in the folder to test, with the names of the libraries. Reads one JSON object a
line: `arguments` of pytest, `environment`, `output` (a file), `seconds`. Answers with pytest's
status, or "late".
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from typing import Any


def answer(request: dict[str, Any]) -> str:
    """Run pytest once, in a process of its own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(_run(request))
    end = time.monotonic() + request["seconds"]
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "late"


def _run(request: dict[str, Any]) -> int:
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request["environment"])
    import pytest

    try:
        return int(pytest.main(request["arguments"]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print while they are imported
    for library in ("pytest", *sys.argv[1:]):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    for line in sys.stdin:
        print(answer(json.loads(line)), file=answers, flush=True)
