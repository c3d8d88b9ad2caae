"""Programs that no converter writes: what would be huge, leave the package or crash is refused
before it is computed, in one line."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.proto import Model_pb2

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.runtimes.mil import MilNetwork, MilPackage
from tests.helpers.mil_program import MODEL, Blob, Op, write_package

X = (1, 4)
HUGE = 1 << 20
ONES = np.ones((4, 4), np.float32)


def op(kind: str, shape: tuple[int, ...] = X, /, **inputs: object) -> list[Op]:
    """One op that gives y."""
    return [Op(kind, {"y": shape}, inputs)]


LARGE_RESULTS = {
    "fill": op("fill", shape=np.array([HUGE, HUGE]), value=np.float32(1)),
    "tile": op("tile", x="x", reps=np.array([HUGE, HUGE])),
    "pad": op("pad", x="x", pad=np.array([0, 0, 1 << 30, 1 << 30]), mode=b"constant"),
    "add": [
        Op("reshape", {"a": (4, 1)}, {"x": "x", "shape": np.array([4, 1])}),
        *op("add", x="x", y="a"),
    ],
    "matmul": op("matmul", (1, 1), x="x", y="x", transpose_x=np.bool_(True)),
    "concat": op("concat", values=["x"] * 50, axis=np.int32(0)),
    "reshape": op("reshape", (4, 1), x="x", shape=np.array([2, 2])),
    "upsample": [
        Op("reshape", {"a": (1, 1, 2, 2)}, {"x": "x", "shape": np.array([1, 1, 2, 2])}),
        *op("upsample_nearest_neighbor", (1, 1, 4, 4), x="a", scale_factor_height=np.float32(1e6)),
    ],
    "conv": [
        Op("reshape", {"a": (1, 1, 2, 2)}, {"x": "x", "shape": np.array([1, 1, 2, 2])}),
        *op("conv", (1, 1, 2, 2), x="a", weight=np.ones((1, 1, 1, 1), np.float32),
            pad_type=b"custom", pad=np.array([0, 1 << 20, 0, 1 << 20])),
    ],
    "split": op("split", x="x", axis=np.int32(1), num_splits=np.int32(4)),
}  # fmt: skip


@pytest.mark.parametrize("ops", LARGE_RESULTS.values(), ids=LARGE_RESULTS)
def test_a_result_of_another_size_than_declared_is_found_when_the_file_is_opened(
    tmp_path: Path, ops: list[Op]
) -> None:
    path = write_package(tmp_path / "a.mlpackage", ops, ["y"])
    with pytest.raises(UserError, match=r"a\.mlpackage: op y \(\w+\) (gives|makes|splits)"):
        MilNetwork(path)


def test_negative_control_the_same_ops_with_their_own_shapes_run(tmp_path: Path) -> None:
    ops = [
        Op("tile", {"a": (2, 8)}, {"x": "x", "reps": np.array([2, 2])}),
        Op("pad", {"b": (2, 10)}, {"x": "a", "pad": np.array([0, 0, 1, 1]), "mode": b"constant"}),
        Op("fill", {"c": (10, 3)}, {"shape": np.array([10, 3]), "value": np.float32(2)}),
        Op("matmul", {"y": (2, 3)}, {"x": "b", "y": "c"}),
    ]
    path = write_package(tmp_path / "a.mlpackage", ops, ["y"])
    got = MilNetwork(path).run({"x": np.ones(X, np.float32)})["y"]
    np.testing.assert_array_equal(got, np.full((2, 3), 16.0))


def test_a_huge_tensor_within_an_op_that_gives_a_small_one_is_refused(tmp_path: Path) -> None:
    """Rows and columns of padding that a stride of their size passes over."""
    conv = {"weight": np.ones((1, 1, 1, 1), np.float32), "strides": np.array([1 << 20, 1 << 20])}
    pads = {"pad_type": b"custom", "pad": np.array([0, 1 << 20, 0, 1 << 20])}
    ops = [
        Op("reshape", {"a": (1, 1, 2, 2)}, {"x": "x", "shape": np.array([1, 1, 2, 2])}),
        Op("conv", {"y": (1, 1, 2, 2)}, {"x": "a", **conv, **pads}),
    ]
    with pytest.raises(
        UserError, match=rf"op y \(conv\) makes a .* at most {LIMITS.intermediate_elements}"
    ):
        MilNetwork(write_package(tmp_path / "a.mlpackage", ops, ["y"]))


@pytest.mark.parametrize("shape", [(HUGE, HUGE), (1 << 62, 1 << 62), (1,) * 9])
def test_a_declared_size_beyond_the_limits_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = write_package(tmp_path / "a.mlpackage", op("relu", shape, x="x"), ["y"])
    with pytest.raises(UserError, match=r"a\.mlpackage: op y: a tensor of"):
        MilPackage(path).op_histogram()
    path = write_package(tmp_path / "b.mlpackage", op("relu", x="x"), ["y"], {"x": shape})
    with pytest.raises(UserError, match=r"b\.mlpackage: input x: a tensor of"):
        MilPackage(path).op_histogram()


def test_the_attention_of_large_pictures_is_opened(tmp_path: Path) -> None:
    """An intermediate may be larger than what goes in and comes out: 96x96 tokens, 16 heads."""
    heads, tokens = 16, 96 * 96
    ops = [
        Op(
            "matmul",
            {"a": (heads, tokens, tokens)},
            {"x": "x", "y": "x", "transpose_y": np.bool_(1)},
        ),
        Op("matmul", {"y": (heads, tokens, 1)}, {"x": "a", "y": "x"}),
    ]
    path = write_package(tmp_path / "a.mlpackage", ops, ["y"], {"x": (heads, tokens, 1)})
    MilNetwork(path)
    path = write_package(tmp_path / "b.mlpackage", ops, ["a"], {"x": (heads, tokens, 1)})
    with pytest.raises(UserError, match=f"output a: .* at most {LIMITS.elements} "):
        MilNetwork(path)


def palette(bits: int, entries: int, shape: tuple[int, ...] = (64, 64)) -> list[Op]:
    indices = Blob(np.zeros(-(-64 * 64 * max(bits, 1) // 8), np.uint8))
    attributes = {
        "indices": indices,
        "lut": Blob(np.zeros(entries, np.float16)),
        "shape": np.array(shape),
    }
    weight = Op("constexpr_lut_to_dense", {"w": (64, 64)}, {}, attributes, "float16")
    return [weight, Op("identity", {"y": (64, 64)}, {"x": "w"}, element="float16")]


@pytest.mark.parametrize("bits", [0, 5, 7, 9, 12, 16])
def test_a_palette_of_a_width_that_does_not_exist_is_refused(tmp_path: Path, bits: int) -> None:
    """Five bits ended the process; none divided by zero."""
    path = write_package(tmp_path / "a.mlpackage", palette(bits, 1 << bits), ["y"])
    with pytest.raises(UserError, match=f"palette of {1 << bits} entries"):
        MilNetwork(path).run({"x": np.ones(X, np.float32)})
    with pytest.raises(UserError, match=f"palette of {1 << bits} entries"):
        list(MilPackage(path).decoded_weights())
    with pytest.raises(UserError, match=f"palette of {1 << bits} entries"):
        MilPackage(path).weight_storage()


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_negative_control_the_widths_that_exist_are_read(tmp_path: Path, bits: int) -> None:
    path = write_package(tmp_path / "a.mlpackage", palette(bits, 1 << bits), ["y"])
    assert MilNetwork(path).run({"x": np.ones(X, np.float32)})["y"].shape == (64, 64)


@pytest.mark.parametrize("shape", [(64, 128), (-64, -64), (1 << 16, 1 << 16)])
def test_a_palette_that_decodes_to_another_shape_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = write_package(tmp_path / "a.mlpackage", palette(4, 16, shape), ["y"])
    with pytest.raises(UserError, match=r"needed|weight of shape|decoded to"):
        MilNetwork(path).run({"x": np.ones(X, np.float32)})


OUT = ["../../secret", "/etc/passwd", "a/../../../secret", "a//b", "..", ""]


@pytest.mark.parametrize("name", OUT)
def test_a_model_outside_the_package_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    path = write_package(tmp_path / "a.mlpackage", op("relu", x="x"), ["y"], root=name)
    with pytest.raises(UserError, match="not a path inside it"):
        MilPackage(path)


@pytest.mark.parametrize("name", ["@model_path/../../../secret", "/etc/passwd", "@model_path//x"])
def test_a_weight_file_outside_the_package_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 200)
    weight = Op("const", {"w": (4, 4)}, attributes={"val": Blob(ONES, file=name)})
    ops = [weight, *op("matmul", x="x", y="w")]
    path = write_package(tmp_path / "a.mlpackage", ops, ["y"])
    with pytest.raises(UserError, match="not a path inside it"):
        MilNetwork(path)


@pytest.mark.parametrize("file", ["weights/weight.bin", "model.mlmodel"])
def test_a_link_that_leads_out_and_a_pipe_are_not_read(tmp_path: Path, file: str) -> None:
    weight = Op("const", {"w": (4, 4)}, attributes={"val": Blob(ONES)})
    path = write_package(tmp_path / "a.mlpackage", [weight, *op("matmul", x="x", y="w")], ["y"])
    MilNetwork(path)  # negative control
    held = path / "Data/com.apple.CoreML" / file
    shutil.move(held, tmp_path / "outside")
    held.symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="leads out"):
        MilNetwork(path)
    held.unlink()
    os.mkfifo(held)
    with pytest.raises(UserError, match="not a regular file"):
        MilNetwork(path)
    held.unlink()
    held.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="leads out"):
        MilNetwork(path)


def test_a_pipe_as_manifest_is_not_waited_for(tmp_path: Path) -> None:
    path = write_package(tmp_path / "a.mlpackage", op("relu", x="x"), ["y"])
    (path / "Manifest.json").unlink()
    os.mkfifo(path / "Manifest.json")
    with pytest.raises(UserError, match=r"Manifest\.json: not a regular file"):
        MilPackage(path)


MANIFESTS = [
    "[]",
    "{}",
    '{"itemInfoEntries": [], "rootModelIdentifier": "1"}',
    '{"a": 1, "a": 1}',
    '{"itemInfoEntries": {"1": {"path": 7}}, "rootModelIdentifier": "1"}',
    '{"itemInfoEntries": {"1": 7}, "rootModelIdentifier": ["1"]}',
]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_damaged_manifest_is_named(tmp_path: Path, manifest: str) -> None:
    path = write_package(tmp_path / "a.mlpackage", op("relu", x="x"), ["y"])
    (path / "Manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=r"Manifest\.json"):
        MilPackage(path)


def block_of(function: Any) -> Any:
    return function.block_specializations["CoreML7"]


def first_op(function: Any) -> Any:
    return block_of(function).operations[0]


def result_type(function: Any) -> Any:
    return first_op(function).outputs[0].type


RELU = op("relu", x="x")
DAMAGE = {
    "used before made": op("relu", x="nothing"),
    "made twice": [*RELU, *RELU],
    "an input made again": [Op("relu", {"x": X}, {"x": "x"}), *RELU],
    "lacks a parameter": op("matmul", x="x"),
    "an unknown parameter": op("relu", x="x", z="x"),
    "two values for one": op("relu", x=["x", "x"]),
    "a constant without value": [Op("const", {"y": X})],
    "a constant of another type": [Op("const", {"y": (4,)}, attributes={"val": ONES})],
    "a decoder that reads an input": [
        Op("constexpr_cast", {"y": X}, {"source_val": "x", "output_dtype": b"fp32"})
    ],
    "a decoder without parameters": [Op("constexpr_lut_to_dense", {"y": X})],
    "a text for a number": op("softmax", x="x", axis=b"one"),
    "a text for a tensor": op("add", x="x", y=b"one"),
    "a table for a number": op("softmax", x="x", axis=ONES),
    "shapes that do not fit": op("add", x="x", y=np.ones((3, 3), np.float32)),
    "an axis that is not there": op("softmax", x="x", axis=np.int32(7)),
}
CHANGES = {
    "no block": lambda f: f.block_specializations.clear(),
    "no value": lambda f: first_op(f).inputs["x"].arguments[0].Clear(),
    "no outputs": lambda f: block_of(f).ClearField("outputs"),
    "an output that is not made": lambda f: block_of(f).outputs.append("z"),
    "an op that gives nothing": lambda f: first_op(f).ClearField("outputs"),
    "an unknown element": lambda f: setattr(result_type(f).tensorType, "dataType", 99),
    "a list for a tensor": lambda f: result_type(f).listType.SetInParent(),
    "nothing along an axis": lambda f: setattr(
        result_type(f).tensorType.dimensions[0].constant, "size", 0
    ),
    "a block within": lambda f: first_op(f).blocks.add(),
    "a size that is not fixed": lambda f: (
        result_type(f).tensorType.dimensions[0].unknown.SetInParent()
    ),
}


def change(path: Path, how: Any) -> None:
    model = Model_pb2.Model.FromString((path / "Data" / MODEL).read_bytes())
    how(model.mlProgram.functions["main"])
    (path / "Data" / MODEL).write_bytes(model.SerializeToString())


@pytest.mark.parametrize("what", [*DAMAGE, *CHANGES])
def test_damage_is_told_in_one_line_with_the_file(tmp_path: Path, what: str) -> None:
    path = write_package(tmp_path / "a.mlpackage", DAMAGE.get(what, RELU), ["y"])
    if what in CHANGES:
        change(path, CHANGES[what])
    with pytest.raises(UserError, match=r"a\.mlpackage: ") as told:
        MilNetwork(path).run({"x": np.ones(X, np.float32)})
    assert "\n" not in str(told.value)


def test_a_constant_with_fewer_values_than_its_type_says_is_refused(tmp_path: Path) -> None:
    path = write_package(tmp_path / "a.mlpackage", op("add", (4, 4), x="x", y=ONES), ["y"])
    MilNetwork(path)  # negative control
    change(
        path,
        lambda f: first_op(f).inputs["y"].arguments[0].value.immediateValue.tensor.floats.Clear(),
    )
    with pytest.raises(UserError, match="op y: y: constant has 0 elements, its type says 16"):
        MilNetwork(path)
