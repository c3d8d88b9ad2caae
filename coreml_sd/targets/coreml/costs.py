"""Costs of a saved .mlpackage."""

from __future__ import annotations

from math import isqrt, prod
from pathlib import Path

from coreml_sd.costs.file_costs import FileCosts
from coreml_sd.costs.fillers import is_filler
from coreml_sd.costs.liveness import Call, largest_live
from coreml_sd.runtimes.mil.package import MilPackage, Operation, Program, is_constant
from coreml_sd.runtimes.mil.values import element_and_shape

_FLOATS = ("float16", "float32")
_BYTES = {"float16": 2, "float32": 4, "int32": 4, "bool": 1, "int8": 1, "uint8": 1}


def package_costs(path: Path) -> FileCosts:
    """Read one package and count.

    Parameters are the weights of the weight file and its floating vectors; a weight that is one
    value throughout is a factor of a rewrite and does not count.

    Raises:
        UserError: the file is damaged.
    """
    package = MilPackage(path)
    weights = tuple(package.weight_storage())
    macs = activations = 0
    for program in package.programs:
        for function in program.functions:
            macs += _macs(program, function)
            activations = max(activations, _live_bytes(program, function))
    fillers = _fillers(package)
    counted = sum(prod(weight.shape) for weight in weights if weight.name not in fillers)
    return FileCosts(
        path.name,
        counted + _vectors(package),
        macs,
        package.weight_bytes(),
        activations,
        {kind: n for kind, n in package.op_histogram().items() if not is_constant(kind)},
        weights,
    )


def _fillers(package: MilPackage) -> set[str]:
    """Names of the uncompressed weights that are one value throughout."""
    return {
        op.outputs[0][0]
        for program in package.programs
        for function in program.functions
        for op in program.operations(function)
        if op.type == "const" and len(op.outputs[0][2]) > 1 and _is_in_weight_file(op)
        if is_filler(package.decode(op, {})[0])
    }


def _is_in_weight_file(op: Operation) -> bool:
    return bool(op.proto.attributes["val"].WhichOneof("value") == "blobFileValue")


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
                    held = _is_in_weight_file(op) and element in _FLOATS
                    count += prod(shape) if held else 0
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


def _live_bytes(program: Program, function: str) -> int:
    """Inputs, which stay, and the largest set of live intermediates."""
    shapes = _shapes(program, function)

    def size(name: str) -> int:
        element, shape = shapes[name]
        return _BYTES.get(element, 4) * prod(shape)

    calls = [
        Call(
            [
                binding.name
                for argument in op.proto.inputs.values()
                for binding in argument.arguments
                if binding.WhichOneof("binding") == "name"
            ],
            {name: size(name) for name, _, _ in op.outputs},
        )
        for op in program.operations(function)
        if not is_constant(op.type)
    ]
    inputs = [entry.name for entry in program.function(function).inputs]
    outputs = list(program.block(function).outputs)
    return largest_live(calls, outputs) + sum(size(name) for name in inputs)
