"""Schedulers by the names people use: the diffusers class and the settings of each."""

from __future__ import annotations

from typing import Any

from coreml_sd.errors import UserError

# name -> diffusers class and the settings that make it what the name says.
_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++-karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "flow-match-euler": ("FlowMatchEulerDiscreteScheduler", {}),
}

NAMES = tuple(_SCHEDULERS)


def class_name(name: str) -> str:
    """The diffusers class that a name stands for.

    Raises:
        UserError: an unknown name.
    """
    if name not in _SCHEDULERS:
        raise UserError(f"scheduler {name}: unknown; choose from {', '.join(NAMES)}")
    return _SCHEDULERS[name][0]


def named_config(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """A model's scheduler config with what the name says in it.

    DDIM clips the clean latent only where the config says so: diffusers' default of clipping, meant
    for pictures, is left to models whose own scheduler is that class.
    """
    class_name(name)
    named = {**config, **_SCHEDULERS[name][1]}
    if name == "ddim" and config.get("_class_name") != "DDIMScheduler":
        named.setdefault("clip_sample", False)
    return named
