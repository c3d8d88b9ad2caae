"""What is exported from files equals what is exported from memory, and no weight is kept."""

import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.mobile.cut_table import cut_tables
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.targets.tflite import exported as exported_module
from coreml_sd.targets.tflite.export import export, export_tflite
from coreml_sd.targets.tflite.exported import Exported
from coreml_sd.targets.tflite.profiles import Quantization, profile
from coreml_sd.targets.tflite.quantize import quantize_exported, quantize_file
from coreml_sd.targets.tflite.rewrites import android_form
from coreml_sd.targets.tflite.unread_weights import unread_weights

TABLE_LIMIT = 20_000  # bytes: the tiny table is cut into views


@pytest.fixture(autouse=True)
def most_weights_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESOURCE_CONSTANT_NUMEL_THRESHOLD", "1000")


def encoder(folder: Path) -> ComponentSpec:
    config = ConversionConfig(model=str(folder), targets=["tflite"])
    return open_model(config).component("text_encoder")


def from_files(folder: Path, then: Any) -> None:
    spec = encoder(folder)
    opened = spec.open()
    assert opened is not None
    network = android_form(spec, opened.module, profile("gpu")).network
    cut_tables(network, TABLE_LIMIT)
    with unread_weights(network, opened.module, opened.weights) as unread:
        then(export("x.tflite", spec.name, network, spec.inputs, unread))
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.fixture(scope="module")
def from_memory(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec, path = encoder(sd1_folder), tmp_path_factory.mktemp("memory") / "x.fp32"
    network = android_form(spec, spec.load(), profile("gpu")).network
    cut_tables(network, TABLE_LIMIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESOURCE_CONSTANT_NUMEL_THRESHOLD", "1000")
        export_tflite(path, spec.name, network, spec.inputs)
    return path


@pytest.mark.parametrize("quantization", ["fp32", "fp16", "int8", "dynamic-int8"])
def test_files_are_equal_byte_for_byte(
    sd1_folder: Path, from_memory: Path, tmp_path: Path, quantization: Quantization
) -> None:
    def quantize(made: Exported) -> None:
        quantize_exported(made, tmp_path / "ours.tflite", quantization)

    from_files(sd1_folder, quantize)
    source = shutil.copy(from_memory, tmp_path / "x.fp32")
    quantize_file(Path(source), tmp_path / "x.tflite", quantization)
    assert (tmp_path / "ours.tflite").read_bytes() == (tmp_path / "x.tflite").read_bytes()


def test_another_weight_makes_another_file(
    sd1_folder: Path, from_memory: Path, tmp_path: Path
) -> None:
    changed = with_value(sd1_folder, tmp_path / "model", 0.5)
    from_files(changed, lambda made: made.write(tmp_path / "ours.fp32"))
    assert (tmp_path / "ours.fp32").read_bytes() != from_memory.read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(
    sd1_folder: Path, tmp_path: Path, value: float
) -> None:
    broken = with_value(sd1_folder, tmp_path / "model", value)
    with pytest.raises(UserError, match=r"token_embedding\.weight holds NaN or inf"):
        from_files(broken, lambda made: made.write(tmp_path / "ours.fp32"))


@pytest.mark.parametrize("quantization", ["fp32", "fp16", "dynamic-int8"])
def test_no_convolution_is_kept(
    sd1_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quantization: Quantization,
) -> None:
    arrays: list[weakref.ref[Any]] = []
    alive: list[int] = []
    read = exported_module._bytes_of

    def watched(weight: Any) -> Any:
        array = read(weight)
        if len(weight.shape) == 4:
            base = array.base if isinstance(array.base, np.ndarray) else array
            arrays.append(weakref.ref(base))
        alive.append(sum(each() is not None for each in arrays))
        return array

    monkeypatch.setattr(exported_module, "_bytes_of", watched)
    from_files(
        sd1_folder, lambda made: quantize_exported(made, tmp_path / "x.tflite", quantization)
    )
    assert len(arrays) > 10 and max(alive) <= 2


def with_value(folder: Path, target: Path, value: float) -> Path:
    """A copy of a model whose table of tokens holds this value in one place."""
    shutil.copytree(folder, target)
    (file,) = (target / "text_encoder").glob("*.safetensors")
    weights = load_file(file)
    (name,) = [name for name in weights if name.endswith("token_embedding.weight")]
    weights[name] = weights[name].clone()
    weights[name][3, 5] = torch.tensor(value)
    save_file(weights, file, metadata={"format": "pt"})
    return target
