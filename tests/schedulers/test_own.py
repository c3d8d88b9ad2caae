"""The default scheduler is the model's own, or the nearest with a note."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from coreml_sd.errors import UserError
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.pipeline import read_advice
from coreml_sd.schedulers.own import OwnScheduler, default_scheduler, own_scheduler
from coreml_sd.schedulers.schedulers import begin, initial_noise_scale, make_scheduler
from scripts.fixtures.scheduler_table import EDM, PUBLISHED, SDXL
from scripts.fixtures.schedulers import DEMO, SD3, SD15, SEED, SHAPE, run

# Published scheduler -> the name it is drawn with, and what its note says.
EXPECTED: dict[str, tuple[str, str]] = {
    "SD 1.4, 1.5": ("pndm", ""),
    "SD 1.4, first published": ("pndm", ""),
    "SD 1.5 inpainting": ("ddim", ""),
    "SD 2.1 at 768": ("ddim", ""),
    "SD 2.1 base": ("pndm", ""),
    "SDXL base": ("euler", ""),
    "SDXL Turbo": ("euler-a", ""),
    "SD Turbo, Lightning": ("euler", ""),
    "LCM": ("lcm", ""),
    "TCD": ("tcd", "whose gamma diffusers' pipeline takes as 0, not as 0.3"),
    "Hyper": ("ddim", ""),
    "DPM-Solver++": ("dpm++", ""),
    "DPM-Solver++, Karras": ("dpm++-karras", ""),
    "DPM-Solver++ of third order": ("dpm++", "with solver_order 3"),
    "DPM-Solver++ with noise": ("dpm++", "with algorithm_type sde-dpmsolver++"),
    "UniPC": ("unipc", ""),
    "DEIS": ("dpm++", "is DEISMultistepScheduler"),
    "Heun": ("euler", "is HeunDiscreteScheduler"),
    "KDPM2 ancestral": ("euler-a", "is KDPM2AncestralDiscreteScheduler"),
    "DDPM": ("ddim", "is DDPMScheduler"),
    "zero-SNR v-prediction": ("euler", ""),
    "zero-SNR v-prediction, DDIM": ("ddim", ""),
    "SVD": ("euler", ""),
    "SD 3": ("flow-match-euler", ""),
}
REFUSED = {
    "playground 2.5": "sigma_data is of an EDM model",
    "CosXL": "sigma_data is of an EDM model",
    "Flux": "use_dynamic_shifting is not supported",
    "Sana": "prediction_type is flow_prediction",
}


def trail(scheduler: Any) -> list[torch.Tensor]:
    begin(scheduler, 5)
    generator = torch.Generator().manual_seed(SEED)
    latent = torch.randn(SHAPE, generator=generator) * initial_noise_scale(scheduler)
    return [latent for _, _, latent in run(scheduler, latent, generator)]


def test_every_published_scheduler_is_here() -> None:
    assert EXPECTED.keys() | REFUSED.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("title", EXPECTED)
def test_own_steps_are_those_of_the_models_own_class(title: str) -> None:
    config, (name, told) = PUBLISHED[title], EXPECTED[title]
    own = own_scheduler(config)
    assert own.name == name
    if told:
        assert told in own.note and f"drawn with {name}, the nearest" in own.note
        assert "\n" not in own.note
        return
    assert own.note == ""
    theirs = getattr(diffusers, config["_class_name"]).from_config(config)
    for ours, expected in zip(trail(make_scheduler(name, config)), trail(theirs), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize("title", REFUSED)
def test_what_nothing_can_draw_is_refused_by_its_key(title: str) -> None:
    with pytest.raises(UserError, match=rf"^scheduler config: {REFUSED[title]}[^\n]+; [^\n]+$"):
        own_scheduler(PUBLISHED[title])


def test_the_scheduler_for_all_is_not_the_models_own() -> None:
    """What was drawn with before, which the comparison must notice."""
    theirs = diffusers.PNDMScheduler.from_config(SD15)
    ours = trail(make_scheduler("dpm++", SD15))[-1]
    assert (ours - trail(theirs)[-1]).abs().max() > 0.01


def test_runge_kutta_steps_are_not_here() -> None:
    for silent in ({**SD15, "skip_prk_steps": False}, {"_class_name": "PNDMScheduler"}):
        own = own_scheduler(silent)
        assert own.name == "pndm" and "without skip_prk_steps" in own.note


def test_a_config_without_a_class_is_drawn_with_dpm_solver() -> None:
    assert own_scheduler({}).name == "dpm++"
    assert "names no class" in own_scheduler({}).note


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(UserError, match="_class_name is ScoreSdeVeScheduler, for which"):
        own_scheduler({"_class_name": "ScoreSdeVeScheduler"})


def folder(path: Path, **advice: Any) -> DiffusersFolder:
    (path / "coreml_sd.json").write_text(json.dumps(advice), encoding="utf-8")
    return DiffusersFolder(path)


def test_the_advice_names_the_own_scheduler(tmp_path: Path) -> None:
    assert read_advice(DiffusersFolder(tmp_path), SDXL).scheduler == "euler"
    assert read_advice(folder(tmp_path, steps=8), SD3).scheduler == "flow-match-euler"


def test_a_model_folder_may_name_another(tmp_path: Path) -> None:
    assert read_advice(folder(tmp_path, scheduler="unipc"), DEMO).scheduler == "unipc"
    thresholding = {**SD15, "_class_name": "DDIMScheduler", "thresholding": True}
    with pytest.raises(UserError, match="thresholding is not supported, with scheduler ddim; name"):
        read_advice(folder(tmp_path), thresholding)
    assert read_advice(folder(tmp_path, scheduler="euler"), thresholding).scheduler == "euler"


@pytest.mark.parametrize(
    ("name", "config", "told"),
    [
        ("magic", DEMO, "scheduler magic: unknown"),
        ("flow-match-euler", DEMO, "prediction_type is v_prediction"),
        ("euler", EDM, "sigma_data"),
    ],
)
def test_which_is_checked(tmp_path: Path, name: str, config: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_advice(folder(tmp_path, scheduler=name), config)


def test_older_manifests_say_nothing() -> None:
    older = {"advice": {"steps": 20}, "scheduler": SD15}
    assert default_scheduler(older) == OwnScheduler("pndm")
    assert default_scheduler({**older, "advice": {"scheduler": "ddim"}}) == OwnScheduler("ddim")


def test_the_note_is_told_where_the_nearest_is_taken() -> None:
    heun = {
        "advice": {"scheduler": "euler"},
        "scheduler": {**SDXL, "_class_name": "HeunDiscreteScheduler"},
    }
    assert "HeunDiscreteScheduler" in default_scheduler(heun).note
    assert not default_scheduler({**heun, "advice": {"scheduler": "unipc"}}).note
