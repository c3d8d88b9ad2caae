"""The coreml runtime against a recorded fake of MLModel (Core ML itself exists on macOS alone)."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from coreml_sd.errors import UserError
from coreml_sd.runtimes import coreml


class FakeMLModel:
    """Records what it is given; answers with the shapes of the file, in float16 as Core ML may."""

    calls: ClassVar[list[tuple]] = []

    def __init__(self, path: str, compute_units: object, **options: object) -> None:
        if "damaged" in path:
            raise RuntimeError("Error compiling model: Failed to parse\nmore")
        FakeMLModel.calls.append(("load", Path(path).name, str(compute_units), options))

    def predict(self, inputs: dict) -> dict:
        FakeMLModel.calls.append(("predict", {k: v.dtype.name for k, v in inputs.items()}))
        return {"image": np.zeros((1, 3, 16, 16), np.float16)}


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> type[FakeMLModel]:
    import coremltools as ct

    monkeypatch.setattr(coreml, "available", lambda: True)
    monkeypatch.setattr(ct.models, "MLModel", FakeMLModel)
    FakeMLModel.calls = []
    return FakeMLModel


def test_a_prediction_has_the_types_of_the_file(mac: Any, sd1_bundle: Path) -> None:
    network = coreml.CoreMLNetwork(sd1_bundle / "VAEDecoder.mlpackage", compute_units="cpu-and-ne")
    assert network.inputs["z"].shape == (1, 4, 8, 8)
    image = network.run({"z": np.zeros((1, 4, 8, 8), np.float32)})["image"]
    assert image.dtype == np.float32
    assert mac.calls[0][:3] == ("load", "VAEDecoder.mlpackage", "ComputeUnit.CPU_AND_NE")
    assert mac.calls[1] == ("predict", {"z": "float16"})


def test_a_function_is_asked_for_by_name(mac: Any, sd1_bundle: Path) -> None:
    with pytest.raises(UserError, match="no function large"):
        coreml.CoreMLNetwork(sd1_bundle / "VAEDecoder.mlpackage", function="large")


def test_wrong_inputs_never_reach_core_ml(mac: Any, sd1_bundle: Path) -> None:
    network = coreml.CoreMLNetwork(sd1_bundle / "VAEDecoder.mlpackage")
    with pytest.raises(UserError, match="has shape"):
        network.run({"z": np.zeros((1, 4, 4, 4))})
    assert [call[0] for call in mac.calls] == ["load"]


def test_a_refusal_of_core_ml_is_one_line(mac: Any, sd1_bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(sd1_bundle / "VAEDecoder.mlpackage", tmp_path / "damaged.mlpackage")
    with pytest.raises(UserError, match="Core ML refuses it: Error compiling model"):
        coreml.CoreMLNetwork(copy)


def test_unknown_compute_units(sd1_bundle: Path) -> None:
    with pytest.raises(UserError, match="choose from all, cpu-only"):
        coreml.CoreMLNetwork(sd1_bundle / "VAEDecoder.mlpackage", compute_units="tpu")


def test_auto_picks_core_ml_where_it_exists(mac: Any, sd1_bundle: Path) -> None:
    from coreml_sd.bundle import open_bundle
    from coreml_sd.runtimes.open_runtime import open_runtime

    runtime = open_runtime(open_bundle(sd1_bundle, check=False), "auto", compute_units="cpu-only")
    assert (runtime.name, runtime.label) == ("coreml", "run by Core ML")
    assert runtime.open("unet").inputs.keys() == {"sample", "timestep", "encoder_hidden_states"}
    loads = [call for call in mac.calls if call[0] == "load"]
    assert [call[1] for call in loads] == ["UnetChunk1.mlpackage", "UnetChunk2.mlpackage"]


def test_without_core_ml_auto_is_the_evaluator(
    sd1_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coreml_sd.bundle import open_bundle
    from coreml_sd.runtimes.open_runtime import open_runtime

    monkeypatch.setattr(coreml, "available", lambda: False)
    runtime = open_runtime(open_bundle(sd1_bundle, check=False))
    assert (runtime.name, runtime.label) == ("mil", "evaluated from the file, not run by Core ML")
    with pytest.raises(UserError, match="needs macOS"):
        coreml.CoreMLNetwork(sd1_bundle / "VAEDecoder.mlpackage")
