"""Exported programs hold the ops they should, and the numbers of their source at FLOAT32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.measure import network_costs, tensor_shapes
from coreml_sd.mobile.options import Attention
from coreml_sd.models.open_model import open_model
from coreml_sd.runtimes.mil import MilNetwork, MilPackage
from coreml_sd.targets.coreml.chunks import plan_cuts
from coreml_sd.targets.coreml.export import PackageMetadata, export_package

pytestmark = pytest.mark.usefixtures("quick_capture")

METADATA = PackageMetadata("author", "licence", "description", "1", {"key": "value"})


@pytest.fixture(scope="module")
def model(sd1_folder: Path) -> Any:
    return open_model(ConversionConfig(model=str(sd1_folder)))


def export(
    path: Path, model: Any, name: str, attention: Attention = "split-einsum", **options: Any
) -> Path:
    component = model.component(name)
    mobile = mobile_form(name, component.load(), MobileOptions(attention))
    arguments = {"min_os": "iOS17", **options}
    export_package(path, mobile, component.inputs, component.outputs, METADATA, **arguments)
    return path


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae_decoder", "vae_encoder"])
def test_float32_packages_compute_what_the_source_computes(
    model: Any, tmp_path: Path, name: str
) -> None:
    component = model.component(name)
    path = export(tmp_path / "exact.mlpackage", model, name, precision="float32")
    given = component.sample_inputs(0)
    network = component.published(component.load())
    with torch.no_grad():
        tensors = [torch.from_numpy(given[s.name].astype(np.float32)) for s in component.inputs]
        expected = network(*tensors)
    actual = MilNetwork(path, mode="fp32").run(given)
    for spec, reference in zip(component.outputs, expected, strict=True):
        assert psnr_db(reference, actual[spec.name]) >= 105


def test_a_split_einsum_program_has_no_linear_and_no_matmul(model: Any, tmp_path: Path) -> None:
    ops = MilPackage(export(tmp_path / "u.mlpackage", model, "unet")).op_histogram()
    assert not {"linear", "matmul", "scaled_dot_product_attention", "shape"} & ops.keys()
    assert ops["einsum"] > 0


def test_an_sdpa_program_has_one_fused_op_per_attention(model: Any, tmp_path: Path) -> None:
    path = export(tmp_path / "u.mlpackage", model, "unet", "sdpa", min_os="iOS18")
    ops = MilPackage(path).op_histogram()
    assert ops["scaled_dot_product_attention"] == 8  # self and cross in four transformers
    assert "softmax" not in ops and "einsum" not in ops


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("text_encoder", "split-einsum"),
        ("unet", "split-einsum-v2"),
        ("unet", "original"),
        ("vae_decoder", "split-einsum"),
    ],
)
def test_at_most_four_axes_and_no_infinite_constant(
    model: Any, tmp_path: Path, name: str, attention: Attention
) -> None:
    package = MilPackage(export(tmp_path / "p.mlpackage", model, name, attention))
    for op in package.programs[0].operations():
        assert all(len(shape) <= 4 for _, _, shape in op.outputs), op.name
    for constant, value in package.decoded_weights():
        if value.dtype.kind == "f":
            assert np.isfinite(value).all(), constant


def test_the_sinusoid_stays_in_fp32(model: Any, tmp_path: Path) -> None:
    package = MilPackage(export(tmp_path / "u.mlpackage", model, "unet"))
    waves = [op for op in package.programs[0].operations() if op.type in ("sin", "cos")]
    assert len(waves) == 2
    assert all(op.outputs[0][1] == "float32" for op in waves)


def test_names_must_match(model: Any, tmp_path: Path) -> None:
    component = model.component("unet")
    mobile = mobile_form("unet", component.load())
    with pytest.raises(CoremlSDError, match="do not match"):
        export_package(
            tmp_path / "u.mlpackage", mobile, component.inputs[:2], component.outputs, METADATA,
            min_os="iOS17",
        )  # fmt: skip


class TestCuts:
    @pytest.fixture
    def unet(self, model: Any) -> Any:
        component = model.component("unet")
        return mobile_form("unet", component.load()), component.inputs

    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_any_number_of_chunks(self, unet: Any, count: int) -> None:
        mobile, inputs = unet
        plan = plan_cuts(mobile, lambda: tensor_shapes(mobile, inputs), str(count))
        assert len(plan.weight_bytes) == count and min(plan.weight_bytes) > 0
        assert sum(plan.weight_bytes) == sum(mobile.step_bytes())

    def test_one_piece_asks_for_no_shapes(self, unet: Any) -> None:
        mobile, _ = unet
        for chunks in ("1", "auto"):
            plan = plan_cuts(mobile, lambda: pytest.fail("nothing is cut"), chunks)
            assert plan.weight_bytes == (sum(mobile.step_bytes()),) and plan.boundaries == ()

    def test_two_chunks_share_the_weight(self, unet: Any) -> None:
        mobile, inputs = unet
        plan = plan_cuts(mobile, lambda: tensor_shapes(mobile, inputs), "2")
        assert max(plan.weight_bytes) < 0.7 * sum(plan.weight_bytes)

    def test_auto_cuts_what_is_over_the_limit(
        self, unet: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from coreml_sd.targets.coreml import chunks

        mobile, inputs = unet
        shapes = tensor_shapes(mobile, inputs)
        limit = sum(mobile.step_bytes()) // 3 + 100_000
        monkeypatch.setattr(chunks, "AUTO_LIMIT", limit)
        plan = plan_cuts(mobile, lambda: shapes, "auto")
        assert len(plan.weight_bytes) >= 3 and max(plan.weight_bytes) <= limit
        monkeypatch.setattr(chunks, "AUTO_LIMIT", 1000)
        with pytest.raises(UserError, match="one layer alone"):
            plan_cuts(mobile, lambda: shapes, "auto")

    def test_shapes_are_found_without_running(self, unet: Any) -> None:
        mobile, inputs = unet
        shapes = tensor_shapes(mobile, inputs)
        assert shapes["noise_pred"] == (2, 4, 8, 8)
        costs = network_costs(mobile, inputs)
        assert costs.macs > 1_000_000 and costs.ops["convolution"] > 20
