"""The denoising UNet of MobileDiffusion."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from diffusers.models.upsampling import Upsample2D
from torch import nn

from coreml_sd.models.mobile_diffusion.layout import Layout, Level, layout
from coreml_sd.models.mobile_diffusion.transformer import LayerKind, MiddleTransformer

_TIME_EXPANSION = 4


class SeparableConv2d(nn.Module):
    """A depthwise 3x3 convolution, then a pointwise one (T3.7); the bias is the pointwise one's."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels_in, channels_in, 3, padding=1, groups=channels_in, bias=False
        )
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


class MobileDiffusionUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """sample `(B, C, h, w)`, timestep and text `(B, T, D)` to a prediction `(B, C, h, w)`.

    Each decision of the paper (arXiv 2311.16567) is a switch; the defaults are the preset `md`.
    With all of them off, `block_out_channels` (320, 640, 1280, 1280), 4 channels and
    `num_attention_heads` 8 this is the UNet of Stable Diffusion 1.5, weight for weight.

    The paper's: three levels at 64x64, 32x32 and 16x16; what stands in them (the MD-Lite row of its
    table: one full convolution block at 64x64, one and cross-attention at 32x32, separable blocks
    with self- and cross-attention at 16x16); the switches. Recalled, not read: widths 320, 640 and
    1024. Ours, chosen by parameters and MACs (docs/mobilediffusion.md): `inner_layers`, heads of
    64 channels, one residual block in the middle, the width of the time embedding, no bias in
    depthwise convolutions, transformers as wide as their level.

    Args:
        transformers_in_middle: most layers at the smallest map (T3.1): `inner_layers` behind each
            residual block on the way down, in the middle, and on the way up.
        decoupled_attention: no transformer at the largest map, cross-attention alone at those
            between it and the smallest (T3.2).
        shared_key_value: one projection for keys and values (T3.3).
        gate: of the feed-forward parts: "gelu", or "silu" for Swish (T3.4).
        weighing: of attention scores: "softmax" or "relu" (T3.5; see `with_weighing`).
        feed_forward_expansion: 8 or, trimmed, 6 (T3.6).
        separable_convolutions: in the residual blocks of the smallest map (T3.7).
        pruned_blocks: one residual block instead of `layers_per_block` on the way down of all
            levels but the smallest, one instead of two in the middle (T3.8).
        num_attention_heads: heads everywhere; `attention_head_dim` channels each where None.
        time_cond_proj_dim: width of an embedded guidance scale that forward then takes as
            `timestep_cond`, as diffusers has it for distilled models.
        step_embedding: forward takes `target_timestep`, where this step of a few-step sampler
            leads.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 8,
        out_channels: int = 8,
        block_out_channels: tuple[int, ...] = (320, 640, 1024),
        layers_per_block: int = 2,
        inner_layers: tuple[int, int, int] = (3, 2, 3),
        cross_attention_dim: int = 768,
        attention_head_dim: int = 64,
        num_attention_heads: int | None = None,
        norm_num_groups: int = 32,
        transformers_in_middle: bool = True,
        decoupled_attention: bool = True,
        shared_key_value: bool = True,
        gate: str = "silu",
        weighing: str = "relu",
        feed_forward_expansion: int = 6,
        separable_convolutions: bool = True,
        pruned_blocks: bool = True,
        time_cond_proj_dim: int | None = None,
        step_embedding: bool = False,
    ) -> None:
        super().__init__()
        plan = layout(self.config)
        first, last = block_out_channels[0], block_out_channels[-1]
        time = _TIME_EXPANSION * first
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, time, cond_proj_dim=time_cond_proj_dim)
        self.target_embedding = TimestepEmbedding(first, time) if step_embedding else None
        self.conv_in = nn.Conv2d(in_channels, first, 3, padding=1)
        parts = _Parts(self.config, time)
        self.down_blocks = nn.ModuleList(
            [
                parts.down(level, before, last=i + 1 == len(plan.levels))
                for i, (level, before) in enumerate(
                    zip(plan.levels, (first, *block_out_channels), strict=False)
                )
            ]
        )
        self.mid_block = parts.middle(plan, last)
        skips = _skip_widths(plan, first)
        self.up_blocks = nn.ModuleList()
        before = last
        for i, level in enumerate(reversed(plan.levels)):
            taken = [skips.pop() for _ in range(level.up_blocks)]
            self.up_blocks.append(parts.up(level, before, taken, last=i + 1 == len(plan.levels)))
            before = level.channels
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, first, eps=1e-5)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(first, out_channels, 3, padding=1)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        timestep_cond: torch.Tensor | None = None,
        target_timestep: torch.Tensor | None = None,
        cross_attention_kwargs: None = None,
        added_cond_kwargs: None = None,
        return_dict: bool = True,
    ) -> Any:
        """As `UNet2DConditionModel`; what a diffusers pipeline passes on without need is None."""
        time = self.embedded_time(sample, timestep, timestep_cond, target_timestep)
        hidden, skips = self.inner_features(sample, time, encoder_hidden_states)
        for block in self.up_blocks:
            hidden = block(hidden, skips, time, encoder_hidden_states)
        result = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return UNet2DConditionOutput(sample=result) if return_dict else (result,)

    def embedded_time(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        timestep_cond: torch.Tensor | None = None,
        target_timestep: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """All conditions but the text, `(B, E)`."""

        def waves(steps: torch.Tensor | float) -> torch.Tensor:
            each = torch.as_tensor(steps, device=sample.device).reshape(-1).expand(len(sample))
            return self.time_proj(each).to(sample.dtype)  # type: ignore[no-any-return]

        time: torch.Tensor = self.time_embedding(waves(timestep), timestep_cond)
        if self.target_embedding is not None:
            if target_timestep is None:
                raise ValueError("a UNet with step_embedding needs target_timestep")
            time = time + self.target_embedding(waves(target_timestep))
        return time

    def inner_features(
        self, sample: torch.Tensor, time: torch.Tensor, context: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The map after the middle, `(B, C, h / 4, w / 4)`, and those kept for the way up: what a
        discriminator made from the same UNet looks at."""
        hidden = self.conv_in(sample)
        skips = [hidden]
        for block in self.down_blocks:
            hidden = block(hidden, skips, time, context)
        return self.mid_block(hidden, time, context), skips

    def with_weighing(self, weighing: str) -> MobileDiffusionUNet:
        """The same weights, not copied, in a network whose attention weighs by "relu" or "softmax":
        fine-tuning to ReLU starts from a trained softmax model (T3.5)."""
        with torch.device("meta"):
            other: MobileDiffusionUNet = MobileDiffusionUNet.from_config(
                self.config, weighing=weighing
            )
        other.load_state_dict(self.state_dict(), assign=True)
        other.train(self.training)
        return other


class _Block(nn.Module):
    """Residual blocks, and behind each the transformer that `attentions` has for it (if any)."""

    def __init__(self, resnets: list[nn.Module], attentions: list[nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)

    def _run(
        self, index: int, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        x = self.resnets[index](x, time)
        attentions = getattr(self, "attentions", ())
        return attentions[index](x, context) if index < len(attentions) else x


class DownBlock(_Block):
    """One level of the way down; every result is kept for the way up."""

    def __init__(
        self, resnets: list[nn.Module], attentions: list[nn.Module], sampler: nn.Module | None
    ) -> None:
        super().__init__(resnets, attentions)
        self.downsamplers = None if sampler is None else nn.ModuleList([sampler])

    def forward(
        self, x: torch.Tensor, skips: list[torch.Tensor], time: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        for index in range(len(self.resnets)):
            x = self._run(index, x, time, context)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x


class MiddleBlock(_Block):
    """The blocks at the smallest map between the ways down and up."""

    def forward(self, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        for index in range(len(self.resnets)):
            x = self._run(index, x, time, context)
        return x


class UpBlock(_Block):
    """One level of the way up; each residual block takes one of the kept results."""

    def __init__(
        self, resnets: list[nn.Module], attentions: list[nn.Module], sampler: nn.Module | None
    ) -> None:
        super().__init__(resnets, attentions)
        self.upsamplers = None if sampler is None else nn.ModuleList([sampler])

    def forward(
        self, x: torch.Tensor, skips: list[torch.Tensor], time: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        for index in range(len(self.resnets)):
            x = self._run(index, torch.cat([x, skips.pop()], dim=1), time, context)
        if self.upsamplers is not None:
            x = self.upsamplers[0](x, tuple(skips[-1].shape[2:]))
        return x


class _Parts:
    """Makes the blocks of one config."""

    def __init__(self, config: Any, time: int) -> None:
        self.config, self.time = config, time

    def down(self, level: Level, before: int, *, last: bool) -> DownBlock:
        inputs = (before, *(level.channels,) * (level.down_blocks - 1))
        resnets = [self._resnet(width, level.channels, level.separable) for width in inputs]
        attentions = self._transformers(level, level.down_layers, len(resnets))
        sampler = Downsample2D(level.channels, use_conv=True, padding=1, name="op")
        return DownBlock(resnets, attentions, None if last else sampler)

    def middle(self, plan: Layout, width: int) -> MiddleBlock:
        resnets = [
            self._resnet(width, width, plan.middle_separable) for _ in range(plan.middle_blocks)
        ]
        count = max(1, plan.middle_blocks - 1)
        attentions: list[nn.Module] = []
        if plan.middle_layers:
            attentions = [self._transformer(width, plan.middle_layers, True) for _ in range(count)]
        return MiddleBlock(resnets, attentions)

    def up(self, level: Level, before: int, skips: list[int], *, last: bool) -> UpBlock:
        inputs = (before, *(level.channels,) * (level.up_blocks - 1))
        resnets = [
            self._resnet(width + skip, level.channels, level.separable)
            for width, skip in zip(inputs, skips, strict=True)
        ]
        attentions = self._transformers(level, level.up_layers, len(resnets))
        sampler = Upsample2D(level.channels, use_conv=True)
        return UpBlock(resnets, attentions, None if last else sampler)

    def _resnet(self, width_in: int, width_out: int, separable: bool) -> ResnetBlock2D:
        resnet = ResnetBlock2D(
            in_channels=width_in,
            out_channels=width_out,
            temb_channels=self.time,
            groups=self.config["norm_num_groups"],
            eps=1e-5,
        )
        if separable:
            resnet.conv1 = SeparableConv2d(width_in, width_out)
            resnet.conv2 = SeparableConv2d(width_out, width_out)
        return resnet

    def _transformers(self, level: Level, layers: int, count: int) -> list[nn.Module]:
        if not layers:
            return []
        return [
            self._transformer(level.channels, layers, level.self_attention) for _ in range(count)
        ]

    def _transformer(self, width: int, layers: int, self_attention: bool) -> MiddleTransformer:
        config = self.config
        heads = config["num_attention_heads"] or width // config["attention_head_dim"]
        kind = LayerKind(
            heads,
            config["cross_attention_dim"],
            config["feed_forward_expansion"],
            self_attention,
            config["shared_key_value"],
            config["weighing"],
            config["gate"],
        )
        return MiddleTransformer(width, layers, config["norm_num_groups"], kind)


def _skip_widths(plan: Layout, first: int) -> list[int]:
    """Channels of what the way down keeps, in order."""
    widths = [first]
    for index, level in enumerate(plan.levels):
        widths += [level.channels] * level.down_blocks
        if index + 1 < len(plan.levels):
            widths.append(level.channels)
    return widths
