"""Numbers of a network's config within the limits, before a layer of it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS, numbers_in

# Keys that count layers; the layers of a network are at most their product and the blocks'.
_COUNTS = {
    "num_hidden_layers",
    "num_attention_heads",
    "layers_per_block",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
    "mid_block_layers",
    "inner_layers",
    "norm_num_groups",
}
_REPEATED = ("layers_per_block", "transformer_layers_per_block", "inner_layers")
_BLOCKS = "block_out_channels"


def require_limits(file: str, config: Mapping[str, Any]) -> None:
    """Hold every whole number of a config against the limits.

    Raises:
        UserError: names the file and the key.
    """
    for key, value in config.items():
        most = LIMITS.layers if key in _COUNTS else LIMITS.width
        for number in _whole_numbers(value):
            if abs(number) > most:
                raise UserError(f"{file}: {key} is {_shown(number)}; at most {most} is built")
            if key in _COUNTS and number < 0:
                raise UserError(f"{file}: {key} is {number}, which counts nothing")
        if isinstance(value, (list, tuple)) and len(value) > LIMITS.layers:
            raise UserError(f"{file}: {key} lists {len(value)}; at most {LIMITS.layers} are built")
    blocks = config.get(_BLOCKS)
    layers = len(blocks) if isinstance(blocks, (list, tuple)) else 1
    for key in _REPEATED:
        layers *= max((*_whole_numbers(config.get(key)), 1))
    if layers > LIMITS.layers:
        raise UserError(
            f"{file}: {_BLOCKS}, {' and '.join(k for k in _REPEATED if config.get(k))} ask for "
            f"{layers} layers; at most {LIMITS.layers} are built"
        )


def _whole_numbers(value: Any) -> list[int]:
    return [number for number in numbers_in(value) if isinstance(number, int)]


def _shown(number: int) -> str:
    return str(number) if abs(number) < 1 << 63 else "beyond 64 bits"
