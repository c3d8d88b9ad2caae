"""The GPU gate: a .tflite file must run on the real GPU delegate, whole, with the CPU's numbers.

The delegate is ML Drift over WebGPU from the LiteRT wheel, the one that phones run over OpenCL or
Vulkan: it takes and refuses the same ops. Each check has its own process, because a refused or
unlucky file may end the process or leave it unusable.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_sd.bundle import Bundle
from coreml_sd.runtimes.litert.refusal import rejected
from coreml_sd.runtimes.litert.vulkan import gpu_environment, why_no_gpu

GATE = 1e-4  # relative error against the CPU with 32-bit GPU math; 1e-6 is usual
NO_ADAPTER = "no GPU adapter was found by the Vulkan driver"
_WORKER = (sys.executable, "-m", "coreml_sd.runtimes.litert.gpu_worker")
_THREADS = 4


@dataclass(frozen=True)
class GpuVerdict:
    """What one file did on the GPU.

    Attributes:
        file: its path.
        adapter: the GPU as it names itself; empty where none was reached.
        fully_accelerated: every op runs on the GPU.
        relative_error: max|gpu - cpu| / max|cpu|, the worst output, GPU math in 32 bits.
        relative_error_fp16: the same with the default 16-bit GPU math, for information; infinite
            where it overflows.
        compile_seconds, run_seconds: on the GPU, the run with its first shader compilation.
        rejected: the delegate's words on the ops that it does not take.
        misread: ops that it takes and computes wrongly (see `mixed_rank`).
        reason: one line why the file does not pass; empty where it does.
        compile_only: nothing was to be run.
    """

    file: Path
    adapter: str = ""
    fully_accelerated: bool = False
    relative_error: float | None = None
    relative_error_fp16: float | None = None
    compile_seconds: float | None = None
    run_seconds: float | None = None
    rejected: tuple[str, ...] = ()
    misread: tuple[str, ...] = ()
    reason: str = ""
    compile_only: bool = False

    @property
    def ok(self) -> bool:
        """Whether it passes: whole on the GPU and, where it was run, within `GATE`."""
        return not self.reason

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it; an infinite error is null, with `fp16_overflows` for 16-bit math."""
        facts = dataclasses.asdict(self) | {"file": str(self.file), "ok": self.ok}
        facts["fp16_overflows"] = self.relative_error_fp16 == math.inf
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in facts.items()
        }


def check_on_gpu(
    path: Path,
    *,
    compile_only: bool = False,
    time_limit: float = 300.0,
    fp16: bool = True,
    inputs: Path | None = None,
    worker: Sequence[str] = _WORKER,
) -> GpuVerdict:
    """Run one file on the GPU delegate and on the CPU, and compare.

    Args:
        path: the .tflite file.
        compile_only: stop when the delegate has taken the graph (for full-size networks).
        time_limit: seconds after which the process is ended.
        fp16: run it with 16-bit GPU math too, which compiles all shaders a second time.
        inputs: an .npz with an array per input; seeded noise without.
        worker: the command that prints the findings; the file and flags are appended.

    Every failure is a verdict: a refusal, a crash, a time-out, no memory, no GPU.
    """
    lacking = why_no_gpu()
    if lacking:
        return GpuVerdict(path, reason=lacking, compile_only=compile_only)
    command = [*worker, str(path), "--threads", str(min(_THREADS, os.cpu_count() or 1))]
    command += ["--compile-only"] if compile_only else []
    command += [] if fp16 else ["--no-fp16"]
    command += ["--inputs", str(inputs)] if inputs else []
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=time_limit,
            env=gpu_environment(),
        )
        output, chatter, ended = done.stdout, done.stderr, _ending(done.returncode)
    except subprocess.TimeoutExpired as late:
        output, chatter = late.stdout or b"", late.stderr or b""
        measured = b'"relative_error"' in output  # only the run in 16 bits was not done
        ended = "" if measured else f"not done after {time_limit:g} s, stopped"
    except OSError as error:
        output, chatter, ended = b"", b"", f"the check could not be started ({error.strerror})"
    return _verdict(path, compile_only, output, chatter.decode(errors="replace"), ended)


def tflite_files(bundle: Bundle) -> list[Path]:
    """Every .tflite file of a bundle, in running order."""
    entries = bundle.all_files()
    return [bundle.path / entry["path"] for entry in entries if entry["target"] == "tflite"]


def _verdict(path: Path, compile_only: bool, output: bytes, chatter: str, ended: str) -> GpuVerdict:
    findings = _findings(output)
    error = str(findings.pop("error", ""))
    misread = tuple(findings.pop("misread", ()))
    adapter = re.search(r"Selected adapter: (.*?), arch=", chatter)
    verdict = dataclasses.replace(
        GpuVerdict(path, adapter=adapter[1] if adapter else "", compile_only=compile_only),
        rejected=rejected(chatter),
        misread=misread,
        **findings,
    )
    return dataclasses.replace(verdict, reason=_reason(verdict, error, chatter, ended))


def _reason(verdict: GpuVerdict, error: str, chatter: str, ended: str) -> str:
    if "No adapters found" in chatter:
        return NO_ADAPTER
    if verdict.rejected:
        return f"the GPU delegate refuses {'; '.join(verdict.rejected)}"
    if re.search(r"bad_alloc|OUT_OF_\w*MEMORY|out of memory", chatter):
        return "not enough memory for this file"
    if ended:
        return ended
    if error:
        return f"{error}{_last_error(chatter)}"
    if not verdict.fully_accelerated:
        return "only part of the graph runs on the GPU"
    blame = _blame(verdict.misread)
    if verdict.compile_only:
        return blame
    if verdict.relative_error is None:
        return "the check ended without a result"
    if not math.isfinite(verdict.relative_error):
        return "the GPU gives values that are not finite"
    if verdict.relative_error > GATE:
        differs = f"the GPU differs from the CPU by {verdict.relative_error:.1e} (gate {GATE:.0e})"
        return f"{differs}; {blame}" if blame else differs
    return ""


def _blame(misread: tuple[str, ...]) -> str:
    if not misread:
        return ""
    others = f" and {len(misread) - 1} more" if len(misread) > 1 else ""
    return f"the GPU delegate misreads {misread[0]}{others} (a constant of higher rank)"


def _findings(output: bytes) -> dict[str, Any]:
    """All lines of the worker put together; a line cut off by a crash is left out."""
    known = {field.name for field in dataclasses.fields(GpuVerdict)} | {"error"}
    findings: dict[str, Any] = {}
    for line in output.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            findings |= {name: value for name, value in entry.items() if name in known}
    return findings


def _last_error(chatter: str) -> str:
    """What the delegate said last as an error, in brackets."""
    lines = re.findall(r"^(?:ERROR: \[[^\]]*\]|E\d{4}[^\]]*\]) *(\S.*)$", chatter, re.M)
    return f" ({lines[-1].strip()})" if lines else ""


def _ending(status: int) -> str:
    """Why the process ended, where it did not end well."""
    if status == 0:
        return ""
    if status == -signal.SIGKILL:
        return "killed by the system: most likely out of memory"
    if status < 0:
        return f"the GPU delegate crashed ({signal.Signals(-status).name})"
    return f"the check failed (exit status {status})"
