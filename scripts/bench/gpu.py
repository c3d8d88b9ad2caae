"""Does LiteRT's GPU delegate take a whole UNet of this size? Compiled only, nothing is run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from coreml_sd.runtimes.litert.gpu_gate import GpuVerdict, check_on_gpu
from coreml_sd.runtimes.litert.vulkan import why_no_gpu
from coreml_sd.targets.tflite.profiles import Quantization
from scripts.bench.networks import Measured, prepare, prepare_folders
from scripts.bench.report import Section, machine

FILES: tuple[tuple[str, Quantization], ...] = (("gpu", "fp16"), ("adreno7xx", "int8"))
TIME_LIMIT = 900.0
_PAUSE = 0.2


@dataclass
class Watched:
    """The largest resident set of a process that was started meanwhile, in GB."""

    peak_gb: float = 0.0
    ended: bool = False  # by the watch, for it took more than it may


def compile_all(measured: Measured, limit_gb: float | None, say: Callable[[str], None]) -> Section:
    """Compile the forms of the GPU profiles, one after the other."""
    if lacking := why_no_gpu():
        raise SystemExit(lacking)
    limit = limit_gb or 0.7 * psutil.virtual_memory().available / 1e9
    prepare_folders(measured)
    rows, facts = [], []
    for form, weights in FILES:
        path = prepare(measured, form, weights)
        with _watch(limit) as watched:
            verdict = check_on_gpu(path, compile_only=True, time_limit=TIME_LIMIT)
        answer = _answer(verdict, watched, limit)
        seconds = verdict.compile_seconds
        took = "-" if seconds is None else f"{seconds:.0f}"
        say(f"{path.name}: {answer}, {took} s, {watched.peak_gb:.1f} GB")
        rows.append(f"| {form} | {weights} | {answer} | {took} | {watched.peak_gb:.1f} |")
        facts.append(verdict.to_json() | {"peak_gb": watched.peak_gb, "limit_gb": limit})
    shape = "x".join(map(str, measured.component.inputs[0].shape))
    lines = [
        f"**{measured.model}**, latent {shape}, compiled only ({machine()}; {verdict.adapter}):",
        "",
        "| profile | weights | taken by the delegate | seconds | peak GB |",
        "|---|---|---|---|---|",
        *rows,
    ]
    name = f"{measured.model}-batch{measured.batch}-gpu"
    return Section(name, "\n".join(lines), {"model": measured.model, "files": facts})


def _answer(verdict: GpuVerdict, watched: Watched, limit: float) -> str:
    if watched.ended:
        return f"not known: stopped at {limit:.0f} GB"
    return "all ops" if verdict.ok else verdict.reason


@contextmanager
def _watch(limit_gb: float) -> Iterator[Watched]:
    """Look at the children of this process, and end the one that takes more than the limit."""
    watched, done = Watched(), threading.Event()

    def look() -> None:
        while not done.wait(_PAUSE):
            for child in psutil.Process().children(recursive=True):
                try:
                    resident = child.memory_info().rss / 1e9
                    watched.peak_gb = max(watched.peak_gb, resident)
                    if resident > limit_gb:
                        watched.ended = True
                        child.kill()
                except psutil.NoSuchProcess:
                    continue

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield watched
    finally:
        done.set()
        watcher.join()
