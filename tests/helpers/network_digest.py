"""What tells two networks apart, but for their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import nn

from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.steps import StepSequence

_PLAIN_MODULE = vars(nn.Module()).keys()


def settings_of(network: StepSequence, **same: Any) -> str:
    """Kinds, settings and wiring of all modules; options named in `same` count as that value."""
    return "".join(_lines(network, same))


def _lines(network: StepSequence, same: dict[str, Any]) -> Iterator[str]:
    for name, module in network.named_modules():
        settings = {
            key: _plain(value, same)
            for key, value in vars(module).items()
            if key not in _PLAIN_MODULE and key not in ("training", "steps")
        }
        yield repr((name, type(module).__qualname__, settings))
        if isinstance(module, StepSequence):
            yield repr([(step.name, step.reads, step.writes) for step in module.steps])


def _plain(value: Any, same: dict[str, Any]) -> str:
    """Without addresses, and without what a module's own attributes say again."""
    if isinstance(value, MobileOptions):
        value = dataclasses.replace(value, **same)
    return getattr(value, "__qualname__", None) or repr(value)
