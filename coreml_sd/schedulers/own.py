"""Which of our schedulers is the model's own, so that the default picture is the model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.schedulers.supported import CHOOSE, refusal

_SILENT = "dpm++"  # for a config that names no class

# diffusers class -> the name whose steps are its own.
_OWN = {
    "DPMSolverMultistepScheduler": "dpm++",
    "DDIMScheduler": "ddim",
    "DDIMParallelScheduler": "ddim",
    "PNDMScheduler": "pndm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler-a",
    "UniPCMultistepScheduler": "unipc",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
    "FlowMatchEulerDiscreteScheduler": "flow-match-euler",
}
# diffusers class -> the nearest name, where we do not have it.
_NEAREST = {
    "DDPMScheduler": "ddim",
    "DDPMParallelScheduler": "ddim",
    "DEISMultistepScheduler": "dpm++",
    "DPMSolverSDEScheduler": "dpm++",
    "DPMSolverSinglestepScheduler": "dpm++",
    "FlowMatchHeunDiscreteScheduler": "flow-match-euler",
    "HeunDiscreteScheduler": "euler",
    "KDPM2AncestralDiscreteScheduler": "euler-a",
    "KDPM2DiscreteScheduler": "euler",
    "LMSDiscreteScheduler": "euler",
    "SASolverScheduler": "unipc",
}


@dataclass(frozen=True)
class OwnScheduler:
    """The name that a model is drawn with by default.

    Attributes:
        name: one of `NAMES`.
        note: where its steps are not those of the model's own class: which is taken and why, in
            one line; empty where they are.
    """

    name: str
    note: str = ""


def own_scheduler(config: dict[str, Any]) -> OwnScheduler:
    """The name whose steps are those of the class in a scheduler config, or are nearest to them.

    Raises:
        UserError: no scheduler here can draw with this config; it names the key.
    """
    name = _name(config)
    if name is None:
        require_drawable(_SILENT, config)  # EDM models are told by their key
        raise UserError(
            f"scheduler config: _class_name is {config['_class_name']}, for which there is no"
            " scheduler; convert a model with another"
        )
    require_drawable(name, config)
    return OwnScheduler(name, _note(name, config))


def default_scheduler(facts: dict[str, Any]) -> OwnScheduler:
    """What a bundle is drawn with by default: what its manifest advises, or, in an older manifest,
    the model's own.

    Args:
        facts: `pipeline` of the manifest.

    Raises:
        UserError: no scheduler here can draw with this model; it names the config's key.
    """
    name, config = facts["advice"].get("scheduler"), facts["scheduler"]
    if not name:
        return own_scheduler(config)
    return OwnScheduler(name, _note(name, config) if name == _name(config) else "")


def require_drawable(name: str, config: dict[str, Any]) -> None:
    """Refuse a default scheduler that cannot honour the model's config, as its folder says it.

    Raises:
        UserError: an unknown name, or such a config; it names the key.
    """
    found = refusal(name, config)
    if found:
        remedy = 'name another "scheduler" in its coreml_sd.json'
        remedy = found.remedy.replace(CHOOSE, remedy)
        raise UserError(
            f"scheduler config: {found.key} {found.problem}, with scheduler {name}; {remedy}"
        )


def _name(config: dict[str, Any]) -> str | None:
    """By the class alone; None for one that nothing here comes near."""
    kind = config.get("_class_name")
    name = _SILENT if kind is None else _OWN.get(kind) or _NEAREST.get(kind)
    return "dpm++-karras" if name == "dpm++" and config.get("use_karras_sigmas") is True else name


def _note(name: str, config: dict[str, Any]) -> str:
    why = _difference(config.get("_class_name"), config)
    return f"scheduler: {why}; drawn with {name}, the nearest" if why else ""


def _difference(kind: str | None, config: dict[str, Any]) -> str:
    """What the model's own scheduler is where we do not have it; empty where we do."""
    if kind is None:
        return "the config names no class"
    if kind in _NEAREST:
        return f"the model's own is {kind}"
    algorithm, order = config.get("algorithm_type", "dpmsolver++"), config.get("solver_order", 2)
    if kind == "DPMSolverMultistepScheduler":
        if algorithm not in ("dpmsolver++", "deis"):  # the second is read as the first
            return f"the model's own is {kind} with algorithm_type {algorithm}"
        if order != 2:
            return f"the model's own is {kind} with solver_order {order}"
    if kind == "PNDMScheduler" and not config.get("skip_prk_steps", False):
        return f"the model's own is {kind} without skip_prk_steps"
    if kind == "TCDScheduler":
        return f"the model's own is {kind}, whose gamma diffusers' pipeline takes as 0, not as 0.3"
    return ""
