"""Weights of saved packages, bit for bit: the palettes that were solved, the source in fp16."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from coreml_sd.compress.palettization import Palettization
from coreml_sd.mobile.layer_weights import layer_weights
from coreml_sd.models.weights.values import ModuleWeights, fp16_value
from coreml_sd.parity.checks import Check, count_check
from coreml_sd.runtimes.mil import MilPackage
from coreml_sd.targets.coreml.stored_weights import payload_of

_FEWEST = 10  # smaller weights stand in the program, where passes may fold them


def stored_weights_check(
    paths: Sequence[Path], mobile: nn.Module, palettization: Palettization | None
) -> Check:
    """Whether the packages hold exactly the layers' weights as they were decided, and no palette
    that was not.

    Which layer reads which weight is not asked: executing the file shows that.

    Raises:
        UserError: a package is damaged.
    """
    decided = dict(_decided(mobile, palettization))
    stored = {key for path in paths for key in _stored(MilPackage(path))}
    lacking = [name for key, name in decided.items() if key not in stored]
    strange = [key for key in stored - decided.keys() if key[0] == "palette"]
    detail = f"{lacking[0]} is not stored as it was decided" if lacking else ""
    return count_check("stored weights, bit for bit", len(lacking) + len(strange), detail)


def _decided(
    mobile: nn.Module, palettization: Palettization | None
) -> Iterator[tuple[tuple[str, str], str]]:
    """Kind and digest that each layer's weight must have in the file, and the weight's name."""
    held = ModuleWeights(mobile)
    palettes = palettization.by_parameter if palettization else {}
    for name, weight in layer_weights(mobile).items():
        if weight.numel() < _FEWEST:
            continue
        value, palette = fp16_value(held, name), palettes.get(name)
        if palette is None:
            yield ("float16", _digest(value)), name
        else:
            yield ("palette", _digest(palette.lut, palette.packed(value))), name


def _stored(package: MilPackage) -> Iterator[tuple[str, str]]:
    for program in package.programs:
        for op in program.operations():
            payload = payload_of(package, op)
            if payload is None:
                continue
            # Read, not mapped: pages of a mapping count as memory of the process until its end.
            raw = np.fromfile(payload.file, np.uint8, payload.size, offset=payload.offset)
            if payload.lut is None:
                yield payload.element, _digest(raw)
            else:
                yield "palette", _digest(payload.lut, raw)


def _digest(*parts: Any) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(np.ascontiguousarray(part).view(np.uint8).reshape(-1).data)
    return total.hexdigest()
