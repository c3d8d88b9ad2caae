"""What a file from elsewhere may ask for: one table for the Python commands, Swift and Kotlin.

Every number is checked where it is read, before anything is reckoned or reserved with it. All are
far beyond what today's models need. `tests/fixtures/limits.json` holds the same table for the
other languages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Largest values, both ends included; sizes in bytes unless said otherwise."""

    # A picture and its latent.
    pixels: int = 8192  # height or width of a picture
    latent_pixels: int = 4096  # height or width of a latent
    latent_channels: int = 128
    vae_scale_factor: int = 64
    batch: int = 2
    factor: float = 1e6  # magnitude of both factors of a VAE, and of a scheduler's numbers

    # A prompt.
    max_tokens: int = 1024
    token_id: int = 1_000_000
    added_tokens: int = 10_000
    word_characters: int = 1000  # of an added word

    # Denoising.
    steps: int = 1000
    train_timesteps: int = 10_000
    guidance: float = 100.0
    few_steps: int = 8  # denoisers for few steps in one model

    # Tensors and networks.
    rank: int = 8
    elements: int = 1 << 28  # of one input, output or weight
    intermediate_elements: int = 1 << 31  # attention of 96x96 tokens, 8 heads and a batch of 2
    layers: int = 1000  # that a config counts: blocks, layers of each, heads
    width: int = 1 << 17  # channels, features and rows of a table that a config names

    # Files.
    files: int = 10_000  # in a bundle
    file_bytes: int = 1 << 40
    text_bytes: int = 1 << 26  # JSON, TOML, vocabularies, model cards, programs' text
    program_bytes: int = 1 << 30  # a program without its weights
    nesting: int = 64  # lists and tables inside one another


LIMITS = Limits()


def numbers_in(value: Any) -> Iterator[int | float]:
    """The numbers in a value of JSON, in lists within lists too; true and false are none."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from numbers_in(each)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
