"""What a saved program costs: parameters, multiply-accumulates, bytes, predicted peak memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path

from coreml_sd.runtimes.mil.package import MilPackage, Operation, Program, StoredWeight, is_constant
from coreml_sd.runtimes.mil.values import element_and_shape

_FLOATS = ("float16", "float32")
_BYTES = {"float16": 2, "float32": 4, "int32": 4, "bool": 1, "int8": 1, "uint8": 1}


@dataclass(frozen=True)
class FileCosts:
    """Costs of one .mlpackage. `peak_bytes` is what the file's own types predict: all stored
    weights plus the largest set of intermediates that are alive at once."""

    path: str
    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    ops: dict[str, int]
    weights: tuple[StoredWeight, ...]

    @property
    def peak_bytes(self) -> int:
        """Stored weights and the largest set of live intermediates."""
        return self.weight_bytes + self.activation_bytes


def file_costs(path: Path) -> FileCosts:
    """Read one package and count.

    Raises:
        UserError: the file is damaged.
    """
    package = MilPackage(path)
    weights = tuple(package.weight_storage())
    macs = activations = 0
    for program in package.programs:
        for function in program.functions:
            macs += _macs(program, function)
            activations = max(activations, _live_peak(program, function))
    parameters = sum(prod(weight.shape) for weight in weights) + _vectors(package)
    return FileCosts(
        path.name,
        parameters,
        macs,
        package.weight_bytes(),
        activations,
        package.op_histogram(),
        weights,
    )


def merged_histogram(costs: Sequence[FileCosts]) -> dict[str, int]:
    """Op kinds over several files, most frequent first, constants left out."""
    total: Counter[str] = Counter()
    for entry in costs:
        total.update({kind: n for kind, n in entry.ops.items() if not is_constant(kind)})
    return dict(total.most_common())


def _vectors(package: MilPackage) -> int:
    """Biases and norm weights: floating vectors of the weight file, without the zero mean and
    unit variance that a fused norm carries."""
    count = 0
    for program in package.programs:
        for function in program.functions:
            operations = list(program.operations(function))
            statistics = {
                op.proto.inputs[key].arguments[0].name
                for op in operations
                if op.type == "batch_norm"
                for key in ("mean", "variance")
            }
            for op in operations:
                name, element, shape = op.outputs[0]
                if op.type == "const" and len(shape) == 1 and name not in statistics:
                    stored = op.proto.attributes["val"].WhichOneof("value") == "blobFileValue"
                    count += prod(shape) if stored and element in _FLOATS else 0
    return count


def _shapes(program: Program, function: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    shapes = {
        entry.name: element_and_shape(entry.type, entry.name)
        for entry in program.function(function).inputs
    }
    for op in program.operations(function):
        shapes.update({name: (element, shape) for name, element, shape in op.outputs})
    return shapes


def _macs(program: Program, function: str) -> int:
    shapes = _shapes(program, function)

    def shape(op: Operation, key: str, index: int = 0) -> tuple[int, ...]:
        binding = op.proto.inputs[key].arguments[index]
        if binding.WhichOneof("binding") == "name":
            return shapes[binding.name][1]
        return element_and_shape(binding.value.type, op.name)[1]

    total = 0
    for op in program.operations(function):
        out = prod(op.outputs[0][2])
        if op.type in ("conv", "linear"):
            total += out * prod(shape(op, "weight")[1:])
        elif op.type == "matmul":
            total += _matmul_macs(shape(op, "x"), shape(op, "y"), op.outputs[0][2])
        elif op.type == "einsum":
            first, second = shape(op, "values"), shape(op, "values", 1)
            total += _einsum_macs(first, second, op.outputs[0][2])
        elif op.type == "scaled_dot_product_attention":
            query, key = shape(op, "query"), shape(op, "key")
            total += 2 * prod(query) * key[-2]
    return total


def _einsum_macs(first: tuple[int, ...], second: tuple[int, ...], out: tuple[int, ...]) -> int:
    """The two rank-4 equations of split-einsum: batch and height are shared by all three."""
    return _product_macs(first, second, out, shared=first[0] * first[2])


def _matmul_macs(first: tuple[int, ...], second: tuple[int, ...], out: tuple[int, ...]) -> int:
    """Leading axes are shared by all three."""
    return _product_macs(first, second, out, shared=prod(out[:-2]))


def _product_macs(
    first: tuple[int, ...], second: tuple[int, ...], out: tuple[int, ...], shared: int
) -> int:
    """m*n*k for each of `shared` products: the operands hold s*m*k, s*k*n and s*m*n values, so
    their product times s is (s^2 * m*n*k)^2, whichever operand is transposed."""
    return isqrt(prod(first) * prod(second) * prod(out) * shared) // shared


def _live_peak(program: Program, function: str) -> int:
    """Largest sum of intermediate bytes alive at one op."""
    shapes = _shapes(program, function)
    operations = [op for op in program.operations(function) if not is_constant(op.type)]
    last = {
        binding.name: index
        for index, op in enumerate(operations)
        for argument in op.proto.inputs.values()
        for binding in argument.arguments
        if binding.WhichOneof("binding") == "name"
    }
    live: dict[str, int] = {}
    peak = 0
    for index, op in enumerate(operations):
        for name, element, shape in op.outputs:
            live[name] = _BYTES.get(element, 4) * prod(shape)
        peak = max(peak, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, -1) > index}
    inputs = [shapes[entry.name] for entry in program.function(function).inputs]
    return peak + sum(_BYTES.get(element, 4) * prod(shape) for element, shape in inputs)
