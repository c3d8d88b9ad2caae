"""Every stage of MobileDiffusion's training starts from what the one before it left."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.preflight import preflight
from coreml_sd.errors import UserError
from coreml_sd.models.open_model import open_model
from training.mobile_diffusion import __main__ as command
from training.mobile_diffusion.config import read_config
from training.mobile_diffusion.run import STAGES, Run

CONFIG = """
[data]
kind = "folder"
path = "{set}"
size = 32
[networks]
[networks.vae]
block_out_channels = [8, 8, 8, 8]
layers_per_block = 1
decoder_layers_per_block = 1
norm_num_groups = 2
sample_size = 32
[networks.text_encoder]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
[networks.unet]
sample_size = 4
block_out_channels = [16, 16, 16]
inner_layers = [1, 1, 1]
cross_attention_dim = 16
attention_head_dim = 8
norm_num_groups = 4
"""
STAGE = """
[{stage}]
steps = 2
batch = 4
learning_rate = 1e-3
warmup = 1
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny training in which all stages were run."""
    pictures = tmp_path_factory.mktemp("pictures")
    lines = []
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (32, 32), colour).save(pictures / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"a {colour} square"}))
    (pictures / "metadata.jsonl").write_text("\n".join(lines))
    text = CONFIG.format(set=pictures)
    text += "".join(STAGE.format(stage=stage) for stage in STAGES)
    path = pictures / "tiny.toml"
    path.write_text(text)
    run = Run(tmp_path_factory.mktemp("run"), read_config(path), cpu=True)
    for stage in STAGES.values():
        losses = stage(run)
        assert losses and all(np.isfinite(value) for value in losses.values())
    return run


def weights(run: Run, path: str) -> dict[str, torch.Tensor]:
    folder = run.folder / path
    (file,) = folder.glob("*model.safetensors")
    return load_file(file)


def config(run: Run, stage: str, part: str = ".") -> dict:
    return json.loads((run.averaged(stage) / part / "config.json").read_text())


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_every_stage_leaves_its_weights_and_samples(trained: Run) -> None:
    for stage in STAGES:
        assert (trained.folder / stage / "samples.png").is_file()
        assert trained.averaged(stage).is_dir()
        assert [path.name for path in (trained.folder / stage).glob("step-*")] == ["step-2"]


def test_the_command_knows_every_stage_in_this_order() -> None:
    assert list(STAGES) == list(command.STAGES)


def test_the_light_decoder_is_smaller_and_the_encoder_stays(trained: Run) -> None:
    assert (
        config(trained, "decoder")["light_decoder"] and not config(trained, "vae")["light_decoder"]
    )
    whole, light = weights(trained, "vae/averaged"), weights(trained, "decoder/averaged")
    kept = {name for name in whole if name.startswith(("encoder.", "quant_conv."))}
    assert kept and all(torch.equal(whole[name], light[name]) for name in kept)
    assert light["decoder.conv_in.weight"].numel() < whole["decoder.conv_in.weight"].numel()


def test_relu_goes_on_from_softmax_and_the_text_encoder_stays(trained: Run) -> None:
    assert config(trained, "base", "unet")["weighing"] == "softmax"
    assert config(trained, "relu", "unet")["weighing"] == "relu"
    texts = [weights(trained, f"{stage}/averaged/text_encoder") for stage in ("base", "relu")]
    assert not changed(*texts)
    unets = [weights(trained, f"{stage}/averaged/unet") for stage in ("base", "relu")]
    assert changed(*unets)


def test_the_student_is_told_the_guidance(trained: Run) -> None:
    for stage in ("guidance", "steps"):
        assert config(trained, stage)["time_cond_proj_dim"] == 256
        told = weights(trained, f"{stage}/averaged")["time_embedding.cond_proj.weight"]
        assert told.abs().max() > 0
    relu = weights(trained, "relu/averaged/unet")
    student = weights(trained, "steps/averaged")
    assert student.keys() - relu.keys() == {"time_embedding.cond_proj.weight"}


def test_the_generator_is_the_same_network_as_before(trained: Run) -> None:
    before, after = weights(trained, "relu/averaged/unet"), weights(trained, "one_step/averaged")
    assert before.keys() == after.keys() and changed(before, after)


def test_what_was_trained_is_exported_as_a_folder_that_converts(
    trained: Run, tmp_path: Path
) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "README.md").write_text("the card")
    trained.export(target)
    assert (target / "README.md").read_text() == "the card"
    model = open_model(ConversionConfig(model=str(target)))
    assert model.facts.family == "mobile-diffusion" and model.facts.latent_channels == 8
    assert model.facts.scaling_factor == pytest.approx(trained.latents.scale)
    preflight(plan_conversion(ConversionConfig(model=str(target))))
    told = [(few.steps, few.denoiser.component) for few in model.facts.few_steps or ()]
    assert told == [(1, "unet_1_step"), (8, "unet_8_steps")]
    assert model.facts.advice.guidance == 3.0
    for folder, guided in (("unet", False), ("unet_8_steps", True), ("unet_1_step", False)):
        told = json.loads((target / folder / "config.json").read_text())
        assert told["weighing"] == "relu" and bool(told["time_cond_proj_dim"]) == guided


def test_the_command_says_in_one_line_what_is_missing(trained: Run, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text('[data]\nkind = "folder"\npath = "nowhere"\n')
    done = CliRunner().invoke(command.main, ["vae", "--config", str(config), "--cpu"])
    assert done.exit_code == 2 and "nowhere/metadata.jsonl is missing" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_stage_without_the_one_before_it_says_so(trained: Run, tmp_path: Path) -> None:
    alone = Run(tmp_path, trained.config, cpu=True)
    with pytest.raises(UserError, match="run the stage base first"):
        alone.relu()


def test_a_checkpoint_has_its_own_stage_alone(trained: Run) -> None:
    """So that a stage goes on by itself where it was begun with others."""
    for stage, count in (("vae", 2), ("base", 1), ("one_step", 2)):
        models = list((trained.folder / stage / "step-2").glob("model*.safetensors"))
        assert len(models) == count


def test_a_stage_that_the_config_does_not_have_is_named(trained: Run, tmp_path: Path) -> None:
    alone = Run(tmp_path, msgspec.structs.replace(trained.config, steps=None), cpu=True)
    with pytest.raises(UserError, match=r"the config has no \[steps\]"):
        alone.steps()
