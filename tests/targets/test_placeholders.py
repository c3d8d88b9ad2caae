"""The exporter without the large weights writes what it writes with them."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.errors import CoremlSDError
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.litert.network import LiteRTNetwork
from coreml_sd.targets.tflite import export
from coreml_sd.targets.tflite import placeholders as stand_ins
from coreml_sd.targets.tflite.placeholders import StandIns
from coreml_sd.targets.tflite.quantize import quantize_file
from coreml_sd.targets.tflite.unread_weights import UnreadWeights

X = TensorSpec("x", (1, 8, 8, 8), "float32", "")
LARGE = ("RESOURCE_CONSTANT_NUMEL_THRESHOLD", "1000")  # elements


class Small(nn.Module):
    """Weights whose axes are turned, one that is scaled, one that is used twice."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(8, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 1)
        self.third = nn.Conv2d(16, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.first(x))
        return self.second(self.third(y)) * 0.25


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*LARGE)


@contextlib.contextmanager
def none(unread: UnreadWeights) -> Iterator[StandIns]:
    yield StandIns()


def exported(path: Path, module: nn.Module) -> Path:
    network = StepSequence([Step("net", module, ("x",), ("y",))], ["x"], ["y"])
    export.export_tflite(path, "unet", network.eval(), [X])
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network exported both ways."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*LARGE)
        exported(folder / "lean.fp32", Small())
        patch.setattr(export, "standing_in", none)
        exported(folder / "plain.fp32", Small())
    return folder


@pytest.fixture
def plain(files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(files / "plain.fp32", tmp_path))


@pytest.fixture
def lean(files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(files / "lean.fp32", tmp_path))


@pytest.mark.parametrize("quantization", ["fp16", "int8", "dynamic-int8"])
def test_quantized_files_are_equal_byte_for_byte(
    lean: Path, plain: Path, tmp_path: Path, quantization: str
) -> None:
    files = []
    for source in (lean, plain):
        files.append(tmp_path / f"{source.stem}.tflite")
        quantize_file(source, files[-1], quantization)  # type: ignore[arg-type]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_another_weight_makes_another_file(lean: Path, tmp_path: Path) -> None:
    other = exported(tmp_path / "other.fp32", Small(seed=1))
    files = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    for source, file in zip((lean, other), files, strict=True):
        quantize_file(source, file, "fp16")
    assert files[0].read_bytes() != files[1].read_bytes()


def test_the_unquantized_file_runs_alike(lean: Path, plain: Path) -> None:
    given = {"x": np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)}
    results = []
    for path in (lean, plain):
        network = LiteRTNetwork(path)
        results.append(network.run(given)["y"])
        network.close()
    ours, theirs = results
    np.testing.assert_array_equal(ours, theirs)
    want = Small()(torch.from_numpy(given["x"])).detach().numpy()
    np.testing.assert_allclose(results[0], want, atol=1e-5)


def test_tensors_keep_names_shapes_and_order(lean: Path, plain: Path) -> None:
    def told(path: Path) -> list:
        return [(t.name, t.shape, t.dtype) for t in TFLiteFile(path).graphs[0].tensors]

    assert told(lean) == told(plain)


def test_small_constants_leave_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOURCE_CONSTANT_NUMEL_THRESHOLD", str(1 << 20))
    ours = exported(tmp_path / "ours.fp32", Small()).read_bytes()
    monkeypatch.setattr(export, "standing_in", none)
    assert ours == exported(tmp_path / "theirs.fp32", Small()).read_bytes()


def test_an_unknown_step_of_the_exporter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(stand_ins._STEPS, "tfl.transpose")
    with pytest.raises(CoremlSDError, match=r"tfl\.transpose on a weight"):
        exported(tmp_path / "x.fp32", Small())


def test_the_exporter_is_put_back(lean: Path) -> None:
    from litert_torch._convert import runtime_fold
    from litert_torch.backend import inline_consts, lowerings

    known = lowerings.lookup(inline_consts.tensor_lowering_placeholder)
    assert known is inline_consts.tensor_lowering_placeholder_lowering
    assert runtime_fold.RuntimeFoldPass._fold_module.__module__ == runtime_fold.__name__
