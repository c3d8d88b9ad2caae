"""The benchmark of whole conversions: its folders open as what they say, and both paths run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.models.find_model import DEMO_FOLDER
from coreml_sd.models.open_model import open_model
from scripts.bench.document import put_into
from scripts.bench.families import FAMILIES, NETWORKS
from scripts.bench.random_folder import write_folder

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_convert.py"
FOUR = ["text_encoder", "unet", "vae_decoder", "vae_encoder"]
# Of the published models.
PARAMETERS = {"sd15": 859_520_964, "sd21": 865_910_724, "sdxl": 2_567_463_684}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_every_family_opens(family: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", DEMO_FOLDER / "tokenizer", family, small=True)
    model = open_model(ConversionConfig(model=str(folder)))
    names = [component.name for component in model.components]
    assert names == ([*FOUR[:1], "text_encoder_2", *FOUR[1:]] if family == "sdxl" else FOUR)
    assert model.facts.prediction_type == ("v_prediction" if family == "sd21" else "epsilon")
    opened = model.component("unet").open()
    assert opened is not None and len(list(opened.module.parameters())) > 100


@pytest.mark.parametrize("family", FAMILIES)
def test_the_full_unet_has_as_many_parameters_as_the_published_one(family: str) -> None:
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**NETWORKS[family].unet)
    assert sum(p.numel() for p in unet.parameters()) == PARAMETERS[family]


def test_both_paths_run_and_are_compared(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", DEMO_FOLDER / "tokenizer", "sdxl", small=True)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- convert-sdxl -->\nold\n<!-- /convert-sdxl -->\nafter\n", "utf-8")
    command = [sys.executable, str(SCRIPT), "--family", "sdxl", "--folder", str(folder)]
    command += ["--rounds", "1", "--components", "text_encoder_2"]
    command += ["--work", str(tmp_path), "--write", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = page.read_text("utf-8")
    assert text.startswith("before\n<!-- convert-sdxl -->") and text.endswith("after\n")
    steps = ["ours: all", "plain: text_encoder_2"]
    assert all(f"| {step} |" in text for step in steps) and "old" not in text
    assert "- all components: the plain path takes" in text
    assert json.loads((folder / "model_index.json").read_text("utf-8"))  # the folder is kept


def test_an_unknown_family_is_refused() -> None:
    command = [sys.executable, str(SCRIPT), "--family", "sd3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "invalid choice: 'sd3'" in done.stderr


def test_figures_are_written_into_a_document_that_is_not_there(tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.md"
    for text in ("first\n", "second\n"):
        put_into(page, "convert-sd15", text)
        assert page.read_text("utf-8") == f"<!-- convert-sd15 -->\n{text}<!-- /convert-sd15 -->\n"
