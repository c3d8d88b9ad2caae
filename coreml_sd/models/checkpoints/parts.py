"""The tensors of a single file by the part they belong to, with the names that a folder has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models.checkpoints.configs import Shapes, text_config, unet_config, vae_config
from coreml_sd.models.checkpoints.families import CheckpointFamily
from coreml_sd.models.checkpoints.recognize import GUIDANCE, UNET, VAE
from coreml_sd.models.folder.config_limits import require_limits
from coreml_sd.upstream.diffusers_single_file import open_clip_tensors, unet_tensors, vae_tensors

_TOLD = 4  # blocks that an error names
_POSITIONS = "position_ids"


@dataclass(frozen=True)
class Part:
    """One network: its folder, its config and its tensors by the names that diffusers has."""

    name: str
    config: dict[str, Any]
    tensors: dict[str, Any]


def parts(origin: str, tensors: dict[str, Any], family: CheckpointFamily) -> Iterator[Part]:
    """The networks of a file, one after the other.

    Args:
        tensors: of the whole file by the names in it; their values are not read here.

    Raises:
        UserError: tensors are missing, or there are more than a network of this family has.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    texts = [partial(_text, number=number) for number in range(len(family.text))]
    makers: list[Callable[..., Part]] = [_unet, _vae, *texts]
    for maker in makers:
        try:
            part = maker(tensors, shapes, family)
            wanted = _wanted(part)
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{origin}: not a whole model of {family.name} ({reason}); name another family "
                "with --family, or give a diffusers folder"
            ) from None
        yield _fitting(origin, family, part, wanted)


def _unet(tensors: dict[str, Any], shapes: Shapes, family: CheckpointFamily) -> Part:
    config = unet_config(shapes, family)
    mapped = unet_tensors(_of(tensors, UNET), config)
    if GUIDANCE in tensors:  # which diffusers does not look for
        mapped["time_embedding.cond_proj.weight"] = tensors[GUIDANCE]
    return Part("unet", config, mapped)


def _vae(tensors: dict[str, Any], shapes: Shapes, family: CheckpointFamily) -> Part:
    config = vae_config(shapes, family)
    return Part("vae", config, vae_tensors(_of(tensors, VAE), config))


def _text(tensors: dict[str, Any], shapes: Shapes, family: CheckpointFamily, number: int) -> Part:
    text, second = family.text[number], number > 0
    config = text_config(shapes, text, projected=second)
    held = _of(tensors, text.prefix)
    if text.open_clip:
        mapped = open_clip_tensors(held, text.prefix, config["hidden_size"])
    else:
        mapped = {name.removeprefix(text.prefix): tensor for name, tensor in held.items()}
    layers = config["num_hidden_layers"]
    kept = {
        name: tensor for name, tensor in mapped.items() if _is_used(name, layers, projected=second)
    }
    return Part("text_encoder_2" if second else "text_encoder", config, kept)


def _is_used(name: str, layers: int, *, projected: bool) -> bool:
    """Whether a folder has it: no layer that is never run, no projection without a use."""
    if name.endswith(_POSITIONS) or name == "logit_scale":
        return False
    if name.startswith("text_projection"):
        return projected
    _, found, rest = name.partition("encoder.layers.")
    return not found or int(rest.partition(".")[0]) < layers


def _of(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _wanted(part: Part) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network that a part's config defines."""
    from coreml_sd.models.weights.network_classes import build_on_meta

    require_limits(part.name, part.config)
    held = build_on_meta(part.config, part.name).state_dict()
    return {n: tuple(value.shape) for n, value in held.items() if not n.endswith(_POSITIONS)}


def _fitting(
    origin: str, family: CheckpointFamily, part: Part, wanted: Mapping[str, tuple[int, ...]]
) -> Part:
    """The part, once its tensors are those of the network that its config defines.

    Raises:
        UserError: names the blocks that lack some or have more.
    """
    tensors = _named_as(part.tensors, wanted)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    troubles = {
        "lacks": [name for name in wanted if name not in shapes],
        "has more than such a network:": [name for name in shapes if name not in wanted],
        "has other shapes of": [n for n in wanted if n in shapes and shapes[n] != wanted[n]],
    }
    told = [f"{what} {_blocks(names)}" for what, names in troubles.items() if names]
    if told:
        raise UserError(
            f"{origin}: its {part.name} is not that of {family.name}: it {', '.join(told)}; "
            "name another family with --family, or give a diffusers folder"
        )
    return Part(part.name, part.config, tensors)


def _named_as(tensors: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """With or without `text_model.` before each name, as the network of this version has it."""
    prefix = "text_model."
    if not any(name.startswith(prefix) for name in wanted):
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _blocks(names: list[str]) -> str:
    """Blocks with the number of tensors in each: `down_blocks.0 (12), mid_block (3)`."""
    counts: dict[str, int] = {}
    for name in names:
        words = name.split(".")
        block = ".".join(words[:2]) if len(words) > 1 and words[1].isdigit() else words[0]
        counts[block] = counts.get(block, 0) + 1
    shown = [f"{block} ({count})" for block, count in counts.items()]
    more = f" and {len(shown) - _TOLD} more" if len(shown) > _TOLD else ""
    return ", ".join(shown[:_TOLD]) + more
