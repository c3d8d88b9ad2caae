"""The network that files are held against, run from its files, is the one that is loaded."""

import gc
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from coreml_sd.compress.source_network import open_source
from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import mobile_form
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.parity.checks import run_mobile
from coreml_sd.parity.reference import Reference, reference

SAME = 130.0  # dB; a kernel may add up in another order where a weight lies elsewhere in memory
SD1 = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
CASES = [
    *(("sd1_folder", name) for name in SD1),
    *(("sd2_folder", name) for name in SD1),
    *(("md_folder", name) for name in SD1),
    *(("xl_folder", name) for name in ("text_encoder", "text_encoder_2", "unet")),
]


def component_of(folder: Path, name: str) -> ComponentSpec:
    return open_model(ConversionConfig(model=str(folder))).component(name)


def outputs(component: ComponentSpec, held: Reference) -> list[np.ndarray]:
    (found,) = held.outputs(component, [component.sample_inputs(0)])
    return list(found.values())


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_it_computes_what_the_loaded_network_does(
    folder: str, name: str, request: pytest.FixtureRequest
) -> None:
    component = component_of(request.getfixturevalue(folder), name)
    held = reference(component, open_source(component, None))
    loaded = Reference(component.load())
    assert held.values is not None
    assert all(parameter.is_meta for parameter in held.network.parameters())
    for found, expected in zip(outputs(component, held), outputs(component, loaded), strict=True):
        assert psnr_db(expected, found) > SAME


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_so_does_its_mobile_form(folder: str, name: str, request: pytest.FixtureRequest) -> None:
    component = component_of(request.getfixturevalue(folder), name)
    given = component.sample_inputs(0)
    held = reference(component, open_source(component, None))
    lean = mobile_form(component.form, held.network)
    with held.weights.given_to(lean):
        found = run_mobile(component, lean, given)
    expected = run_mobile(component, mobile_form(component.form, component.load()), given)
    assert all(psnr_db(expected[key], found[key]) > SAME for key in expected)


def test_while_it_runs_a_small_part_of_it_is_in_memory(
    sd1_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = component_of(sd1_folder, "unet")
    held = reference(component, open_source(component, None))
    sizes = {parameter.numel() for parameter in held.network.parameters()}
    total = 4 * sum(parameter.numel() for parameter in held.network.parameters())
    most = []
    read = torch.isfinite  # asked once for every weight that is read

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        kinds = (torch.Tensor, torch.nn.Parameter)
        new = [each for each in gc.get_objects() if type(each) in kinds]
        tensors = [*new, *held.network.parameters()]
        sized = [each for each in tensors if each.device.type == "cpu" and each.numel() in sizes]
        storages = [each.untyped_storage() for each in sized]
        kept = {each._cdata: each.nbytes() for each in storages}
        most.append(sum(kept.values()))
        return read(tensor)

    gc.collect()
    gc.freeze()  # only what is made from here on is looked through
    monkeypatch.setattr(torch, "isfinite", counted)
    try:
        outputs(component, held)
    finally:
        gc.unfreeze()
    assert len(most) == len(list(held.network.parameters()))
    assert max(most) - most[0] < total / 4


def test_a_network_that_was_changed_is_the_one_in_memory(sd1_folder: Path) -> None:
    component = component_of(sd1_folder, "unet")
    pruned = open_source(component, 0.2)
    held = reference(component, pruned)
    assert held.network is pruned.network and held.values is None


def test_negative_control_weights_of_another_model(sd1_folder: Path, tmp_path: Path) -> None:
    folder = changed(sd1_folder, tmp_path, lambda tensor: tensor.flip(0))
    names = component_of(sd1_folder, "unet"), component_of(folder, "unet")
    first, second = (reference(each, open_source(each, None)) for each in names)
    assert not np.array_equal(outputs(names[0], first)[0], outputs(names[1], second)[0])


def test_a_weight_that_is_no_number_is_named(sd1_folder: Path, tmp_path: Path) -> None:
    folder = changed(sd1_folder, tmp_path, lambda tensor: tensor * float("nan"))
    component = component_of(folder, "unet")
    held = reference(component, open_source(component, None))
    with pytest.raises(UserError, match=r"conv_out\.weight holds NaN or inf"):
        outputs(component, held)


def changed(source: Path, tmp_path: Path, change: object) -> Path:
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    assert callable(change)
    tensors["conv_out.weight"] = change(tensors["conv_out.weight"])
    save_file({name: each.contiguous() for name, each in tensors.items()}, path, {"format": "pt"})
    return folder
