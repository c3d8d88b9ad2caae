"""Tries inputs one after the other, in a process that may crash: tells each number first."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.fuzzing.kinds import KINDS, Kind, Material


def main() -> None:
    """Arguments: kind, seed, first number, folder, model, bundle. Ends when its stdin does."""
    kind, seed, first, folder, model, bundle = sys.argv[1:]
    from coreml_sd.upstream.noise import quieten

    quieten()
    out = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        tried = KINDS[kind](Material(Path(model), Path(bundle)), Path(folder))
        tried.restore()
        for reader in tried.readers():
            reader()  # the intact one must be read
        number = int(first)
        while True:
            _tell(out, "trying", number)
            for fault in try_one(tried, f"{seed}-{kind}-{number}"):
                _tell(out, "fault", fault)
            number += 1
            if not sys.stdin.readline():
                return


def try_one(kind: Kind, seed: str) -> list[str]:
    """Change one input, give it to its readers; what they raised that no user should see."""
    kind.change(random.Random(seed))
    faults = [fault for reader in kind.readers() if (fault := _fault(reader))]
    kind.restore()
    return faults


def _fault(reader: Callable[[], Any]) -> str | None:
    from coreml_sd.errors import CoremlSDError, one_line

    try:
        reader()
    except CoremlSDError as error:
        told = one_line(str(error))
        return None if told.isprintable() and told else f"told as {told!r}"
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "coreml_sd" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:160]}"
    return None


def _tell(out: Any, *message: Any) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
