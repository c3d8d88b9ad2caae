"""A process of `coreml_sd.conversion.parallel`: converts the components that it is told."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from coreml_sd.errors import CoremlSDError, is_out_of_memory
from coreml_sd.processes.child import Send, serve
from coreml_sd.progress import Advance, Stage
from coreml_sd.upstream.hidden_imports import allow_hiding, import_libraries
from coreml_sd.upstream.noise import quieten


class LineProgress:
    """Tells stages in lines of JSON (see `coreml_sd.progress.Progress`)."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[Advance]:
        """A stage of the caller's own progress."""
        number = next(self._numbers)
        self.send("begin", number, dataclasses.asdict(stage))
        yield lambda done, of: self.send("advance", number, done, of)
        self.send("end", number)

    def warn(self, message: str) -> None:
        """A line of the caller's."""
        self.send("warn", message)

    def note(self, message: str) -> None:
        """A line of the caller's."""
        self.send("note", message)


def work(request: dict[str, Any], send: Send) -> None:
    """Convert; what goes wrong is told to the caller, who knows what to do about it."""
    try:
        _convert(request, LineProgress(send))
    except Exception as error:
        _tell(error, send)


def _tell(error: Exception, send: Send) -> None:
    if is_out_of_memory(error):
        send("killed", "out of memory; try --jobs 1")
    elif isinstance(error, CoremlSDError):
        send("error", error.exit_status, str(error))
    elif isinstance(error, OSError):  # a full disk, most of all
        send("os-error", error.errno, error.strerror or str(error), error.filename)
    else:
        raise error


def _convert(request: dict[str, Any], progress: LineProgress) -> None:
    quieten()
    if not request["verify"]:  # the proof opens diffusers' own pipeline, which needs all of it
        allow_hiding()
    import_libraries()
    from coreml_sd.config import from_dict
    from coreml_sd.conversion.component import convert_component
    from coreml_sd.conversion.plan import plan_conversion
    from coreml_sd.conversion.preflight import preflight
    from coreml_sd.conversion.run import ConversionRun

    plan = plan_conversion(from_dict(request["config"]))
    plan = dataclasses.replace(plan, threads=request["threads"])
    run = ConversionRun(plan, Path(request["staging"]), request["verify"], progress)
    preflight(plan, request["components"])
    for name in request["components"]:
        component = plan.model.component(name)
        progress.send("finished", name, to_builtins(convert_component(run, component)))


if __name__ == "__main__":
    sys.exit(serve(work))
