"""Every rule for .mlpackage files: a program that breaks it alone, and one that just does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import types

from coreml_sd.errors import UserError
from coreml_sd.lint.finding import Finding
from coreml_sd.targets.coreml import lint_rules as coreml_rules
from coreml_sd.targets.saved_files import lint_files

Program = Callable[[Any], Any]
Case = tuple[tuple[int, ...], Program]
ERROR, WARNING, NOTE = "error", "warning", "note"
MAP = (1, 8, 4, 4)


def saved(path: Path, case: Case, dtype: Any = types.fp16) -> Path:
    """A program written op by op, saved as it is: no pass of the converter touches it."""
    shape, body = case
    program = mb.program(
        input_specs=[mb.TensorSpec(shape=shape, dtype=dtype)], opset_version=ct.target.iOS17
    )(lambda x: body(x))
    ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    ).save(str(path / "net.mlpackage"))
    return path / "net.mlpackage"


def lint(path: Path) -> list[Finding]:
    return lint_files(path, "gpu")


def broken(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.rule.removeprefix("coreml/"), finding.severity) for finding in findings}


def half(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float16)


def added(value: float, dtype: type = np.float16) -> Case:
    return MAP, lambda x: mb.add(x=x, y=np.full((1, 8, 1, 1), value, dtype))


def reshaped(before: tuple[int, ...], after: tuple[int, ...]) -> Case:
    return before, lambda x: mb.reshape(x=x, shape=after)


def looked_up(table: str, kind: str = "gather") -> Case:
    def body(x: Any) -> Any:
        ids = mb.cast(x=x, dtype="int32")
        rows = mb.const(val=half(9, 8), name=f"{table}_weight")
        if kind == "gather":
            return mb.gather(x=rows, indices=ids, axis=0)
        return mb.gather_along_axis(x=rows, indices=ids, axis=0)

    return (4, 8), body


def softmaxed(keys: int, axis: int = 1) -> Case:
    shape = (1, keys, 1, 2) if axis == 1 else (1, 2, 1, keys)
    return shape, lambda x: mb.softmax(x=x, axis=axis)


def wave(steps: int) -> Case:
    """`steps` ops in fp32 before the sine; three belong to a timestep's embedding."""

    def body(x: Any) -> Any:
        x = mb.cast(x=x, dtype="fp32")
        for _ in range(steps):
            x = mb.mul(x=x, y=np.float32(0.5))
        return mb.cast(x=mb.sin(x=x), dtype="fp16")

    return MAP, body


def island(x: Any) -> Any:
    wide = mb.exp(x=mb.cast(x=x, dtype="fp32"))
    return mb.cast(x=wide, dtype="fp16")


def matmul(constant: bool) -> Case:
    return MAP, lambda x: mb.matmul(x=x, y=half(4, 4) if constant else x)


LINEAR: Case = ((4, 8), lambda x: mb.linear(x=x, weight=half(8, 8)))
CONV: Case = (MAP, lambda x: mb.conv(x=x, weight=half(8, 8, 1, 1)))

# rule, severity, what breaks it, what just does not
RULES: list[tuple[str, str, Case, Case]] = [
    ("rank", WARNING, reshaped(MAP, (1, 2, 4, 4, 4)), reshaped(MAP, (2, 4, 4, 4))),
    ("last-axis-one", WARNING, reshaped((1, 1, 1, 4160), (1, 1, 4160, 1)), CONV),
    ("last-axis-one", WARNING, reshaped((1, 4160, 1, 1), (1, 4160, 1, 1)), CONV),
    (
        "last-axis-one",
        WARNING,
        reshaped((1, 64, 1, 65), (1, 64, 65, 1)),
        reshaped((1, 64, 1, 64), (1, 64, 64, 1)),
    ),
    (
        "last-axis-one",
        WARNING,
        reshaped((1, 64, 1, 65), (1, 64, 65, 1)),
        ((1, 64, 65, 64), lambda x: mb.reduce_mean(x=x, axes=[3], keep_dims=True)),
    ),
    ("linear", WARNING, LINEAR, CONV),
    ("linear", WARNING, matmul(constant=True), matmul(constant=False)),
    ("gather", NOTE, looked_up("embeddings_token_embedding"), CONV),
    ("gather", WARNING, looked_up("pooled"), CONV),
    ("gather", WARNING, looked_up("embeddings_token_embedding", "gather_along_axis"), CONV),
    ("huge-softmax", WARNING, softmaxed(4097), softmaxed(4096)),
    ("huge-softmax", WARNING, softmaxed(4097, axis=-1), ((1, 4097, 1, 2), softmaxed(2, -1)[1])),
    (
        "long-axis",
        WARNING,
        reshaped((1, 2, 1, 8200), (1, 1, 1, 16_400)),
        reshaped((1, 2, 1, 8192), (1, 1, 1, 16_384)),
    ),
    ("not-finite", ERROR, added(-np.inf), added(-1e4)),
    ("not-finite", ERROR, added(np.nan), added(0.0)),
    ("not-finite", ERROR, added(1e6), added(65504.0)),
    (
        "not-finite",
        ERROR,
        (MAP, lambda x: mb.clip(x=x, alpha=np.float16(0), beta=np.float16(np.inf))),
        (MAP, lambda x: mb.clip(x=x, alpha=np.float16(0), beta=np.float16(6e4))),
    ),
    ("fp32-island", WARNING, (MAP, island), (MAP, lambda x: mb.exp(x=x))),
    ("fp32-island", WARNING, wave(4), wave(3)),
]
IDS = [f"{rule}-{place}" for place, (rule, *_) in enumerate(RULES)]


@pytest.mark.parametrize(("rule", "severity", "bad", "good"), RULES, ids=IDS)
def test_a_rule_finds_what_breaks_it_and_nothing_else(
    tmp_path: Path, rule: str, severity: str, bad: Case, good: Case
) -> None:
    assert broken(lint(saved(tmp_path, bad))) == {(rule, severity)}
    shutil.rmtree(tmp_path / "net.mlpackage")
    assert broken(lint(saved(tmp_path, good))) == set()


def test_constants_beyond_fp16_in_an_fp32_program(tmp_path: Path) -> None:
    path = saved(tmp_path, added(-65505.0, np.float32), types.fp32)
    assert broken(lint(path)) == {("beyond-fp16", ERROR), ("fp32-island", WARNING)}
    shutil.rmtree(path)
    path = saved(tmp_path, added(-65504.0, np.float32), types.fp32)
    assert broken(lint(path)) == {("fp32-island", WARNING)}


def test_a_finding_says_where_and_what_to_do(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        weight = mb.const(val=half(8, 8), name="mid_block_proj_weight_to_fp16")
        x = mb.linear(x=x, weight=weight, name="projected")
        return mb.reshape(x=x, shape=(1, 1, 1, 1, 32), name="high")

    projection, high = lint(saved(tmp_path, ((4, 8), body)))
    assert projection.file == "net.mlpackage" and projection.op == "linear projected"
    assert projection.layer == "mid_block_proj"
    assert "1x1 convolution" in projection.remedy
    assert high.layer == "mid_block_proj", "an op without a weight is told by the one before"


def test_above_rank_five_it_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path, reshaped(MAP, (1, 2, 4, 4, 4)))
    edit = path / "Data/com.apple.CoreML/model.mlmodel"
    model = ct.proto.Model_pb2.Model.FromString(edit.read_bytes())
    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    (result,) = block.operations[-1].outputs
    result.type.tensorType.dimensions.add().constant.size = 1
    edit.write_bytes(model.SerializeToString())
    assert broken(lint(path)) == {("rank", ERROR)}


def test_a_palette_with_inf(tmp_path: Path) -> None:
    def body(value: float) -> Program:
        table = np.array([0, value], np.float16)
        indices = np.zeros(8, np.uint8)
        return lambda x: mb.conv(
            x=x,
            weight=mb.constexpr_lut_to_dense(
                indices=indices, lut=table, shape=np.array([8, 8, 1, 1], np.uint32), name="c_weight"
            ),
        )

    (finding,) = lint(saved(tmp_path, (MAP, body(np.inf))))
    assert finding.rule == "coreml/not-finite" and finding.layer == "c"
    shutil.rmtree(tmp_path / "net.mlpackage")
    assert lint(saved(tmp_path, (MAP, body(1.0)))) == []


def test_large_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, (MAP, lambda x: mb.conv(x=x, weight=half(8, 8, 3, 3))))
    monkeypatch.setattr(coreml_rules, "LARGEST_WEIGHT", 2 * 8 * 8 * 9)
    assert lint(path) == []
    monkeypatch.setattr(coreml_rules, "LARGEST_WEIGHT", 2 * 8 * 8 * 9 - 1)
    assert broken(lint(path)) == {("large-weight", ERROR)}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (900_000_000, set()),
        (1_000_000_001, {("large-file", WARNING)}),
        (2_000_000_001, {("large-file", ERROR)}),
    ],
)
def test_large_files(tmp_path: Path, size: int, expected: set[tuple[str, str]]) -> None:
    path = saved(tmp_path, CONV)
    (weights,) = path.rglob("weight.bin")
    os.truncate(weights, size)  # sparse: takes no room on disk
    assert broken(lint(path)) == expected


def test_a_damaged_package_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, CONV)
    (weights,) = path.rglob("weight.bin")
    os.truncate(weights, 100)
    with pytest.raises(UserError, match=r"weight\.bin"):
        lint(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"net\.onnx"):
        lint(tmp_path / "net.onnx")
