"""A conversion is held against diffusers' own pipeline: a folder that is misread here is noticed.

Each control puts one way of misreading a folder back, and the proof fails.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL
from safetensors.torch import load_file, save_file

from coreml_sd.compress.source_network import open_source
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.errors import CoremlSDError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import mobile_form
from coreml_sd.models.folder import component_classes as part_classes
from coreml_sd.models.folder import diffusers_folder
from coreml_sd.models.folder.corrections import Corrected
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.tokenizer_files import write_tokenizer_files
from coreml_sd.models.open_model import open_model, own_size
from coreml_sd.models.stable_diffusion import family as stable_diffusion
from coreml_sd.models.stable_diffusion_xl import family as stable_diffusion_xl
from coreml_sd.models.weights import placeholder_network as skeleton
from coreml_sd.parity.checks import GATE_MOBILE, Check, run_mobile
from coreml_sd.parity.diffusers_source import (
    DiffusersSource,
    diffusers_source,
    own_network,
    reading_check,
)
from coreml_sd.parity.pipeline_checks import pipeline_parity
from coreml_sd.parity.reference import reference
from coreml_sd.schedulers import own, supported
from tests.helpers.diffusers_pipeline import as_diffusers_opens
from tests.helpers.tiny_folder import change_json, randomize

SAME = 130.0  # dB; a kernel may add up in another order where a weight lies elsewhere in memory
SD1 = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
CASES = [
    *(("sd1_folder", name) for name in SD1),
    *(("sd2_folder", name) for name in ("text_encoder", "unet")),
    *(("md_folder", name) for name in SD1),
    *(("xl_folder", name) for name in ("text_encoder", "text_encoder_2", "unet", "vae_decoder")),
]


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_folder, tmp_path / "model"))


def network_check(folder: Path, name: str) -> float:
    """dB of the mobile form, from our reading, to diffusers' own network."""
    opened = open_model(ConversionConfig(model=str(folder)))
    component = opened.component(name)
    own_one = own_network(opened.folder, component)
    assert own_one is not None
    inputs = component.sample_inputs(0)
    (expected,) = own_one.outputs(component, [inputs])
    held = reference(component, open_source(component, None))
    form = mobile_form(component.form, held.network)
    with held.weights.given_to(form):
        found = run_mobile(component, form, inputs)
    return min(psnr_db(expected[key], found[key]) for key in expected)


def pipeline_checks(folder: Path, tmp_path: Path, **changed: Any) -> dict[str, Check]:
    config = ConversionConfig(model=str(folder))
    opened = open_model(config)
    vocabulary = tmp_path / "vocabulary"
    vocabulary.mkdir(exist_ok=True)
    write_tokenizer_files(opened.folder, vocabulary)
    facts = json.loads(json.dumps(opened.facts.to_dict() | changed))
    result = pipeline_parity(DiffusersSource(opened.folder), facts, vocabulary, own_size(config))
    return {check.name: check for check in result.checks}


def failed(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if not check.passed]


class TestTheSourceOpenedByDiffusers:
    @pytest.mark.parametrize(("folder", "name"), CASES)
    def test_it_computes_what_is_read_here(
        self, folder: str, name: str, request: pytest.FixtureRequest
    ) -> None:
        opened = open_model(ConversionConfig(model=str(request.getfixturevalue(folder))))
        component = opened.component(name)
        own_one = own_network(opened.folder, component)
        assert own_one is not None
        assert all(parameter.is_meta for parameter in own_one.network.parameters())
        assert reading_check(component, own_one).value > SAME

    def test_it_is_what_the_whole_pipeline_has(self, model: Path) -> None:
        folder = DiffusersFolder(model)
        for part in folder.networks:
            own_one = DiffusersSource(folder).network(part)
            assert own_one.values is not None
            whole = dict(getattr(as_diffusers_opens(model), part).named_parameters())
            assert all(torch.equal(own_one.values.tensor(n), whole[n]) for n in whole)

    def test_weights_keep_their_width_and_stay_in_their_file(self, model: Path) -> None:
        path = model / "unet/diffusion_pytorch_model.safetensors"
        save_file({n: t.half() for n, t in load_file(path).items()}, path, {"format": "pt"})
        values = DiffusersSource(DiffusersFolder(model)).network("unet").values
        assert values is not None and values.tensor("conv_in.weight").dtype == torch.float16
        maps = Path("/proc/self/maps")
        if maps.exists():
            assert str(path) in maps.read_text("utf-8", errors="replace")
        assert network_check(model, "unet") > GATE_MOBILE

    @pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells of mappings")
    def test_no_page_of_its_file_stays_when_it_was_run(self, model: Path) -> None:
        def resident() -> int:
            mapped = Path("/proc/self/smaps").read_text("utf-8", errors="replace")
            parts = mapped.split(f"{model}/unet/diffusion_pytorch_model.safetensors\n")[1:]
            assert parts
            return sum(int(part.split("\nRss:")[1].split()[0]) for part in parts)

        opened = open_model(ConversionConfig(model=str(model)))
        component = opened.component("unet")
        own_one = own_network(opened.folder, component)
        assert own_one is not None and own_one.values is not None
        for name, _ in own_one.network.named_parameters():
            own_one.values.tensor(name).sum()
        assert resident() > 0
        own_one.outputs(component, [component.sample_inputs(0)])
        assert resident() == 0

    def test_a_model_of_random_weights_has_none(self) -> None:
        assert diffusers_source(open_model(ConversionConfig(model="md-lite")).folder) is None

    @pytest.mark.parametrize("folder", ["sd1_folder", "sd2_folder", "md_folder", "xl_folder"])
    def test_what_generation_is_told_agrees(
        self, folder: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        assert failed(pipeline_checks(request.getfixturevalue(folder), tmp_path)) == []

    def test_what_a_manifest_says_otherwise_is_found(self, model: Path, tmp_path: Path) -> None:
        wrong: list[dict[str, Any]] = [
            {"scaling_factor": 0.13025},
            {"vae_scale_factor": 8},
            {"prediction_type": "v_prediction"},
            {"shift_factor": 0.1},
        ]
        for facts in wrong:
            assert failed(pipeline_checks(model, tmp_path, **facts)) == [
                "constants of the pipeline: differences"
            ]


def take_instead(patch: pytest.MonkeyPatch, part: str, file: Path) -> None:
    """The weights of one network are read from this file."""
    real = diffusers_folder.weight_files
    patch.setattr(
        diffusers_folder,
        "weight_files",
        lambda folder, asked, variant: [file] if asked == part else real(folder, asked, variant),
    )


Misread = Callable[[Path, pytest.MonkeyPatch], None]


def backup_taken(model: Path, patch: pytest.MonkeyPatch) -> None:
    path = model / "unet/diffusion_pytorch_model.safetensors"
    other = {name: tensor + 0.05 for name, tensor in load_file(path).items()}
    save_file(other, path.with_stem(f"{path.stem}_backup"), {"format": "pt"})
    take_instead(patch, "unet", sorted((model / "unet").glob("*.safetensors"))[-1])


def stale_file_taken(model: Path, patch: pytest.MonkeyPatch) -> None:
    path = model / "unet/diffusion_pytorch_model.safetensors"
    tensors = {name: tensor + 0.05 for name, tensor in load_file(path).items()}
    shard = path.with_stem(f"{path.stem}-00001-of-00001")
    save_file(tensors, shard, {"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, shard.name)}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps(index), "utf-8")
    take_instead(patch, "unet", path)


def other_decoder_assumed(model: Path, patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(model / "vae")
    blocks = {"layers_per_down_block": 1, "layers_per_up_block": 2, "norm_num_groups": 8}
    down = {"down_block_out_channels": (16, 32), "down_block_types": ("DownEncoderBlock2D",) * 2}
    up = {"up_block_out_channels": (16, 32), "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AsymmetricAutoencoderKL(**blocks, **down, **up)
    randomize(vae).save_pretrained(model / "vae")
    change_json(
        model / "vae/config.json",
        block_out_channels=[16, 32],
        layers_per_block=1,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
    )
    change_json(model / "model_index.json", vae=["diffusers", "AsymmetricAutoencoderKL"])
    for module in (stable_diffusion, stable_diffusion_xl):
        patch.setattr(module, "require_classes", lambda folder, wanted: None)
    patch.setattr(skeleton, "is_harmless", lambda module, name: True)
    classes = {**part_classes.SD_CLASSES}
    patch.setattr("coreml_sd.models.folder.network_configs.SD_CLASSES", classes)


# How a network may be misread -> the component in which it shows.
NETWORKS: dict[str, tuple[Misread, str]] = {
    "the last of all files": (backup_taken, "unet"),
    "an older file beside an index": (stale_file_taken, "unet"),
    "another class of VAE": (other_decoder_assumed, "vae_decoder"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_control_a_network_that_is_misread(
    name: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    misread, component = NETWORKS[name]
    assert network_check(model, component) > GATE_MOBILE
    misread(model, monkeypatch)
    assert network_check(model, component) < GATE_MOBILE


def padding_assumed(model: Path, patch: pytest.MonkeyPatch) -> None:
    (model / "tokenizer/special_tokens_map.json").write_text('{"pad_token": "!"}', "utf-8")
    real = stable_diffusion.tokenizer_facts

    def assumed(*arguments: Any) -> dict[str, Any]:
        facts = real(*arguments)
        return {**facts, "pad_token_id": facts["eos_token_id"]}

    patch.setattr(stable_diffusion, "tokenizer_facts", assumed)


def added_words_dropped(model: Path, patch: pytest.MonkeyPatch) -> None:
    size = json.loads((model / "text_encoder/config.json").read_text())["vocab_size"]
    (model / "tokenizer/added_tokens.json").write_text(json.dumps({"<cat-toy>": size}), "utf-8")
    real = stable_diffusion.tokenizer_facts

    def dropped(*arguments: Any) -> dict[str, Any]:
        facts = real(*arguments)
        assert facts.pop("added_tokens")
        return facts

    patch.setattr(stable_diffusion, "tokenizer_facts", dropped)


def steps_not_offset(model: Path, patch: pytest.MonkeyPatch) -> None:
    change_json(
        model / "scheduler/scheduler_config.json", steps_offset=0, timestep_spacing="leading"
    )
    patch.setattr(stable_diffusion, "corrected_scheduler", Corrected)


def old_size_taken(model: Path, patch: pytest.MonkeyPatch) -> None:
    change_json(model / "unet/config.json", _diffusers_version="0.6.0", sample_size=32)
    patch.setattr(
        stable_diffusion, "corrected_sample_size", lambda unet: Corrected(unet["sample_size"])
    )


def betas_invented(model: Path, patch: pytest.MonkeyPatch) -> None:
    config = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "sigma_max": 80.0}
    (model / "scheduler/scheduler_config.json").write_text(json.dumps(config), "utf-8")
    change_json(model / "model_index.json", scheduler=["diffusers", "EDMEulerScheduler"])
    patch.setitem(own._OWN, "EDMEulerScheduler", "euler")
    for module in (own, supported):
        patch.setattr(module, "refusal", lambda name, config: None)


def another_scheduler_by_default(model: Path, patch: pytest.MonkeyPatch) -> None:
    real = stable_diffusion.read_advice
    patch.setattr(
        stable_diffusion,
        "read_advice",
        lambda *arguments: dataclasses.replace(real(*arguments), scheduler="dpm++"),
    )


# How what generation is told may be misread -> the check in which it shows.
FACTS: dict[str, tuple[Misread, str]] = {
    "the padding": (padding_assumed, "tokenizer: prompts"),
    "added words": (added_words_dropped, "tokenizer: prompts"),
    "an older config of a scheduler": (steps_not_offset, "scheduler: timesteps"),
    "an older config of a UNet": (old_size_taken, "size of the model's own pictures"),
    "betas of a model without any": (betas_invented, "scheduler: sigmas"),
    "the scheduler of the default picture": (
        another_scheduler_by_default,
        "scheduler: latent after 2 steps",
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_control_what_generation_is_told(
    name: str, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    misread, check = FACTS[name]
    misread(model, monkeypatch)
    found = failed(pipeline_checks(model, tmp_path))
    assert any(each.startswith(check) for each in found), found


@pytest.fixture
def misread_vae(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = model / "vae/diffusion_pytorch_model.safetensors"
    other = {name: tensor + 0.05 for name, tensor in load_file(path).items()}
    backup = path.with_stem(f"{path.stem}_backup")
    save_file(other, backup, {"format": "pt"})
    with monkeypatch.context() as patch:
        take_instead(patch, "vae", backup)
        yield model


def test_a_conversion_of_what_was_misread_writes_no_bundle(
    misread_vae: Path, tmp_path: Path
) -> None:
    config = ConversionConfig(model=str(misread_vae), components=["vae_encoder"])
    with pytest.raises(CoremlSDError, match="mobile form against diffusers' pipeline is"):
        convert(config, tmp_path / "out.bundle")
    assert not (tmp_path / "out.bundle").exists()
