"""What diffusers does inside of its schedulers and pipelines, and does not offer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from coreml_sd.upstream import table


def drawn_by(scheduler: Any, draw: Callable[..., Any]) -> contextlib.AbstractContextManager[None]:
    """While open, a scheduler draws its noise with `draw` (the arguments of `randn_tensor`)."""
    module = sys.modules[type(scheduler).__module__]
    return table.SCHEDULER_NOISE.replaced(module, "randn_tensor", draw)


def added_time_ids(pipeline: Any, size: tuple[int, int]) -> Any:
    """What an SDXL pipeline tells its UNet of a picture of this size, uncropped: `(1, 6)`."""
    import torch

    projection = pipeline.text_encoder_2.config.projection_dim
    return pipeline._get_add_time_ids(size, (0, 0), size, torch.float32, projection)
