"""The built-in model as it is shipped."""

from pathlib import Path

import pytest
from diffusers import StableDiffusionPipeline

from coreml_sd.config import ConversionConfig
from coreml_sd.models.find_model import DEMO_FOLDER
from coreml_sd.models.open_model import open_model


def test_it_is_a_standard_diffusers_folder_of_at_most_24_mb() -> None:
    files = [file for file in DEMO_FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 24_000_000
    pipeline = StableDiffusionPipeline.from_pretrained(DEMO_FOLDER, local_files_only=True)
    assert pipeline.vae.config.latent_channels == 4
    assert pipeline.safety_checker is None


def test_it_describes_itself() -> None:
    model = open_model(ConversionConfig())
    assert model.facts.size == (64, 64) and model.facts.advice.guidance == 3.0
    licence, author = model.folder.licence_and_author()
    assert "terms" not in licence and author


@pytest.mark.parametrize("name", ["README.md", "coreml_sd.json", "tokenizer/vocab.json"])
def test_it_is_complete(name: str) -> None:
    assert (Path(DEMO_FOLDER) / name).is_file()
