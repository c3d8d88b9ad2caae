"""Check a config against its model and its targets, and settle what it leaves open."""

from __future__ import annotations

import dataclasses

from coreml_sd.compress.supported import require_prune_fraction
from coreml_sd.config import ConversionConfig
from coreml_sd.models.open_model import open_model
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import TARGETS
from coreml_sd.upstream.table import check_environment


def plan_conversion(config: ConversionConfig) -> Plan:
    """Check every knob against the model and the targets, and fill in what was left open.

    Raises:
        UserError: the model is not usable, a knob asks for what cannot be had, or the environment
            names a patch that there is none of.
    """
    check_environment()
    if config.prune is not None:
        require_prune_fraction(config.prune)
    chosen = {name: TARGETS[name] for name in config.targets}
    for name, target in TARGETS.items():
        if name not in chosen:
            target.refuse_unused(config)
    settings = {name: target.settings(config) for name, target in chosen.items()}
    model = open_model(config)
    height, width = model.facts.size
    names = config.components or [component.name for component in model.components]
    resolved = dataclasses.replace(config, size=f"{height}x{width}", components=names)
    components = tuple(model.component(name) for name in names)
    notes = [
        note
        for name, target in chosen.items()
        for note in target.notes(config, settings[name], names)
    ]
    return Plan(resolved, model, components, settings, (*model.notes, *notes))
