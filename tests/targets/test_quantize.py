"""Quantized files: what is stored how, and that nothing else changes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_quantizer", reason="the extra `android` is not installed")

from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.litert.file import Op, Tensor, TFLiteFile
from coreml_sd.targets.tflite.profiles import Quantization
from coreml_sd.targets.tflite.proof import weight_only
from coreml_sd.targets.tflite.quantize import for_component, int8_weight, quantize_file
from tests.helpers.tiny_tflite import TinyFile, TinyFiles, scales

Stored = Callable[[Quantization], TFLiteFile]
STORED_AS = {"fp16": "float16", "int8": "int8", "dynamic-int8": "int8"}


@pytest.fixture(scope="module", params=["text_encoder", "unet"])
def tiny(request: pytest.FixtureRequest, tiny_files: TinyFiles, sd1_folder: Path) -> TinyFile:
    return tiny_files(sd1_folder, request.param)


@pytest.fixture(scope="module")
def stored(tiny: TinyFile, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp(f"quantized-{tiny.component.name}")

    def make(quantization: Quantization) -> TFLiteFile:
        path = folder / f"{quantization}.tflite"
        return TFLiteFile(path if path.exists() else tiny.quantized(path, quantization))

    return make


@pytest.fixture(scope="module")
def text_encoder(tiny_files: TinyFiles, sd1_folder: Path) -> TinyFile:
    return tiny_files(sd1_folder, "text_encoder")


def convolutions(file: TFLiteFile) -> list[Op]:
    return [op for op in file.graphs[0].ops if op.kind == "CONV_2D"]


def lookup(file: TFLiteFile) -> Op:
    (op,) = [op for op in file.graphs[0].ops if op.kind == "EMBEDDING_LOOKUP"]
    return op


def weight(file: TFLiteFile, op: Op) -> tuple[Tensor, Op | None]:
    """The stored weight of an op, and the DEQUANTIZE between both where there is one."""
    given = op.inputs[1]
    assert given is not None
    if given.is_constant:
        return given, None
    (maker,) = [each for each in file.graphs[0].ops if given in each.outputs]
    (source,) = maker.inputs
    assert source is not None
    return source, maker


class TestConvolutions:
    @pytest.mark.parametrize("quantization", ["fp16", "int8"])
    def test_each_weight_is_dequantized_before_its_op(
        self, stored: Stored, quantization: Quantization
    ) -> None:
        file = stored(quantization)
        for op in convolutions(file):
            tensor, maker = weight(file, op)
            assert tensor.is_constant and tensor.dtype == STORED_AS[quantization]
            assert maker is not None and maker.kind == "DEQUANTIZE"
            assert maker.outputs[0].dtype == "float32"
        assert file.op_counts()["DEQUANTIZE"] == len(convolutions(file))
        assert weight_only(file.path).passed

    def test_dynamic_int8_gives_the_op_integers(self, stored: Stored) -> None:
        file = stored("dynamic-int8")
        for op in convolutions(file):
            tensor, maker = weight(file, op)
            assert maker is None and tensor.dtype == "int8"
        assert "DEQUANTIZE" not in file.op_counts()

    @pytest.mark.parametrize("quantization", ["int8", "dynamic-int8"])
    def test_int8_has_a_scale_for_each_output_channel_and_no_zero_point(
        self, stored: Stored, quantization: Quantization
    ) -> None:
        file = stored(quantization)
        for op in convolutions(file):
            tensor, _ = weight(file, op)
            assert (tensor.scales, tensor.scale_axis) == (tensor.shape[0], 0)
            assert not scales(file.path, tensor.index)[1].any()
            assert file.data(tensor).min() >= -127

    def test_fp16_is_the_rounded_weight(self, tiny: TinyFile, stored: Stored) -> None:
        file, before = stored("fp16"), TFLiteFile(tiny.unquantized)
        for op, source in zip(convolutions(file), convolutions(before), strict=True):
            exact = before.data(weight(before, source)[0])
            np.testing.assert_array_equal(file.data(weight(file, op)[0]), exact.astype(np.float16))

    @pytest.mark.parametrize("quantization", ["int8", "dynamic-int8"])
    def test_int8_is_what_our_own_formula_says(
        self, tiny: TinyFile, stored: Stored, quantization: Quantization
    ) -> None:
        """Bit by bit: parity holds a file against torch with weights from this formula."""
        file, before = stored(quantization), TFLiteFile(tiny.unquantized)
        for op, source in zip(convolutions(file), convolutions(before), strict=True):
            exact = before.data(weight(before, source)[0])
            np.testing.assert_array_equal(decoded(file, weight(file, op)[0]), int8_weight(exact))


def decoded(file: TFLiteFile, tensor: Tensor) -> np.ndarray:
    factors = scales(file.path, tensor.index)[0].reshape(-1, *[1] * (len(tensor.shape) - 1))
    return file.data(tensor).astype(np.float32) * factors


@pytest.mark.parametrize("quantization", ["fp32", "fp16", "int8", "dynamic-int8"])
class TestTheRest:
    def test_biases_and_norms_stay_fp32(
        self, tiny: TinyFile, stored: Stored, quantization: Quantization
    ) -> None:
        kept = [t for t in small_constants(stored(quantization)) if t.dtype != "int32"]
        assert kept and {tensor.dtype for tensor in kept} == {"float32"}
        before = small_constants(TFLiteFile(tiny.unquantized))
        assert len(kept) == len([t for t in before if t.dtype != "int32"])

    def test_names_and_shapes_stay(
        self, tiny: TinyFile, stored: Stored, quantization: Quantization
    ) -> None:
        (before,), (after,) = (
            TFLiteFile(tiny.unquantized).signatures,
            stored(quantization).signatures,
        )
        assert after.key == before.key
        for old, new in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
            assert [(n, t.shape, t.dtype) for n, t in old.items()] == [
                (n, t.shape, t.dtype) for n, t in new.items()
            ]

    def test_only_dequantize_comes_on_top(
        self, tiny: TinyFile, stored: Stored, quantization: Quantization
    ) -> None:
        counts = stored(quantization).op_counts()
        counts.pop("DEQUANTIZE", None)
        assert counts == TFLiteFile(tiny.unquantized).op_counts()


def small_constants(file: TFLiteFile) -> list[Tensor]:
    """Biases, gains and shifts: stored, and with one axis that is not 1 at most."""
    return [
        tensor
        for tensor in file.graphs[0].tensors
        if tensor.is_constant and sum(size > 1 for size in tensor.shape) <= 1
    ]


class TestEmbeddings:
    @pytest.mark.parametrize("quantization", ["fp32", "fp16"])
    def test_the_table_stays_fp32_beside_fp16_weights(
        self, text_encoder: TinyFile, tmp_path: Path, quantization: Quantization
    ) -> None:
        file = TFLiteFile(text_encoder.quantized(tmp_path / "x.tflite", quantization))
        table, maker = weight(file, lookup(file))
        assert maker is None and table.dtype == "float32"

    @pytest.mark.parametrize("quantization", ["int8", "dynamic-int8"])
    def test_int8_has_a_scale_for_each_token(
        self, text_encoder: TinyFile, tmp_path: Path, quantization: Quantization
    ) -> None:
        file = TFLiteFile(text_encoder.quantized(tmp_path / "x.tflite", quantization))
        table, maker = weight(file, lookup(file))
        assert maker is None and table.dtype == "int8"
        assert (table.scales, table.scale_axis) == (table.shape[0], 0)
        exact = text_encoder.form.network.get_submodule("embeddings.token_embedding").weight
        np.testing.assert_array_equal(decoded(file, table), int8_weight(exact.detach().numpy()))


class TestSizes:
    def test_weights_shrink_as_they_should(self, stored: Stored) -> None:
        sizes = {q: convolution_bytes(stored(q)) for q in ("fp32", "fp16", "int8")}
        assert sizes["fp32"] == 2 * sizes["fp16"] == 4 * sizes["int8"]
        assert convolution_bytes(stored("dynamic-int8")) == sizes["int8"]

    def test_the_weights_of_each_layer_keep_35_db(self, tiny: TinyFile, stored: Stored) -> None:
        file, before = stored("int8"), TFLiteFile(tiny.unquantized)
        for op, source in zip(convolutions(file), convolutions(before), strict=True):
            exact = before.data(weight(before, source)[0]).astype(np.float64)
            error = exact - decoded(file, weight(file, op)[0])
            assert 10 * np.log10((exact**2).sum() / (error**2).sum()) > 35


def convolution_bytes(file: TFLiteFile) -> int:
    return sum(weight(file, op)[0].stored_bytes for op in convolutions(file))


class TestTheFormula:
    def test_a_channel_of_zeros_stays_zero(self) -> None:
        given = np.zeros((2, 3, 1, 1), np.float32)
        given[1] = 1.0
        np.testing.assert_array_equal(int8_weight(given), given)

    def test_the_largest_of_a_channel_is_kept_and_the_others_are_near(self) -> None:
        given = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0)).numpy()
        rounded = int8_weight(given)
        largest = np.abs(given).reshape(16, -1).max(axis=1)
        np.testing.assert_allclose(np.abs(rounded).reshape(16, -1).max(axis=1), largest, rtol=1e-6)
        error = np.abs(given - rounded).reshape(16, -1).max(axis=1)
        assert (error <= largest / 127 / 2 * 1.0001).all() and (error > 0).all()


class TestWhatAComponentGets:
    """Pictures show int8 weights of a VAE: it keeps fp16."""

    @pytest.mark.parametrize("component", ["vae_decoder", "vae_encoder"])
    @pytest.mark.parametrize("asked", ["int8", "dynamic-int8", "fp16"])
    def test_a_vae_gets_fp16(self, component: str, asked: Quantization) -> None:
        assert for_component(component, asked) == "fp16"

    @pytest.mark.parametrize("component", ["vae_decoder", "vae_encoder", "unet"])
    def test_fp32_is_fp32_everywhere(self, component: str) -> None:
        assert for_component(component, "fp32") == "fp32"

    @pytest.mark.parametrize("component", ["unet", "text_encoder"])
    @pytest.mark.parametrize("asked", ["fp16", "int8", "dynamic-int8"])
    def test_others_get_what_was_asked(self, component: str, asked: Quantization) -> None:
        assert for_component(component, asked) == asked


def test_a_file_that_cannot_be_read_is_one_error_that_names_it(tmp_path: Path) -> None:
    source = tmp_path / "Unet.fp32"
    source.write_bytes(b"not a model at all")
    with pytest.raises(CoremlSDError, match=r"Unet\.fp32: could not be quantized to int8"):
        quantize_file(source, tmp_path / "Unet.tflite", "int8")
    assert not (tmp_path / "Unet.tflite").exists()
