"""Write a finished program as an .mlpackage; large weights go from their source to weight.bin."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.bits import pack_bits, packed_size
from coreml_sd.compress.palette import Palette
from coreml_sd.errors import CoremlSDError
from coreml_sd.models.weights import Weights, fp16_value, fp32_value
from coreml_sd.targets.coreml.stand_ins import StandIns
from coreml_sd.targets.coreml.weight_file import WeightFile

_AUTHOR = "com.apple.CoreML"
_BLOB_NAME = "@model_path/weights/weight.bin"
_FEWEST_IN_FILE = 10  # smaller values stand in the program itself, as coremltools has it

Fill = tuple[str, Callable[[], None]]  # a parameter and what writes its payload


def program_spec(
    program: Any,
    stand_ins: StandIns,
    weights: Weights,
    palettes: Mapping[str, Palette],
    file: WeightFile,
    min_os: str,
) -> tuple[Any, dict[str, str], list[Fill]]:
    """The program as Core ML's protobuf.

    Small constants are written to `file` at once; of layer weights only the places are given out.

    Returns:
        The model spec; the name in the program of each parameter's weight; the writers of the
        payloads, which may run in any order and on any thread.

    Raises:
        CoremlSDError: a palette that the system cannot load.
    """
    import coremltools as ct
    from coremltools.converters.mil.backend.mil.load import CoreMLProtoExporter

    version = getattr(ct.target, min_os).value
    translator = _translator(program, stand_ins, weights, palettes, file, version)
    exporter = CoreMLProtoExporter(
        program, translator.export(), None, None, None, "mlprogram", "pytorch", version
    )
    return exporter.export(version), translator.names, translator.fills


def write_package(folder: Path, spec: Any) -> None:
    """The spec and the manifest beside the weights; equal specs give equal bytes."""
    model = folder / "Data" / _AUTHOR / "model.mlmodel"
    model.write_bytes(spec.SerializeToString(deterministic=True))
    items = {
        _identifier(name): {
            "author": _AUTHOR,
            "description": description,
            "name": name,
            "path": f"{_AUTHOR}/{name}",
        }
        for name, description in (
            ("model.mlmodel", "CoreML Model Specification"),
            ("weights", "CoreML Model Weights"),
        )
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": _identifier("model.mlmodel"),
    }
    (folder / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n", "utf-8")


def weight_path(folder: Path) -> Path:
    """Where a package's weight file lies; its folder is made."""
    path = folder / "Data" / _AUTHOR / "weights" / "weight.bin"
    path.parent.mkdir(parents=True)
    return path


def _identifier(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"coreml-sd/{name}"))


def _translator(
    program: Any,
    stand_ins: StandIns,
    weights: Weights,
    palettes: Mapping[str, Palette],
    file: WeightFile,
    version: int,
) -> Any:
    """coremltools' translation of a program, with our weight file and our weights in it."""
    import coremltools as ct
    from coremltools.converters.mil.backend.mil import helper
    from coremltools.converters.mil.backend.mil.load import MILProtoExporter
    from coremltools.converters.mil.mil import types
    from coremltools.proto import MIL_pb2

    class Translator(MILProtoExporter):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(program, str(file.path.parent), version)
            self.names: dict[str, str] = {}
            self.fills: list[Fill] = []

        def create_file_value(self, var: Any) -> Any:
            value = np.asarray(var.val)
            return self._in_file(file.add(value), value.dtype.name, value.shape)

        def translate_const(self, op: Any) -> Any:
            var = op.outputs[0]
            name = stand_ins.name_of(var.val)
            if name is None:
                return super().translate_const(op)
            self.names[name] = var.name
            kind = "const"
            arguments: dict[str, Any]
            if name in palettes:
                kind, arguments = "constexpr_lut_to_dense", self._palettized(name, palettes[name])
            else:
                arguments = {"val": self._dense(name, var.val)}
            attributes = {"name": helper.create_scalar_value(op.name)}
            inputs = {}
            if kind == "const" or version < ct.target.iOS18.value:
                attributes |= arguments
            else:
                for key, value in arguments.items():
                    binding = MIL_pb2.Argument.Binding(value=value)
                    inputs[key] = MIL_pb2.Argument(arguments=[binding])
            result = MIL_pb2.NamedValueType(name=var.name, type=self.types_to_proto(var.sym_type))
            return MIL_pb2.Operation(
                type=kind, inputs=inputs, attributes=attributes, outputs=[result]
            )

        def _dense(self, name: str, value: NDArray[Any]) -> Any:
            offset = file.reserve(value.dtype.name, value.size * value.dtype.itemsize)
            read: Callable[[Weights, str], NDArray[Any]]
            read = fp16_value if value.dtype == np.float16 else fp32_value
            self.fills.append((name, lambda: file.fill(offset, read(weights, name))))
            return self._in_file(offset, value.dtype.name, value.shape)

        def _palettized(self, name: str, palette: Palette) -> dict[str, Any]:
            size, bits = math.prod(palette.shape), palette.bits
            indices_shape: tuple[int, ...] = (packed_size(size, bits),)
            element, table, unused = "uint8", palette.lut.reshape(-1), 0
            if version >= ct.target.iOS18.value:
                element, indices_shape = f"uint{bits}", palette.shape
                unused = 8 * packed_size(size, bits) - size * bits
                table = palette.lut.reshape(
                    palette.groups, *(1,) * (len(palette.shape) - 1), 1 << bits, 1
                )
            elif palette.groups != 1:
                raise CoremlSDError(f"{name}: palettes per group of channels need iOS18")
            offset = file.reserve(element, packed_size(size, bits), unused)

            def fill() -> None:
                weight = fp16_value(weights, name).reshape(palette.shape)
                file.fill(offset, pack_bits(palette.indices(weight), bits))

            self.fills.append((name, fill))
            arguments = {"indices": self._in_file(offset, element, indices_shape)}
            if table.size >= _FEWEST_IN_FILE:
                arguments["lut"] = self._in_file(file.add(table), "float16", table.shape)
            else:
                arguments["lut"] = helper.create_tensor_value(table)
            if version < ct.target.iOS18.value:
                shape = np.array(palette.shape, dtype=np.uint32)
                arguments["shape"] = helper.create_tensor_value(shape)
            return arguments

        def _in_file(self, offset: int, element: str, shape: tuple[int, ...]) -> Any:
            names = {"float16": "fp16", "float32": "fp32"}
            kind = types.string_to_builtin(names.get(element, element))
            return helper.create_file_value_tensor(
                file_name=_BLOB_NAME,
                offset=offset,
                dim=shape,
                data_type=helper.types_to_proto_primitive(kind),
            )

    return Translator()
