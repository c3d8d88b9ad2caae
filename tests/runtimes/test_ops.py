"""Every op against coremltools' own value inference where it has one, else against torch."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import Function, types

from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil.large_constants import to_tensor
from coreml_sd.runtimes.mil.ops import OPS

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
B = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
POSITIVE = np.abs(A) + 0.5
INTS = RNG.integers(1, 9, (2, 3)).astype(np.int32)
TRUTH = A > 0

# op -> parameters; checked against what coremltools folds the same op to.
INFERRED: dict[str, list[dict]] = {
    "add": [{"x": A, "y": B}],
    "sub": [{"x": A, "y": B}],
    "mul": [{"x": A, "y": B[:1]}],
    "real_div": [{"x": A, "y": POSITIVE}],
    "floor_div": [{"x": A, "y": POSITIVE}],
    "mod": [{"x": A, "y": POSITIVE}],
    "pow": [{"x": POSITIVE, "y": np.float32(3.0)}],
    "maximum": [{"x": A, "y": B}],
    "minimum": [{"x": A, "y": B}],
    "abs": [{"x": A}],
    "sign": [{"x": A}],
    "square": [{"x": A}],
    "sqrt": [{"x": POSITIVE}],
    "rsqrt": [{"x": POSITIVE}, {"x": POSITIVE, "epsilon": np.float32(0.1)}],
    "inverse": [{"x": POSITIVE}, {"x": POSITIVE, "epsilon": np.float32(0.1)}],
    "exp": [{"x": A}],
    "exp2": [{"x": A}],
    "log": [{"x": POSITIVE}],
    "sin": [{"x": A}],
    "cos": [{"x": A}],
    "tanh": [{"x": A}],
    "erf": [{"x": A}],
    "floor": [{"x": A}],
    "ceil": [{"x": A}],
    "round": [{"x": np.array([0.5, 1.5, -0.5, 2.4], np.float32)}],
    "clip": [{"x": A, "alpha": np.float32(-0.5), "beta": np.float32(0.4)}],
    "threshold": [{"x": A, "alpha": np.float32(0.1)}],
    "relu": [{"x": A}],
    "sigmoid": [{"x": A}],
    "softplus": [{"x": A}],
    "leaky_relu": [{"x": A, "alpha": np.float32(0.2)}],
    "gelu": [{"x": A, "mode": mode} for mode in ("EXACT", "TANH_APPROXIMATION")]
    + [{"x": A, "mode": "SIGMOID_APPROXIMATION"}],
    "equal": [{"x": INTS, "y": INTS.T.reshape(2, 3)}],
    "not_equal": [{"x": INTS, "y": INTS.T.reshape(2, 3)}],
    "greater": [{"x": A, "y": B}],
    "greater_equal": [{"x": A, "y": B}],
    "less": [{"x": A, "y": B}],
    "less_equal": [{"x": A, "y": B}],
    "logical_and": [{"x": TRUTH, "y": B > 0}],
    "logical_or": [{"x": TRUTH, "y": B > 0}],
    "logical_not": [{"x": TRUTH}],
    "select": [{"cond": TRUTH, "a": A, "b": B}],
    "cast": [{"x": 3 * A, "dtype": dtype} for dtype in ("int32", "bool", "fp16")],
    "identity": [{"x": A}],
    "linear": [{"x": A, "weight": A[0, 0], "bias": np.ones(4, np.float32)}],
    "matmul": [
        {"x": A, "y": B, "transpose_y": True},
        {"x": A, "y": B, "transpose_x": True},
    ],
    "softmax": [{"x": A, "axis": 1}, {"x": A}],
    "reduce_mean": [{"x": A, "axes": [1, 3], "keep_dims": True}, {"x": A, "axes": [2]}],
    "reduce_sum": [{"x": A, "axes": [1], "keep_dims": False}],
    "reduce_max": [{"x": A, "axes": [2, 3], "keep_dims": True}],
    "reduce_min": [{"x": A, "axes": [2, 3], "keep_dims": True}],
    "reduce_sum_square": [{"x": A, "axes": [3], "keep_dims": True}],
    "reduce_l2_norm": [{"x": A, "axes": [3], "keep_dims": True}],
    "reduce_argmax": [{"x": A, "axis": 2, "keep_dims": True}, {"x": A, "axis": 1}],
    "reshape": [{"x": A, "shape": [2, 12, -1]}],
    "transpose": [{"x": A, "perm": [0, 2, 3, 1]}],
    "expand_dims": [{"x": A[0], "axes": [0]}, {"x": INTS, "axes": [1, 2]}],
    "squeeze": [{"x": A[:1], "axes": [0]}],
    "concat": [{"values": (A, B), "axis": 1}],
    "stack": [{"values": (INTS, INTS + 1), "axis": 1}],
    "split": [{"x": A, "axis": 3, "split_sizes": [2, 3]}, {"x": A, "axis": 2, "num_splits": 2}],
    "slice_by_index": [
        {"x": A, "begin": [0, 1, 0, 0], "end": [2, 3, 4, 5], "stride": [1, 1, 2, 3]},
        {
            "x": A,
            "begin": [1, 0, 1, 0],
            "end": [2, 3, 3, 1],
            "squeeze_mask": [True, False, False, False],
            "end_mask": [False, False, False, True],
        },
    ],
    "slice_by_size": [{"x": A, "begin": [0, 1, 1, 0], "size": [1, 2, -1, 5]}],
    "tile": [{"x": A, "reps": [1, 2, 1, 1]}],
    "reverse": [{"x": A, "axes": [2]}],
    "pad": [
        {"x": A, "pad": [0, 1, 2, 0], "mode": "constant", "constant_val": np.float32(0.5)},
        {"x": A, "pad": [1, 1, 2, 0], "mode": "reflect"},
        {"x": A, "pad": [1, 1, 2, 0], "mode": "replicate"},
    ],
    "gather": [{"x": A, "indices": np.array([[2, 0], [1, -1]], np.int32), "axis": 1}],
    "gather_along_axis": [{"x": A[0, 0], "indices": np.array([[3, 0, 1, 1, 2]], np.int32)}],
    "gather_nd": [{"x": A, "indices": np.array([[1, 2], [0, 1]], np.int32)}],
    "shape": [{"x": A}],
    "fill": [{"shape": [2, 3], "value": np.float32(1.5)}],
}


def ours(name: str, parameters: dict) -> list[np.ndarray]:
    op, arguments = OPS[name], {}
    for key, value in parameters.items():
        if key in op.static:
            plain = value.tolist() if hasattr(value, "tolist") else value
            arguments[key] = tuple(plain) if isinstance(plain, list) else plain
        elif key == "values":
            arguments[key] = [to_tensor(v) for v in value]
        else:
            arguments[key] = to_tensor(value)
    result = op.function(**arguments)
    return [r.numpy() for r in (result if isinstance(result, tuple) else (result,))]


def theirs(name: str, parameters: dict) -> list[np.ndarray] | None:
    """What coremltools computes for the op on constants; None where it does not."""
    with Function({"unused": mb.placeholder((1,), types.fp32)}):
        result = getattr(mb, name)(**parameters)
    outputs = result if isinstance(result, tuple | list) else (result,)
    values = [output.val for output in outputs]
    return None if any(value is None for value in values) else [np.asarray(v) for v in values]


CASES = [
    pytest.param(name, case, id=f"{name}-{index}")
    for name, cases in INFERRED.items()
    for index, case in enumerate(cases)
]

# ops (or modes) that coremltools cannot fold; checked in their own tests or against torch here.
UNFOLDED = {
    "identity": lambda p: p["x"],
    "pad": lambda p: F.pad(
        torch.from_numpy(p["x"]), (2, 0, p["pad"][0], p["pad"][1]), mode=p["mode"]
    ).numpy(),
    "reduce_argmax": lambda p: p["x"].argmax(axis=p["axis"], keepdims=True).astype(np.int32),
    "gather_nd": lambda p: p["x"][tuple(p["indices"].T)],
    "gather_along_axis": lambda p: np.take_along_axis(p["x"], p["indices"], 0),
}


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_op_equals_coremltools(name: str, parameters: dict) -> None:
    expected = theirs(name, parameters)
    if expected is None:
        expected = [UNFOLDED[name](parameters)]
    actual = ours(name, parameters)
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        assert got.shape == want.shape
        tolerance = 1e-3 if want.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), tolerance, 1e-6)


X = torch.randn(2, 4, 9, 7, generator=torch.Generator().manual_seed(1))
W = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(2))
BIAS = torch.linspace(-1, 1, 6)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"strides": (1, 1), "pad_type": "valid"}, lambda: F.conv2d(X, W, BIAS, groups=2)),
        (
            {"strides": (2, 2), "pad_type": "custom", "pad": (1, 1, 1, 1)},
            lambda: F.conv2d(X, W, BIAS, 2, 1, groups=2),
        ),
        (
            {"strides": (2, 1), "pad_type": "custom", "pad": (0, 1, 0, 1), "dilations": (1, 1)},
            lambda: F.conv2d(F.pad(X, (0, 1, 0, 1)), W, BIAS, (2, 1), groups=2),
        ),
        (
            {"strides": (1, 1), "pad_type": "same", "dilations": (2, 1)},
            lambda: F.conv2d(X, W, BIAS, padding="same", dilation=(2, 1), groups=2),
        ),
        (
            {"strides": (2, 2), "pad_type": "same_lower"},
            lambda: F.conv2d(F.pad(X, (1, 1, 1, 1)), W, BIAS, 2, groups=2),
        ),
    ],
)
def test_conv(parameters: dict, expected: Any) -> None:
    got = OPS["conv"].function(x=X, weight=W, bias=BIAS, groups=2, **parameters)
    torch.testing.assert_close(got, expected())


def test_conv_transpose() -> None:
    weight = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    got = OPS["conv_transpose"].function(
        x=X, weight=weight, strides=(2, 2), pad_type="custom", pad=(1, 1, 1, 1)
    )
    torch.testing.assert_close(got, F.conv_transpose2d(X, weight, stride=2, padding=1))
    larger = OPS["conv_transpose"].function(
        x=X, weight=weight, strides=(2, 2), pad_type="custom", pad=(1, 1, 1, 1),
        output_shape=(2, 3, 19, 14),
    )  # fmt: skip
    want = F.conv_transpose2d(X, weight, stride=2, padding=1, output_padding=(1, 0))
    torch.testing.assert_close(larger, want)


@pytest.mark.parametrize("height", [1, 3])
@pytest.mark.parametrize("equation", ["bchq,bkhc->bkhq", "bkhq,bchk->bchq", "nchw,nwhu->nchu"])
def test_einsum(equation: str, height: int) -> None:
    sizes = {"b": 2, "c": 4, "q": 5, "k": 6, "h": height, "n": 2, "w": 3, "u": 7}
    left, right = equation.split("->")[0].split(",")
    first = torch.randn([sizes[axis] for axis in left])
    second = torch.randn([sizes[axis] for axis in right])
    if equation.startswith("bkhq"):
        second = torch.randn([sizes[axis] for axis in "bchk"])
    got = OPS["einsum"].function(values=[first, second], equation=equation)
    torch.testing.assert_close(got, torch.einsum(equation, first, second))


@pytest.mark.parametrize("axes", [(1,), (3,), (2, 3)])
def test_layer_norm(axes: tuple[int, ...]) -> None:
    shape = [X.shape[axis] for axis in axes]
    gamma, beta = torch.rand(shape), torch.rand(shape)
    moved = X.permute([a for a in range(4) if a not in axes] + list(axes))
    want = F.layer_norm(moved, shape, gamma, beta, 1e-3)
    order = [a for a in range(4) if a not in axes] + list(axes)
    want = want.permute([order.index(a) for a in range(4)])
    got = OPS["layer_norm"].function(x=X, axes=axes, gamma=gamma, beta=beta, epsilon=1e-3)
    torch.testing.assert_close(got, want)


def test_batch_and_instance_norm() -> None:
    mean, variance, gamma, beta = (torch.rand(4) + 0.1 for _ in range(4))
    got = OPS["batch_norm"].function(X, mean, variance, gamma, beta, epsilon=1e-3)
    torch.testing.assert_close(got, F.batch_norm(X, mean, variance, gamma, beta, eps=1e-3))
    got = OPS["instance_norm"].function(X, gamma, beta, epsilon=1e-3)
    torch.testing.assert_close(got, F.instance_norm(X, weight=gamma, bias=beta, eps=1e-3))


@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention(masked: bool) -> None:
    q, k, v = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 3)
    mask = torch.randn(1, 1, 5, 7) if masked else None
    scores = q @ k.transpose(2, 3) / 8**0.5
    want = (scores if mask is None else scores + mask).softmax(-1) @ v
    got = OPS["scaled_dot_product_attention"].function(q, k, v, mask)
    torch.testing.assert_close(got, want)


def test_concat_interleaved() -> None:
    """coremltools' own folding ignores `interleave`; its documentation says a1 b1 a2 b2."""
    (got,) = ours("concat", {"values": (A, B), "axis": 2, "interleave": True})
    want = np.empty((2, 3, 8, 5), np.float32)
    want[:, :, 0::2], want[:, :, 1::2] = A, B
    np.testing.assert_array_equal(got, want)


def test_silu() -> None:
    torch.testing.assert_close(OPS["silu"].function(X), X * X.sigmoid())


def test_resampling() -> None:
    got = OPS["upsample_nearest_neighbor"].function(X, 2.0, 3.0)
    torch.testing.assert_close(got, X.repeat_interleave(2, 2).repeat_interleave(3, 3))
    got = OPS["upsample_bilinear"].function(X, 2.0, 2.0, align_corners=False)
    torch.testing.assert_close(got, F.interpolate(X, scale_factor=2, mode="bilinear"))
    torch.testing.assert_close(OPS["pixel_shuffle"].function(X, 2), F.pixel_shuffle(X, 2))
    torch.testing.assert_close(OPS["avg_pool"].function(X, (3, 3), (2, 2)), F.avg_pool2d(X, 3, 2))
    torch.testing.assert_close(OPS["max_pool"].function(X, (3, 3), (2, 2)), F.max_pool2d(X, 3, 2))


def test_every_op_is_tested() -> None:
    elsewhere = {
        "conv",
        "conv_transpose",
        "einsum",
        "layer_norm",
        "batch_norm",
        "instance_norm",
        "scaled_dot_product_attention",
        "silu",
        "upsample_nearest_neighbor",
        "upsample_bilinear",
        "pixel_shuffle",
        "avg_pool",
        "max_pool",
    }
    assert OPS.keys() == INFERRED.keys() | elsewhere


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_an_error(index: int) -> None:
    x, indices = torch.arange(6.0).reshape(3, 2), torch.tensor([0, index])
    with pytest.raises(CoremlSDError, match="outside 3 entries"):
        OPS["gather"].function(x=x, indices=indices, axis=0)


def test_integers_divide_towards_zero() -> None:
    got = OPS["real_div"].function(x=torch.tensor([-7, 7]), y=torch.tensor([2, 2]))
    assert got.tolist() == [-3, 3]


@pytest.mark.parametrize("equation", ["bkhc,bchq->bkhq", "bchk,bkhq->bchq"])
def test_einsum_with_its_operands_turned(equation: str) -> None:
    """As coremltools may write them, keys and values first."""
    sizes = {"b": 2, "c": 4, "q": 5, "k": 6, "h": 1}
    first, second = (
        torch.randn([sizes[axis] for axis in axes]) for axes in equation.split("->")[0].split(",")
    )
    got = OPS["einsum"].function(values=[first, second], equation=equation)
    torch.testing.assert_close(got, torch.einsum(equation, first, second))


@pytest.mark.parametrize(("pad_type", "pads"), [("same", (0, 1)), ("same_lower", (1, 0))])
def test_an_odd_padding_is_larger_at_one_end(pad_type: str, pads: tuple[int, int]) -> None:
    weight = torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(2))
    got = OPS["conv"].function(x=X, weight=weight, pad_type=pad_type, strides=(1, 1))
    torch.testing.assert_close(got, F.conv2d(F.pad(X, (*pads, *pads)), weight))
