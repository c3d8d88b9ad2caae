"""The litert runtime: one .tflite run by LiteRT on CPU or GPU."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.processes.memory import let_pages_go
from coreml_sd.runtimes.base import Array, TensorInfo, check_inputs
from coreml_sd.runtimes.litert.extra import require_android
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.litert.native.buffer import Buffer
from coreml_sd.runtimes.litert.native.library import LiteRTError
from coreml_sd.runtimes.litert.native.model import Model
from coreml_sd.runtimes.litert.native.options import CPU, GPU
from coreml_sd.runtimes.litert.refusal import rejected
from coreml_sd.upstream.noise import quiet_native

Accelerator = Literal["cpu", "gpu"]
ACCELERATORS: tuple[Accelerator, ...] = ("cpu", "gpu")

_WORTH_A_FILE = 1 << 30  # bytes of packed weights
_SPARE = 2  # times that much must be free on the disk


class LiteRTNetwork:
    """One .tflite run by LiteRT (see `coreml_sd.runtimes.base.Network`).

    Inputs and outputs live in LiteRT's own buffers, made once, so that what does not change between
    runs is written once. A buffer can be handed to another network of the same accelerator (see
    `bind`): what one network gives is then what the next reads. With `exact` the GPU computes in
    fp32. With `scratch`, a folder, the CPU's packed copy of the weights is a mapped file there, of
    which the system can take back what it needs, and not private memory; results are the same.

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
        scratch: Path | None = None,
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
        # The GPU delegate writes straight to the terminal, and tells only there why it refuses.
        with quiet_native() if accelerator == "gpu" else contextlib.nullcontext(str) as noise:
            try:
                self._model = _compiled(path, accelerator, threads or _threads(), exact, scratch)
            except LiteRTError as error:
                raise UserError(_refusal(path, accelerator, noise(), error)) from None
            self._own = {name: self.new_buffer(name) for name in (*self._inputs, *self._outputs)}
            self._bound = dict(self._own)
            for name, info in self._inputs.items():
                self.write(name, np.zeros(info.shape, info.dtype))

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
        """Put one input into its buffer, where it stays for the next passes too.

        Raises:
            UserError: no such input, or another shape.
            CoremlSDError: the network is closed, or LiteRT fails.
        """
        if name not in self._inputs:
            raise UserError(
                f"{self.path.name}: no input {name}; it takes {', '.join(self._inputs)}"
            )
        info = {name: self._inputs[name]}
        given = check_inputs(self.path.name, info, {name: array})
        with self._reported("write its input"):
            self.buffer(name).write(given[name])

    def read(self, name: str) -> Array:
        """What the buffer of an output holds.

        Raises:
            CoremlSDError: the network is closed, or LiteRT fails.
        """
        with self._reported("read its output"):
            return self.buffer(name).read()

    def new_buffer(self, name: str) -> Buffer:
        """Another buffer for an input or output, for `bind`; whoever asks for it destroys it.

        Raises:
            CoremlSDError: the network is closed, or LiteRT fails.
        """
        with self._reported("make its buffers"):
            return self._model.new_buffer(self._inputs.get(name) or self._outputs[name])

    def buffer(self, name: str) -> Buffer:
        """The buffer that an input or output uses now.

        Raises:
            CoremlSDError: the network is closed.
        """
        if not self._bound:
            raise CoremlSDError(f"{self.path}: closed")
        return self._bound[name]

    def bind(self, name: str, buffer: Buffer) -> None:
        """Use another buffer for an input or output from now on; nothing is copied.

        Raises:
            CoremlSDError: the buffer has another shape or dtype, or the network is closed.

        Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.9).
        """
        now = self.buffer(name)
        if (buffer.shape, buffer.dtype) != (now.shape, now.dtype):
            given = f"{buffer.shape} {buffer.dtype}"
            raise CoremlSDError(
                f"{self.path}: {name} needs a buffer of {now.shape} {now.dtype}, not of {given}"
            )
        self._bound[name] = buffer

    def step(self) -> dict[str, Array]:
        """One pass over what the buffers hold.

        Raises:
            CoremlSDError: the network is closed, or LiteRT fails.
        """
        self.invoke()
        return {name: self.read(name) for name in self._outputs}

    def invoke(self) -> None:
        """One pass over what the buffers hold; results stay in the buffers.

        Other threads go on meanwhile; a second pass of the same network waits for the first.

        Raises:
            CoremlSDError: the network is closed, or LiteRT fails.
        """
        with self._reported("run it"):
            self._model.run({name: self.buffer(name) for name in (*self._inputs, *self._outputs)})

    def close(self) -> None:
        """Give the memory back; a second time does nothing."""
        for buffer in self._own.values():
            buffer.destroy()
        self._own, self._bound = {}, {}
        self._model.close()

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        """LiteRT's errors, with the file."""
        try:
            yield
        except LiteRTError as error:
            raise CoremlSDError(f"{self.path}: LiteRT could not {what}: {error}") from None


def label(accelerator: Accelerator) -> str:
    """How results of this runtime are marked."""
    return (
        "run by LiteRT on the CPU (XNNPACK)" if accelerator == "cpu" else "run by LiteRT on the GPU"
    )


def _compiled(
    path: Path, accelerator: Accelerator, threads: int, exact: bool, scratch: Path | None
) -> Model:
    if accelerator == "cpu":
        return _packed(path, threads, scratch) or Model(path, CPU, threads=threads)
    model = Model(path, GPU, exact=exact)
    if not model.is_fully_accelerated():
        raise UserError(f"{path}: only a part of it runs on the GPU; use the cpu runtime")
    return model


def _packed(path: Path, threads: int, scratch: Path | None) -> Model | None:
    """With its packed weights in a file without a name; None where that cannot or need not be."""
    if scratch is None or os.name != "posix":  # elsewhere a file in use keeps its name
        return None
    size = _packed_bytes(path)
    # XNNPACK ends the process when the disk is full, so it has to be far from that.
    if size < _WORTH_A_FILE or shutil.disk_usage(scratch).free < _SPARE * size:
        return None
    try:
        with TemporaryDirectory(prefix=".packed-", dir=scratch) as folder:
            model = Model(path, CPU, threads=threads, packed=Path(folder) / "weights")
    except (LiteRTError, OSError):  # if it is the model's fault, that is told without
        return None
    let_pages_go(path)  # the weights are read where they were packed
    return model


def _packed_bytes(path: Path) -> int:
    """Bytes of all constants in fp32."""
    tensors = (tensor for graph in TFLiteFile(path).graphs for tensor in graph.tensors)
    elements = {tensor.buffer: tensor.elements for tensor in tensors if tensor.is_constant}
    return 4 * sum(elements.values())


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else os.cpu_count() or 1


def _refusal(path: Path, accelerator: Accelerator, noise: str, error: LiteRTError) -> str:
    """One line: what LiteRT would not do, and the remedy."""
    if "No adapters found" in noise:
        return "no GPU here: install a Vulkan driver, run scripts/lavapipe, or use the CPU"
    reason = str(error)
    if ops := rejected(noise):
        reason = f"not supported by GPU delegate: {'; '.join(ops)}"
    elif errors := [line for line in noise.splitlines() if line.startswith("ERROR: ")]:
        reason = errors[0].removeprefix("ERROR: ")
    where = "the GPU" if accelerator == "gpu" else "LiteRT"
    return f"{path}: {where} refuses it ({reason}); run `coreml-sd lint` on it"
