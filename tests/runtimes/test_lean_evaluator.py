"""Full-size networks in little memory: weights decoded on use, attention in blocks, rounding in
place. Each gives what the plain way gives."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import types

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.runtimes.mil import MilNetwork, attention, compile, network
from coreml_sd.runtimes.mil.large_constants import Weights, to_tensor
from coreml_sd.runtimes.mil.ops import OPS
from coreml_sd.runtimes.mil.trace import NumericTrace
from coreml_sd.runtimes.mil.unpacking import look_up, unpack

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
KEYS, QUERIES, CHANNELS = 33, 50, 8


def packed(indices: np.ndarray, bits: int) -> np.ndarray:
    places = (indices[:, None] >> np.arange(bits)) & 1
    return np.packbits(places.astype(np.uint8).reshape(-1), bitorder="little")


class TestUnpacking:
    @pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
    @pytest.mark.parametrize("count", [1, 7, 24, 1000, 200_001])
    def test_every_width_and_a_ragged_end(self, bits: int, count: int) -> None:
        rng = np.random.default_rng(bits)
        indices = rng.integers(0, 1 << bits, count)
        table = rng.standard_normal(1 << bits).astype(np.float16)
        found = look_up(packed(indices, bits), bits, count, table)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, table[indices])
        np.testing.assert_array_equal(unpack(packed(indices, bits), bits, count), indices)

    def test_signed_values(self) -> None:
        values = np.array([-8, 7, -1, 0, 3])
        got = unpack(packed(values & 15, 4), 4, 5, signed=True)
        np.testing.assert_array_equal(got, values)

    def test_too_few_bytes_are_not_read_beyond(self) -> None:
        with pytest.raises(UserError, match="75 bytes of indices, 76 are needed"):
            look_up(np.zeros(75, np.uint8), 6, 101, np.zeros(64, np.float16))

    def test_a_table_of_another_size(self) -> None:
        with pytest.raises(UserError, match="63 entries for 6 bits"):
            look_up(np.zeros(75, np.uint8), 6, 100, np.zeros(63, np.float16))


class TestWeights:
    def made(self, allowed: int) -> tuple[Weights, list[int]]:
        calls: list[int] = []

        def maker(slot: int) -> np.ndarray:
            calls.append(slot)
            return np.full(10, slot, np.float16)

        makers: dict[int, Callable[[], Any]] = {slot: partial(maker, slot) for slot in range(3)}
        return Weights(allowed, makers), calls

    def test_as_many_stay_as_are_allowed(self) -> None:
        weights, calls = self.made(2 * 40 + 39)
        for _ in range(3):
            assert [float(weights.get(slot)[0]) for slot in range(3)] == [0, 1, 2]
        assert calls == [0, 1, 2, 2, 2]

    def test_none_stays_where_nothing_is_allowed(self) -> None:
        weights, calls = self.made(0)
        for _ in range(2):
            weights.get(1)
        assert calls == [1, 1] and not weights.kept


class Attention(torch.nn.Module):
    """Two heads as the split form writes them."""

    def forward(self, query, key, value):  # type: ignore[no-untyped-def]
        heads = []
        for head in range(2):
            part = slice(CHANNELS * head, CHANNELS * (head + 1))
            scores = torch.einsum(
                "bchq,bkhc->bkhq", query[:, part], key[:, part].permute(0, 3, 2, 1)
            )
            heads.append(torch.einsum("bkhq,bchk->bchq", scores.softmax(1), value[:, part]))
        return torch.cat(heads, 1)


def given(scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = {"query": QUERIES, "key": KEYS, "value": KEYS}
    return {
        name: (scale * rng.standard_normal((2, 2 * CHANNELS, 1, length))).astype(np.float32)
        for name, length in lengths.items()
    }


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = tuple(torch.from_numpy(array) for array in given().values())
    path = tmp_path_factory.mktemp("split") / "net.mlpackage"
    ct.convert(
        torch.jit.trace(Attention().eval(), examples),
        inputs=[ct.TensorType(name=name, shape=array.shape) for name, array in given().items()],
        outputs=[ct.TensorType(name="y")],
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    ).save(str(path))
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_BLOCK", 2 * KEYS * 7)  # 7 queries at a time, then 1


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every op by itself."""
    monkeypatch.setattr(compile, "in_blocks", lambda instructions, *rest: list(instructions))


def kinds(opened: MilNetwork) -> list[str]:
    (stage,) = opened._stages
    return [each.op.type for each in stage.instructions]


@pytest.mark.usefixtures("small_blocks")
class TestBlocks:
    def test_fp32_is_what_torch_computes(self, split: Path) -> None:
        opened = MilNetwork(split, mode="fp32")
        assert kinds(opened).count("einsum") == 2 and "softmax" not in kinds(opened)
        want = Attention()(*(torch.from_numpy(array) for array in given().values()))
        assert psnr_db(want.numpy(), opened.run(given())["y"]) > 120

    def test_what_nobody_looks_at_is_fused_and_the_same(
        self, split: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fused = MilNetwork(split, mode="fp32").run(given())["y"]
        blocks = MilNetwork(split, mode="fp32", record=True).run(given())["y"]
        assert psnr_db(blocks, fused) > 120
        monkeypatch.setattr(attention, "scaled_dot_product_attention", None)
        MilNetwork(split, mode="fp32", record=True).run(given())
        with pytest.raises(CoremlSDError, match="not callable"):  # negative control: it was used
            MilNetwork(split, mode="fp32").run(given())

    def test_values_of_another_width_than_the_keys_are_not_fused(self) -> None:
        rng = torch.Generator().manual_seed(0)
        keys, queries = torch.randn(2, 9, 1, 4, generator=rng), torch.randn(2, 4, 1, 5)
        values = torch.randn(2, 6, 1, 9, generator=rng)
        weights = torch.einsum("bkhc,bchq->bkhq", keys, queries).softmax(1)
        want = torch.einsum("bkhq,bchk->bchq", weights, values)
        torch.testing.assert_close(attention.attend(keys, queries, values, None), want)

    def test_fp16_rounds_each_op_as_alone(
        self, split: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocks = MilNetwork(split).run(given())["y"]
        with monkeypatch.context() as patch:
            alone(patch)
            plain = MilNetwork(split)
            assert kinds(plain).count("softmax") == 2
            single = plain.run(given())["y"]
        unrounded = MilNetwork(split)
        for call in unrounded._stages[0].instructions:
            for inner in call.inner:
                inner.rounds[:] = [False]
        # The products differ in fp32's last bits, which now and then turns one rounding.
        assert np.mean(blocks == single) > 0.98
        assert np.mean(unrounded.run(given())["y"] == single) < 0.9  # negative control

    def test_the_trace_is_the_same(self, split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def ranges() -> list:
            opened = MilNetwork(split, mode="fp32", record=True)
            opened.run(given())
            opened.run(given())
            assert opened.trace is not None
            return sorted(opened.trace.ranges, key=lambda each: each.op)

        blocks = ranges()
        alone(monkeypatch)
        for got, want in zip(blocks, ranges(), strict=True):
            assert (got.op, got.type, got.layer) == (want.op, want.type, want.layer)
            np.testing.assert_allclose((got.low, got.high), (want.low, want.high), 1e-5)

    def test_scores_that_leave_fp16_are_named(self, split: Path) -> None:
        opened = MilNetwork(split, record=True)
        opened.run(given(200.0))
        assert opened.trace is not None and opened.trace.first_unsafe is not None
        assert opened.trace.first_unsafe.type == "einsum"
        opened.run(given(1.0))
        assert opened.trace.first_unsafe is None


def test_a_nan_in_one_block_is_kept_in_the_range() -> None:
    for order in ([float("nan"), 1.0], [1.0, float("nan")]):
        trace = NumericTrace()
        for value in order:
            trace.record_block(0, "scores", "einsum", "", torch.tensor([value]))
        assert len(trace.ranges) == 1 and trace.peak == float("inf")
    trace = NumericTrace()
    for value in (2.0, -3.0, 1.0):
        trace.record_block(0, "scores", "einsum", "", torch.tensor([value]))
    assert (trace.ranges[0].low, trace.ranges[0].high) == (-3.0, 2.0)


def program(tmp_path: Path, *, axis: int = 1, show: bool = False) -> MilNetwork:
    """One head; its softmax over `axis`, the scores also an output where `show`."""
    shapes = [(2, KEYS, 1, CHANNELS), (2, CHANNELS, 1, QUERIES), (2, CHANNELS, 1, KEYS)]
    specs = [mb.TensorSpec(shape, types.fp32) for shape in shapes]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS16)
    def head(key, query, value):  # type: ignore[no-untyped-def]
        scores = mb.einsum(values=(key, query), equation="bkhc,bchq->bkhq", name="scores")
        weights = mb.softmax(x=scores, axis=axis)
        result = mb.einsum(values=(value, weights), equation="bchk,bkhq->bchq", name="y")
        return (result, scores) if show else result

    path = tmp_path / f"head-{axis}-{show}.mlpackage"
    ct.convert(head, minimum_deployment_target=ct.target.iOS16, skip_model_load=True).save(
        str(path)
    )
    return MilNetwork(path, mode="fp32")


@pytest.mark.parametrize(("axis", "show", "joined"), [(1, False, 1), (3, False, 0), (1, True, 0)])
def test_only_the_attention_itself_is_joined(
    tmp_path: Path, axis: int, show: bool, joined: int
) -> None:
    opened = program(tmp_path, axis=axis, show=show)
    rng = np.random.default_rng(1)
    arrays = {
        name: rng.standard_normal(info.shape).astype(np.float32)
        for name, info in opened.inputs.items()
    }
    assert sum(bool(each.inner) for each in opened._stages[0].instructions) == joined
    key, query, value = (torch.from_numpy(arrays[name]) for name in ("key", "query", "value"))
    scores = torch.einsum("bkhc,bchq->bkhq", key, query)
    want = torch.einsum("bchk,bkhq->bchq", value, scores.softmax(axis))
    assert psnr_db(want.numpy(), opened.run(arrays)["y"]) > 120


class TestRounding:
    def test_in_place_where_nobody_else_reads_it(self) -> None:
        fresh = torch.tensor([1.0001])
        assert network._rounded(fresh, {"x": torch.ones(1)}) is fresh and fresh[0] == 1.0

    @pytest.mark.parametrize("listed", [False, True])
    def test_a_parameter_is_left_alone(self, listed: bool) -> None:
        given = torch.tensor([1.0001, 2.0])
        view = given[:1]
        rounded = network._rounded(view, {"x": [given] if listed else given})
        assert rounded[0] == 1.0 and given[0] != 1.0

    def test_values_of_the_file_and_of_the_caller_are_copied(self) -> None:
        mine = np.ones(3, np.float32)
        to_tensor(mine).mul_(2)
        np.testing.assert_array_equal(mine, 1)


@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 6)])
@pytest.mark.parametrize("size", [(1, 9), (4, 5)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_a_convolution_of_single_pixels(
    bias: torch.Tensor | None, size: tuple[int, int], strides: tuple[int, int]
) -> None:
    x = torch.randn(2, 8, *size)[:, 2:7]  # with gaps, as a split leaves it
    weight = torch.randn(6, 5, 1, 1)
    before = x.clone()
    got = OPS["conv"].function(x=x, weight=weight, bias=bias, strides=strides)
    torch.testing.assert_close(got, F.conv2d(x, weight, bias, strides))
    assert torch.equal(x, before)


class TestLargeConstants:
    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        example = torch.randn(1, 64, 8, 8)
        model = ct.convert(
            torch.jit.trace(torch.nn.Conv2d(64, 64, 3).eval(), example),
            inputs=[ct.TensorType(name="x", shape=example.shape)],
            outputs=[ct.TensorType(name="y")],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
        config = ct.optimize.coreml.OptimizationConfig(
            ct.optimize.coreml.OpPalettizerConfig(mode="uniform", nbits=6, weight_threshold=64)
        )
        path = tmp_path / "net.mlpackage"
        ct.optimize.coreml.palettize_weights(model, config).save(str(path))
        return path

    def test_no_weight_is_decoded_to_open_it(
        self, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded: list[str] = []
        plain = compile.MilPackage.decode

        def decode(self, op, known, **options):  # type: ignore[no-untyped-def]
            decoded.append(op.type)
            return plain(self, op, known, **options)

        monkeypatch.setattr(compile.MilPackage, "decode", decode)
        opened = MilNetwork(package, kept_bytes=0)
        assert "constexpr_lut_to_dense" not in decoded
        x = {"x": np.ones((1, 64, 8, 8), np.float32)}
        first, second = opened.run(x)["y"], opened.run(x)["y"]
        assert decoded.count("constexpr_lut_to_dense") == 2
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, MilNetwork(package).run(x)["y"])

    def test_a_truncated_file_is_found_when_it_is_opened(self, package: Path) -> None:
        MilNetwork(package)
        data = (package / WEIGHTS).read_bytes()
        (package / WEIGHTS).write_bytes(data[: len(data) // 2])
        with pytest.raises(UserError, match=r"weight\.bin"):
            MilNetwork(package)
