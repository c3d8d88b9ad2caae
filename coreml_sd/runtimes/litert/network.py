"""The litert runtime: one .tflite run by LiteRT's CompiledModel on CPU or GPU."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.libraries import quiet_native
from coreml_sd.runtimes.base import Array, TensorInfo, check_inputs
from coreml_sd.runtimes.litert.extra import require_android
from coreml_sd.runtimes.litert.file import TFLiteFile

Accelerator = Literal["cpu", "gpu"]
ACCELERATORS: tuple[Accelerator, ...] = ("cpu", "gpu")


class LiteRTNetwork:
    """One .tflite run by LiteRT (see `coreml_sd.runtimes.base.Network`).

    Inputs and outputs live in LiteRT's own buffers, made once, so that what does not change between
    runs is written once. A buffer can be handed to another network of the same accelerator (see
    `bind`): what one network gives is then what the next reads. With `exact` the GPU computes in
    fp32.

    Raises:
        UserError: the extra `android` is missing, the file is damaged, or the accelerator is not
            there or refuses the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        accelerator: Accelerator = "cpu",
        threads: int | None = None,
        exact: bool = False,
    ) -> None:
        require_android()
        self.path, self.accelerator = path, accelerator
        signatures = TFLiteFile(path).signatures
        if len(signatures) != 1:
            raise UserError(f"{path}: {len(signatures)} signatures instead of one; convert again")
        self._key = signatures[0].key
        self._inputs = {
            name: TensorInfo(name, tensor.shape, tensor.dtype)
            for name, tensor in signatures[0].inputs.items()
        }
        self._outputs = {
            name: TensorInfo(name, tensor.shape, tensor.dtype)
            for name, tensor in signatures[0].outputs.items()
        }
        with quiet_native() as noise:
            try:
                self._model = _compiled(path, accelerator, threads or _threads(), exact)
            except RuntimeError as error:
                raise UserError(_refusal(path, accelerator, noise(), error)) from None
            if accelerator == "gpu" and not self._model.is_fully_accelerated():
                raise UserError(f"{path}: only a part of it runs on the GPU; use the cpu runtime")
            self._own = {name: self.new_buffer(name) for name in (*self._inputs, *self._outputs)}
            self._bound = dict(self._own)
            for name, info in self._inputs.items():
                self.write(name, np.zeros(info.shape, info.dtype))
        _silence_the_end()

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        """Declared inputs by name."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        """Declared outputs by name."""
        return self._outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One pass."""
        for name, array in check_inputs(self.path.name, self._inputs, inputs).items():
            self.write(name, array)
        return self.step()

    def write(self, name: str, array: Array) -> None:
        """Put one input into its buffer, where it stays for the next passes too."""
        self._bound[name].write(np.ascontiguousarray(array))

    def read(self, name: str) -> Array:
        """What the buffer of an output holds."""
        info = self._outputs[name]
        flat = self._bound[name].read(int(np.prod(info.shape)), np.dtype(info.dtype))
        array: Array = flat.reshape(info.shape)
        return array

    def new_buffer(self, name: str) -> Any:
        """Another buffer for an input or output, for `bind`; whoever asks for it destroys it."""
        if name in self._inputs:
            return self._model.create_input_buffer_by_name(self._key, name)
        return self._model.create_output_buffer_by_name(self._key, name)

    def buffer(self, name: str) -> Any:
        """The buffer that an input or output uses now."""
        return self._bound[name]

    def bind(self, name: str, buffer: Any) -> None:
        """Use another buffer for an input or output from now on; nothing is copied.

        Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.9).
        """
        self._bound[name] = buffer

    def step(self) -> dict[str, Array]:
        """One pass over what the buffers hold.

        Raises:
            CoremlSDError: LiteRT fails.
        """
        self.invoke()
        return {name: self.read(name) for name in self._outputs}

    def invoke(self) -> None:
        """One pass over what the buffers hold; results stay in the buffers.

        Raises:
            CoremlSDError: LiteRT fails.
        """
        try:
            self._model.run_by_name(
                self._key,
                {name: self._bound[name] for name in self._inputs},
                {name: self._bound[name] for name in self._outputs},
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise CoremlSDError(f"{self.path}: LiteRT could not run it: {reason}") from None

    def close(self) -> None:
        """Give the memory back."""
        for buffer in self._own.values():
            buffer.destroy()
        self._own, self._bound = {}, {}
        self._model.close()


def label(accelerator: Accelerator) -> str:
    """How results of this runtime are marked."""
    return (
        "run by LiteRT on the CPU (XNNPACK)" if accelerator == "cpu" else "run by LiteRT on the GPU"
    )


def _compiled(path: Path, accelerator: Accelerator, threads: int, exact: bool) -> Any:
    from ai_edge_litert.compiled_model import (
        CompiledModel,
        CpuOptions,
        GpuOptions,
        HardwareAccelerator,
        Options,
    )

    if accelerator == "gpu":
        options = Options(
            hardware_accelerators=HardwareAccelerator.GPU,
            gpu_options=GpuOptions(enforce_f32=exact),
        )
    else:
        options = Options(
            hardware_accelerators=HardwareAccelerator.CPU,
            cpu_options=CpuOptions(num_threads=threads),
        )
    return CompiledModel.from_file(str(path), options=options, environment=_environment())


@functools.cache
def _environment() -> Any:
    """One for the whole process, so that networks can hand each other their buffers."""
    from ai_edge_litert.environment import Environment

    return Environment.create()


@functools.cache
def _silence_the_end() -> None:
    """LiteRT lists what it takes down on stderr, after the last line of Python."""
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else os.cpu_count() or 1


def _refusal(path: Path, accelerator: Accelerator, noise: str, error: Exception) -> str:
    """One line: what LiteRT would not do, and the remedy."""
    if accelerator == "gpu" and "No adapters found" in noise:
        return "no GPU here: install a Vulkan driver, run scripts/lavapipe, or use the CPU"
    lines = [line.strip() for line in (*noise.splitlines(), *str(error).splitlines())]
    refused = [line for line in lines if "not supported by GPU delegate" in line]
    reason = next(iter(refused), lines[-1] if lines else "no reason given")
    where = "the GPU" if accelerator == "gpu" else "LiteRT"
    return f"{path}: {where} refuses it ({reason}); run `coreml-sd lint` on it"
