"""A saved .mlpackage: its protobuf, weights, metadata and operations, without Core ML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import read_bytes, read_table
from coreml_sd.files.inside_folder import file_inside
from coreml_sd.files.limits import LIMITS
from coreml_sd.runtimes.base import StoredWeight
from coreml_sd.runtimes.mil.blob import BlobFile
from coreml_sd.runtimes.mil.check import check_function, op_label
from coreml_sd.runtimes.mil.constexpr import DECODERS
from coreml_sd.runtimes.mil.unpacking import width_of
from coreml_sd.runtimes.mil.values import SUB_BYTE, element_and_shape, read_value
from coreml_sd.upstream.noise import quieten

_WEIGHT_PREFIX = "@model_path/"
# What decoding raises for parameters of wrong kinds and shapes.
_WRONG = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Operation:
    """One op of a program: what it is called, reads (by parameter) and declares to write."""

    name: str
    type: str
    proto: Any
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]  # name, element, shape


class Program:
    """One mlProgram of a package: functions of operations."""

    def __init__(self, model: Any, package: MilPackage) -> None:
        self.model, self.package = model, package
        if model.WhichOneof("Type") != "mlProgram":
            raise UserError(f"{package.path}: holds no ML program; convert again")
        if not model.mlProgram.functions:
            raise UserError(f"{package.path}: holds a program without functions; convert again")
        for name, proto in model.mlProgram.functions.items():
            check_function(str(package.path), name, proto)

    @property
    def functions(self) -> list[str]:
        """Names of the functions (several in a multifunction package)."""
        return list(self.model.mlProgram.functions)

    def function(self, name: str) -> Any:
        """The protobuf of one function.

        Raises:
            UserError: there is none of that name.
        """
        if name not in self.model.mlProgram.functions:
            held = ", ".join(self.functions)
            raise UserError(f"{self.package.path}: no function {name}; it has {held}")
        return self.model.mlProgram.functions[name]

    def block(self, function: str) -> Any:
        """The block of a function that its opset selects."""
        proto = self.function(function)
        return proto.block_specializations[proto.opset]

    def operations(self, function: str = "main") -> Iterator[Operation]:
        """The operations of one function, in order."""
        for proto in self.block(function).operations:
            label = op_label(proto)
            outputs = tuple(
                (out.name, *element_and_shape(out.type, f"{self.package.path}: op {label}"))
                for out in proto.outputs
            )
            yield Operation(label, proto.type, proto, outputs)


class MilPackage:
    """An .mlpackage folder.

    Raises:
        UserError: it is missing, incomplete or damaged; the file is named.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._blobs: dict[str, BlobFile] = {}
        self.spec = self._read_spec()

    def _read_spec(self) -> Any:
        quieten()
        from coremltools.proto import Model_pb2
        from google.protobuf.message import DecodeError

        self._model_path = file_inside(self.path, f"Data/{self._root()}")
        content = read_bytes(self._model_path, LIMITS.program_bytes)
        try:
            spec = Model_pb2.Model.FromString(content)
        except DecodeError as error:
            raise UserError(f"{self.path}: not a readable .mlpackage ({error})") from None
        if spec.WhichOneof("Type") not in ("mlProgram", "pipeline"):
            raise UserError(f"{self.path}: holds no ML program; convert again")
        return spec

    def _root(self) -> str:
        """Where the manifest says that the model lies, from `Data` on."""
        file = self.path / "Manifest.json"
        manifest = read_table(file)
        entries, identifier = manifest.get("itemInfoEntries"), manifest.get("rootModelIdentifier")
        entry = entries.get(str(identifier)) if isinstance(entries, dict) else None
        root = entry.get("path") if isinstance(entry, dict) else None
        if not isinstance(root, str):
            raise UserError(f"{file}: names no model (rootModelIdentifier); convert again")
        return root

    @cached_property
    def programs(self) -> list[Program]:
        """The program, or those of a pipeline in running order.

        Raises:
            UserError: a program is damaged; the op is named.
        """
        if self.spec.WhichOneof("Type") != "pipeline":
            return [Program(self.spec, self)]
        if not self.spec.pipeline.models:
            raise UserError(f"{self.path}: a pipeline without models; convert again")
        return [Program(model, self) for model in self.spec.pipeline.models]

    @property
    def metadata(self) -> dict[str, str]:
        """Author, license, version, description and the user-defined entries."""
        meta = self.spec.description.metadata
        known = {
            "author": meta.author,
            "license": meta.license,
            "version": meta.versionString,
            "description": meta.shortDescription,
        }
        return known | dict(meta.userDefined)

    @property
    def specification_version(self) -> int:
        """Core ML's version of the file: 7 for iOS 16, 8 for iOS 17, 9 for iOS 18."""
        return int(self.spec.specificationVersion)

    def descriptions(self) -> dict[str, str]:
        """What the file says of each input and output."""
        features = [*self.spec.description.input, *self.spec.description.output]
        for function in self.spec.description.functions:
            features += [*function.input, *function.output]
        return {feature.name: feature.shortDescription for feature in features}

    def op_histogram(self) -> dict[str, int]:
        """How often each op kind occurs over all programs and functions, most frequent first."""
        kinds = Counter(op.type for _, op in self._all_operations())
        return dict(kinds.most_common())

    def open_blob(self, name: str) -> BlobFile:
        """The weight file that a constant names."""
        if name not in self._blobs:
            relative = name.removeprefix(_WEIGHT_PREFIX)
            self._blobs[name] = BlobFile(file_inside(self._model_path.parent, relative))
        return self._blobs[name]

    def arguments(self, op: Operation, known: dict[str, Any]) -> dict[str, Any]:
        """Parameters of a constant op by name: attributes, immediate inputs, earlier results."""
        where = f"{self.path}: op {op.name}"
        found: dict[str, Any] = {}
        for key, value in op.proto.attributes.items():
            if key != "name":
                found[key] = read_value(value, self.open_blob, where)
        for key, argument in op.proto.inputs.items():
            (binding,) = argument.arguments
            if binding.WhichOneof("binding") == "name":
                found[key] = known[binding.name]
            else:
                found[key] = read_value(binding.value, self.open_blob, where)
        return found

    def check(self, op: Operation) -> None:
        """Find the stored parts of a constant op without decoding them.

        Raises:
            UserError: one is missing, or of another type or size than declared.
        """
        for value in _values(op):
            if value.WhichOneof("value") == "blobFileValue":
                blob = self.open_blob(value.blobFileValue.fileName)
                where = f"{self.path}: op {op.name}"
                blob.check(int(value.blobFileValue.offset), *element_and_shape(value.type, where))

    def decode(
        self, op: Operation, known: dict[str, Any], *, widen: bool = False
    ) -> tuple[Any, ...]:
        """The value of a `const` or the decoded outputs of a constexpr op.

        Args:
            widen: a palette's values may come in fp32, which holds every fp16 exactly.

        Raises:
            UserError: damaged data, or a result of another shape than declared.
        """
        where = f"{self.path}: op {op.name}"
        parameters = self.arguments(op, known)
        if op.type == "const":
            return (parameters["val"],)
        if widen and op.type == "constexpr_lut_to_dense" and parameters["lut"].dtype == np.float16:
            parameters["lut"] = parameters["lut"].astype(np.float32)  # the table, not the weight
        try:
            decoded = DECODERS[op.type](**parameters)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except _WRONG as error:
            raise UserError(f"{where} ({op.type}): {error}; convert again") from None
        shapes = [shape for _, _, shape in op.outputs]
        if [array.shape for array in decoded] != shapes:
            given = ", ".join(str(array.shape) for array in decoded)
            declared = ", ".join(map(str, shapes))
            raise UserError(f"{where}: decoded to {given}, declared {declared}; convert again")
        return decoded

    def decoded_weights(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every constant array and decoded constexpr result, by output name."""
        for program in self.programs:
            for function in program.functions:
                known: dict[str, Any] = {}
                for op in program.operations(function):
                    if not is_constant(op.type):
                        continue
                    for (name, _, _), value in zip(op.outputs, self.decode(op, known), strict=True):
                        known[name] = value
                        if isinstance(value, np.ndarray):
                            yield name, value

    def weight_storage(self) -> list[StoredWeight]:
        """How each weight of two or more axes lies in the file (constants used by constexpr
        ops count into them)."""
        stored = []
        for program, op in self._all_operations():
            if not is_constant(op.type):
                continue
            name, element, shape = op.outputs[-1]
            if len(shape) < 2 and op.type == "const":
                continue
            size = self._stored_bytes(program, op)
            if size:
                bits = round(8 * size / max(1, prod(shape)))
                bits = _declared_bits(op, bits, element)
                stored.append(StoredWeight(name, op.type, bits, size, shape))
        return stored

    def weight_bytes(self) -> int:
        """Bytes of all weight files."""
        folder = self._model_path.parent / "weights"
        return sum(file.stat().st_size for file in folder.glob("*")) if folder.is_dir() else 0

    def _all_operations(self) -> Iterator[tuple[Program, Operation]]:
        for program in self.programs:
            for function in program.functions:
                for op in program.operations(function):
                    yield program, op

    def _stored_bytes(self, program: Program, op: Operation) -> int:
        blobs = [
            value.blobFileValue
            for value in _values(op)
            if value.WhichOneof("value") == "blobFileValue"
        ]
        return sum(self.open_blob(b.fileName).record(int(b.offset)).bytes for b in blobs)


def is_constant(op_type: str) -> bool:
    """Whether an op's value is fixed in the file."""
    return op_type == "const" or op_type in DECODERS


def _values(op: Operation) -> list[Any]:
    """What an op holds itself: attributes and immediate inputs."""
    values = [value for key, value in op.proto.attributes.items() if key != "name"]
    for argument in op.proto.inputs.values():
        values += [b.value for b in argument.arguments if b.WhichOneof("binding") == "value"]
    return values


def _declared_bits(op: Operation, measured: int, element: str) -> int:
    if op.type == "const":
        return SUB_BYTE.get(element, measured)
    for key in ("indices", "indices_nonzero_data", "data", "quantized_data"):
        argument = op.proto.inputs.get(key)
        if argument is None or argument.arguments[0].WhichOneof("binding") != "value":
            continue
        declared, _ = element_and_shape(argument.arguments[0].value.type, op.name)
        return SUB_BYTE.get(declared, measured)
    lut = op.proto.attributes.get("lut") if "lut" in op.proto.attributes else None
    if lut is not None:
        return width_of(prod(element_and_shape(lut.type, op.name)[1]))
    return measured
