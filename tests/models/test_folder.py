"""Diffusers folders in the variants that people have."""

import shutil
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.generation.prompt import PromptEncoder
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.tokenizer_files import write_tokenizer_files
from coreml_sd.models.open_model import open_model
from tests.helpers.tiny_folder import change_json, name_scheduler


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_folder, tmp_path / "model"))


def test_a_tokenizer_saved_as_one_file(model: Path, tmp_path: Path) -> None:
    """What newer libraries save gives the same tokens."""
    original = CLIPTokenizer.from_pretrained(model / "tokenizer")
    shutil.rmtree(model / "tokenizer")
    original.save_pretrained(model / "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        (model / "tokenizer" / name).unlink(missing_ok=True)
    facts = open_model(ConversionConfig(model=str(model))).facts.tokenizer
    out = tmp_path / "out"
    out.mkdir()
    write_tokenizer_files(DiffusersFolder(model), out)
    ids = PromptEncoder(out, facts).encode("A cat & a zebra!").ids[0].astype(int).tolist()
    assert ids == original("A cat & a zebra!", padding="max_length", max_length=77)["input_ids"]


def test_the_fp16_variant_is_found(model: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        (file,) = (model / part).glob("*.safetensors")
        file.rename(file.with_suffix(".fp16.safetensors"))
    described = open_model(ConversionConfig(model=str(model)))
    for component in described.components:
        component.load()


def test_pickled_weights_are_refused_with_the_remedy(model: Path) -> None:
    (file,) = (model / "unet").glob("*.safetensors")
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match="only pickled weights"):
        DiffusersFolder(model).weight_files("unet")


def test_the_digest_tells_models_apart(model: Path) -> None:
    before = DiffusersFolder(model).digest()
    assert DiffusersFolder(model).digest() == before
    change_json(model / "scheduler/scheduler_config.json", beta_end=0.02)
    assert DiffusersFolder(model).digest() != before


def test_advice_of_the_folder_becomes_the_default(model: Path) -> None:
    assert open_model(ConversionConfig(model=str(model))).facts.advice.guidance == 7.5
    (model / "coreml_sd.json").write_text('{"guidance": 2.0, "steps": 8}')
    advice = open_model(ConversionConfig(model=str(model))).facts.advice
    assert (advice.guidance, advice.steps) == (2.0, 8) and advice.prompts


@pytest.mark.parametrize(
    ("scheduler", "told"),
    [
        ({"_class_name": "EDMEulerScheduler", "sigma_data": 0.5}, "sigma_data is of an EDM model"),
        ({"_class_name": "DDIMScheduler", "thresholding": True}, "thresholding is not supported"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "_class_name is ScoreSdeVeScheduler"),
    ],
)
def test_a_scheduler_that_is_not_here_is_refused_before_any_work(
    model: Path, scheduler: dict[str, object], told: str
) -> None:
    name_scheduler(model, str(scheduler["_class_name"]))
    change_json(model / "scheduler/scheduler_config.json", **scheduler)
    with pytest.raises(UserError, match=rf"^[^\n]+scheduler config: {told}[^\n]*; [^\n]+$"):
        open_model(ConversionConfig(model=str(model)))


def test_the_models_own_scheduler_is_advised(model: Path) -> None:
    name_scheduler(model, "EulerDiscreteScheduler")
    assert open_model(ConversionConfig(model=str(model))).facts.advice.scheduler == "euler"
