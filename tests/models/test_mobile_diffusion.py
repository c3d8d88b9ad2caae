"""MobileDiffusion end to end on a tiny model: folders, files, proof, pictures, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from coreml_sd.bundle import open_bundle
from coreml_sd.cli.main import cli
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.costs import ablation as counting
from coreml_sd.errors import UserError
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.metrics import psnr_db
from coreml_sd.models.mobile_diffusion import (
    MobileDiffusionPipeline,
    MobileDiffusionUNet,
    MobileDiffusionVAE,
)
from coreml_sd.models.mobile_diffusion.presets import PRESETS
from coreml_sd.models.open_model import open_model
from coreml_sd.report.measure import measure
from coreml_sd.runtimes.open_runtime import open_runtime
from tests.helpers.tiny_folder import changed_folder
from tests.helpers.tiny_md import SHORT, TINY, write_md_pipeline

pytestmark = pytest.mark.usefixtures("quick_capture")
NAMES = ["text_encoder", "unet", "vae_decoder", "vae_encoder"]


def draw(path: Path, request: GenerationRequest, runtime: str = "mil") -> np.ndarray:
    bundle = open_bundle(path, check=False)
    generator = Generator(bundle, open_runtime(bundle, runtime))
    try:
        return generator(request).pixels
    finally:
        generator.close()


def test_networks_are_saved_and_loaded_as_diffusers_does_it(
    md_folder: Path, tmp_path: Path
) -> None:
    for kind, part in ((MobileDiffusionUNet, "unet"), (MobileDiffusionVAE, "vae")):
        loaded = kind.from_pretrained(md_folder / part)
        loaded.save_pretrained(tmp_path / part)
        again = kind.from_pretrained(tmp_path / part)
        assert again.config["_class_name"] == kind.__name__
        for (name, value), other in zip(
            loaded.state_dict().items(), again.state_dict().values(), strict=True
        ):
            assert torch.equal(value, other), name


@pytest.fixture(scope="module")
def pipeline(md_folder: Path) -> Any:
    made = MobileDiffusionPipeline.from_pretrained(md_folder, local_files_only=True)
    made.set_progress_bar_config(disable=True)
    return made


def test_a_folder_is_saved_as_a_pipeline_and_opened_again(pipeline: Any, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    model = open_model(ConversionConfig(model=str(tmp_path / "saved")))
    assert model.facts.family == "mobile-diffusion"
    assert [component.name for component in model.components] == NAMES
    assert (model.facts.latent_channels, model.facts.latent_size) == (8, (8, 8))


@pytest.mark.parametrize(
    ("negative", "guidance"), [("dog", 4.0), ("", 1.0)], ids=["guidance", "no guidance"]
)
def test_the_torch_runtime_equals_diffusers_own_pipeline(
    pipeline: Any, md_bundle: Path, negative: str, guidance: float
) -> None:
    """Independent of our generator: tokens, guidance, steps, decoding are diffusers'."""
    expected = pipeline(
        "a cat",
        negative_prompt=negative or None,
        num_inference_steps=3,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    request = GenerationRequest("a cat", negative, 3, guidance, 5, "ddim")
    actual = draw(md_bundle, request, "torch")
    assert np.abs(actual - np.rint(expected * 255)).max() <= 1


def test_every_component_passed_its_gates(md_bundle: Path) -> None:
    bundle = open_bundle(md_bundle)
    assert list(bundle.components) == NAMES
    for entry in bundle.components.values():
        assert set(entry["parity"]) == {"coreml", "tflite"}
        for parity in entry["parity"].values():
            assert all(check["passed"] for check in parity["checks"])
    assert np.shape(bundle.pipeline["preview"]["weights"]) == (8, 3)
    report = measure(bundle, prompts=["a cat"])
    assert report.passed


def test_a_unet_that_is_told_the_guidance_draws_what_diffusers_draws(tmp_path: Path) -> None:
    """As distilled ones are: one row, no negative half; proved in the conversion too."""
    folder = write_md_pipeline(tmp_path / "md", **SHORT, time_cond_proj_dim=16)
    bundle = convert(ConversionConfig(model=str(folder)), tmp_path / "b", jobs=1, resume=False)
    assert bundle.pipeline["denoiser"]["guidance"] == "embedded"
    assert bundle.component("unet")["inputs"][0]["shape"][0] == 1
    pipeline = MobileDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a cat",
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    drawn = {scale: draw(bundle.path, asked(scale), "torch") for scale in (4.0, 2.0)}
    assert np.abs(drawn[4.0] - np.rint(expected * 255)).max() <= 1
    assert np.abs(drawn[2.0] - np.rint(expected * 255)).max() > 1
    assert psnr_db(drawn[4.0], draw(bundle.path, asked(4.0), "mil")) > 30


def asked(guidance: float) -> GenerationRequest:
    return GenerationRequest("a cat", "", 3, guidance, 5, "ddim")


@pytest.fixture(scope="module")
def short_md_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("short") / "md"
    return write_md_pipeline(folder, **SHORT)


@pytest.mark.parametrize(
    ("attention", "chunks"), [("split-einsum-v2", "3"), ("original", "1"), ("sdpa", "1")]
)
def test_other_attention_forms_pass_their_gates(
    short_md_folder: Path, tmp_path: Path, attention: str, chunks: str
) -> None:
    config = ConversionConfig(
        model=str(short_md_folder),
        components=["unet"],
        attention=attention,
        min_os="iOS18",
        chunks=chunks,
    )
    bundle = convert(config, tmp_path / "b", verify=False)
    assert len(bundle.files("unet", "coreml")) == int(chunks)
    report = measure(bundle, prompts=[])
    assert report.passed
    if int(chunks) > 1:
        unet = next(entry for entry in report.components if entry.component == "unet")
        assert unet.checks[-1].figure == "identical"


@pytest.mark.parametrize(
    "palettes",
    [
        {"palettize": 4},
        {"palettize": 8},
        {"palettize": 4, "granularity": "per-grouped-channel", "group_size": 8},
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_palettes_pass_their_gates(
    short_md_folder: Path, tmp_path: Path, palettes: dict[str, Any]
) -> None:
    config = ConversionConfig(
        model=str(short_md_folder), components=["unet"], min_os="iOS18", **palettes
    )
    entry = convert(config, tmp_path / "b").component("unet")
    depthwise = [w for w in entry["weights"] if "depthwise" in w["parameter"]]
    assert len(depthwise) == 2 * 4  # one way down, one in the middle, two up


@pytest.mark.parametrize("runtime", ["mil", "litert"])
def test_the_files_draw_nearly_what_the_source_draws(
    md_folder: Path, tmp_path: Path, quick_export: None, runtime: str
) -> None:
    target = "coreml" if runtime == "mil" else "tflite"
    config = ConversionConfig(model=str(md_folder), targets=[target])
    bundle = convert(config, tmp_path / "b", verify=False).path
    request = GenerationRequest("a cat", "dog", 3, 4.0, 5)
    source = draw(bundle, request, "torch").astype(float)
    assert psnr_db(source, draw(bundle, request, runtime)) > 40
    other = GenerationRequest("a cat", "dog", 3, 4.0, 6)
    assert psnr_db(source, draw(bundle, other, runtime)) < 40


@pytest.mark.parametrize(
    "arguments",
    [["inspect"], ["inspect", "--json"], ["lint"], ["lint", "--android-profile", "mali"]],
    ids=" ".join,
)
def test_commands_take_the_bundle(md_bundle: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, [*arguments, str(md_bundle)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture
def tiny_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets by their names, with networks that are tiny."""
    files = PRESETS["md"]
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 1406}
    text |= {"num_attention_heads": 2, "bos_token_id": 1404, "eos_token_id": 1405}
    vae = {"block_out_channels": [16, 32], "layers_per_block": 1, "norm_num_groups": 4}
    changes = {"unet": TINY, "vae": vae, "text_encoder": text}
    configs = {f"{part}/config.json": changes[part] for part in changes}
    tiny = {name: {**held, **configs.get(name, {})} for name, held in files.items()}
    for name in ("md", "md-lite"):
        monkeypatch.setitem(PRESETS, name, tiny)


def test_a_preset_converts_to_the_same_bytes_twice_and_another_to_others(
    tiny_presets: None, tmp_path: Path
) -> None:
    sums: list[dict[str, Any]] = []
    parts = ["text_encoder", "vae_decoder"]
    for model in ("md", "md", "md-lite"):
        config = ConversionConfig(model=model, components=parts, palettize=6)
        bundle = convert(config, tmp_path / str(len(sums)), verify=False, resume=False)
        files = bundle.manifest["files"]
        sums.append({name: held for name, held in files.items() if name.endswith("weight.bin")})
        assert bundle.manifest["model"]["license"] == "none: random weights"
    assert len(sums[0]) == len(parts)
    assert sums[0] == sums[1]
    assert all(sums[0][name] != sums[2][name] for name in sums[0])


def test_a_folder_is_counted_decision_by_decision(
    md_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = counting.ablation(open_model(ConversionConfig(model=str(md_folder))))
    monkeypatch.setattr(counting, "ablation", lambda model: counted)  # takes seconds each time
    done = CliRunner().invoke(cli, ["inspect", "--ablate", "--json", str(md_folder)])
    rows = json.loads(done.stdout)
    assert [row["network"] for row in rows] == ["unet"] * 10 + ["vae_decoder"] * 4
    shown = CliRunner().invoke(cli, ["inspect", "--ablate", str(md_folder)]).stdout
    assert "859.52 M" in shown and "T3.8 fewer residual blocks" in shown


def test_a_pruned_unet_keeps_its_separable_blocks(md_folder: Path) -> None:
    from coreml_sd.compress.source_network import load_source

    model = open_model(ConversionConfig(model=str(md_folder)))
    with pytest.raises(UserError, match="no layer of the unet has 32 channels to spare"):
        load_source(model.component("unet"), 0.1)


@pytest.mark.parametrize(
    ("relative", "values", "message"),
    [
        (
            "unet/config.json",
            {"_class_name": "UNet2DConditionModel"},
            "only MobileDiffusionUNet is supported",
        ),
        (
            "vae/config.json",
            {"_class_name": "AutoencoderKL"},
            "only MobileDiffusionVAE is supported",
        ),
        ("vae/config.json", {"latent_channels": 4}, "takes 8 channels and the VAE makes 4"),
        ("unet/config.json", {"step_embedding": True}, "distilled models"),
        ("unet/config.json", {"cross_attention_dim": 48}, "width 32 and UNet context 48"),
    ],
)
def test_what_does_not_fit_is_refused(
    md_folder: Path, tmp_path: Path, relative: str, values: dict[str, Any], message: str
) -> None:
    folder = changed_folder(md_folder, tmp_path, relative, **values)
    with pytest.raises(UserError, match=message):
        open_model(ConversionConfig(model=str(folder)))


def test_stable_diffusion_does_not_load_as_mobile_diffusion(sd1_folder: Path) -> None:
    done = CliRunner().invoke(cli, ["inspect", "--ablate", str(sd1_folder)])
    assert isinstance(done.exception, UserError)
    assert "switches of MobileDiffusion" in str(done.exception)
