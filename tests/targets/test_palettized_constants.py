"""The weights in the file are the solver's, read back by coremltools and by our reader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from coreml_sd.compress.palette import Palette
from coreml_sd.compress.palettization import Palettization, palettize_module
from coreml_sd.compress.supported import PALETTE_BITS, PaletteSpec
from coreml_sd.compress.verify import verify_stored
from coreml_sd.errors import CoremlSDError
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.models.weights.values import ModuleWeights, fp16_value
from coreml_sd.runtimes.mil import MilPackage
from coreml_sd.targets.coreml.export import PackageMetadata, export_package
from coreml_sd.targets.coreml.stored_weights import stored_payloads

ct = pytest.importorskip("coremltools")

GROUPED = PaletteSpec(4, "per-grouped-channel", 8)
IOS16 = [(PaletteSpec(bits), "iOS16") for bits in (1, 2, 4, 6, 8)]
IOS18 = [(PaletteSpec(bits), "iOS18") for bits in PALETTE_BITS]
GROUPS = [(PaletteSpec(bits, "per-grouped-channel", 16), "iOS18") for bits in (1, 2, 3, 4, 6)]
METADATA = PackageMetadata("author", "licence", "description", "1", {})
INPUTS = (TensorSpec("ids", (1, 12), "float32", "ids"),)
OUTPUTS = (TensorSpec("logits", (1, 12, 40), "float32", "logits"),)


class Net(nn.Module):
    """A table, convolutions (one seen as a matrix in the source) and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(60, 32)
        self.wide = nn.Conv2d(32, 48, 3, padding=1)
        self.deep = nn.Conv2d(48, 48, 3, padding=1, groups=2)
        self.point = nn.Conv2d(48, 64, 1)
        self.head = nn.Linear(64, 40)
        with torch.no_grad():  # zeros of both signs and subnormals must survive the conversion
            self.wide.weight[0, 0] = torch.tensor([[0.0, -0.0, 1e-7]] * 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids.int()).transpose(1, 2).unsqueeze(2)
        x = self.point(self.deep(torch.relu(self.wide(x))))
        return self.head(x.squeeze(2).transpose(1, 2))


Export = Callable[..., tuple[Path, Palettization, dict[str, str]]]


@pytest.fixture(scope="module")
def network() -> StepSequence:
    return StepSequence([Step("net", Net(), ("ids",), ("logits",))], ("ids",), ("logits",)).eval()


@pytest.fixture
def export(network: StepSequence, tmp_path: Path) -> Export:
    def run(spec: PaletteSpec, min_os: str) -> Any:
        path = tmp_path / f"{min_os}-{spec.bits}.mlpackage"
        palettization = palettize_module(network, spec)
        names = export_package(
            path, network, INPUTS, OUTPUTS, METADATA, min_os=min_os, palettization=palettization
        )
        return path, palettization, names

    return run


def verify(
    network: StepSequence, path: Path, palettes: dict[str, Palette], names: dict[str, str]
) -> int:
    payloads = stored_payloads(MilPackage(path), names)
    return verify_stored(payloads, ModuleWeights(network), palettes)


def materialised(path: Path) -> list[np.ndarray]:
    """All palettized weights as coremltools itself reads and expands the saved file."""
    model = ct.models.MLModel(str(path), skip_model_load=True)
    program = ct.converters.mil.frontend.milproto.load.load(
        model.get_spec(), model.get_spec().specificationVersion, model.weights_dir
    )
    return [
        op.materialized_val_inference()
        for op in program.functions["main"].operations
        if op.op_type == "constexpr_lut_to_dense"
    ]


@pytest.mark.parametrize(("spec", "min_os"), [*IOS16, *IOS18, *GROUPS])
def test_the_saved_weights_are_the_solvers_bit_for_bit(
    network: StepSequence, export: Export, spec: PaletteSpec, min_os: str
) -> None:
    path, palettization, names = export(spec, min_os)
    weights = ModuleWeights(network)
    wanted = {
        palette.decoded(fp16_value(weights, name)).tobytes()
        for name, palette in palettization.by_parameter.items()
    }
    assert len(wanted) == 5
    assert {np.asarray(value).tobytes() for value in materialised(path)} == wanted
    package = MilPackage(path)
    stored = {op.outputs[0][0]: op for op in package.programs[0].operations()}
    held = dict(package.decoded_weights())
    assert {held[name].tobytes() for name in names.values()} == wanted
    assert all(stored[name].type == "constexpr_lut_to_dense" for name in names.values())
    assert verify(network, path, palettization.by_parameter, names) == 5


def test_the_file_is_as_small_as_the_record_says(export: Export) -> None:
    for spec, min_os in [(PaletteSpec(6), "iOS16"), (PaletteSpec(6), "iOS18"), (GROUPED, "iOS18")]:
        path, palettization, _ = export(spec, min_os)
        weights = path / "Data/com.apple.CoreML/weights/weight.bin"
        stored = sum(record.stored_bytes for record in palettization.records)
        biases = 4 * (64 + 128)  # each an aligned blob with its record
        assert abs(weights.stat().st_size - 64 - stored - biases) <= 256


def test_groups_below_ios18_are_never_written(export: Export) -> None:
    with pytest.raises(CoremlSDError, match="need iOS18"):
        export(GROUPED, "iOS17")


@pytest.mark.parametrize("damage", ["index", "table", "weight", "plain", "none"])
@pytest.mark.parametrize(("spec", "min_os"), [(PaletteSpec(4), "iOS16"), (GROUPED, "iOS18")])
def test_a_file_that_differs_from_the_decision_is_found(
    network: StepSequence, export: Export, spec: PaletteSpec, min_os: str, damage: str
) -> None:
    path, palettization, names = export(spec, min_os)
    palettes = dict(palettization.by_parameter)
    place = stored_payloads(MilPackage(path), names)["net.wide.weight"]
    if damage == "index":
        flip(path, place.offset + place.size // 2)
    elif damage == "table":
        palette = palettes["net.wide.weight"]
        lut = palette.lut.copy()
        lut[0, 5] = np.nextafter(lut[0, 5], np.float16(9))
        palettes["net.wide.weight"] = Palette(4, lut, palette.shape, palette.group_size, 0.0, 0.0)
    elif damage == "weight":
        names = {**names, "net.wide.weight": names["net.deep.weight"]}
    elif damage == "plain":
        del palettes["net.wide.weight"]
    if damage == "none":
        assert verify(network, path, palettes, names) == 5
        return
    with pytest.raises(CoremlSDError, match=r"net\.wide\.weight is not stored"):
        verify(network, path, palettes, names)


def test_a_flipped_bit_of_an_fp16_weight_is_found(network: StepSequence, tmp_path: Path) -> None:
    path = tmp_path / "net.mlpackage"
    names = export_package(path, network, INPUTS, OUTPUTS, METADATA, min_os="iOS17")
    assert verify(network, path, {}, names) == 5
    flip(path, stored_payloads(MilPackage(path), names)["net.head.weight"].offset + 100)
    with pytest.raises(CoremlSDError, match=r"net\.head\.weight is not stored"):
        verify(network, path, {}, names)


def flip(path: Path, offset: int) -> None:
    file = path / "Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)
