"""Decompose an exported graph by retracing each distinct call once instead of every call.

A network repeats itself: of the 7,500 calls of Stable Diffusion 1.5's UNet 830 differ in function,
in constants, or in shapes and strides of their inputs. torch retraces all, at more than a
millisecond each, three times per export. Here a small program of the distinct calls is retraced
by torch itself, and what became of each is put in for every call that equals it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx import Graph, GraphModule, Node, map_arg
from torch.fx.proxy import _COPY_META_FIELDS
from torch.fx.traceback import NodeSource, NodeSourceAction
from torch.utils import _pytree as pytree

Decompose = Callable[..., ExportedProgram]
_CONSTANTS = (
    bool | int | float | str | None
    | torch.dtype | torch.device | torch.layout | torch.memory_format
)  # fmt: skip
_PROVENANCE = (*_COPY_META_FIELDS, "stack_trace")
_OF_VALUES = ("val", "tensor_meta", "original_aten")


class _UnforeseenError(Exception):
    """The graph has something whose retracing may depend on more than the call itself."""


def by_distinct_calls(decompose: Decompose) -> Decompose:
    """Of `ExportedProgram.run_decompositions`: the same program from fewer retraced calls. The
    order of calls that do not depend on each other may differ, and nothing else.

    A graph with effects, with states of its own or with values other than tensors is left to
    `decompose`.
    """

    def run(program: ExportedProgram, table: Any = None, *args: Any, **kwargs: Any) -> Any:
        try:
            return _decomposed(program, lambda small: decompose(small, table, *args, **kwargs))
        except _UnforeseenError:
            return decompose(program, table, *args, **kwargs)

    return run


@dataclass(frozen=True)
class _Call:
    """One call of a graph as an example of its kind; its inputs in the order in which they occur
    in its arguments, and what it gives."""

    node: Node
    inputs: tuple[FakeTensor, ...]
    result: Any

    @property
    def gives_one(self) -> bool:
        """Whether it gives a tensor and not several."""
        return isinstance(self.result, torch.Tensor)

    @property
    def results(self) -> tuple[torch.Tensor, ...]:
        """What it gives, one tensor or several."""
        if self.gives_one:
            return (self.result,)
        if isinstance(self.result, (list, tuple)) and all(
            isinstance(each, torch.Tensor) for each in self.result
        ):
            return tuple(self.result)
        raise _UnforeseenError(f"{self.node} gives {type(self.result).__name__}")


@dataclass(frozen=True)
class _Retraced:
    """What became of a call: nodes between those of its inputs and its outputs. `gives_one` where
    the call gives a tensor and not several."""

    inputs: tuple[Node, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]
    gives_one: bool

    @property
    def result(self) -> Any:
        """Shapes and strides of what the call gives."""
        values = [node.meta["val"] for node in self.outputs]
        return values[0] if self.gives_one else values


def _decomposed(
    program: ExportedProgram, decompose: Callable[[ExportedProgram], ExportedProgram]
) -> ExportedProgram:
    known: dict[Hashable, _Retraced] = {}
    while True:
        kinds, unknown = _kinds_of_calls(program, known)
        if not unknown:
            return _assembled(program, {node: known[kind] for node, kind in kinds.items()})
        calls = list(unknown.values())
        retraced = decompose(_program_of(calls, program))
        known |= zip(unknown, _taken_apart(retraced.graph, calls), strict=True)


def _kinds_of_calls(
    program: ExportedProgram, known: Mapping[Hashable, _Retraced]
) -> tuple[dict[Node, Hashable], dict[Hashable, _Call]]:
    """The kind of each call, and an example of each kind that is not known; what those give is
    taken from calling them as they are, which may be wrong in the strides: then another round
    finds kinds of calls that are unknown."""
    kinds: dict[Node, Hashable] = {}
    unknown: dict[Hashable, _Call] = {}
    values: dict[Node, Any] = {}
    mode = detect_fake_mode([node.meta.get("val") for node in program.graph.nodes])
    if mode is None:
        raise _UnforeseenError("real tensors")
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = _tensor(node.meta.get("val"))
        elif node.op == "output":
            continue
        elif node.op != "call_function":
            raise _UnforeseenError(node.op)
        elif node.target is operator.getitem:
            values[node] = values[node.args[0]][node.args[1]]
        else:
            kind = kinds[node] = _kind(node, values)
            if kind not in known and kind not in unknown:
                unknown[kind] = _called(node, values, mode)
            values[node] = (known if kind in known else unknown)[kind].result
    return kinds, unknown


def _kind(node: Node, values: Mapping[Node, Any]) -> Hashable:
    """Equal for two calls exactly where one's retracing can stand for the other's."""
    function = node.target
    if isinstance(function, torch._ops.OpOverload):
        if function._schema.is_mutable or function is torch.ops.aten.as_strided.default:
            raise _UnforeseenError(str(function))  # depends on what else is in the input's storage
    elif not callable(function) or isinstance(function, torch._ops.OperatorBase):
        raise _UnforeseenError(str(function))
    elif getattr(function, "__code__", None) and not (
        function.__closure__ or function.__defaults__ or function.__kwdefaults__
    ):
        function = function.__code__  # type: ignore[assignment]  # one lambda, evaluated anew
    return function, _described(node.args, values), _described(node.kwargs, values)


def _described(argument: Any, values: Mapping[Node, Any]) -> Hashable:
    match argument:
        case Node():
            value = _tensor(values[argument])
            return value.dtype, value.device, tuple(value.shape), value.stride()
        case list() | tuple():
            return "list", *(_described(item, values) for item in argument)
        case dict():
            return "dict", *((name, _described(item, values)) for name, item in argument.items())
        case _ if isinstance(argument, _CONSTANTS):
            return type(argument), repr(argument)  # 1, True and 1.0 are equal, -0.0 and 0.0 too
    raise _UnforeseenError(type(argument).__name__)


def _tensor(value: Any) -> FakeTensor:
    if not isinstance(value, FakeTensor):
        raise _UnforeseenError(type(value).__name__)
    return value


def _occurring(node: Node) -> list[Node]:
    """The nodes among the arguments, each as often as it occurs."""
    found: list[Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return found


def _called(node: Node, values: Mapping[Node, Any], mode: FakeTensorMode) -> _Call:
    inputs = tuple(_tensor(values[each]) for each in _occurring(node))
    assert callable(node.target)
    args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
    with mode, torch.no_grad():
        return _Call(node, inputs, node.target(*args, **kwargs))


def _program_of(calls: list[_Call], origin: ExportedProgram) -> ExportedProgram:
    """A program of calls, each with inputs of its own, whose outputs are all they give."""
    graph = Graph()
    places = [[_placeholder(graph, value) for value in call.inputs] for call in calls]
    nodes: list[Node] = []
    outputs: list[Node] = []
    for call, mine in zip(calls, places, strict=True):
        following = iter(mine)
        args, kwargs = map_arg((call.node.args, call.node.kwargs), lambda _: next(following))  # noqa: B023
        # A program is checked when it is made, and a Python function is no operator.
        node = graph.call_function(torch.ops.aten.alias.default, args, kwargs)
        nodes.append(node)
        outputs += _given(graph, node, call)
    graph.output(tuple(outputs))
    inputs = [place for mine in places for place in mine]
    program = _exported(GraphModule({}, graph), inputs, outputs, origin)
    for node, call in zip(nodes, calls, strict=True):
        assert callable(call.node.target)
        node.target = call.node.target
    return program


def _placeholder(graph: Graph, value: FakeTensor) -> Node:
    """A placeholder for a tensor of this shape that shares no storage."""
    node = graph.placeholder(f"input_{len(graph.nodes)}")
    with value.fake_mode:
        node.meta["val"] = torch.empty_strided(
            value.shape, value.stride(), dtype=value.dtype, device=value.device
        )
    return node


def _given(graph: Graph, node: Node, call: _Call) -> Iterator[Node]:
    """Nodes of what a call gives, with the facts that torch asks of every node."""
    node.meta = {**_provenance(call.node), "val": call.result}
    if call.gives_one:
        yield node
        return
    for index, value in enumerate(call.results):
        item = graph.call_function(operator.getitem, (node, index))
        item.meta = {**node.meta, "val": value}
        yield item


def _exported(
    module: GraphModule, inputs: list[Node], outputs: list[Node], origin: ExportedProgram
) -> ExportedProgram:
    given = [TensorArgument(node.name) for node in inputs]
    made = [TensorArgument(node.name) for node in outputs]
    # Names are left out: torch would look for the results of calls that do nothing in vain.
    entry = ModuleCallSignature(
        inputs=[],
        outputs=[],
        in_spec=pytree.tree_structure((tuple(inputs), {})),
        out_spec=pytree.tree_structure(tuple(outputs)),
    )
    return ExportedProgram(
        root=module,
        graph=module.graph,
        graph_signature=ExportGraphSignature(
            [InputSpec(InputKind.USER_INPUT, each, None) for each in given],
            [OutputSpec(OutputKind.USER_OUTPUT, each, None) for each in made],
        ),
        state_dict={},
        range_constraints={},
        module_call_graph=[ModuleCallEntry("", entry)],
        verifiers=origin.verifiers,
    )


def _taken_apart(graph: Graph, calls: list[_Call]) -> list[_Retraced]:
    """What became of each call of a program of calls."""
    places = graph.find_nodes(op="placeholder")
    (output,) = graph.find_nodes(op="output")
    if len(places) != sum(len(call.inputs) for call in calls):
        raise _UnforeseenError("constants that a decomposition has made")
    order = {node: number for number, node in enumerate(graph.nodes)}
    following, made = iter(places), iter(output.args[0])
    pieces = []
    for call in calls:
        inputs = tuple(next(following) for _ in call.inputs)
        outputs = tuple(next(made) for _ in call.results)
        nodes = sorted(_between(inputs, outputs), key=order.__getitem__)
        pieces.append(_Retraced(inputs, tuple(nodes), outputs, call.gives_one))
    return pieces


def _between(inputs: tuple[Node, ...], outputs: tuple[Node, ...]) -> set[Node]:
    found: set[Node] = set()
    ahead = list(outputs)
    while ahead:
        node = ahead.pop()
        if node in found or node in inputs:
            continue
        if node.op != "call_function":
            raise _UnforeseenError(node.op)
        found.add(node)
        ahead += node.all_input_nodes
    return found


def _assembled(program: ExportedProgram, pieces: Mapping[Node, _Retraced]) -> ExportedProgram:
    """The program with every call replaced by what became of its kind."""
    graph = Graph()
    made: dict[Node, Any] = {}
    for node in program.graph.nodes:
        if node.op in ("placeholder", "output"):
            made[node] = graph.node_copy(node, made.__getitem__)
        elif node.target is operator.getitem:
            made[node] = made[node.args[0]][node.args[1]]
        else:
            outputs = _put_in(graph, node, pieces[node], made)
            made[node] = outputs[0] if pieces[node].gives_one else outputs
    (output,) = graph.find_nodes(op="output")
    specs = [
        OutputSpec(spec.kind, TensorArgument(node.name), spec.target)
        for spec, node in zip(program.graph_signature.output_specs, output.args[0], strict=True)
    ]
    graph.eliminate_dead_code()
    module = GraphModule(program.graph_module, graph)
    module.meta.update(program.graph_module.meta)
    return ExportedProgram(
        root=module,
        graph=graph,
        graph_signature=ExportGraphSignature(list(program.graph_signature.input_specs), specs),
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
    )


def _put_in(graph: Graph, node: Node, piece: _Retraced, made: Mapping[Node, Any]) -> list[Node]:
    given = [made[each] for each in _occurring(node)]
    mine: dict[Node, Node] = dict(zip(piece.inputs, given, strict=True))
    source = [NodeSource(node, __name__, NodeSourceAction.CREATE)]
    for each in piece.nodes:
        args, kwargs = map_arg((each.args, each.kwargs), mine.__getitem__)
        mine[each] = graph.create_node("call_function", each.target, args, kwargs)
        values = {name: each.meta[name] for name in _OF_VALUES if name in each.meta}
        mine[each].meta = {**_provenance(node), "from_node": list(source), **values}
    return [mine[each] for each in piece.outputs]


def _provenance(node: Node) -> dict[str, Any]:
    """Where in the network a node comes from, free to be changed."""
    return {name: copy(node.meta[name]) for name in _PROVENANCE if name in node.meta}
