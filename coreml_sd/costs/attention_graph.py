"""What a saved file shows of its attentions and convolutions, read from its graph alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

_PRODUCTS = ("matmul", "einsum", "BATCH_MATMUL", "FULLY_CONNECTED")
_CONVOLUTIONS = ("conv", "CONV_2D", "DEPTHWISE_CONV_2D")
_SOFTMAX = ("softmax", "SOFTMAX", "scaled_dot_product_attention")
_RELU = ("relu", "RELU")
# GELU, and what it is spelled with where it is not one op.
_GELU = ("gelu", "GELU", "erf", "tanh", "TANH", "STABLEHLO_COMPOSITE")
# A key or value between its projection and its product: moved, cut, joined or scaled.
_ON_THE_WAY = (
    *("reshape", "transpose", "split", "slice_by_index", "slice_by_size", "mul", "cast"),
    *("expand_dims", "squeeze"),
    *("RESHAPE", "TRANSPOSE", "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "MUL"),
)


@dataclass
class AttentionGraph:
    """Counts over the ops of one file or of a network's files.

    `softmax`, `relu` and `gelu` count ops; `depthwise` convolutions with one input channel for each
    output. `shared` are attentions whose keys and values come from the same convolution, which has
    one weight, `separate` those with one for each. `scores` counts attentions by the shape of their
    scores, (batch x heads, queries, keys), whether a file computes all heads at once or each alone.
    """

    softmax: int = 0
    relu: int = 0
    gelu: int = 0
    depthwise: int = 0
    shared: int = 0
    separate: int = 0
    scores: Counter[tuple[int, int, int]] = field(default_factory=Counter)

    @property
    def longest(self) -> int:
        """Most tokens on either side of an attention; 0 without attention."""
        return max((max(queries, keys) for _, queries, keys in self.scores), default=0)

    @property
    def largest(self) -> tuple[int, int, int]:
        """Shape of the largest scores; zeros without attention."""
        return max(self.scores, key=prod, default=(0, 0, 0))


def attention_graph(functions: Iterable[list[Call]]) -> AttentionGraph:
    """Count over the ops of each function of a network's files."""
    total = AttentionGraph()
    for calls in functions:
        _count(calls, total)
    return total


@dataclass(frozen=True)
class Call:
    """One op: names of the computed tensors that it reads and writes, shape of its first result;
    `tokens` are the positions of a convolution's result."""

    kind: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    shape: tuple[int, ...]
    depthwise: bool = False
    tokens: int = 0


@dataclass
class _Attention:
    """The tensors of scores of one attention: heads, or pieces of the queries, or both; and the
    tokens of what its queries and keys were projected from."""

    shares: bool = False
    tokens: list[int] = field(default_factory=list)
    parts: list[tuple[int, int, int]] = field(default_factory=list)

    def whole(self) -> tuple[int, int, int]:
        """Their shape together."""
        _, longest, keys = self.parts[0]
        others = [tokens for tokens in self.tokens if tokens != keys]
        queries = others[0] if others else keys if self.tokens else longest
        return sum(map(prod, self.parts)) // (queries * keys), queries, keys


def _count(calls: list[Call], total: AttentionGraph) -> None:
    makers = {name: call for call in calls for name in call.writes}
    weighed: dict[str, Call] = {}  # weights of an attention, and the product of their scores
    found: dict[tuple[int, ...], _Attention] = {}
    for call in calls:
        total.softmax += call.kind in _SOFTMAX
        total.relu += call.kind in _RELU
        total.gelu += call.kind in _GELU
        total.depthwise += call.depthwise
        if call.kind in (*_SOFTMAX, *_RELU):
            scores = _product(call.reads[0], makers)
            if scores is not None:
                weighed[call.writes[0]] = scores
        elif call.kind in _PRODUCTS and len(call.reads) == 2:
            for weights, values in (call.reads, call.reads[::-1]):
                scores = weighed.get(_origin(weights, makers))
                if scores is None:
                    continue
                value = _projection(values, makers)
                sides = [_projection(name, makers) for name in scores.reads]
                # Heads and pieces of one attention have the same projections.
                attention = found.setdefault(tuple(map(id, (value, *sides))), _Attention())
                attention.shares = value is not None and any(side is value for side in sides)
                attention.tokens = [side.tokens for side in sides if side is not None]
                attention.parts.append(_three(makers[_origin(weights, makers)].shape))
    total.shared += sum(each.shares for each in found.values())
    total.separate += sum(not each.shares for each in found.values())
    total.scores.update(each.whole() for each in found.values())


def _product(name: str, makers: dict[str, Call]) -> Call | None:
    """The product of queries and keys behind scores, a mask added or not."""
    call = makers.get(name)
    while call is not None and call.kind not in _PRODUCTS:
        if call.kind not in (*_ON_THE_WAY, "add", "ADD"):
            return None
        call = makers.get(call.reads[0])
    return call if call is not None and len(call.reads) == 2 else None


def _origin(name: str, makers: dict[str, Call]) -> str:
    """The tensor that was moved or scaled to become this one."""
    call = makers.get(name)
    while call is not None and call.kind in _ON_THE_WAY:
        name = call.reads[0]
        call = makers.get(name)
    return name


def _projection(name: str, makers: dict[str, Call]) -> Call | None:
    call = makers.get(_origin(name, makers))
    return call if call is not None and call.kind in _CONVOLUTIONS else None


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Split-einsum has `(batch, keys, 1, queries)`, others `(..., queries, keys)`."""
    if len(shape) == 4 and shape[2] == 1:
        return shape[0], shape[3], shape[1]
    return prod(shape[:-2]), shape[-2], shape[-1]
