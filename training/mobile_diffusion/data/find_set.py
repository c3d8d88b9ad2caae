"""The pictures that a config asks for."""

from training.mobile_diffusion.config import DataConfig
from training.mobile_diffusion.data.emoji import EmojiSet
from training.mobile_diffusion.data.picture_set import PictureSet


def picture_set(config: DataConfig) -> PictureSet:
    """Raises FileNotFoundError where it is not there, ValueError where it cannot be read."""
    if config.kind == "emoji":
        return EmojiSet(config.size)
    raise ValueError(f"data.kind = {config.kind} is not known")
