"""The shapes that the ops of a program will give, held against those declared, before a run.

Each op's function runs on torch's `meta` device, which reckons with shapes and reserves nothing.
So a small tensor that is declared where a huge one would be made is found when the file is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.runtimes.mil.instruction import Instruction
from coreml_sd.upstream.torch_dispatch import TorchDispatchMode

Declared = tuple[str, tuple[int, ...]]  # element and shape


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses a tensor with more elements than the limit, also within one op."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, Tensor) and each.numel() > LIMITS.intermediate_elements:
                raise ValueError(
                    f"makes a tensor of {each.numel()} elements; "
                    f"at most {LIMITS.intermediate_elements} are made"
                )
        return result


def require_declared_shapes(
    path: str, instructions: Sequence[Instruction], given: Mapping[int, Declared]
) -> None:
    """Hold what each op gives against what the file declares for it.

    Equal calls, of which attention has many, are reckoned once.

    Args:
        path: how errors name the package.
        given: element and shape of the inputs and constants by slot.

    Raises:
        UserError: an op cannot be computed on its inputs, gives another shape, or makes a tensor
            beyond the limit; the op is named. CoremlSDError: the evaluator does not know this form
            of an op.
    """
    made = {slot: _meta(element, shape) for slot, (element, shape) in given.items()}
    known: dict[Any, tuple[Tensor, ...]] = {}
    with torch.no_grad(), torch.device("meta"), _Bounded():  # type: ignore[no-untyped-call]
        for call in instructions:
            key = _key(call, made)
            if key not in known:
                known[key] = _results(path, call, made)
            results = known[key]
            for slot, tensor, shape in zip(call.results, results, call.shapes, strict=True):
                if tuple(tensor.shape) != shape:
                    raise _refused(
                        path, call, f"gives {tuple(tensor.shape)}, the file declares {shape}"
                    )
                made[slot] = tensor


def _results(path: str, call: Instruction, made: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
    parts = call.fixed.get("num_splits"), call.fixed.get("split_sizes")
    count = parts[0] if parts[1] is None else len(parts[1])
    if count is not None and count != len(call.results):
        raise _refused(path, call, f"splits into {count} parts, the file declares another number")
    parameters = {
        key: [made[slot] for slot in entry] if isinstance(entry, list) else made[entry]
        for key, entry in call.slots.items()
    }
    try:
        result = call.function(**parameters, **call.fixed)
    except CoremlSDError as error:
        raise type(error)(f"{path}: op {call.op.name} ({call.op.type}): {error}") from None
    except Exception as error:  # whatever torch says of shapes that do not fit
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _refused(path, call, reason) from None
    tensors = tuple(result) if isinstance(result, (tuple, list)) else (result,)
    if len(tensors) != len(call.results):
        raise _refused(
            path, call, f"gives {len(tensors)} results, the file declares {len(call.results)}"
        )
    return tensors


def _meta(element: str, shape: tuple[int, ...]) -> Tensor:
    """As `weights.to_tensor` holds it, without values."""
    dtype = torch.int32
    if element.startswith("float"):
        dtype = torch.float32
    elif element == "bool":
        dtype = torch.bool
    return torch.empty(shape, dtype=dtype, device="meta")


def _key(call: Instruction, made: Mapping[int, Tensor]) -> Any:
    """Equal where two calls give the same shapes."""
    slots = tuple(
        (key, tuple((made[slot].shape, made[slot].dtype) for slot in _listed(entry)))
        for key, entry in call.slots.items()
    )
    return call.op.type, len(call.results), repr(call.fixed), slots


def _listed(entry: int | list[int]) -> list[int]:
    return entry if isinstance(entry, list) else [entry]


def _refused(path: str, call: Instruction, what: str) -> UserError:
    return UserError(f"{path}: op {call.op.name} ({call.op.type}) {what}; convert again")
