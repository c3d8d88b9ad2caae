"""Every rule for .tflite files: a file that breaks it alone, and its neighbour that does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema

from coreml_sd.errors import UserError
from coreml_sd.lint.finding import Finding
from coreml_sd.targets.saved_files import lint_files
from coreml_sd.targets.tflite.lint_rules import LARGEST_FILE
from tests.helpers.build_tflite import GraphWriter

Build = Callable[[GraphWriter], int]
MAP = (1, 16, 16, 8)


def lint(path: Path, name: str = "gpu") -> list[Finding]:
    return lint_files(path, name)


def broken(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.rule.removeprefix("tflite/"), finding.severity) for finding in findings}


def written(path: Path, build: Build) -> Path:
    graph = GraphWriter()
    return graph.write(path / "net.tflite", [build(graph)])


def unary(kind: str, shape: tuple[int, ...] = MAP, **options: Any) -> Build:
    return lambda g: g.op(kind, [g.input(shape)], shape, **options)


def reduced(kind: str, shape: tuple[int, ...], axes: list[int], *, stored: bool = True) -> Build:
    def build(g: GraphWriter) -> int:
        place = g.constant(axes, "int32") if stored else g.input((len(axes),), "int32")
        left = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        return g.op(kind, [g.input(shape), place], left)

    return build


def added(constant: object, dtype: str = "float32", kind: str = "ADD") -> Build:
    return lambda g: g.op(kind, [g.input(MAP), g.constant(constant, dtype)], MAP)


def convolution(
    channels_in: int, channels_out: int, size: int, *, kernel: int = 3, stride: int = 1
) -> Build:
    def build(g: GraphWriter) -> int:
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = stride
        weight = g.constant(np.zeros((channels_out, kernel, kernel, channels_in)), "int8")
        dense = g.op("DEQUANTIZE", [weight], (channels_out, kernel, kernel, channels_in))
        given = g.input((1, size, size, channels_in))
        side = size // stride
        return g.op("CONV_2D", [given, dense], (1, side, side, channels_out), options=options)

    return build


def weighted(kind: str, stored: str, *, dequantized: bool) -> Build:
    def build(g: GraphWriter) -> int:
        shape = (8, 1, 1, 8) if kind == "CONV_2D" else (8, 8)
        weight = g.constant(np.ones(shape), stored)
        if dequantized:
            weight = g.op("DEQUANTIZE", [weight], shape)
        return g.op(kind, [g.input(MAP), weight], MAP)

    return build


def gelu(clip: float | None, cube: str = "MUL") -> Build:
    """0.5 x (1 + tanh(k (c + 0.044715 c^3))), with c = x clipped to +-clip."""

    def build(g: GraphWriter) -> int:
        x = c = g.input(MAP)
        if clip is not None:
            c = g.op("MINIMUM", [c, g.constant(clip)], MAP)
            c = g.op("MAXIMUM", [c, g.constant(-clip)], MAP)
        if cube == "POW":
            cubed = g.op("POW", [c, g.constant(3.0)], MAP)
        else:
            cubed = g.op("MUL", [g.op("MUL", [c, c], MAP), c], MAP)
        argument = g.op("ADD", [c, g.op("MUL", [cubed, g.constant(0.044715)], MAP)], MAP)
        waves = g.op("TANH", [g.op("MUL", [argument, g.constant(0.7979)], MAP)], MAP)
        half = g.op("MUL", [x, g.constant(0.5)], MAP)
        return g.op("MUL", [half, g.op("ADD", [waves, g.constant(1.0)], MAP)], MAP)

    return build


def sliced(mask: int) -> Build:
    def build(g: GraphWriter) -> int:
        options = schema.StridedSliceOptionsT()
        options.shrinkAxisMask = mask
        places = [g.constant([0, 0, 0, 0], "int32") for _ in range(3)]
        return g.op("STRIDED_SLICE", [g.input(MAP), *places], MAP, options=options)

    return build


def softmax(beta: float, shape: tuple[int, ...] = MAP) -> Build:
    def build(g: GraphWriter) -> int:
        options = schema.SoftmaxOptionsT()
        options.beta = beta
        return g.op("SOFTMAX", [g.input(shape)], shape, options=options)

    return build


def cast(source: str, result: str) -> Build:
    return lambda g: g.op("CAST", [g.input(MAP, source)], MAP, result)


def lookup(kind: str, ids: tuple[int, ...], table: str = "float32", rows: int = 9) -> Build:
    def build(g: GraphWriter) -> int:
        width = 4 if rows == 9 else 2048
        stored, wanted = g.constant(np.ones((rows, width), np.int8), table), g.input(ids, "int32")
        order = [wanted, stored] if kind == "EMBEDDING_LOOKUP" else [stored, wanted]
        return g.op(kind, order, (*ids, width))

    return build


def padded(axes: int) -> Build:
    def build(g: GraphWriter) -> int:
        shape = (4,) * axes
        return g.op("PAD", [g.input(shape), g.constant(np.zeros((axes, 2)), "int32")], shape)

    return build


def dequantized(stored: str) -> Build:
    return lambda g: g.op("DEQUANTIZE", [g.constant(np.ones(4), stored)], (4,))


HUGE = (1, 8, 2048, 2049)  # 134.3 MB in fp32, over the 128 MiB of the profile `cpu` too
ERROR, WARNING, NOTE = "error", "warning", "note"
WIDE = [1.0] * 7 + [1e-9]

# rule, severity, what breaks it, what just does not
RULES: list[tuple[str, str, Build, Build]] = [
    ("op-not-on-gpu", ERROR, unary("ARG_MAX"), unary("TANH")),
    ("op-not-on-gpu", ERROR, unary("FlexErf"), unary("GELU")),
    ("broadcast-to", ERROR, unary("BROADCAST_TO"), unary("TILE")),
    ("composite", ERROR, unary("STABLEHLO_COMPOSITE"), unary("GELU")),
    ("rank", ERROR, unary("ABS", (1, 1, 2, 2, 2)), unary("ABS", (1, 2, 2, 2))),
    (
        "mixed-rank",
        ERROR,
        lambda g: g.op("ADD", [g.input((4, 8)), g.constant(np.ones((1, 4, 8)))], (1, 4, 8)),
        lambda g: g.op("ADD", [g.input((4, 8)), g.constant(np.ones((4, 8)))], (4, 8)),
    ),
    ("op-form", ERROR, cast("bool", "int32"), cast("bool", "float32")),
    ("op-form", ERROR, unary("SLICE", (4, 4)), unary("SLICE", (4, 4, 4))),
    ("op-form", ERROR, sliced(1), sliced(0)),
    ("op-form", ERROR, softmax(2.0), softmax(1.0)),
    ("op-form", ERROR, lookup("EMBEDDING_LOOKUP", (1, 7)), lookup("EMBEDDING_LOOKUP", (7,))),
    ("op-form", ERROR, lookup("EMBEDDING_LOOKUP", (7,), "float16"), lookup("GATHER", (7,))),
    ("op-form", ERROR, lookup("GATHER", (1, 7)), lookup("GATHER", (7,))),
    ("op-form", ERROR, padded(2), padded(4)),
    ("op-form", ERROR, dequantized("int16"), dequantized("float16")),
    (
        "op-form",
        ERROR,
        reduced("REDUCE_MAX", MAP, [3], stored=False),
        reduced("REDUCE_MAX", MAP, [3]),
    ),
    (
        "quantized-linear",
        ERROR,
        weighted("FULLY_CONNECTED", "int8", dequantized=True),
        weighted("FULLY_CONNECTED", "float16", dequantized=True),
    ),
    (
        "hybrid-op",
        WARNING,
        weighted("CONV_2D", "int8", dequantized=False),
        weighted("CONV_2D", "int8", dequantized=True),
    ),
    ("winograd-image", ERROR, convolution(1920, 640, 32), convolution(960, 640, 32)),
    ("winograd-image", ERROR, convolution(640, 1920, 32), convolution(640, 1920, 32, stride=2)),
    ("winograd-image", ERROR, convolution(1920, 64, 32), convolution(1920, 60, 32)),
    ("winograd-image", ERROR, convolution(1920, 64, 32), convolution(1920, 64, 32, kernel=1)),
    ("attention-tensor", WARNING, softmax(1.0, HUGE), unary("EXP", HUGE)),
    ("attention-tensor", WARNING, unary("BATCH_MATMUL", HUGE), unary("BATCH_MATMUL")),
    (
        "attention-tensor",
        WARNING,
        lambda g: g.op("BATCH_MATMUL", [g.input(HUGE)], MAP),
        lambda g: g.op("CONCATENATION", [g.input(MAP)], HUGE),
    ),
    (
        "large-table",
        WARNING,
        lookup("EMBEDDING_LOOKUP", (7,), "int8", 2**14 + 1),
        lookup("EMBEDDING_LOOKUP", (7,), "int8", 2**14),
    ),
    ("int64", ERROR, lambda g: g.op("ABS", [g.input(MAP, "int64")], MAP), unary("ABS")),
    (
        "dynamic-shape",
        ERROR,
        lambda g: g.op("ABS", [g.input(MAP, dynamic=True)], MAP),
        unary("ABS"),
    ),
    ("not-finite", ERROR, added(-np.inf), added(-1e4)),
    ("not-finite", ERROR, added(np.nan), added(0.0)),
    ("not-finite", ERROR, added([1.0] * 7 + [np.inf]), added([1.0] * 8)),
    ("not-finite", ERROR, added(1e30, "float16"), added(6e4, "float16")),
    ("not-finite", NOTE, added(-np.inf, kind="MAXIMUM"), added(-1e4, kind="MAXIMUM")),
    ("not-finite", ERROR, added(np.inf, kind="MAXIMUM"), added(1e4, kind="MAXIMUM")),
    ("beyond-fp16", ERROR, added(-65505.0), added(-65504.0)),
    ("fp16-underflow", WARNING, added(1e-12), added(1e-5)),
    ("fp16-underflow", WARNING, added(WIDE), added(np.append(np.ones(199), 1e-9))),
    ("fp16-underflow", WARNING, added(-1e-9), added(0.0)),
    ("long-sum", WARNING, reduced("MEAN", (1, 2, 8189, 2), [2, 3]), reduced("MEAN", MAP, [1, 2])),
    (
        "long-sum",
        WARNING,
        reduced("SUM", (1, 1, 1, 16_377), [3]),
        reduced("SUM", (1, 1, 1, 16_376), [3]),
    ),
    ("unclipped-gelu", ERROR, gelu(None), gelu(10.0)),
    ("unclipped-gelu", ERROR, gelu(None, "POW"), gelu(10.0, "POW")),
    ("unclipped-gelu", ERROR, gelu(1000.0), unary("TANH")),
]
IDS = [f"{rule}-{place}" for place, (rule, *_) in enumerate(RULES)]
CPU_TOO = {"attention-tensor", "int64", "dynamic-shape", "not-finite"}


@pytest.mark.parametrize(("rule", "severity", "bad", "good"), RULES, ids=IDS)
def test_a_rule_finds_what_breaks_it_and_nothing_else(
    tmp_path: Path, rule: str, severity: str, bad: Build, good: Build
) -> None:
    assert broken(lint(written(tmp_path, bad))) == {(rule, severity)}
    assert broken(lint(written(tmp_path, good))) == set()


@pytest.mark.parametrize(("rule", "severity", "bad", "good"), RULES, ids=IDS)
def test_the_profile_cpu_leaves_out_what_is_about_the_gpu(
    tmp_path: Path, rule: str, severity: str, bad: Build, good: Build
) -> None:
    expected = {(rule, severity)} if rule in CPU_TOO else set()
    assert broken(lint(written(tmp_path, bad), "cpu")) == expected


def test_a_finding_says_where_and_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path, lambda g: g.op("BROADCAST_TO", [g.input(MAP)], MAP, name=NORM))
    (finding,) = lint(path)
    assert finding.file == "net.tflite" and finding.rule == "tflite/broadcast-to"
    assert finding.op == "BROADCAST_TO #0" and finding.layer == "down.norm1"
    assert "no BROADCAST_TO" in finding.why and "group_norm.py" in finding.remedy


NORM = "net.Unet/net.Block_down/net.GroupNorm_norm1;"


def test_a_linear_layer_of_dynamic_range_breaks_both_rules(tmp_path: Path) -> None:
    path = written(tmp_path, weighted("FULLY_CONNECTED", "int8", dequantized=False))
    assert broken(lint(path)) == {("quantized-linear", ERROR), ("hybrid-op", WARNING)}
    assert lint(path, "cpu") == []


@pytest.mark.parametrize(("name", "fits"), [("gpu", False), ("adreno7xx", True), ("cpu", True)])
def test_limits_are_those_of_the_profile(tmp_path: Path, name: str, fits: bool) -> None:
    """64 output channels: Winograd runs from 16 slices of 4 on, on Adreno from 32."""
    findings = lint(written(tmp_path, convolution(1920, 64, 32)), name)
    assert (findings == []) is fits


def test_findings_are_sorted_worst_first(tmp_path: Path) -> None:
    def build(g: GraphWriter) -> int:
        maximum = g.op("MAXIMUM", [g.input(MAP), g.constant(-np.inf)], MAP)
        small = g.op("ADD", [maximum, g.constant(1e-12)], MAP)
        return g.op("BROADCAST_TO", [small], MAP)

    severities = [finding.severity for finding in lint(written(tmp_path, build))]
    assert severities == [ERROR, WARNING, NOTE]


def test_a_file_over_two_gibibytes(tmp_path: Path) -> None:
    path = written(tmp_path, unary("TANH"))
    with path.open("r+b") as file:
        file.truncate(LARGEST_FILE)
    assert lint(path) == []
    with path.open("r+b") as file:
        file.truncate(LARGEST_FILE + 1)  # sparse: takes no room on disk
    assert broken(lint(path)) == {("large-file", WARNING)}


@pytest.mark.parametrize("keep", [0, 3, 40, 200])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    path = written(tmp_path, added(np.ones(4096)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"net\.tflite"):
        lint(path)
