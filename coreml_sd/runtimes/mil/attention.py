"""Attention of the split form in blocks of queries: the same three ops, without their whole scores.

The file has einsum, softmax and einsum for each head. At 64x64 one head's scores take 134 MB, and
reading and writing them costs more than the arithmetic; a block of them stays in the cache. Each of
the three still gives a result of its own, rounded and recorded as it would be alone. Where nothing
is rounded or recorded, torch's fused attention computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from coreml_sd.runtimes.mil.instruction import Instruction

_SCORES = ("bkhc,bchq->bkhq", "bchq,bkhc->bkhq")
_RESULTS = ("bchk,bkhq->bchq", "bkhq,bchk->bchq")
_BLOCK = 1 << 21  # scores of one block, 8 MB: the cores' shared cache holds it

Seen = Callable[[int, Tensor], None]


def attend(keys: Tensor, queries: Tensor, values: Tensor, seen: Seen | None) -> Tensor:
    """Softmax over the keys of `keys` x `queries`, times `values`.

    Args:
        keys: (B, K, 1, C). queries: (B, C, 1, Q). values: (B, V, 1, K).
        seen: told each block of the scores (0) and of the weights (1), (B, block, K), which it may
            change. None where nobody looks: torch's fused attention then takes half the time.

    Returns:
        (B, V, 1, Q).
    """
    by_row = queries[:, :, 0].transpose(1, 2).contiguous()
    picked = values[:, :, 0].transpose(1, 2).contiguous()
    if seen is None and keys.shape[3] == values.shape[1]:  # else torch would hold all scores
        given = (by_row[:, None], keys[:, :, 0][:, None].contiguous(), picked[:, None])
        return scaled_dot_product_attention(*given, scale=1.0).permute(0, 3, 1, 2)
    columns = keys[:, :, 0].transpose(1, 2).contiguous()
    return _attend_in_blocks(by_row, columns, picked, seen or _unseen)


def _attend_in_blocks(by_row: Tensor, columns: Tensor, picked: Tensor, seen: Seen) -> Tensor:
    """by_row (B, Q, C), columns (B, C, K), picked (B, K, V)."""
    batch, total = by_row.shape[:2]
    count = columns.shape[2]
    result = by_row.new_empty(batch, picked.shape[2], 1, total)
    rows = min(total, max(1, _BLOCK // (batch * count)))
    held = by_row.new_empty(batch, rows, count)  # for all blocks: fresh memory is slow
    for first in range(0, total, rows):
        part = by_row[:, first : first + rows]
        block = held[:, : part.shape[1]]
        torch.bmm(part, columns, out=block)
        seen(0, block)
        torch.softmax(block, dim=2, out=block)
        seen(1, block)
        result[:, :, 0, first : first + rows] = (block @ picked).transpose(1, 2)
    return result


def _unseen(place: int, block: Tensor) -> None:
    """Where nobody looks."""


def in_blocks(
    instructions: Sequence[Instruction], kept: set[int], shapes: dict[int, tuple[int, ...]]
) -> list[Instruction]:
    """The instructions with every einsum, softmax, einsum of one head as one call.

    Args:
        kept: slots that are read after the last instruction.
        shapes: declared shape of each slot.
    """
    makers = {slot: each for each in instructions for slot in each.results}
    reads: dict[int, int] = dict.fromkeys(kept, 2)
    for each in instructions:
        for slot in each.used:
            reads[slot] = reads.get(slot, 0) + 1
    joined: dict[int, Instruction] = {}
    dropped: set[int] = set()
    for last in instructions:
        found = _parts(last, makers, reads, shapes)
        if found is not None:
            call, inner = found
            joined[id(last)] = call
            dropped |= {id(each) for each in inner}
    return [joined.get(id(each), each) for each in instructions if id(each) not in dropped]


def _parts(
    last: Instruction,
    makers: dict[int, Instruction],
    reads: dict[int, int],
    shapes: dict[int, tuple[int, ...]],
) -> tuple[Instruction, tuple[Instruction, ...]] | None:
    """The joined call that ends with `last`, and the two ops that it takes in."""
    values_at = _operand(last, _RESULTS)
    if values_at is None:
        return None
    values, weights = values_at
    softmax = makers.get(weights)
    if softmax is None or softmax.op.type != "softmax" or softmax.fixed.get("axis", -1) != 1:
        return None
    (scores,) = softmax.used
    first = makers.get(scores)
    operands = None if first is None else _operand(first, _SCORES)
    if first is None or operands is None or reads[scores] != 1 or reads[weights] != 1:
        return None
    keys, queries = operands
    slots: dict[str, int | list[int]] = {"keys": keys, "queries": queries, "values": values}
    if not _fit(*(shapes.get(slot, ()) for slot in (keys, queries, values, scores, weights))):
        return None
    inner = (first, softmax)
    call = Instruction(
        last.op, attend, {}, slots, last.results, last.rounds, last.shapes, last.layer, inner=inner
    )
    return call, inner


def _operand(call: Instruction, equations: tuple[str, str]) -> tuple[int, int] | None:
    """The two operands of an einsum in the order of the first equation, whichever is written."""
    if call.op.type != "einsum" or call.fixed.get("equation") not in equations:
        return None
    operands = call.slots["values"]
    assert isinstance(operands, list)
    first, second = operands if call.fixed["equation"] == equations[0] else operands[::-1]
    return first, second


def _fit(
    keys: tuple[int, ...],
    queries: tuple[int, ...],
    values: tuple[int, ...],
    scores: tuple[int, ...],
    weights: tuple[int, ...],
) -> bool:
    """Whether the file declares shapes of one head that agree; else each op is held alone."""
    if not all(len(shape) == 4 and shape[2] == 1 for shape in (keys, queries, values)):
        return False
    wanted = (keys[0], keys[1], 1, queries[3])
    agree = keys[0] == queries[0] == values[0] and keys[3] == queries[1] and keys[1] == values[3]
    return agree and scores == wanted and weights == wanted
