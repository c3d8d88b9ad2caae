"""The weights in the program are the solver's, read back by coremltools and by our reader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from coreml_sd.compress.limits import PALETTE_BITS, PaletteSpec
from coreml_sd.compress.plan import Palettization, palettize_module
from coreml_sd.compress.verify import verify_decoded
from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil.package import MilPackage
from coreml_sd.targets.coreml.palettized_constants import EmissionRecord, pass_pipeline

ct = pytest.importorskip("coremltools")

GROUPED = PaletteSpec(4, "per-grouped-channel", 8)
IOS16 = [(PaletteSpec(bits), "iOS16") for bits in (1, 2, 4, 6, 8)]
IOS18 = [(PaletteSpec(bits), "iOS18") for bits in PALETTE_BITS]
GROUPS = [(PaletteSpec(bits, "per-grouped-channel", 16), "iOS18") for bits in (1, 2, 3, 4, 6)]


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
        return self.head(x.squeeze(2).transpose(1, 2))  # type: ignore[no-any-return]


Convert = Callable[..., tuple[Any, Palettization, list[EmissionRecord]]]


@pytest.fixture(scope="module")
def convert() -> Convert:
    net = Net().eval()
    ids = torch.arange(12, dtype=torch.float32)[None]
    traced = torch.jit.trace(net, ids, check_trace=False)

    def run(spec: PaletteSpec, min_os: str, palettization: Palettization | None = None) -> Any:
        palettization = palettization or palettize_module(net, spec)
        pipeline, finished = pass_pipeline(palettization, min_os)
        model = ct.convert(
            traced,
            inputs=[ct.TensorType(name="ids", shape=(1, 12))],
            outputs=[ct.TensorType(name="logits")],
            minimum_deployment_target=getattr(ct.target, min_os),
            convert_to="mlprogram",
            skip_model_load=True,
            pass_pipeline=pipeline,
        )
        return model, palettization, finished()

    return run


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
    convert: Convert, tmp_path: Path, spec: PaletteSpec, min_os: str
) -> None:
    model, palettization, emitted = convert(spec, min_os)
    path = tmp_path / "net.mlpackage"
    model.save(str(path))

    wanted = {p.decode().tobytes() for p in palettization.by_digest.values()}
    assert len(wanted) == 5
    assert {np.asarray(value).tobytes() for value in materialised(path)} == wanted
    assert verify_decoded(MilPackage(path).decoded_weights(), palettization, path.name) == 5
    assert {record.digest for record in emitted} == set(palettization.by_digest)
    assert all(record.readers == 1 and record.bits == spec.bits for record in emitted)


def test_the_file_is_as_small_as_the_record_says(convert: Convert, tmp_path: Path) -> None:
    for spec, min_os in [(PaletteSpec(6), "iOS16"), (PaletteSpec(6), "iOS18"), (GROUPED, "iOS18")]:
        model, palettization, _ = convert(spec, min_os)
        path = tmp_path / f"{spec.bits}-{min_os}.mlpackage"
        model.save(str(path))
        weights = path / "Data/com.apple.CoreML/weights/weight.bin"
        stored = sum(record.stored_bytes for record in palettization.records)
        biases = 4 * (64 + 128)  # each an aligned blob with its record
        assert abs(weights.stat().st_size - 64 - stored - biases) <= 256


def test_a_palette_without_a_constant_fails_by_name(convert: Convert) -> None:
    stranger = nn.Sequential(nn.Linear(40, 50))
    with pytest.raises(CoremlSDError, match=r"palette of 0\.weight found no constant"):
        convert(PaletteSpec(4), "iOS16", palettize_module(stranger, PaletteSpec(4)))


def test_groups_below_ios18_are_never_written(convert: Convert) -> None:
    with pytest.raises(CoremlSDError, match="need iOS18"):
        convert(GROUPED, "iOS17")


def test_one_conversion_leaves_nothing_for_the_next(convert: Convert) -> None:
    convert(PaletteSpec(4), "iOS16")
    _, _, emitted = convert(PaletteSpec(2), "iOS16")
    assert {record.bits for record in emitted} == {2}
    assert len(emitted) == 5
    plain, finished = pass_pipeline(None, "iOS16")
    assert finished() == []
    assert not [name for name in plain.passes if name.startswith("coreml_sd")]


@pytest.mark.parametrize(
    ("spec", "min_os", "damage"),
    [
        (PaletteSpec(4), "iOS16", "index"),
        (PaletteSpec(4), "iOS16", "table"),
        (GROUPED, "iOS18", "index"),
        (GROUPED, "iOS18", "table"),
        (GROUPED, "iOS18", "groups"),
    ],
)
def test_a_program_that_differs_from_the_decision_is_found(
    convert: Convert,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec: PaletteSpec,
    min_os: str,
    damage: str,
) -> None:
    import coreml_sd.targets.coreml.palettized_constants as emission

    honest = emission._constexpr

    def damaged(op: Any, shape: Any, palette: Any, *, packed: bool) -> Any:
        if shape == (48, 32, 3, 3):
            indices, lut = palette.indices.copy(), palette.lut.copy()
            if damage == "index":
                indices[7, 3, 1, 1] ^= 1
            elif damage == "table":
                lut[0, 5] = np.nextafter(lut[0, 5], np.float16(9))
            else:
                lut = lut[::-1].copy()
            palette = type(palette)(palette.bits, lut, indices, palette.group_size, 0.0, 0.0)
        return honest(op, shape, palette, packed=packed)

    monkeypatch.setattr(emission, "_constexpr", damaged)
    model, palettization, _ = convert(spec, min_os)
    path = tmp_path / "net.mlpackage"
    model.save(str(path))
    with pytest.raises(CoremlSDError, match=r"net\.mlpackage: wide\.weight is not stored"):
        verify_decoded(MilPackage(path).decoded_weights(), palettization, path.name)
