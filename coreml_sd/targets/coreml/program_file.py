"""Write a finished program as an .mlpackage, beside the weights that are in its weight.bin."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coreml_sd.compress.palette import Palette
from coreml_sd.errors import CoremlSDError
from coreml_sd.targets.coreml.layer_payloads import LayerPayload
from coreml_sd.targets.coreml.placeholders import StandIns
from coreml_sd.targets.coreml.weight_file import WeightFile

_AUTHOR = "com.apple.CoreML"
_BLOB_NAME = "@model_path/weights/weight.bin"
_FEWEST_IN_FILE = 10  # smaller values stand in the program itself, as coremltools has it


def program_spec(
    program: Any,
    stand_ins: StandIns,
    layers: Mapping[str, LayerPayload],
    file: WeightFile,
    min_os: str,
) -> tuple[Any, dict[str, str]]:
    """The program as Core ML's protobuf; its constants other than `layers` go to `file`.

    Returns:
        The model spec; the name in the program of each parameter's weight.

    Raises:
        CoremlSDError: a palette that the system cannot load, or a weight that was written in
            another type than the program has.
    """
    import coremltools as ct
    from coremltools.converters.mil.backend.mil.load import CoreMLProtoExporter

    version = getattr(ct.target, min_os).value
    translator = _translator(program, stand_ins, layers, file, min_os)
    exporter = CoreMLProtoExporter(
        program, translator.export(), None, None, None, "mlprogram", "pytorch", version
    )
    return exporter.export(version), translator.names


def has_sub_byte_types(min_os: str) -> bool:
    """Whether systems from `min_os` on know types of fewer than 8 bits, and with them palettes per
    group of channels."""
    import coremltools as ct

    return bool(getattr(ct.target, min_os) >= ct.target.iOS18)


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
    layers: Mapping[str, LayerPayload],
    file: WeightFile,
    min_os: str,
) -> Any:
    """coremltools' translation of a program, with our weight file and our weights in it."""
    import coremltools as ct
    from coremltools.converters.mil.backend.mil import helper
    from coremltools.converters.mil.backend.mil.load import MILProtoExporter
    from coremltools.converters.mil.mil import types
    from coremltools.proto import MIL_pb2

    sub_byte = has_sub_byte_types(min_os)

    class Translator(MILProtoExporter):  # type: ignore[misc]
        def __init__(self) -> None:
            version = getattr(ct.target, min_os).value
            super().__init__(program, str(file.path.parent), version)
            self.names: dict[str, str] = {}

        def create_file_value(self, var: Any) -> Any:
            value = np.asarray(var.val)
            return self._in_file(file.add(value), value.dtype.name, value.shape)

        def translate_const(self, op: Any) -> Any:
            var = op.outputs[0]
            name = stand_ins.name_of(var.val)
            if name is None:
                return super().translate_const(op)
            self.names[name] = var.name
            layer = layers[name]
            stored = self._in_file(layer.offset, layer.element, layer.shape)
            kind = "const"
            arguments: dict[str, Any] = {"val": stored}
            if layer.palette is not None:
                kind = "constexpr_lut_to_dense"
                arguments = {"indices": stored} | self._table(name, layer.palette)
            elif layer.element != var.val.dtype.name:
                raise CoremlSDError(f"{name}: written as {layer.element}, not {var.val.dtype}")
            attributes = {"name": helper.create_scalar_value(op.name)}
            inputs = {}
            if kind == "const" or not sub_byte:
                attributes |= arguments
            else:
                for key, value in arguments.items():
                    binding = MIL_pb2.Argument.Binding(value=value)
                    inputs[key] = MIL_pb2.Argument(arguments=[binding])
            result = MIL_pb2.NamedValueType(name=var.name, type=self.types_to_proto(var.sym_type))
            return MIL_pb2.Operation(
                type=kind, inputs=inputs, attributes=attributes, outputs=[result]
            )

        def _table(self, name: str, palette: Palette) -> dict[str, Any]:
            arguments = {}
            if sub_byte:
                ones = (1,) * (len(palette.shape) - 1)
                table = palette.lut.reshape(palette.groups, *ones, 1 << palette.bits, 1)
            elif palette.groups != 1:
                raise CoremlSDError(f"{name}: palettes per group of channels need iOS18")
            else:
                table = palette.lut.reshape(-1)
                shape = np.array(palette.shape, dtype=np.uint32)
                arguments["shape"] = helper.create_tensor_value(shape)
            if table.size >= _FEWEST_IN_FILE:
                arguments["lut"] = self._in_file(file.add(table), "float16", table.shape)
            else:
                arguments["lut"] = helper.create_tensor_value(table)
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
