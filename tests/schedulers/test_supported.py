"""A scheduler gives diffusers' numbers for a config, or refuses it by its key."""

import inspect
import json
import math
import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from coreml_sd.errors import UserError
from coreml_sd.schedulers import schedulers
from coreml_sd.schedulers.names import NAMES, class_name
from coreml_sd.schedulers.schedulers import begin, initial_noise_scale, make_scheduler
from coreml_sd.schedulers.settings import READ
from coreml_sd.schedulers.supported import trained_prediction
from scripts.fixtures.schedulers import SD15, SEED, SHAPE, run

TABLE = json.loads(
    (Path(__file__).parents[1] / "fixtures/scheduler_table.json").read_text(encoding="utf-8")
)
# Of the constructors: what a name sets, what matters only beside a setting that is refused, and
# what the class takes without reading it.
NAMED = {"algorithm_type", "skip_prk_steps"}
BESIDE = {
    *("dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type"),
    *("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len"),
}
UNREAD = {
    "dpm++": {"use_dynamic_shifting", "solver_order"},  # the first without `mu` does nothing
    "lcm": {"timestep_spacing", "steps_offset", "set_alpha_to_one"},
    "tcd": {
        *("timestep_spacing", "steps_offset", "set_alpha_to_one", "timestep_scaling"),
        *("thresholding", "clip_sample", "clip_sample_range"),
    },
}
UNREAD["dpm++-karras"] = UNREAD["dpm++"]


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_are_those_of_the_diffusers_class(name: str) -> None:
    parameters = inspect.signature(getattr(diffusers, class_name(name)).__init__).parameters
    theirs = {key: each.default for key, each in parameters.items() if key != "self"}
    if name.startswith("dpm++"):  # read, and not in the signature
        theirs |= {"sigma_min": None, "sigma_max": None}
    ours = READ[name]
    assert {key: theirs[key] for key in ours} == ours
    assert theirs.keys() - ours.keys() <= NAMED | BESIDE | UNREAD.get(name, set())


def last_latent(name: str, config: dict[str, Any], steps: int) -> tuple[list[float], torch.Tensor]:
    scheduler = make_scheduler(name, config)
    begin(scheduler, steps)
    generator = torch.Generator().manual_seed(SEED)
    latent = torch.randn(SHAPE, generator=generator) * initial_noise_scale(scheduler)
    *_, (_, _, latent) = run(scheduler, latent, generator)
    return scheduler.timesteps.tolist(), latent.flatten()


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_schedulers_and_configs(name: str) -> None:
    pairs = [pair for pair in TABLE["pairs"] if pair["name"] == name]
    assert len(pairs) == len(TABLE["configs"]) >= 100
    for pair in pairs:
        config = TABLE["configs"][pair["config"]]
        if "refused" in pair:
            told = rf"^scheduler {re.escape(name)}: the model's {pair['refused']} [^\n]+; [^\n]+$"
            with pytest.raises(UserError, match=told):
                make_scheduler(name, config)
            continue
        first = pair["runs"][0]
        timesteps, latent = last_latent(name, config, first["steps"])
        assert timesteps == pytest.approx(first["timesteps"], rel=1e-6), pair["config"]
        expected = torch.tensor(first["last"])
        tolerance = 1e-3 if begins_in_noise(name, config) else 1e-5
        assert (latent - expected).abs().max() <= tolerance * expected.abs().max(), pair["config"]


def begins_in_noise(name: str, config: dict[str, Any]) -> bool:
    """Where fp32 leaves diffusers itself few digits; the table then holds the steps in fp64."""
    return name in ("euler", "euler-a") and bool(config.get("rescale_betas_zero_snr"))


def test_another_config_is_noticed() -> None:
    _, plain = last_latent("ddim", SD15, 5)
    _, clipped = last_latent("ddim", {**SD15, "clip_sample": True}, 5)
    assert (plain - clipped).abs().max() > 1e-3


def test_diffusers_clips_only_where_the_model_asks_for_it() -> None:
    silent = {key: value for key, value in SD15.items() if key != "clip_sample"}
    assert not make_scheduler("ddim", silent).config.clip_sample
    assert make_scheduler("ddim", {**silent, "_class_name": "DDIMScheduler"}).config.clip_sample


@pytest.mark.parametrize(
    ("name", "config", "steps", "told"),
    [
        ("dpm++", {}, 1001, "give a number from 1 to 1000"),
        ("lcm", {}, 51, "give a number from 1 to 50"),
        ("euler", {"original_inference_steps": 4}, 51, None),  # LCM's and TCD's alone
        ("ddim", {"steps_offset": 1}, 1000, "one lies outside the model's 1000; take fewer"),
        ("dpm++", {}, 1000, "the noise does not fall in each; take fewer"),
        ("unipc", {"num_train_timesteps": 20}, 20, "the noise does not fall in each; take fewer"),
    ],
)
def test_steps_have_limits(name: str, config: dict[str, Any], steps: int, told: str | None) -> None:
    scheduler = make_scheduler(name, config)
    if told is None:
        begin(scheduler, steps)
        return
    with pytest.raises(UserError, match=rf"^steps = {steps}: {told}"):
        begin(scheduler, steps)


def test_what_only_diffusers_knows_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer diffusers may refuse what no rule here knows of."""
    monkeypatch.setattr(schedulers, "require_supported", lambda name, config: None)
    told = (
        r"^scheduler euler: the model's beta_schedule is not supported \([^\n]+\); choose another"
    )
    with pytest.raises(UserError, match=told):
        make_scheduler("euler", {**SD15, "beta_schedule": "sigmoid"})


def test_what_json_cannot_hold_is_a_wrong_number() -> None:
    with pytest.raises(UserError, match="beta_start is nan"):
        make_scheduler("euler", {**SD15, "beta_start": math.nan})
    make_scheduler("dpm++", {**SD15, "lambda_min_clipped": -math.inf})


def test_what_a_config_leaves_open_is_epsilon() -> None:
    assert trained_prediction({}) == trained_prediction({"prediction_type": None}) == "epsilon"
    assert trained_prediction({"_class_name": "FlowMatchEuler"}) == "flow_prediction"
    assert trained_prediction({"prediction_type": "sample"}) == "sample"
