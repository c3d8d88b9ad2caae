"""A VAE whose activations leave fp16: the evaluator finds it, rescaling cures it, outputs stay."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.compress.source_network import load_source, open_source
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.errors import CoremlSDError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import vae_range
from coreml_sd.mobile.vae_range import may_leave_fp16
from coreml_sd.models.open_model import open_model
from coreml_sd.report.measure import measure
from coreml_sd.runtimes.mil import MilNetwork, Mode
from coreml_sd.runtimes.mil.trace import OpRange
from tests.helpers.tiny_folder import change_json, randomize
from tests.helpers.tiny_xl import tiny_xl_vae

pytestmark = pytest.mark.usefixtures("quick_capture")
VAES = ["vae_decoder", "vae_encoder"]
_LOUD = 3e4


def make_loud(vae: nn.Module) -> nn.Module:
    """Everything that adds to the residual stream adds more of it."""
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name.endswith(("conv_in.weight", "conv2.weight", "to_out.0.weight")):
                parameter.mul_(_LOUD)
    return vae


@pytest.fixture(scope="module")
def loud_folder(xl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "loud-xl"
    shutil.copytree(xl_folder, folder)
    shutil.rmtree(folder / "vae")
    torch.manual_seed(0)
    make_loud(randomize(tiny_xl_vae())).half().save_pretrained(folder / "vae")
    return folder


def config(folder: Path, **knobs: Any) -> ConversionConfig:
    return ConversionConfig(model=str(folder), components=VAES, **knobs)


@pytest.mark.parametrize("half", ["decoder", "encoder"])
@pytest.mark.parametrize("factor", [2.0**-3, 2.0**-8, 2.0**4])
@torch.no_grad()
def test_rescaling_keeps_the_output(half: str, factor: float) -> None:
    torch.manual_seed(0)
    vae = randomize(tiny_xl_vae())
    network = getattr(vae, half)
    x = torch.randn(1, 4, 6, 4) if half == "decoder" else torch.randn(1, 3, 12, 8)
    stream: list[torch.Tensor] = []
    network.conv_norm_out.register_forward_pre_hook(lambda _, given: stream.append(given[0]))
    before = network(x)
    vae_range.rescale(network, factor)
    assert psnr_db(before, network(x)) >= 100
    assert psnr_db(factor * stream[0], stream[1]) >= 100


@pytest.mark.parametrize("name", VAES)
def test_what_is_forgotten_is_noticed(name: str) -> None:
    """Negative control: without the epsilons the output of a quiet stream changes."""
    torch.manual_seed(0)
    vae = randomize(tiny_xl_vae())
    network: Any = vae.decoder if name == "vae_decoder" else vae.encoder
    x = torch.randn(1, 4, 6, 4) if name == "vae_decoder" else torch.randn(1, 3, 12, 8)
    with torch.no_grad():
        before = network(x)
        vae_range.rescale(network, 2.0**-8)
        for module in network.modules():
            if isinstance(module, nn.GroupNorm):
                module.eps = 1e-6
        assert psnr_db(before, network(x)) < 100


def evaluate(
    bundle: Bundle, folder: Path, name: str, mode: Mode
) -> tuple[np.ndarray, OpRange | None]:
    """What the file of a half gives, and the first op on the way that leaves fp16."""
    (path,) = bundle.files(name, "coreml")
    network = MilNetwork(path, mode=mode, record=True)
    with np.errstate(all="ignore"):
        (output,) = network.run(
            open_model(config(folder)).component(name).sample_inputs(0)
        ).values()
    assert network.trace is not None
    return output, network.trace.first_unsafe


def test_the_evaluator_finds_the_overflow(
    loud_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae_range, "CEILING", float("inf"))
    bundle = convert(config(loud_folder), tmp_path / "b", verify=False)
    for name in VAES:
        output, unsafe = evaluate(bundle, loud_folder, name, "fp16")
        assert unsafe is not None and not np.isfinite(output).all()
        assert ("decoder" if name == "vae_decoder" else "encoder") in unsafe.layer
        # The weights are sound: it is the format of the activations.
        assert np.isfinite(evaluate(bundle, loud_folder, name, "fp32")[0]).all()
    with pytest.raises(CoremlSDError, match=r"gate .*conv.* after decoder"):
        convert(config(loud_folder), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_evaluator_finds_nothing_once_it_is_cured(loud_folder: Path, tmp_path: Path) -> None:
    """The file of the test above, made with the cure."""
    bundle = convert(config(loud_folder), tmp_path / "b", verify=False)
    for name in VAES:
        output, unsafe = evaluate(bundle, loud_folder, name, "fp16")
        assert unsafe is None and np.isfinite(output).all()
        component = open_model(config(loud_folder)).component(name)
        (given,) = (torch.from_numpy(x).float() for x in component.sample_inputs(0).values())
        with torch.no_grad():
            (source,) = component.published(component.load())(given)
        assert psnr_db(source, output) >= 50


def test_the_evaluator_does_not_accuse_a_vae_that_stays_in_range(
    xl_folder: Path, tmp_path: Path
) -> None:
    bundle = convert(config(xl_folder), tmp_path / "b", verify=False)
    for name in VAES:
        output, unsafe = evaluate(bundle, xl_folder, name, "fp16")
        assert unsafe is None and np.isfinite(output).all()
        assert "rescaling" not in bundle.components[name]


@pytest.mark.parametrize("bits", [None, 6])
def test_a_conversion_cures_it(loud_folder: Path, tmp_path: Path, bits: int | None) -> None:
    convert(config(loud_folder, palettize=bits), tmp_path / "b")
    bundle = open_bundle(tmp_path / "b")
    for name in VAES:
        facts = bundle.components[name]["rescaling"]
        assert facts["peak"] > 65_504 and facts["peak"] * facts["factor"] <= vae_range.CEILING
        assert facts["source_db"] >= 100
        note = next(note for note in bundle.manifest["notes"] if note.startswith(name))
        assert "scaled by 1/" in note
        checks = bundle.components[name]["parity"]["coreml"]["checks"]
        assert all(check["passed"] for check in checks)
    assert measure(bundle, prompts=[]).passed


def test_the_rescaled_source_is_the_source(loud_folder: Path) -> None:
    for name in VAES:
        component = open_model(config(loud_folder)).component(name)
        (given,) = (torch.from_numpy(x).float() for x in component.sample_inputs(1).values())
        loaded = load_source(component, None)
        assert loaded.rescaling is not None
        with torch.no_grad():
            (before,) = component.published(component.load())(given)
            (after,) = component.published(loaded.network)(given)
        assert psnr_db(before, after) >= 100


def test_only_what_needs_it_is_touched(xl_folder: Path, loud_folder: Path, tmp_path: Path) -> None:
    for component in open_model(ConversionConfig(model=str(xl_folder))).components:
        opened = open_source(component, None)
        assert opened.rescaling is None and not opened.in_memory
    folder = Path(shutil.copytree(loud_folder, tmp_path / "model"))
    change_json(folder / "vae/config.json", force_upcast=False)
    with pytest.raises(CoremlSDError, match="the bundle is not written"):
        convert(config(folder), tmp_path / "b")


def test_only_a_vae_that_says_so_is_measured() -> None:
    def may(role: str, **config: bool) -> bool:
        component: Any = SimpleNamespace(role=role)
        return may_leave_fp16(component, SimpleNamespace(config=config))

    assert may("latent_decoder", force_upcast=True) and may("latent_encoder", force_upcast=True)
    assert not may("latent_decoder") and not may("latent_decoder", force_upcast=False)
    assert not may("denoiser", force_upcast=True)
