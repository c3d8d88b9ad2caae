"""Weights read one at a time are those that diffusers and transformers load."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.models.open_model import open_model
from coreml_sd.models.weights.tensor_file import TensorFile
from coreml_sd.models.weights.values import ModuleWeights, fp16_value, fp32_value


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae_decoder"])
def test_an_opened_network_has_the_weights_of_the_loaded_one(sd1_folder: Path, name: str) -> None:
    component = open_model(ConversionConfig(model=str(sd1_folder))).component(name)
    opened, loaded = component.open(), component.load()
    assert all(parameter.device.type == "meta" for parameter in opened.module.parameters())
    parameters = dict(loaded.named_parameters())
    assert parameters.keys() == dict(opened.module.named_parameters()).keys()
    for key, parameter in parameters.items():
        assert np.array_equal(fp32_value(opened.weights, key), parameter.numpy()), key


def test_every_width_is_read(tmp_path: Path) -> None:
    tensor = torch.linspace(-3, 3, 24).reshape(2, 3, 4)
    kinds = (torch.float16, torch.float32, torch.float64, torch.bfloat16)
    tensors = {str(kind): tensor.to(kind) for kind in kinds} | {"empty": torch.zeros(0, 3)}
    save_file(tensors, tmp_path / "t.safetensors")
    file = TensorFile(tmp_path / "t.safetensors")
    for name, expected in load_file(tmp_path / "t.safetensors").items():
        assert np.array_equal(file.read(name).astype(np.float64), expected.double().numpy())


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_8_bit_float_is_what_torch_takes_it_for(tmp_path: Path, kind: torch.dtype) -> None:
    tensor = torch.arange(256, dtype=torch.uint8).view(kind)
    save_file({"t": tensor}, tmp_path / "t.safetensors")
    found = TensorFile(tmp_path / "t.safetensors").read("t")
    assert np.array_equal(found, tensor.half().numpy(), equal_nan=True)


def test_a_type_that_is_not_supported_is_named(tmp_path: Path) -> None:
    save_file({"t": torch.zeros(4, dtype=torch.complex64)}, tmp_path / "t.safetensors")
    with pytest.raises(UserError, match=r"t is of type C64, which is not supported; save it again"):
        TensorFile(tmp_path / "t.safetensors")


@pytest.mark.parametrize("keep", [4, 50, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"a": torch.zeros(10)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"t\.safetensors: truncated or damaged"):
        TensorFile(path)


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "NaN or inf"), (7e4, "does not fit in fp16")]
)
def test_what_fp16_cannot_hold_is_named(value: float, message: str) -> None:
    layer = torch.nn.Linear(3000, 400)
    with torch.no_grad():
        layer.weight[399, 2999] = value
    for read in (fp16_value, fp32_value):
        with pytest.raises(UserError, match=f"weight.*{message}"):
            read(ModuleWeights(layer.requires_grad_(False)), "weight")


def test_files_that_do_not_fit_are_refused_by_both_readers(
    sd1_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sd1_folder, folder)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_in.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    component = open_model(ConversionConfig(model=str(folder))).component("unet")
    for read in (component.open, component.load):
        with pytest.raises(UserError, match=r"lacks conv_in\.weight"):
            read()
