"""Names of tensors in files of older libraries, and tensors that no network needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from torch import nn

# transformers moved the text encoder's parameters up a level; files have either name.
_OPTIONAL_PREFIX = "text_model."
# diffusers renamed the attention in the middle of a VAE, and reads single files of either kind.
_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
# Buffers of older versions, and the rest of a whole CLIP model around its text encoder.
_HARMLESS = re.compile(
    r"(.*\.)?position_ids|logit_scale|text_projection\.weight|visual_projection\.weight"
    r"|vision_model\..*"
)


def renamed_attentions(module: nn.Module) -> list[str]:
    """Paths of the attentions whose tensors had other names in older files."""
    return [
        path
        for path, attention in module.named_modules()
        if getattr(attention, "_from_deprecated_attn_block", False)
    ]


def spellings(name: str, renamed: Sequence[str]) -> Iterator[str]:
    """The names that a parameter of a network may have in its files, today's first.

    Args:
        renamed: `renamed_attentions`; none for shards, of which diffusers reads no older names.
    """
    yield name
    if name.startswith(_OPTIONAL_PREFIX):
        yield name.removeprefix(_OPTIONAL_PREFIX)
    else:
        yield _OPTIONAL_PREFIX + name
    for path in renamed:
        if name.startswith(f"{path}."):
            rest, _, kind = name.removeprefix(f"{path}.").rpartition(".")
            if rest in _ATTENTION:
                yield f"{path}.{_ATTENTION[rest]}.{kind}"


def is_harmless(module: nn.Module, name: str) -> bool:
    """Whether a tensor that no parameter takes changes nothing of what the network computes."""
    return type(module).__name__.startswith("CLIPText") and _HARMLESS.fullmatch(name) is not None
