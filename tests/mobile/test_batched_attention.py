"""Batched attention: no score tensor above the limit, the same numbers in however many pieces."""

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from coreml_sd.metrics import psnr_db
from coreml_sd.mobile.attention import causal_mask
from coreml_sd.mobile.batched_attention import batched_attention, query_pieces

HEADS, WIDTH = 3, 8
NO_LIMIT = 2**40


class TestPieces:
    def test_they_cover_every_query_once_and_in_order(self) -> None:
        for queries, keys, rows, limit in cases():
            pieces = query_pieces(queries, keys, rows, limit)
            covered = [index for begin, end in pieces for index in range(begin, end)]
            assert covered == list(range(queries))

    def test_no_scores_are_above_the_limit(self) -> None:
        for queries, keys, rows, limit in cases():
            longest = max(end - begin for begin, end in query_pieces(queries, keys, rows, limit))
            assert longest == 1 or 4 * rows * longest * keys <= limit

    def test_they_are_the_fewest(self) -> None:
        for queries, keys, rows, limit in cases():
            most_in_one = max(1, limit // (4 * rows * keys))
            fewest = -(-queries // most_in_one)
            assert len(query_pieces(queries, keys, rows, limit)) <= fewest

    def test_they_are_equal_but_the_last(self) -> None:
        for case in cases():
            lengths = {end - begin for begin, end in query_pieces(*case)[:-1]}
            assert len(lengths) <= 1

    def test_the_self_attention_of_stable_diffusion(self) -> None:
        """8 heads of 4096 x 4096 scores are 512 MiB in fp32: 16 pieces of 32 MiB."""
        pieces = query_pieces(4096, 4096, 8, 32 * 2**20)
        assert len(pieces) == 16 and pieces[0] == (0, 256)

    def test_what_fits_stays_whole(self) -> None:
        assert query_pieces(4096, 77, 8, 32 * 2**20) == [(0, 4096)]


def cases() -> list[tuple[int, int, int, int]]:
    """Queries, keys, rows and a limit, odd ones for the most part."""
    draw = random.Random(0)
    return [
        (draw.randint(1, 300), draw.randint(1, 300), draw.randint(1, 16), draw.randint(4, 200_000))
        for _ in range(2000)
    ]


def tensors(
    batch: int = 2, size: tuple[int, int] = (7, 11), keys: int = 77
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    channels = HEADS * WIDTH
    query = torch.randn(batch, channels, *size)
    key, value = (torch.randn(batch, channels, 1, keys) for _ in range(2))
    # Sharp scores: a softmax that is not an average.
    return 4 * query, 4 * key, 4 * value


def published(query: Any, key: Any, value: Any, mask: Any = None) -> Any:
    """torch's own attention of the same tensors, one head at a time."""

    def heads(x: Any) -> Any:
        return x.flatten(2).unflatten(1, (HEADS, WIDTH)).transpose(2, 3)

    mixed = F.scaled_dot_product_attention(heads(query), heads(key), heads(value), attn_mask=mask)
    return mixed.transpose(2, 3).reshape(query.shape)


class Scores(TorchDispatchMode):
    """Shapes of what every softmax makes and of the two sides of every sum."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.sums: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._softmax.default:
            self.shapes.append(tuple(result.shape))
        if function is torch.ops.aten.add.Tensor:
            self.sums.append((args[0].ndim, args[1].ndim))
        return result


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("queries_at_once", [1, 2, 13, 76, 77])
class TestExactness:
    def test_in_pieces_as_in_one(self, queries_at_once: int, batch: int, masked: bool) -> None:
        given = tensors(batch)
        mask = causal_mask(77) if masked else None
        limit = 4 * batch * HEADS * queries_at_once * 77
        with Scores() as scores:
            actual = batched_attention(*given, HEADS, mask, limit)
        assert max(4 * torch.Size(shape).numel() for shape in scores.shapes) <= limit
        assert len(scores.shapes) == -(-77 // queries_at_once)
        whole = batched_attention(*given, HEADS, mask, NO_LIMIT)
        assert psnr_db(whole, actual) >= 100
        assert psnr_db(published(*given, mask), actual) >= 100


def test_scores_and_mask_are_of_rank_3() -> None:
    """The Android GPU delegate adds a mask of rank 4 to scores of rank 3 wrongly."""
    with Scores() as scores:
        batched_attention(*tensors(1), HEADS, causal_mask(77), NO_LIMIT)
    assert scores.shapes == [(HEADS, 77, 77)]
    assert scores.sums == [(3, 3)]


class TestNegativeControls:
    def test_unpieced_scores_are_above_the_limit(self) -> None:
        with Scores() as scores:
            batched_attention(*tensors(), HEADS, None, NO_LIMIT)
        assert scores.shapes == [(2 * HEADS, 77, 77)]

    def test_keys_and_values_swapped(self) -> None:
        query, key, value = tensors()
        assert psnr_db(published(query, value, key), attended(query, key, value)) < 60

    def test_a_mask_that_is_one_query_off(self) -> None:
        given, mask = tensors(), causal_mask(77)
        shifted = mask.roll(1, dims=2)
        assert psnr_db(published(*given, shifted), attended(*given, mask=mask)) < 60


def attended(query: Any, key: Any, value: Any, mask: Any = None) -> Any:
    return batched_attention(query, key, value, HEADS, mask, 4 * 2 * HEADS * 20 * 77)
