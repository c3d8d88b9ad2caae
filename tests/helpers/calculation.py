"""What a .tflite calculates, whatever the order in which it lists things."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils


def calculation(path: Path) -> tuple[dict[str, str], Counter[str]]:
    """A digest of each output, of all operators, options, shapes, constants and names (but for
    the numbers that keep them apart) that lead to it; and how many operators there are of each
    digest."""
    model = flatbuffer_utils.read_model(str(path))
    (graph,) = model.subgraphs
    (signature,) = model.signatureDefs
    name = {each.tensorIndex: each.name.decode() for each in signature.inputs}
    known = {
        place: _digest(name.get(place, ""), tensor.shape, tensor.type, _constant(model, tensor))
        for place, tensor in enumerate(graph.tensors)
    }
    operators: Counter[str] = Counter()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        reads = [known[place] if place >= 0 else "" for place in operator.inputs]
        made = _digest(code.builtinCode, _fields(operator.builtinOptions), reads)
        operators[made] += 1
        for number, place in enumerate(operator.outputs):
            tensor = graph.tensors[place]
            layer = tensor.name.decode().rstrip("0123456789")
            known[place] = _digest(made, number, tensor.shape, tensor.type, layer)
    return {each.name.decode(): known[each.tensorIndex] for each in signature.outputs}, operators


def _constant(model: Any, tensor: schema.TensorT) -> str:
    data = model.buffers[tensor.buffer].data
    return "" if data is None else hashlib.sha256(np.asarray(data).tobytes()).hexdigest()


def _fields(options: Any) -> list[tuple[str, str]]:
    return sorted((name, repr(value)) for name, value in vars(options).items()) if options else []


def _digest(*parts: Any) -> str:
    plain = [part.tolist() if isinstance(part, np.ndarray) else part for part in parts]
    return hashlib.sha256(repr(plain).encode()).hexdigest()
