"""Keep torch and litert-torch from work whose result nobody reads, while a network is exported."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

from coreml_sd.upstream import table


@contextlib.contextmanager
def lean_export() -> Iterator[None]:
    """Calls that are equal are decomposed once; graphs become Python code only where one is called,
    and most never are, for they are interpreted; and the garbage collector does not walk some
    million live objects again and again.

    The file holds the same operators on the same tensors; where two do not depend on each other,
    their order may differ.
    """
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

    from coreml_sd.upstream.torch_distinct_calls import by_distinct_calls

    whole = ExportedProgram.run_decompositions
    with (
        table.DISTINCT_CALLS.replaced(
            ExportedProgram, "run_decompositions", by_distinct_calls(whole)
        ),
        table.DEFERRED_CODE.replaced(GraphModule, "recompile", _deferred(GraphModule.recompile)),
        _without_collector(),
    ):
        yield


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    collecting = gc.isenabled() and table.EXPORT_GARBAGE.is_on
    if collecting:
        gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _deferred(compile_now: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Of `GraphModule.recompile`: the first call of the module does it. Each module has a class of
    its own."""

    def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
        compile_now(module)
        return module(*args, **kwargs)

    def recompile(module: Any) -> None:
        tree = getattr(module.graph._codegen, "pytree_info", None)
        if tree is not None:
            module._in_spec, module._out_spec = tree.in_spec, tree.out_spec
        type(module).forward = forward

    return recompile
