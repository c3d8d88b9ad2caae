"""The pictures that a config asks for."""

from pathlib import Path

from coreml_sd.errors import UserError
from training.mobile_diffusion.config import DataConfig
from training.mobile_diffusion.data.emoji import EmojiSet
from training.mobile_diffusion.data.folder import FolderSet
from training.mobile_diffusion.data.picture_set import PictureSet
from training.mobile_diffusion.data.shards import ShardSet


def picture_set(config: DataConfig) -> PictureSet:
    """Raises UserError where it is not there or cannot be read."""
    if config.kind == "emoji":
        return EmojiSet(config.size)
    if not config.path:
        raise UserError(f"data.path is not given, which data.kind = {config.kind} needs")
    path = Path(config.path)
    if config.kind == "folder":
        return FolderSet(path, config.size)
    return ShardSet(path, config.size)
