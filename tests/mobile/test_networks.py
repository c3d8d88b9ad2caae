"""Whole networks in the mobile form: equal to diffusers, cuttable anywhere, at most four axes."""

import math
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import SlicedAttnProcessor
from torch.utils._python_dispatch import TorchDispatchMode

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.attention import attend, causal_mask, fp16_factors
from coreml_sd.mobile.options import Attention
from coreml_sd.models.published import (
    PublishedPenultimateText,
    PublishedTextEncoder,
    PublishedUNet,
    PublishedVAEDecoder,
    PublishedVAEEncoder,
)

ATTENTIONS = ("split-einsum", "split-einsum-v2", "original", "sdpa")
XL = {
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (2, 4, 8),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 20 + 6 * 8,
}
SD2 = {"use_linear_projection": True, "attention_head_dim": [2, 4, 4]}

XL_CONDITIONS = ("encoder_hidden_states", "time_ids", "text_embeds")


def unet_inputs(batch: int = 2, size: tuple[int, int] = (8, 8), width: int = 24) -> Any:
    torch.manual_seed(3)
    return (
        torch.randn(batch, 4, *size),
        torch.full((batch,), 731.0),
        torch.randn(batch, width, 1, 77),
    )


def xl_inputs(batch: int = 2) -> Any:
    inputs = unet_inputs(batch)
    ids = torch.tensor([[1024.0, 768.0, 0.0, 16.0, 1032.0, 776.0]]).repeat(batch, 1)
    return (*inputs, ids, torch.randn(batch, 20))


def text_inputs(vocabulary: int = 49408) -> Any:
    torch.manual_seed(3)
    ids = torch.randint(1, vocabulary - 2, (1, 77))
    ids[0, 0], ids[0, 9:] = vocabulary - 2, vocabulary - 1
    return (ids.float(),)


def decibels(published: Any, mobile: Any, inputs: Any) -> float:
    pairs = zip(published(*inputs), mobile(*inputs), strict=True)
    return min(psnr_db(expected, actual) for expected, actual in pairs)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("changes", [{}, SD2], ids=["sd1", "sd2"])
def test_unet(make_unet: Any, attention: Attention, changes: dict) -> None:
    source = make_unet(**changes)
    mobile = mobile_form("unet", source, MobileOptions(attention, query_chunk=16))
    assert decibels(PublishedUNet(source), mobile, unet_inputs()) >= 100


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_unet_with_added_conditions(make_unet: Any, attention: Attention) -> None:
    source = make_unet(**XL)
    mobile = mobile_form("unet", source, MobileOptions(attention, query_chunk=16))
    assert mobile.inputs[-2:] == ("time_ids", "text_embeds")
    inputs = xl_inputs()
    assert decibels(PublishedUNet(source, XL_CONDITIONS), mobile, inputs) >= 100
    crossed = inputs[3].clone()
    crossed[0, 0], crossed[0, 1] = inputs[3][0, 1], inputs[3][0, 0]
    turned = mobile(*inputs[:3], crossed, inputs[4])
    assert psnr_db(PublishedUNet(source, XL_CONDITIONS)(*inputs)[0], turned[0]) < 100


def test_unet_that_is_told_the_guidance(make_unet: Any) -> None:
    source = make_unet(time_cond_proj_dim=8)
    mobile = mobile_form("unet", source)
    assert mobile.inputs == ("sample", "timestep", "encoder_hidden_states", "timestep_cond")
    inputs = (*unet_inputs(), torch.randn(2, 8))
    published = PublishedUNet(source, ("encoder_hidden_states", "timestep_cond"))
    assert decibels(published, mobile, inputs) >= 100
    assert psnr_db(published(*inputs)[0], mobile(*inputs[:3], 1.1 * inputs[3])[0]) < 100


@pytest.mark.parametrize("size", [(8, 16), (12, 8), (6, 10)])
def test_unet_at_other_sizes(make_unet: Any, size: tuple[int, int]) -> None:
    source = make_unet()
    inputs = unet_inputs(1, size)
    assert decibels(PublishedUNet(source), mobile_form("unet", source), inputs) >= 100


@pytest.mark.parametrize(
    "changes",
    [
        {"mid_block_type": None},
        {"layers_per_block": 2},
        {"layers_per_block": (1, 2, 1)},
        {"transformer_layers_per_block": 2},
        {"mid_block_type": "UNetMidBlock2D"},
        {"flip_sin_to_cos": False, "freq_shift": 1},
        {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        },
    ],
    ids=lambda changes: "-".join(changes),
)
def test_distilled_and_other_block_lists(make_unet: Any, changes: dict) -> None:
    source = make_unet(**changes)
    assert decibels(PublishedUNet(source), mobile_form("unet", source), unet_inputs()) >= 100


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_text_encoder(make_text_encoder: Any, attention: Attention, activation: str) -> None:
    source = make_text_encoder(hidden_act=activation)
    mobile = mobile_form("text_encoder", source, MobileOptions(attention))
    assert decibels(PublishedTextEncoder(source), mobile, text_inputs()) >= 100


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"projected": True, "projection_dim": 20, "hidden_act": "gelu"},
        {"projected": True, "eos_token_id": 2, "pad_token_id": 0, "num_hidden_layers": 3},
    ],
    ids=["plain", "projected", "old end token"],
)
def test_text_encoder_of_xl(make_text_encoder: Any, attention: Attention, changes: dict) -> None:
    source = make_text_encoder(**changes)
    mobile = mobile_form("penultimate_text_encoder", source, MobileOptions(attention))
    assert mobile.outputs == ("hidden_embeds", "pooled_outputs")
    inputs = text_inputs()
    assert decibels(PublishedPenultimateText(source), mobile, inputs) >= 100
    filled = inputs[0].clone()
    filled[:, 10:] = 0
    assert decibels(PublishedPenultimateText(source), mobile, (filled,)) >= 100


@pytest.mark.parametrize("end", [49407, 2])
def test_pooling_by_lookup(make_text_encoder: Any, end: int) -> None:
    """Of several end tokens the first; the argmax is the reference."""
    source = make_text_encoder(projected=True, projection_dim=20, eos_token_id=end)
    plain = mobile_form("penultimate_text_encoder", source)
    lookup = mobile_form("penultimate_text_encoder", source, MobileOptions(pooled=False))
    ids = text_inputs()[0]
    for place in (7, 4, 1):
        earlier = ids.clone()
        earlier[:, place] = 49407
        assert psnr_db(plain(ids)[1], lookup(earlier)[1]) < 100
        ids[:, place:] = 49407
        assert psnr_db(plain(ids)[1], lookup(ids)[1]) >= 100
    with pytest.raises(UserError, match="1 added tokens and an old end token"):
        grown = make_text_encoder(vocab_size=49409, eos_token_id=2)
        mobile_form("penultimate_text_encoder", grown, MobileOptions(pooled=False))


def test_text_encoder_with_the_old_end_token(make_text_encoder: Any) -> None:
    source = make_text_encoder(eos_token_id=2)
    mobile = mobile_form("text_encoder", source)
    assert decibels(PublishedTextEncoder(source), mobile, text_inputs()) >= 100


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("changes", [{}, {"use_quant_conv": False, "use_post_quant_conv": False}])
def test_vae(make_vae: Any, attention: Attention, changes: dict) -> None:
    source = make_vae(**changes)
    torch.manual_seed(4)
    options = MobileOptions(attention)
    decoder = mobile_form("vae_decoder", source, options)
    assert decibels(PublishedVAEDecoder(source), decoder, (torch.randn(1, 4, 6, 4),)) >= 100
    encoder = mobile_form("vae_encoder", source, options)
    assert decibels(PublishedVAEEncoder(source), encoder, (torch.randn(1, 3, 24, 16),)) >= 100


def test_every_cut_chains_bit_for_bit(make_unet: Any) -> None:
    mobile = mobile_form("unet", make_unet())
    inputs = unet_inputs()
    whole = mobile(*inputs)[0]
    for boundary in range(1, len(mobile.steps)):
        pool = dict(zip(mobile.inputs, inputs, strict=True))
        for piece in mobile.cut([boundary]):
            results = piece(*(pool[name] for name in piece.inputs))
            pool.update(zip(piece.outputs, results, strict=True))
        assert torch.equal(pool["noise_pred"], whole), boundary
    with pytest.raises(CoremlSDError, match="do not cut"):
        mobile.cut([0])


class Ranks(TorchDispatchMode):
    """The largest number of axes of any tensor an op makes."""

    largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.ndim)
        return result


# torch.einsum itself works on five axes; the exported op is checked in tests/targets.
@pytest.mark.parametrize("attention", ["original", "sdpa"])
def test_no_tensor_has_more_than_four_axes(
    make_unet: Any, make_text_encoder: Any, make_vae: Any, attention: Attention
) -> None:
    options = MobileOptions(attention)
    cases = [
        (mobile_form("unet", make_unet(), options), unet_inputs()),
        (mobile_form("unet", make_unet(**XL), options), xl_inputs()),
        (mobile_form("text_encoder", make_text_encoder(), options), text_inputs()),
        (mobile_form("vae_decoder", make_vae(), options), (torch.randn(1, 4, 4, 4),)),
    ]
    for mobile, inputs in cases:
        with Ranks() as ranks:
            mobile(*inputs)
        assert ranks.largest == 4


def test_weights_are_shared_and_keep_their_names(make_unet: Any) -> None:
    source = make_unet()
    mobile = dict(mobile_form("unet", source).named_parameters())
    for name, parameter in source.named_parameters():
        assert mobile[name].data_ptr() == parameter.data_ptr()


class TestNegativeControls:
    def test_swapped_key_and_value(self, make_unet: Any) -> None:
        source = make_unet()
        mobile = mobile_form("unet", source)
        attention = mobile.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
        attention.to_k, attention.to_v = attention.to_v, attention.to_k
        assert decibels(PublishedUNet(source), mobile, unet_inputs()) < 100

    def test_a_changed_order_of_channels(self, make_unet: Any) -> None:
        source = make_unet()
        mobile = mobile_form("unet", source)
        inputs = unet_inputs()
        turned = (inputs[0].transpose(2, 3), *inputs[1:])
        expected = PublishedUNet(source)(*inputs)[0]
        assert psnr_db(expected, mobile(*turned)[0]) < 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"center_input_sample": True}, "center_input_sample"),
        ({"resnet_time_scale_shift": "scale_shift"}, "scale_shift"),
        (
            {"addition_embed_type": "text", "addition_embed_type_num_heads": 4},
            "addition_embed_type",
        ),
        ({"dual_cross_attention": True}, "dual_cross_attention|no mobile form"),
    ],
)
def test_what_is_not_understood_is_refused(make_unet: Any, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        mobile_form("unet", make_unet(**changes))


def test_unknown_components_and_options_are_refused(make_unet: Any) -> None:
    with pytest.raises(UserError, match="no mobile form: known are"):
        mobile_form("denoiser", make_unet())
    with pytest.raises(UserError, match="unknown attention"):
        MobileOptions("flash")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="too small"):
        MobileOptions(query_chunk=0)


@pytest.mark.parametrize("width", [8, 10, 12, 16, 24, 40, 48, 64, 80, 128, 160])
def test_the_scale_survives_being_stored_in_fp16(width: int) -> None:
    factors = fp16_factors(width**-0.5)
    assert all(float(torch.tensor(factor).half()) == factor for factor in factors)
    assert math.prod(factors) * width**0.5 == pytest.approx(1, abs=1e-5)
    assert len(factors) == (1 if width in (16, 64) else 2)


def test_an_attention_of_another_processor_is_refused(make_unet: Any) -> None:
    source = make_unet()
    source.set_attn_processor(SlicedAttnProcessor(1))
    with pytest.raises(UserError, match="SlicedAttnProcessor has no mobile form"):
        mobile_form("unet", source)


def test_a_mask_is_cut_with_its_queries() -> None:
    """40 queries in pieces of 16: each piece has the rows of the mask that are its own."""
    query, key, value = torch.randn(3, 2, 24, 1, 40).unbind()
    mask = causal_mask(40)
    whole = attend(query, key, value, 4, MobileOptions("original"), mask)
    pieces = MobileOptions("split-einsum-v2", query_chunk=16)
    torch.testing.assert_close(attend(query, key, value, 4, pieces, mask), whole)
    assert psnr_db(whole, attend(query, key, value, 4, pieces)) < 50
