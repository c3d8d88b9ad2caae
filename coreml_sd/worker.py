"""The process behind `coreml_sd.workers`: converts the components that stdin names."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from coreml_sd.errors import CoremlSDError
from coreml_sd.progress import Advance

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class LineProgress:
    """Tells stages in lines of JSON (see `coreml_sd.progress.Progress`)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def send(self, *message: Any) -> None:
        """One line."""
        with self._lock:
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """A stage of the caller's own progress."""
        number = next(self._numbers)
        self.send("begin", number, title)
        yield lambda done, of: self.send("advance", number, done, of)
        self.send("end", number)

    def warn(self, message: str) -> None:
        """A line of the caller's."""
        self.send("warn", message)

    def note(self, message: str) -> None:
        """A line of the caller's."""
        self.send("note", message)


def main() -> int:
    """Read the request, convert, answer."""
    _die_with_the_caller()
    # Libraries print what they like to stdout; the answers go out on a copy of it.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    progress = LineProgress(out)
    line = sys.stdin.readline()
    if not line:
        return 1  # the caller is gone already
    request = json.loads(line)
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    try:
        _convert(request, progress)
    except CoremlSDError as error:
        progress.send("error", error.exit_status, str(error))
    except OSError as error:  # a full disk, most of all: the caller says what to do about it
        progress.send("os-error", error.errno, error.strerror or str(error), error.filename)
    except MemoryError:
        progress.send("killed", "out of memory; try --jobs 1")
    return 0


def _convert(request: dict[str, Any], progress: LineProgress) -> None:
    from coreml_sd.config import from_dict
    from coreml_sd.convert import convert_component
    from coreml_sd.libraries import quieten
    from coreml_sd.plan import plan_conversion

    quieten()
    plan = plan_conversion(from_dict(request["config"]))
    plan = dataclasses.replace(plan, threads=request["threads"])
    staging = Path(request["staging"])
    for name in request["components"]:
        component = plan.model.component(name)
        entry = convert_component(plan, component, staging, request["verify"], progress)
        progress.send("entry", name, entry)


def _die_with_the_caller() -> None:
    """Linux ends this process the moment that its caller is killed, whatever it computes."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_the_caller() -> None:
    """The same on every system, as soon as this thread comes to run: stdin ends."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
