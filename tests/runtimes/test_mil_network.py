"""Saved packages executed: agreement, number formats, damage."""

import shutil
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.proto import Model_pb2
from torch import nn

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.runtimes.mil import MilNetwork, MilPackage
from coreml_sd.runtimes.mil.network import Mode
from tests.helpers.mil_program import Op, write_package

SPEC = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


class Network(nn.Module):
    """A convolution, self-attention with separate K and V, and a transpose."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 64, 3, padding=1)
        self.q, self.k, self.v = (nn.Linear(64, 64) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(x).reshape(1, 64, 64).transpose(1, 2)
        scores = torch.softmax(self.q(hidden) @ self.k(hidden).transpose(1, 2), dim=-1)
        return scores @ self.v(hidden)


X = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def save(path: Path, precision: str, module: nn.Module | None = None, **options: Any) -> Path:
    traced = torch.jit.trace((module or Network()).eval(), X)
    ct.convert(
        traced,
        inputs=[ct.TensorType(name="x", shape=X.shape)],
        outputs=[ct.TensorType(name="y")],
        compute_precision=getattr(ct.precision, precision),
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
        **options,
    ).save(str(path))
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("mil") / "net.mlpackage", "FLOAT16")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("mil") / "exact.mlpackage", "FLOAT32")


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    with torch.no_grad():
        return Network().eval()(X).numpy()


def decibels(path: Path, reference: np.ndarray, mode: Mode = "fp32") -> float:
    return psnr_db(reference, MilNetwork(path, mode=mode).run({"x": X.numpy()})["y"])


@pytest.fixture
def copy(package: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(package, tmp_path / "copy.mlpackage"))


def edit(path: Path, change: Any) -> None:
    model = Model_pb2.Model.FromString((path / SPEC).read_bytes())
    function = model.mlProgram.functions["main"]
    change(function.block_specializations[function.opset].operations)
    (path / SPEC).write_bytes(model.SerializeToString())


def patch_weights(path: Path, change: Any) -> None:
    data = bytearray((path / WEIGHTS).read_bytes())
    change(data)
    (path / WEIGHTS).write_bytes(bytes(data))


def test_a_float32_package_computes_what_torch_computes(exact: Path, reference: np.ndarray) -> None:
    assert decibels(exact, reference) >= 105


def test_fp16_rounds_and_fp32_mode_does_not(package: Path, reference: np.ndarray) -> None:
    assert 50 <= decibels(package, reference, "fp16") < decibels(package, reference, "fp32")


def test_decoding_on_use_gives_the_same(package: Path) -> None:
    kept = MilNetwork(package).run({"x": X.numpy()})["y"]
    decoded = MilNetwork(package, kept_bytes=0).run({"x": X.numpy()})["y"]
    np.testing.assert_array_equal(kept, decoded)


def test_running_twice_gives_the_same(package: Path) -> None:
    network = MilNetwork(package)
    first, second = (network.run({"x": X.numpy()})["y"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_trace_names_the_op_that_leaves_fp16(tmp_path: Path) -> None:
    class Loud(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sqrt((x * 500) ** 2 * 100)

    path = save(tmp_path / "loud.mlpackage", "FLOAT16", Loud())
    network = MilNetwork(path, record=True)
    network.run({"x": X.numpy()})
    assert network.trace is not None
    unsafe = network.trace.first_unsafe
    assert unsafe is not None and unsafe.peak == np.inf and unsafe.op
    calm = MilNetwork(path, mode="fp32", record=True)
    calm.run({"x": 1e-3 * X.numpy()})
    assert calm.trace is not None and calm.trace.first_unsafe is None


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input x is missing"),
        ({"x": X.numpy(), "z": X.numpy()}, "no input z"),
        ({"x": X.numpy()[:, :2]}, "has shape"),
    ],
)
def test_wrong_inputs_are_named(package: Path, inputs: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MilNetwork(package).run(inputs)


class TestNegativeControls:
    """Small faults in the file that must fail the gate of 85 dB."""

    def gate(self, path: Path) -> float:
        rounded = Network().eval()
        with torch.no_grad():
            for parameter in rounded.parameters():
                parameter.copy_(parameter.half())
            return decibels(path, rounded(X).numpy())

    def test_the_intact_file_passes(self, package: Path) -> None:
        assert self.gate(package) >= 85

    def test_swapped_key_and_value(self, copy: Path) -> None:
        def swap(operations: Any) -> None:
            weights = [
                op.attributes["val"].blobFileValue
                for op in operations
                if op.type == "const" and op.outputs[0].name.startswith(("k_weight", "v_weight"))
            ]
            key, value = weights
            key.offset, value.offset = value.offset, key.offset

        edit(copy, swap)
        assert self.gate(copy) < 85

    def test_one_exponent_bit(self, copy: Path) -> None:
        def flip(data: bytearray) -> None:
            record = data.index((0xDEADBEEF).to_bytes(4, "little"))
            offset = int.from_bytes(data[record + 16 : record + 24], "little")
            data[offset + 1] ^= 0x10

        patch_weights(copy, flip)
        assert self.gate(copy) < 85

    def test_a_changed_permutation(self, copy: Path) -> None:
        def straighten(operations: Any) -> None:  # the transposed matrix is square, so shapes agree
            name = next(
                op.inputs["perm"].arguments[0].name for op in operations if op.type == "transpose"
            )
            constant = next(op for op in operations if op.outputs[0].name == name)
            constant.attributes["val"].immediateValue.tensor.ints.values[:] = [0, 1, 2]

        edit(copy, straighten)
        assert self.gate(copy) < 85


class TestDamage:
    def test_a_truncated_weight_file(self, copy: Path) -> None:
        patch_weights(copy, lambda data: data.__delitem__(slice(len(data) // 2, None)))
        with pytest.raises(UserError, match=r"weight\.bin"):
            MilNetwork(copy)

    def test_a_missing_weight_file(self, copy: Path) -> None:
        (copy / WEIGHTS).unlink()
        with pytest.raises(UserError, match=r"weight\.bin: cannot be read"):
            MilNetwork(copy)

    def test_a_wrong_offset(self, copy: Path) -> None:
        def move(operations: Any) -> None:
            for op in operations:
                value = op.attributes["val"] if op.type == "const" else None
                if value is not None and value.WhichOneof("value") == "blobFileValue":
                    value.blobFileValue.offset += 64
                    return

        edit(copy, move)
        with pytest.raises(UserError, match=r"no weight starts at offset|holds"):
            MilNetwork(copy)

    def test_another_record(self, copy: Path) -> None:
        def redirect(operations: Any) -> None:
            blobs = [
                op.attributes["val"].blobFileValue
                for op in operations
                if op.type == "const"
                and op.attributes["val"].WhichOneof("value") == "blobFileValue"
            ]
            blobs[0].offset = blobs[-1].offset

        edit(copy, redirect)
        with pytest.raises(UserError, match="the program expects"):
            MilNetwork(copy)

    def test_an_unknown_op(self, copy: Path) -> None:
        def rename(operations: Any) -> None:
            next(op for op in operations if op.type == "softmax").type = "hardmax"

        edit(copy, rename)
        with pytest.raises(CoremlSDError, match="does not know hardmax"):
            MilNetwork(copy)

    def test_a_wrong_declared_shape(self, copy: Path) -> None:
        def stretch(operations: Any) -> None:
            op = next(op for op in operations if op.type == "softmax")
            op.outputs[0].type.tensorType.dimensions[1].constant.size = 63

        edit(copy, stretch)
        with pytest.raises(CoremlSDError, match="the file declares"):
            MilNetwork(copy).run({"x": X.numpy()})

    @pytest.mark.parametrize("name", ["Manifest.json", SPEC])
    def test_a_missing_or_garbled_part(self, copy: Path, name: str) -> None:
        (copy / name).write_bytes(b"\x00\x01garbage")
        with pytest.raises(UserError, match=r"not a readable|holds no ML program|not a JSON"):
            MilPackage(copy)
        (copy / name).unlink()
        with pytest.raises(UserError, match="missing"):
            MilPackage(copy)


def test_a_function_of_a_multifunction_package(tmp_path: Path) -> None:
    first = save(tmp_path / "a.mlpackage", "FLOAT32")
    torch.manual_seed(5)
    other = Network()
    nn.init.normal_(other.conv.weight)
    second = save(tmp_path / "b.mlpackage", "FLOAT32", other)
    description = ct.utils.MultiFunctionDescriptor()
    description.add_function(str(first), "main", "small")
    description.add_function(str(second), "main", "large")
    description.default_function_name = "small"
    ct.utils.save_multifunction(description, str(tmp_path / "both.mlpackage"))
    given = {"x": X.numpy()}
    for source, name in ((first, "small"), (second, "large")):
        got = MilNetwork(tmp_path / "both.mlpackage", function=name).run(given)["y"]
        np.testing.assert_array_equal(got, MilNetwork(source).run(given)["y"])
    with pytest.raises(UserError, match=r"no function huge; it has (small, large|large, small)"):
        MilNetwork(tmp_path / "both.mlpackage", function="huge")


def test_a_pipeline_package(package: Path, tmp_path: Path) -> None:
    ct.models.utils.bisect_model(
        str(package),
        str(tmp_path),
        merge_chunks_to_pipeline=True,
        check_output_correctness=False,
    )
    (merged,) = tmp_path.glob("*.mlpackage")
    given = {"x": X.numpy()}
    np.testing.assert_array_equal(
        MilNetwork(merged).run(given)["y"], MilNetwork(package).run(given)["y"]
    )


def test_each_result_is_rounded_in_fp16_and_none_in_fp32(tmp_path: Path) -> None:
    """1.0001 squared; what lies between 1 and 1.001 is none of fp16's numbers."""
    square = Op("mul", {"y": (1, 4)}, {"x": "x", "y": "x"}, element="float16")
    path = write_package(tmp_path / "square.mlpackage", [square], ["y"])
    given = {"x": np.full((1, 4), 1.0001, np.float32)}
    np.testing.assert_array_equal(MilNetwork(path, mode="fp16").run(given)["y"], 1.0)
    exact = MilNetwork(path, mode="fp32").run(given)["y"]
    np.testing.assert_array_equal(exact, np.float32(1.0001) * np.float32(1.0001))
