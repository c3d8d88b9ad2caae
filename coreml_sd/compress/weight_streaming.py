"""A network run with weights that are fetched, or replaced, for each op that reads one.

What a network computes needs one weight at a time. So none of this holds a second copy of it, and
where the values lie in files not even the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from coreml_sd.errors import CoremlSDError
from coreml_sd.mobile.replaced_tensors import replaced_tensors
from coreml_sd.upstream.torch_tensors import storage_of

Values = Callable[[str, torch.Tensor], torch.Tensor]
_DESCRIBING = frozenset({"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout"})
_COUNTING = (torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel)


class TensorSource(Protocol):
    """Where the values of a network's parameters lie."""

    def tensor(self, name: str) -> torch.Tensor:
        """A parameter's values, floating point of any width."""
        ...


def in_fp16(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """Any parameter rounded to fp16."""
    return parameter.half()


class NetworkWeights:
    """The weights of a network in fp32, for itself and for what views its parameters.

    Args:
        network: its parameters hold their values, or are on `meta`.
        source: where the values lie if not in the network.
    """

    def __init__(self, network: nn.Module, source: TensorSource | None = None) -> None:
        self._source = source
        self._parameters = _by_storage(network)

    @contextlib.contextmanager
    def given_to(
        self, reader: nn.Module, changed: nn.Module | None = None, values: Values = in_fp16
    ) -> Iterator[None]:
        """While open, each op of `reader` in this thread that reads a parameter is given its
        values, which are gone when it is done.

        Args:
            reader: the network itself, or one whose parameters view its parameters.
            changed: one too; the parameters that it has are `values(name, parameter)` meanwhile,
                for all that view them.

        Raises:
            CoremlSDError: a parameter of `reader` has no values (when it is read).
        """
        others = _by_storage(changed) if changed is not None else {}

        def value(parameter: torch.Tensor) -> torch.Tensor:
            return self._value(parameter, others, values)

        with _parameters_from(value, reader):
            yield

    def _value(
        self, parameter: torch.Tensor, changed: dict[int, list[_Placed]], values: Values
    ) -> torch.Tensor:
        storage, (begin, end) = storage_of(parameter), _extent(parameter)
        known = self._parameters.get(storage, ())
        whole = next((p for p in known if p.begin <= begin and end <= p.end), None)
        if whole is None:
            if parameter.is_meta:
                raise CoremlSDError("a parameter of a network is none of its source's")
            return parameter
        parts = [
            p for p in changed.get(storage, ()) if whole.begin <= p.begin <= p.end <= whole.end
        ]
        if not parts and not whole.tensor.is_meta:
            return parameter
        full = self._fetched(whole)
        # Two parts may view the same values: all are made of the original.
        original = full.clone() if len(parts) > 1 else full
        for part in parts:
            given = values(part.name, _viewed(original, part.tensor, whole.begin))
            _viewed(full, part.tensor, whole.begin).copy_(given.reshape(part.tensor.shape))
        return _viewed(full, parameter, whole.begin)

    def _fetched(self, placed: _Placed) -> torch.Tensor:
        """A copy in fp32 that lies in memory as the parameter does."""
        held = placed.tensor
        if held.is_meta:
            if self._source is None:
                raise CoremlSDError(f"{placed.name}: a parameter without values")
            full = torch.empty_strided(held.shape, held.stride(), dtype=torch.float32)
            return full.copy_(self._source.tensor(placed.name))
        full = torch.empty_strided(held.shape, held.stride(), dtype=held.dtype)
        return full.copy_(held)


class _Placed(NamedTuple):
    """A parameter and where in its storage it begins and ends, in elements."""

    name: str
    tensor: torch.Tensor
    begin: int
    end: int


def _by_storage(network: nn.Module) -> dict[int, list[_Placed]]:
    found: dict[int, list[_Placed]] = {}
    for name, parameter in network.named_parameters():
        placed = _Placed(name, parameter.detach(), *_extent(parameter))
        found.setdefault(storage_of(parameter), []).append(placed)
    return found


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    begin = int(tensor.storage_offset())
    if not tensor.numel():
        return begin, begin
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return begin, begin + sum((size - 1) * stride for size, stride in steps) + 1


def _viewed(full: torch.Tensor, like: torch.Tensor, begin: int) -> torch.Tensor:
    offset = int(like.storage_offset()) - begin
    return full.as_strided(tuple(like.shape), tuple(like.stride()), offset)


@contextlib.contextmanager
def _parameters_from(
    value: Callable[[torch.Tensor], torch.Tensor], network: nn.Module
) -> Iterator[None]:
    """A network whose parameters are stand-ins without values, each replaced when an op gets it."""
    parameters: dict[int, torch.Tensor] = {}
    stand_ins = []  # an id is its own while the object lives

    def stand_in(parameter: torch.Tensor) -> nn.Parameter:
        """The same shape, on the CPU; one number in memory."""
        empty = torch.zeros((), dtype=torch.float32).expand(parameter.shape)
        stand_ins.append(nn.Parameter(empty, requires_grad=False))
        parameters[id(stand_ins[-1])] = parameter
        return stand_ins[-1]

    with replaced_tensors(network, stand_in), _Given(parameters, value):
        yield


class _Given(TorchFunctionMode):
    """Every function of torch gets values instead of stand-ins."""

    def __init__(
        self,
        parameters: dict[int, torch.Tensor],
        value: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        super().__init__()
        self._parameters, self._value = parameters, value

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _COUNTING or _describes(func):
            return func(*args, **(kwargs or {}))
        given = {name: self._given(each) for name, each in (kwargs or {}).items()}
        return func(*map(self._given, args), **given)

    def _given(self, argument: Any) -> Any:
        if isinstance(argument, nn.Parameter):
            parameter = self._parameters.get(id(argument))
            return argument if parameter is None else self._value(parameter)
        if type(argument) in (list, tuple):
            return type(argument)(map(self._given, argument))
        return argument


def _describes(func: Any) -> bool:
    """Whether it reads an attribute that a stand-in has as well."""
    if getattr(func, "__name__", "") != "__get__":
        return False
    return getattr(getattr(func, "__self__", None), "__name__", "") in _DESCRIBING
