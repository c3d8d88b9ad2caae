"""One file on the GPU delegate and on the CPU, in a process of its own (see `gpu_gate`).

The delegate may end the process that it runs in; so every finding is printed at once, as one line
of JSON on stdout, and the last line that came out is what was reached.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.litert.mixed_rank import mixed_rank_ops

Arrays = dict[str, NDArray[Any]]
Report = Callable[..., None]
_TIMESTEP = 500.0
_SHORTEST_WAIT = 30.0  # seconds; a lock that fails sooner did not fail because it waited
_PADDING = 8  # tokens at the end of the ids that are all the end token, as in a short prompt


def relative_error(reference: Mapping[str, NDArray[Any]], found: Mapping[str, Any]) -> float:
    """max|found - reference| / max|reference|, the worst over all outputs; infinite for NaN."""
    worst = 0.0
    for name, wanted in reference.items():
        if not np.isfinite(found[name]).all():
            return float("inf")
        scale = float(np.abs(wanted).max())
        error = float(np.abs(np.asarray(found[name], np.float64) - wanted).max())
        worst = max(worst, error / (scale or 1.0))
    return worst


def sample_inputs(file: TFLiteFile) -> Arrays:
    """Inputs for the first signature: noise seeded by name and shape, ids below the vocabulary,
    timestep 500."""
    arrays: Arrays = {}
    for name, tensor in file.signatures[0].inputs.items():
        generator = np.random.default_rng(zlib.crc32(f"{name}{tensor.shape}".encode()))
        if name.endswith("ids") or tensor.dtype.startswith("int"):
            tokens = _vocabulary(file)
            array: NDArray[Any] = generator.integers(0, tokens, tensor.shape)
            array[..., -_PADDING:] = tokens - 1
        elif name == "timestep":
            array = np.full(tensor.shape, _TIMESTEP)
        else:
            array = generator.standard_normal(tensor.shape)
        arrays[name] = array.astype(tensor.dtype)
    return arrays


def check(
    path: Path,
    report: Report,
    *,
    compile_only: bool,
    fp16: bool,
    inputs: Path | None,
    threads: int,
) -> None:
    """Compile and run the file, reporting each finding by name as soon as it is known."""
    file = TFLiteFile(path)
    if not file.signatures:
        raise CoremlSDError("the file has no signature")
    report(misread=[f"{op.kind} in {op.layer}" for op in mixed_rank_ops(file)])
    feeds = {} if compile_only else _read(inputs) if inputs else sample_inputs(file)
    begin = time.monotonic()
    model = _gpu_model(path, exact=not compile_only)
    report(fully_accelerated=model.is_fully_accelerated(), compile_seconds=time.monotonic() - begin)
    if compile_only:
        return
    reference = _run(_cpu_model(path, threads), feeds)
    if not all(np.isfinite(array).all() for array in reference.values()):
        raise CoremlSDError("the CPU gives values that are not finite")
    begin = time.monotonic()
    outputs = _run(model, feeds)
    report(relative_error=relative_error(reference, outputs), run_seconds=time.monotonic() - begin)
    if not fp16:
        return
    model.close()
    outputs = _run(_gpu_model(path, exact=False), feeds)
    report(relative_error_fp16=relative_error(reference, outputs))


def _gpu_model(path: Path, *, exact: bool) -> Any:
    """Compiled for the GPU alone: any op that the delegate leaves to the CPU is an error."""
    from ai_edge_litert.compiled_model import (
        CompiledModel,
        GpuOptions,
        HardwareAccelerator,
        Options,
    )

    options = Options(
        hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=exact)
    )
    return CompiledModel.from_file(str(path), options=options)


def _cpu_model(path: Path, threads: int) -> Any:
    from ai_edge_litert.compiled_model import (
        CompiledModel,
        CpuOptions,
        HardwareAccelerator,
        Options,
    )

    options = Options(
        hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=threads)
    )
    return CompiledModel.from_file(str(path), options=options)


def _run(model: Any, feeds: Arrays) -> Arrays:
    """Outputs of the first signature by name, as float64."""
    key = next(iter(model.get_signature_list()))
    shapes = model.get_output_tensor_details(key)
    sources = {name: model.create_input_buffer_by_name(key, name) for name in feeds}
    sinks = {name: model.create_output_buffer_by_name(key, name) for name in shapes}
    for name, buffer in sources.items():
        buffer.write(np.ascontiguousarray(feeds[name]))
    model.run_by_name(key, sources, sinks)
    wait_until_computed(model, key)
    return {
        name: np.asarray(
            sinks[name].read(int(np.prod(entry["shape"])), np.dtype(entry["dtype"])), np.float64
        )
        for name, entry in shapes.items()
    }


def wait_until_computed(model: Any, key: str) -> None:
    """Wait until the GPU has done all that it was given.

    Locking a buffer waits for that, too, but for 120 seconds at most (LiteRT 2.3), and a buffer
    whose lock failed can never be locked again: so buffers that nobody needs are locked until
    one can be. How long that may take is the gate's time limit.
    """
    name, entry = next(iter(model.get_output_tensor_details(key).items()))
    held = []
    while True:
        held.append(model.create_output_buffer_by_name(key, name))
        begin = time.monotonic()
        try:
            held[-1].read(1, np.dtype(entry["dtype"]))
            return
        except RuntimeError:
            if time.monotonic() - begin < _SHORTEST_WAIT:
                raise  # another failure than that of waiting


def _vocabulary(file: TFLiteFile) -> int:
    """Rows of the smallest table that is read by ids; 2 where none is."""
    rows = [
        table.shape[0]
        for graph in file.graphs
        for op in graph.ops
        if op.kind in ("EMBEDDING_LOOKUP", "GATHER")
        and (table := op.inputs[op.kind == "EMBEDDING_LOOKUP"]) is not None
        and table.shape
    ]
    return min(rows, default=2)


def _read(path: Path) -> Arrays:
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


def main() -> None:
    """Print findings; a failure that Python sees is the finding `error`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--no-fp16", action="store_true")
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the native libraries print must not mix with the findings

    def report(**findings: Any) -> None:
        print(json.dumps(findings), file=out, flush=True)

    try:
        check(
            asked.path,
            report,
            compile_only=asked.compile_only,
            fp16=not asked.no_fp16,
            inputs=asked.inputs,
            threads=asked.threads,
        )
    except MemoryError:
        report(error="out of memory")
    except struct.error as error:
        report(error=f"{asked.path}: damaged ({error}); convert again")
    except Exception as error:  # every failure becomes a finding
        report(error=" ".join(str(error).split()) or type(error).__name__)
    out.flush()
    sys.stderr.flush()
    os._exit(0)  # the delegate's clean-up at exit may crash after the work is done


if __name__ == "__main__":
    main()
