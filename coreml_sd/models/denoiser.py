"""What a denoiser takes beside the latent and the timestep, and how it is guided.

A family says this of its denoiser; the manifest tells it to whatever draws, which then needs to
know no family.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from coreml_sd.files.limits import LIMITS

_LONGEST_PERIOD = 10_000.0
_GUIDANCE_SCALE = 1000.0
_Choice = TypeVar("_Choice")

TextComponent = Literal["text_encoder", "text_encoder_2"]
GuidanceWay = Literal["classifier-free", "embedded", "none"]
TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


class TextOutput(Struct, frozen=True):
    """One output of one text encoder."""

    component: TextComponent
    output: Annotated[str, Meta(min_length=1, max_length=LIMITS.word_characters)]


class Text(Struct, frozen=True, tag_field="kind", tag="text"):
    """Outputs of text encoders, joined along their channels in this order."""

    outputs: Annotated[tuple[TextOutput, ...], Meta(min_length=1, max_length=2)]


class Size(Struct, frozen=True, tag_field="kind", tag="size"):
    """The sizes of a whole picture (see `size_numbers`)."""


class Guidance(Struct, frozen=True, tag_field="kind", tag="guidance"):
    """The guidance itself as `width` sines and cosines (see `guidance_embedding`)."""

    width: Annotated[int, Meta(ge=2, le=LIMITS.width)]


Condition = Text | Size | Guidance


class Denoiser(Struct, frozen=True):
    """The component that denoises.

    `guidance`: `classifier-free` takes a row for the negative prompt and one for the prompt, and
    combines what both give; `embedded` takes one row, and is told the guidance; `none` takes one
    row and was trained for one guidance. `conditions` are its further inputs by name, the same for
    all steps of a picture.
    """

    component: str
    guidance: GuidanceWay
    conditions: dict[str, Condition]

    @property
    def rows(self) -> int:
        """Of its inputs, for one picture."""
        return 2 if self.guidance == "classifier-free" else 1


class FewSteps(Struct, frozen=True):
    """A denoiser that was distilled to draw with `steps` steps or fewer."""

    steps: int
    denoiser: Denoiser


def for_steps(steps: int, usual: _Choice, few_steps: Iterable[tuple[int, _Choice]]) -> _Choice:
    """What draws with so many steps: that for the fewest which are enough, else the usual.

    Args:
        few_steps: the most steps of each, from the fewest up.
    """
    return next((choice for most, choice in few_steps if steps <= most), usual)


def text(output: str, *components: TextComponent) -> Text:
    """The same output of each of these text encoders."""
    return Text(tuple(TextOutput(component, output) for component in components))


# The UNets of Stable Diffusion and of Stable Diffusion XL.
ONE_TEXT_ENCODER = Denoiser(
    "unet",
    "classifier-free",
    {"encoder_hidden_states": text("last_hidden_state", "text_encoder")},
)
TWO_TEXT_ENCODERS = Denoiser(
    "unet",
    "classifier-free",
    {
        "encoder_hidden_states": text("hidden_embeds", "text_encoder", "text_encoder_2"),
        "time_ids": Size(),
        "text_embeds": text("pooled_outputs", "text_encoder_2"),
    },
)


def size_numbers(size: tuple[int, int]) -> tuple[float, ...]:
    """What a denoiser is told of a whole picture of (height, width): the size before cropping, the
    corner of the crop, the size."""
    height, width = float(size[0]), float(size[1])
    return (height, width, 0.0, 0.0, height, width)


def guidance_embedding(guidance: float, width: int) -> NDArray[np.float32]:
    """`(width,)`: sines, then cosines of 1000 times the guidance less 1, at falling frequencies.

    Source: diffusers' `get_guidance_scale_embedding`; "On Distillation of Guided Diffusion
    Models", arXiv 2210.03142, with 1 less as latent consistency models were trained.
    """
    half = width // 2
    falling = np.exp(np.arange(half) * (-np.log(_LONGEST_PERIOD) / max(half - 1, 1)))
    angles = (guidance - 1.0) * _GUIDANCE_SCALE * falling
    waves = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2)])
    embedding: NDArray[np.float32] = waves.astype(np.float32)
    return embedding
