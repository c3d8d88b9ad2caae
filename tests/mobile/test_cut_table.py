"""Cut tables of embeddings: bit-equal to the source, no part above the limit, and as few as fit."""

from typing import Any

import pytest
import torch
from torch import nn

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.cut_table import CutEmbedding, cut_tables
from coreml_sd.mobile.steps import StepSequence

ANDROID = MobileOptions("batched", layout="channels-last", pooled=False)
ROWS = 500


def text_encoder(make_text_encoder: Any, width: int = 32) -> tuple[nn.Module, StepSequence]:
    source = make_text_encoder(
        vocab_size=ROWS, hidden_size=width, eos_token_id=ROWS - 1, pad_token_id=ROWS - 1
    )
    return source, mobile_form("text_encoder", source, ANDROID)


def table_of(network: nn.Module) -> nn.Module:
    (found,) = [m for name, m in network.named_modules() if name.endswith("token_embedding")]
    return found


def widths(network: nn.Module) -> list[int]:
    table = table_of(network)
    return [part.embedding_dim for part in getattr(table, "parts", [table])]


def channels(count: int) -> int:
    """The limit that just admits so many channels of the table."""
    return 4 * ROWS * count


class TestExactness:
    @pytest.mark.parametrize("sizes", [(16, 16), (4, 20, 8), (32,)])
    def test_equals_the_source_bit_for_bit(self, sizes: tuple[int, ...]) -> None:
        source = nn.Embedding(ROWS, 32)
        ids = torch.randint(0, ROWS, (2, 7))
        assert torch.equal(source(ids), CutEmbedding(source, sizes)(ids))

    def test_the_parts_view_the_weight_of_the_source(self) -> None:
        source = nn.Embedding(ROWS, 32)
        storage = source.weight.untyped_storage().data_ptr()
        for parameter in CutEmbedding(source, (16, 16)).parameters():
            assert parameter.untyped_storage().data_ptr() == storage

    @pytest.mark.parametrize("limit", [channels(16), channels(12), channels(4)])
    def test_a_text_encoder_gives_the_same_bits(self, make_text_encoder: Any, limit: int) -> None:
        _, network = text_encoder(make_text_encoder)
        ids = torch.randint(0, ROWS, (1, 77))
        (expected,) = network(ids)
        cut_tables(network, limit)
        assert isinstance(table_of(network), CutEmbedding)
        assert torch.equal(network(ids)[0], expected)

    def test_negative_control_parts_in_another_order(self, make_text_encoder: Any) -> None:
        _, network = text_encoder(make_text_encoder)
        ids = torch.randint(0, ROWS, (1, 77))
        (expected,) = network(ids)
        cut_tables(network, channels(16))
        table: Any = table_of(network)
        table.parts = nn.ModuleList([table.parts[1], table.parts[0]])
        assert not torch.allclose(network(ids)[0], expected, atol=0.1)

    def test_the_source_is_not_changed(self, make_text_encoder: Any) -> None:
        source, network = text_encoder(make_text_encoder)
        before = {name: value.clone() for name, value in source.state_dict().items()}
        cut_tables(network, channels(16))
        after = source.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_refuses_what_it_cannot_cut(self) -> None:
        with pytest.raises(CoremlSDError, match="8 channels cannot be cut"):
            CutEmbedding(nn.Embedding(9, 8), (4, 8))
        with pytest.raises(UserError, match="layer of type Linear"):
            CutEmbedding(nn.Linear(8, 8), (4, 4))


class TestHowManyParts:
    @pytest.mark.parametrize(
        ("limit", "expected"),
        [
            (channels(32), [32]),
            (channels(32) - 1, [16, 16]),
            (channels(16), [16, 16]),
            (channels(16) - 1, [8, 12, 12]),
            (channels(4), [4] * 8),
        ],
    )
    def test_the_fewest_that_fit(
        self, make_text_encoder: Any, limit: int, expected: list[int]
    ) -> None:
        _, network = text_encoder(make_text_encoder)
        cut_tables(network, limit)
        assert widths(network) == expected
        assert max(channels(width) for width in expected) <= limit

    @pytest.mark.parametrize(("width", "parts"), [(768, 2), (1024, 2), (640, 1)])
    def test_the_tables_of_stable_diffusion(self, width: int, parts: int) -> None:
        """49,408 tokens: 145 MiB in 1.x, 193 in 2.x; 121 fit."""
        from transformers import CLIPTextConfig, CLIPTextModel

        with torch.device("meta"):
            source = CLIPTextModel(
                CLIPTextConfig(hidden_size=width, num_hidden_layers=1, num_attention_heads=2)
            )
        network = mobile_form("text_encoder", source.to_empty(device="cpu"), ANDROID)
        cut_tables(network, 128 * 2**20)
        assert widths(network) == [width // parts] * parts

    def test_positions_stay_whole(self, make_text_encoder: Any) -> None:
        _, network = text_encoder(make_text_encoder)
        cut_tables(network, channels(4))
        assert [n for n, _ in network.named_parameters() if "position_embedding" in n] == [
            "embeddings.position_embedding.weight"
        ]

    def test_it_is_named_where_no_cut_fits(self, make_text_encoder: Any) -> None:
        _, network = text_encoder(make_text_encoder)
        with pytest.raises(UserError, match="table of 500 tokens does not fit, however it is cut"):
            cut_tables(network, channels(4) - 1)


class TestTheSum:
    """Tokens and positions are added in halves of the channels where channels are kept last."""

    @pytest.mark.parametrize("width", [32, 12, 9])
    def test_both_layouts_give_the_same_bits(self, make_text_encoder: Any, width: int) -> None:
        heads = 1 if width % 2 else 2
        source = make_text_encoder(
            vocab_size=ROWS, hidden_size=width, num_attention_heads=heads, eos_token_id=ROWS - 1
        )
        ids = torch.randint(0, ROWS, (2, 77))
        first, last = (
            mobile_form("text_encoder", source, options).steps[0].module(ids)
            for options in (MobileOptions(), ANDROID)
        )
        assert first.shape == (2, width, 1, 77) and torch.equal(first, last)
