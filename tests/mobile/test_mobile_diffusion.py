"""MobileDiffusion's networks in the mobile form: equal to their definition, switch by switch."""

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from coreml_sd.errors import UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.options import Attention
from coreml_sd.models.published import PublishedUNet, PublishedVAEDecoder, PublishedVAEEncoder
from tests.helpers.tiny_md import SWITCHED_BACK, TINY, tiny_unet, tiny_vae

FORM = "mobile_diffusion_unet"
ATTENTIONS = ("split-einsum", "split-einsum-v2", "original", "sdpa")
ANDROID = MobileOptions("batched", layout="channels-last", batch=2, score_limit=4096)
STABLE_DIFFUSION = {
    **SWITCHED_BACK,
    "block_out_channels": (32, 32, 64, 64),
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 4,
}


def inputs(batch: int = 2, channels: int = 8) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(3)
    return (
        torch.randn(batch, channels, 8, 8),
        torch.full((batch,), 731.0),
        torch.randn(batch, TINY["cross_attention_dim"], 1, 77),
    )


def decibels(source: Any, mobile: Any, given: tuple[torch.Tensor, ...]) -> float:
    return psnr_db(PublishedUNet(source)(*given)[0], mobile(*given)[0])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_attention_form_equals_the_source(attention: Attention) -> None:
    source = tiny_unet()
    mobile = mobile_form(FORM, source, MobileOptions(attention, query_chunk=16))
    assert decibels(source, mobile, inputs()) >= 100


def test_the_android_form_equals_the_source() -> None:
    source = tiny_unet()
    assert decibels(source, mobile_form(FORM, source, ANDROID), inputs()) >= 100


@pytest.mark.parametrize("options", [MobileOptions(), ANDROID], ids=["coreml", "android"])
@pytest.mark.parametrize("switch", SWITCHED_BACK)
def test_each_switch_back_equals_the_source(switch: str, options: MobileOptions) -> None:
    source = tiny_unet(**{switch: SWITCHED_BACK[switch]})
    assert decibels(source, mobile_form(FORM, source, options), inputs()) >= 100


@pytest.mark.parametrize("switch", SWITCHED_BACK)
def test_every_switch_changes_the_network(switch: str) -> None:
    """Its weights, or with the same weights what it computes."""
    whole, other = tiny_unet(), tiny_unet(**{switch: SWITCHED_BACK[switch]})
    shapes = [{n: p.shape for n, p in unet.named_parameters()} for unet in (whole, other)]
    if shapes[0] == shapes[1]:
        assert psnr_db(*(PublishedUNet(unet)(*inputs())[0] for unet in (whole, other))) < 60
        return
    assert switch not in ("gate", "weighing")


def test_with_every_switch_back_it_is_stable_diffusions_unet() -> None:
    """Independent of everything of ours: diffusers' own class takes the weights as they are."""
    ours = tiny_unet(**STABLE_DIFFUSION)
    theirs = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 32, 64, 64),
        cross_attention_dim=TINY["cross_attention_dim"],
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    given = inputs(channels=4)
    assert psnr_db(PublishedUNet(theirs)(*given)[0], PublishedUNet(ours)(*given)[0]) >= 100
    with pytest.raises(RuntimeError, match="Missing key"):
        theirs.load_state_dict(
            tiny_unet(**{**STABLE_DIFFUSION, "shared_key_value": True}).state_dict()
        )


def test_weights_are_shared_and_keep_their_names() -> None:
    source = tiny_unet()
    mobile = dict(mobile_form(FORM, source).named_parameters())
    for name, parameter in source.named_parameters():
        assert mobile[name].data_ptr() == parameter.data_ptr()


def test_a_softmax_model_becomes_a_relu_one_without_a_copy() -> None:
    softmax = tiny_unet(weighing="softmax")
    relu = softmax.with_weighing("relu")
    assert relu.config.weighing == "relu" and softmax.config.weighing == "softmax"
    kept = dict(softmax.named_parameters())
    assert all(p.data_ptr() == kept[name].data_ptr() for name, p in relu.named_parameters())
    outputs = [PublishedUNet(unet)(*inputs())[0] for unet in (softmax, relu)]
    assert psnr_db(*outputs) < 60
    back = relu.with_weighing("softmax")
    assert torch.equal(PublishedUNet(back)(*inputs())[0], outputs[0])


@pytest.mark.parametrize("keys", [77, 256])
def test_attention_by_relu_has_the_size_of_attention_by_softmax(keys: int) -> None:
    """Divided by the number of keys; undivided it would be that many times as large."""
    torch.manual_seed(0)
    width = 64
    source = tiny_unet(block_out_channels=(32, 32, width), attention_head_dim=32)
    attention = source.down_blocks[-1].attentions[0].transformer_blocks[0].attn1
    attention.to_out[0] = torch.nn.Identity()
    x = torch.randn(1, keys, width)
    sizes = {}
    for attention.weighing in ("softmax", "relu"):
        sizes[attention.weighing] = float(attention(x).square().mean().sqrt())
    assert 0.2 < sizes["relu"] / sizes["softmax"] < 5


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("changes", [{}, {"light_decoder": False, "latent_channels": 4}])
def test_vae(attention: Attention, changes: dict[str, Any]) -> None:
    source, options = tiny_vae(**changes), MobileOptions(attention)
    torch.manual_seed(4)
    z, x = torch.randn(1, source.config.latent_channels, 6, 4), torch.randn(1, 3, 24, 16)
    decoder = mobile_form("vae_decoder", source, options)
    assert psnr_db(PublishedVAEDecoder(source)(z)[0], decoder(z)[0]) >= 100
    encoder = mobile_form("vae_encoder", source, options)
    assert psnr_db(PublishedVAEEncoder(source)(x)[0], encoder(x)[0]) >= 100


def test_every_cut_chains_bit_for_bit() -> None:
    mobile = mobile_form(FORM, tiny_unet())
    given = inputs()
    whole = mobile(*given)[0]
    for boundary in range(1, len(mobile.steps)):
        pool = dict(zip(mobile.inputs, given, strict=True))
        for piece in mobile.cut([boundary]):
            pool.update(zip(piece.outputs, piece(*(pool[n] for n in piece.inputs)), strict=True))
        assert torch.equal(pool["noise_pred"], whole), boundary


class TestNegativeControls:
    def test_keys_are_not_queries(self) -> None:
        source = tiny_unet()
        mobile = mobile_form(FORM, source)
        attention = mobile.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
        attention.to_q, attention.to_kv = attention.to_kv, attention.to_q
        assert decibels(source, mobile, inputs()) < 100

    def test_softmax_is_not_relu(self) -> None:
        source = tiny_unet()
        mobile = mobile_form(FORM, source.with_weighing("softmax"))
        assert decibels(source, mobile, inputs()) < 100

    def test_a_depthwise_kernel_turned(self) -> None:
        source = tiny_unet()
        mobile = mobile_form(FORM, source)
        conv = mobile.get_submodule("mid_block.resnets.0.conv1.depthwise")
        conv.weight = torch.nn.Parameter(conv.weight.flip(3))
        assert decibels(source, mobile, inputs()) < 100


def test_conditions_of_distilled_models_matter() -> None:
    source = tiny_unet(time_cond_proj_dim=16, step_embedding=True)
    sample, timestep, text = inputs()
    context = text.squeeze(2).transpose(1, 2)
    guidance, target = torch.randn(2, 16), torch.full((2,), 600.0)
    whole = source(sample, timestep, context, guidance, target).sample
    assert psnr_db(whole, source(sample, timestep, context, -guidance, target).sample) < 100
    assert psnr_db(whole, source(sample, timestep, context, guidance, target / 2).sample) < 100
    with pytest.raises(ValueError, match="target_timestep"):
        source(sample, timestep, context, guidance)
    with pytest.raises(UserError, match="no mobile form"):
        mobile_form(FORM, tiny_unet(step_embedding=True))


def test_the_guidance_is_an_input_of_a_unet_that_is_told_it() -> None:
    source = tiny_unet(time_cond_proj_dim=16)
    mobile, given = mobile_form(FORM, source), (*inputs(), torch.randn(2, 16))
    published = PublishedUNet(source, ("encoder_hidden_states", "timestep_cond"))
    assert psnr_db(published(*given)[0], mobile(*given)[0]) >= 100
    assert psnr_db(published(*given)[0], mobile(*given[:3], -given[3])[0]) < 100


def test_features_for_a_discriminator_are_those_of_the_network() -> None:
    source = tiny_unet()
    sample, timestep, text = inputs()
    context = text.squeeze(2).transpose(1, 2)
    time = source.embedded_time(sample, timestep)
    features, skips = source.inner_features(sample, time, context)
    assert features.shape == (2, 64, 2, 2) and len(skips) == 7


def test_other_networks_are_refused() -> None:
    with pytest.raises(UserError, match="has no mobile form"):
        mobile_form(
            FORM,
            UNet2DConditionModel(
                block_out_channels=(32, 32),
                down_block_types=("DownBlock2D",) * 2,
                up_block_types=("UpBlock2D",) * 2,
            ),
        )
    with pytest.raises(UserError, match="has no mobile form"):
        mobile_form("unet", tiny_unet())
