"""Which scheduler can honour which scheduler config; the same rule in Swift and Kotlin.

A pair of name and config gives diffusers' numbers or a refusal that names the config's key. Most of
the rule is what diffusers itself refuses, in its constructors or as late as in a step; the rest is
what it computes to NaN, or takes without honouring it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.schedulers.names import named_config
from coreml_sd.schedulers.settings import READ

CHOOSE = "choose another scheduler"
_SOLVERS = ("dpm++", "dpm++-karras", "unipc")
_ON_SIGMAS = (*_SOLVERS, "euler")  # classes that let the config spread the sigmas
_EXACT_ALPHAS = ("ddim", "lcm", "tcd")  # divide by what is left of the picture, be it nothing
_FLOW = "flow-match-euler"
_PREDICTIONS = ("epsilon", "v_prediction", "sample")
_SPACINGS = ("linspace", "leading", "trailing")
_BETAS = ("beta_start", "beta_end", "beta_schedule", "trained_betas")
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a word"),
    list: ((list,), "a list"),
    object: ((object,), "anything"),
}
# Settings that may be null, and what they are otherwise.
_NULLABLE: dict[str, type] = {
    "trained_betas": list,
    "sigma_min": float,
    "sigma_max": float,
    "shift_terminal": float,
    "variance_type": str,
    "solver_p": object,
}


@dataclass(frozen=True)
class Refusal:
    """Why a scheduler cannot honour a config: the key, what is wrong with it, what to do."""

    key: str
    problem: str
    remedy: str = CHOOSE


@dataclass(frozen=True)
class Settings:
    """A config as one scheduler reads it: `config` with what the name says, `read` with the
    defaults of its diffusers class and without what that class does not know."""

    name: str
    config: dict[str, Any]
    read: dict[str, Any]

    def get(self, key: str) -> Any:
        """A setting; None where the class does not read it."""
        return self.read.get(key)


def refusal(name: str, config: dict[str, Any]) -> Refusal | None:
    """Why a scheduler cannot honour a model's scheduler config; None where it can.

    Raises:
        UserError: an unknown name.
    """
    named = named_config(name, config)
    read = {key: named.get(key, default) for key, default in READ[name].items()}
    settings = Settings(name, named, read)
    for rule in _RULES:
        for found in rule(settings):
            return found
    return None


def require_supported(name: str, config: dict[str, Any]) -> None:
    """Refuse a config that a scheduler cannot honour.

    Raises:
        UserError: an unknown name, or such a config; it names the key.
    """
    found = refusal(name, config)
    if found:
        raise UserError(
            f"scheduler {name}: the model's {found.key} {found.problem}; {found.remedy}"
        )


def trained_prediction(config: dict[str, Any]) -> str:
    """What a model predicts by its scheduler config; flow matching seldom says so by the key."""
    is_flow = str(config.get("_class_name")).startswith("FlowMatch")
    default = "flow_prediction" if is_flow else "epsilon"
    return str(config.get("prediction_type") or default)


def _other_noise(settings: Settings) -> Iterator[Refusal]:
    """EDM models were trained without betas; a class with betas would invent some."""
    remedy = "convert a model that was trained with betas or flow matching"
    told = "is of an EDM model, for which there is no scheduler"
    if settings.config.get("sigma_data") is not None:
        yield Refusal("sigma_data", told, remedy)
    if str(settings.config.get("_class_name")).startswith("EDM"):
        yield Refusal("_class_name", told, remedy)


def _types(settings: Settings) -> Iterator[Refusal]:
    defaults = READ[settings.name]
    for key, value in settings.read.items():
        kind = type(defaults[key]) if key not in _NULLABLE else _NULLABLE[key]
        if key not in settings.config or (value is None and key in _NULLABLE):
            continue
        kinds, words = _KINDS[kind]
        if not isinstance(value, kinds) or (type(value) is bool and bool not in kinds):
            yield Refusal(key, f"is {_told(value)}, not {words}", _corrected(key))


def _prediction(settings: Settings) -> Iterator[Refusal]:
    name, key = settings.name, "prediction_type"
    predicts = trained_prediction(settings.config)
    if name == _FLOW:
        says_nothing = all(
            settings.config.get(each) is None for each in ("_class_name", key, *_BETAS)
        )
        if predicts != "flow_prediction" and not says_nothing:
            yield Refusal(key, f"is {predicts}, not that of a model trained with flow matching")
    elif predicts == "flow_prediction":
        yield Refusal(key, f"is {predicts}", f"choose {_FLOW}")
    else:
        allowed = _PREDICTIONS[:2] if name in ("pndm", "euler-a") else _PREDICTIONS
        yield from _word(key, predicts, allowed)


def _betas(settings: Settings) -> Iterator[Refusal]:
    count, trained = settings.get("num_train_timesteps"), settings.get("trained_betas")
    if count < 2:
        yield Refusal("num_train_timesteps", f"is {count}", _corrected("num_train_timesteps"))
    if settings.name == _FLOW:
        return
    if trained is not None:
        if len(trained) != count:
            told = f"are not as many as its {count} timesteps"
            yield Refusal("trained_betas", told, _corrected("trained_betas"))
        elif not all(_is_beta(beta) for beta in trained):
            told = "do not lie between 0 and 1"
            yield Refusal("trained_betas", told, _corrected("trained_betas"))
        return
    schedule = settings.get("beta_schedule")
    schedules = ("linear", "scaled_linear", "squaredcos_cap_v2")
    yield from _word("beta_schedule", schedule, schedules)
    for key in ("beta_start", "beta_end"):
        if schedule != "squaredcos_cap_v2" and not _is_beta(settings.get(key)):
            told = f"is {_told(settings.get(key))}, not between 0 and 1"
            yield Refusal(key, told, _corrected(key))


def _zero_snr(settings: Settings) -> Iterator[Refusal]:
    """Noise alone says nothing of the picture where the network predicts that noise."""
    rescaled = settings.get("rescale_betas_zero_snr")
    if rescaled and settings.name in _EXACT_ALPHAS and settings.get("prediction_type") == "epsilon":
        yield Refusal(
            "rescale_betas_zero_snr", "ends in noise alone, and its network predicts noise"
        )


def _timesteps(settings: Settings) -> Iterator[Refusal]:
    yield from _word("timestep_spacing", settings.get("timestep_spacing"), _SPACINGS)
    offset, train = settings.get("steps_offset"), settings.get("num_train_timesteps")
    if offset is not None and not 0 <= offset < train:
        yield Refusal("steps_offset", f"is {offset}", _corrected("steps_offset"))
    original = settings.get("original_inference_steps")
    if original is not None and not 1 <= original <= train:
        told = f"is {original}, not between 1 and {train}"
        yield Refusal("original_inference_steps", told)


def _sigmas(settings: Settings) -> Iterator[Refusal]:
    if settings.name not in _ON_SIGMAS:
        return
    yield from _word("final_sigmas_type", settings.get("final_sigmas_type"), ("zero", "sigma_min"))
    yield from _unsupported(settings, "use_beta_sigmas", "use_flow_sigmas")
    karras, exponential = (settings.get(f"use_{kind}_sigmas") for kind in ("karras", "exponential"))
    if karras and exponential:
        yield Refusal("use_exponential_sigmas", "excludes Karras sigmas")
    if (settings.get("lambda_min_clipped") or -math.inf) > -math.inf:
        yield Refusal("lambda_min_clipped", "is not supported")
    for key in ("sigma_min", "sigma_max"):
        bound = settings.get(key)
        if (karras or exponential) and bound is not None and not _is_positive(bound):
            yield Refusal(key, f"is {_told(bound)}, not above 0", _corrected(key))


def _euler(settings: Settings) -> Iterator[Refusal]:
    interpolations = ("linear", "log_linear")
    yield from _word("interpolation_type", settings.get("interpolation_type"), interpolations)
    yield from _word("timestep_type", settings.get("timestep_type"), ("discrete", "continuous"))


def _clean_latent(settings: Settings) -> Iterator[Refusal]:
    """What is done to the predicted clean latent."""
    yield from _unsupported(settings, "thresholding")
    if str(settings.get("variance_type")).startswith("learned"):
        yield Refusal("variance_type", f"is {settings.get('variance_type')}")
    bound = settings.get("clip_sample_range")
    if settings.get("clip_sample") and not _is_positive(bound):
        yield Refusal(
            "clip_sample_range", f"is {bound}, not above 0", _corrected("clip_sample_range")
        )


def _solver(settings: Settings) -> Iterator[Refusal]:
    solver, ends_clean = settings.get("solver_type"), settings.get("final_sigmas_type") == "zero"
    if settings.name in ("dpm++", "dpm++-karras"):
        yield from _word("solver_type", solver, ("midpoint", "heun", "logrho", "bh1", "bh2"))
        spreads = ("use_karras_sigmas", "use_exponential_sigmas", "use_lu_lambdas")
        stays = not ends_clean and any(settings.get(key) for key in spreads)
        if solver == "heun" and stays and not settings.get("euler_at_final"):
            yield Refusal(
                "solver_type", "is heun, which cannot end at the sigma that it comes from"
            )
    if settings.name != "unipc":
        return
    yield from _word("solver_type", solver, ("bh1", "bh2", "midpoint", "heun", "logrho"))
    if solver == "bh1" and ends_clean:
        yield Refusal("solver_type", "is bh1, which cannot end at a sigma of 0")
    order = settings.get("solver_order")
    if not 1 <= order <= 3:
        yield Refusal("solver_order", f"is {order}, not between 1 and 3")
    if ends_clean and order > 1 and not settings.get("lower_order_final"):
        yield Refusal("lower_order_final", "is false, and the last sigma 0")
    if not settings.get("predict_x0"):
        yield Refusal("predict_x0", "is false")
    if settings.get("solver_p") is not None:
        yield Refusal("solver_p", "is not supported")


def _flow(settings: Settings) -> Iterator[Refusal]:
    if settings.name in ("unipc", _FLOW):
        yield from _unsupported(settings, "use_dynamic_shifting", "shift_terminal")
    if settings.name != _FLOW:
        return
    sigmas = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
    yield from _unsupported(settings, *sigmas, "invert_sigmas", "stochastic_sampling")
    yield from _word("time_shift_type", settings.get("time_shift_type"), ("exponential", "linear"))
    if not _is_positive(settings.get("shift")):
        yield Refusal("shift", f"is {settings.get('shift')}, not above 0", _corrected("shift"))


_RULES: tuple[Callable[[Settings], Iterator[Refusal]], ...] = (
    _other_noise,
    _types,
    _prediction,
    _betas,
    _zero_snr,
    _timesteps,
    _sigmas,
    _euler,
    _clean_latent,
    _solver,
    _flow,
)


def _word(key: str, value: Any, allowed: tuple[str, ...]) -> Iterator[Refusal]:
    if value is not None and value not in allowed:
        yield Refusal(key, f"is {_told(value)}, supported are {', '.join(allowed)}")


def _unsupported(settings: Settings, *keys: str) -> Iterator[Refusal]:
    for key in keys:
        if settings.get(key):
            yield Refusal(key, "is not supported")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_beta(value: Any) -> bool:
    return _is_positive(value) and value < 1


def _told(value: Any) -> str:
    return "null" if value is None else str(value)[:40]


def _corrected(key: str) -> str:
    return f"correct {key} in the scheduler config"
