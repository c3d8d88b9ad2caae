"""The conditional UNet as a flat list of steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UNetMidBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.layer_weights import shared_conv
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.output import OutputNorm
from coreml_sd.mobile.resnet import MobileResnet, SkipResnet
from coreml_sd.mobile.samplers import MobileDownsample, MobileUpsample
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.mobile.timestep import AddedEmbedding, TimeEmbedding
from coreml_sd.mobile.transformer import MobileTransformer

_INPUTS = ("sample", "timestep", "encoder_hidden_states")
_GUIDANCE = "timestep_cond"
_ADDED_INPUTS = ("time_ids", "text_embeds")
_TIME = "time_embedding"
_PLAIN_TIME = "plain_time_embedding"
_ADDED = "text_time"

# Options that change the arithmetic without leaving a weight of their own.
_REFUSED_OPTIONS = (
    "center_input_sample",
    "class_embed_type",
    "num_class_embeds",
    "class_embeddings_concat",
    "encoder_hid_dim_type",
    "dual_cross_attention",
    "only_cross_attention",
    "mid_block_only_cross_attention",
    "cross_attention_norm",
    "time_embedding_act_fn",
    "timestep_post_act",
    "resnet_skip_time_act",
)
_REQUIRED_OPTIONS = {
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "attention_type": "default",
}


def unet_steps(source: nn.Module, options: MobileOptions) -> StepSequence:
    """The mobile form of a `UNet2DConditionModel`.

    Inputs: sample `(B, 4, h, w)`, timestep `(B,)`, encoder_hidden_states `(B, C, 1, T)`; with
    `time_cond_proj_dim` W also timestep_cond `(B, W)`, the guidance; of Stable Diffusion XL
    (`addition_embed_type` text_time) also time_ids `(B, 6)`, text_embeds `(B, P)`.
    Output: noise_pred `(B, 4, h, w)`. Tensors that may cross a cut are named after the step that
    wrote them, with underscores for dots.

    Raises:
        UserError: a block or an option that has no mobile form.
    """
    if not isinstance(source, UNet2DConditionModel):
        raise UserError(f"unet of type {type(source).__name__} has no mobile form")
    _check_options(source)
    return _Steps(source, options).sequence()


class UNetSteps(ABC):
    """Collects steps of a UNet that has diffusers' outline: residual blocks with transformers on a
    way down, in the middle and on a way up.

    `current` is the newest tensor, `skips` those kept for the way up.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        self.source = source
        self.options = options
        self.added = source.config.get("addition_embed_type") == _ADDED
        embedding = TimeEmbedding(source.time_proj, source.time_embedding, last=not self.added)
        written = _PLAIN_TIME if self.added else _TIME
        is_told = source.time_embedding.cond_proj is not None
        self.guidance = (_GUIDANCE,) if is_told else ()
        reads = ("timestep", *self.guidance)
        self.steps = [Step("time_embedding", embedding, reads, (written,))]
        if self.added:
            added = AddedEmbedding(source.add_time_proj, source.add_embedding)
            self.steps.append(Step("add_embedding", added, (written, *_ADDED_INPUTS), (_TIME,)))
        self.current = "sample"
        self._add("conv_in", shared_conv(source.conv_in))
        self.skips = [self.current]

    def _add(self, path: str, module: nn.Module, *more_reads: str, writes: str = "") -> None:
        written = writes or path.replace(".", "_")
        self.steps.append(Step(path, module, (self.current, *more_reads), (written,)))
        self.current = written

    def sequence(self) -> StepSequence:
        """The whole network."""
        self.way_down()
        self.middle()
        self.way_up()
        self.output()
        inputs = (*_INPUTS, *self.guidance, *(_ADDED_INPUTS if self.added else ()))
        return StepSequence(self.steps, inputs, ("noise_pred",))

    @abstractmethod
    def _attentions(self, block: Any) -> list[Any]:
        """The transformers of a block, one for each residual block (in the middle for each but the
        last, or for the only one), or none."""

    @abstractmethod
    def _mobile_transformer(self, source: Any) -> nn.Module:
        """The mobile form of one of them."""

    def _transformer(self, path: str, source: Any) -> None:
        self._add(path, self._mobile_transformer(source), "encoder_hidden_states")

    def way_down(self) -> None:
        for i, block in enumerate(self.source.down_blocks):
            path = f"down_blocks.{i}"
            attentions = self._attentions(block)
            for j, resnet in enumerate(block.resnets):
                self._add(f"{path}.resnets.{j}", MobileResnet(resnet, self.options), _TIME)
                if attentions:
                    self._transformer(f"{path}.attentions.{j}", attentions[j])
                self.skips.append(self.current)
            for j, sampler in enumerate(block.downsamplers or ()):
                self._add(f"{path}.downsamplers.{j}", MobileDownsample(sampler))
                self.skips.append(self.current)

    def middle(self) -> None:
        block = self.source.mid_block
        if block is None:
            return
        attentions = self._attentions(block)
        for j, resnet in enumerate(block.resnets):
            self._add(f"mid_block.resnets.{j}", MobileResnet(resnet, self.options), _TIME)
            if j < len(attentions):
                self._transformer(f"mid_block.attentions.{j}", attentions[j])

    def way_up(self) -> None:
        for i, block in enumerate(self.source.up_blocks):
            path = f"up_blocks.{i}"
            attentions = self._attentions(block)
            if any(getattr(block, name, None) for name in ("s1", "s2", "b1", "b2")):
                raise UserError("FreeU has no mobile form: call disable_freeu() first")
            for j, resnet in enumerate(block.resnets):
                self._add(
                    f"{path}.resnets.{j}", SkipResnet(resnet, self.options), self.skips.pop(), _TIME
                )
                if attentions:
                    self._transformer(f"{path}.attentions.{j}", attentions[j])
            for j, sampler in enumerate(block.upsamplers or ()):
                self._add(f"{path}.upsamplers.{j}", MobileUpsample(sampler), self.skips[-1])

    def output(self) -> None:
        norm = OutputNorm(self.source.conv_norm_out, self.source.conv_act, self.options)
        self._add("conv_norm_out", norm)
        self._add("conv_out", shared_conv(self.source.conv_out), writes="noise_pred")


class _Steps(UNetSteps):
    def _attentions(self, block: Any) -> list[Any]:
        if type(block) in (CrossAttnDownBlock2D, UNetMidBlock2DCrossAttn, CrossAttnUpBlock2D):
            return list(block.attentions)
        plain = type(block) in (DownBlock2D, UNetMidBlock2D, UpBlock2D)
        if plain and not any(getattr(block, "attentions", ())):
            return []
        raise UserError(f"unet block {type(block).__name__} has no mobile form")

    def _mobile_transformer(self, source: Any) -> nn.Module:
        return MobileTransformer(source, self.options)


def _check_options(source: Any) -> None:
    config = source.config
    for name in _REFUSED_OPTIONS:
        value = config.get(name)
        if any(value) if isinstance(value, list | tuple) else value:
            raise UserError(f"unet option {name}={value!r} has no mobile form")
    added = config.get("addition_embed_type")
    if added not in (None, _ADDED):
        raise UserError(f"unet option addition_embed_type={added!r} has no mobile form")
    for name, wanted in _REQUIRED_OPTIONS.items():
        if config.get(name, wanted) != wanted:
            raise UserError(f"unet option {name}={config[name]!r} has no mobile form")
