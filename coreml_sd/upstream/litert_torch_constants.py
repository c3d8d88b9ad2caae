"""How litert-torch lowers and folds the constants of a network, with a say in both.

Its own way holds every constant several times over; what stands in for the large ones has to be put
in where a constant becomes one of the program, and looked at again before constants are folded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from coreml_sd.upstream import table

Lowering = Callable[[Any, torch.Tensor], Any]
_ITEM = 4  # bytes of a value


@contextlib.contextmanager
def lowered_by(lower: Callable[[Lowering, Any, torch.Tensor], Any]) -> Iterator[None]:
    """While open, each constant of a program is what `lower` gives for litert-torch's own
    lowering, the context and the constant."""
    from litert_torch.backend import inline_consts
    from litert_torch.backend.lowerings import registry

    lowerings, placeholder = registry.global_registry, inline_consts.tensor_lowering_placeholder
    lowering = lowerings.lookup(placeholder)
    lowerings.register(placeholder, lambda context, tensor: lower(lowering, context, tensor))
    try:
        yield
    finally:
        lowerings.register(placeholder, lowering)


@contextlib.contextmanager
def folded_after(prepare: Callable[[Any, Callable[[], list[Any]]], bool]) -> Iterator[None]:
    """While open, `prepare` sees every module before litert-torch folds its constants.

    It is given the module and a function for the ops that are about to be folded, and returns
    whether it folded any itself.
    """
    from litert_converter.tools import model_utils
    from litert_torch._convert import runtime_fold

    folding = runtime_fold.RuntimeFoldPass._fold_module

    def fold(self: Any, module: Any) -> None:
        left: list[Any] = []

        def about_to_be_folded() -> list[Any]:
            functions = [each for each in module.ops if each.name == "func.func"]
            left.extend(self._extract_constants(each) for each in functions)
            return [op for ops, _ in left for op in ops]

        prepared = prepare(module, about_to_be_folded)
        if prepared and not any(results for _, results in left):
            model_utils.passes.tfl.OptimizePass()(module)  # as it does after any other fold
        folding(self, module)

    with table.STAND_INS.replaced(runtime_fold.RuntimeFoldPass, "_fold_module", fold):
        yield


def shared_constant(context: Any, tensor: torch.Tensor, make: Callable[[], Any]) -> Any:
    """The op of a program for an fp32 constant whose value is `make()`, which is asked once for
    each constant, however often it is read."""
    from litert_converter.mlir import ir
    from litert_torch.backend import inline_consts

    shared = inline_consts.InlineConstsContext.get(context).constant_cache
    key = inline_consts._ConstantFingerprint.from_tensor(tensor)
    if key not in shared:
        shared[key] = make()
    kind = ir.RankedTensorType.get(tensor.shape, ir.F32Type.get())
    return inline_consts._build_const(shared[key], kind)


def is_uniform(values: torch.Tensor) -> bool:
    """Whether litert-torch would store one number in place of a constant: all of its are equal."""
    from litert_torch.backend import inline_consts

    return inline_consts._get_tensor_uniform_value(values.contiguous()) is not None


def is_small(tensor: torch.Tensor) -> bool:
    """Whether litert-torch may look at the values of an fp32 constant."""
    from litert_torch.backend import inline_consts

    least = inline_consts.config.resource_constant_numel_threshold
    return bool(tensor.numel() * _ITEM < least)


def module_of(model: Any) -> Any:
    """The program of a converted model, before it becomes a file."""
    return model._exporter.module
