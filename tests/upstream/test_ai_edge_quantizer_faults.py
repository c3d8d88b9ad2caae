"""Each work-around does what it should, and its fault still exists.

A test that says "the work-around can go" fails with a newer version of LiteRT's packages that no
longer has the fault: delete the work-around, its version check and the test.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from ai_edge_litert import schema_py_generated as schema

from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.litert.gpu_gate import check_on_gpu
from coreml_sd.runtimes.litert.vulkan import why_no_gpu
from coreml_sd.targets.tflite import quantize
from coreml_sd.targets.tflite.packed_file import write_packed
from coreml_sd.targets.tflite.profiles import Quantization
from coreml_sd.targets.tflite.quantize import int8_weight, quantize_file
from coreml_sd.upstream import ai_edge_litert_faults
from coreml_sd.upstream import ai_edge_quantizer_faults as quantizer_faults
from coreml_sd.upstream.noise import quiet_native
from tests.helpers.build_tflite import GraphWriter
from tests.helpers.tiny_tflite import scales

LARGE = (2049, 1, 1, 4096)  # one output channel above 32 MiB


def write_convolution(path: Path, shape: tuple[int, ...], seed: int = 0) -> Path:
    """A file with a single 1x1 convolution."""
    graph, options = GraphWriter(), schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    weight = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    weight[0] *= 100.0  # channels of different size: one scale for all would show
    given = [graph.input((1, 1, 1, shape[3])), graph.constant(weight)]
    given.append(graph.constant(np.zeros(shape[0])))
    result = graph.op("CONV_2D", given, (1, 1, 1, shape[0]), options=options)
    return graph.write(path, [result])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_convolution(tmp_path_factory.mktemp("large") / "large.fp32", LARGE)


def upstream(path: Path, quantization: Quantization) -> Any:
    """The quantizer as it is shipped, with our recipe."""
    from ai_edge_quantizer import quantizer

    with quiet_native():
        worker = quantizer.Quantizer(str(path))
        worker.load_quantization_recipe(quantize.recipe(quantization, quantize.CONVOLUTIONS))
        return worker.quantize().quantized_model


class TestLargeConvolutions:
    @pytest.mark.parametrize("quantization", ["int8", "dynamic-int8"])
    def test_the_work_around_stores_the_right_weights(
        self, large: Path, tmp_path: Path, quantization: Quantization
    ) -> None:
        path = tmp_path / "large.tflite"
        quantize_file(large, path, quantization)
        file = TFLiteFile(path)
        (tensor,) = [t for t in file.graphs[0].tensors if t.dtype == "int8"]
        (exact,) = [t for t in TFLiteFile(large).graphs[0].tensors if t.shape == LARGE]
        factors, _ = scales(path, tensor.index)
        decoded = file.data(tensor).astype(np.float32) * factors[:, None, None, None]
        np.testing.assert_array_equal(decoded, int8_weight(TFLiteFile(large).data(exact)))

    @pytest.mark.parametrize("quantization", ["int8", "dynamic-int8"])
    def test_the_fault_still_exists(self, large: Path, quantization: Quantization) -> None:
        if not quantizer_faults.needs_work_around():
            pytest.fail("ai-edge-quantizer is newer than the fault: the work-around can go")
        try:
            upstream(large, quantization)
        except ValueError as error:
            assert "more dimensions than allowed" in str(error)
        else:
            pytest.fail("large convolutions are quantized without it: the work-around can go")

    def test_one_row_less_is_no_fault(self, tmp_path: Path) -> None:
        """The limit is 32 MiB sharp; up to it nothing is touched."""
        path = write_convolution(tmp_path / "x.fp32", (2048, 1, 1, 4096))
        assert upstream(path, "int8")

    def test_the_slices_give_the_bytes_of_the_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A weight that needs no slices, with and without them."""
        path = write_convolution(tmp_path / "x.fp32", (37, 3, 3, 8))
        whole = upstream(path, "int8")
        monkeypatch.setattr(quantizer_faults, "_LARGE", 3 * 3 * 8 * 4 * 5)  # five channels
        quantize_file(path, tmp_path / "x.tflite", "int8")
        assert (tmp_path / "x.tflite").read_bytes() == bytes(whole)

    def test_it_is_taken_back_after_use_and_after_a_failure(self) -> None:
        from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as module

        before = module.uniform_quantize
        with pytest.raises(RuntimeError), quantizer_faults.worked_around(write_packed):
            assert module.uniform_quantize is not before
            raise RuntimeError
        assert module.uniform_quantize is before

    def test_a_newer_version_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as module

        monkeypatch.setattr(quantizer_faults, "LAST_FAULTY", (0, 9))
        before = module.uniform_quantize
        with quantizer_faults.worked_around(write_packed):
            assert module.uniform_quantize is before


class TokenMixer(nn.Module):
    """Ids through a table and a convolution, as a text encoder has them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.mix = nn.Conv2d(16, 8, 1)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.mix(self.table(input_ids)[:, None].permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import litert_torch

    path = tmp_path_factory.mktemp("tokens") / "tokens.fp32"
    ids = torch.zeros(1, 7, dtype=torch.int32)
    torch.manual_seed(0)
    with quiet_native():
        module = litert_torch.signature(
            "main", TokenMixer().eval(), sample_kwargs={"input_ids": ids}
        )
        module.convert().export(str(path))
    return path


@pytest.fixture
def cast(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with its table in fp16, as a newer LiteRT would get it."""
    monkeypatch.setattr(ai_edge_litert_faults, "LAST_WITHOUT_FP16_LOOKUP", (0, 0))
    quantize_file(tokens, tmp_path / "cast.tflite", "fp16")
    return tmp_path / "cast.tflite"


class TestFp16Lookups:
    def test_without_the_work_around_the_table_is_fp16(self, cast: Path) -> None:
        assert table(cast) == "float16"
        assert quantize.stores_lookups_small("fp16")

    def test_with_it_the_table_is_fp32(self, tokens: Path, tmp_path: Path) -> None:
        quantize_file(tokens, tmp_path / "x.tflite", "fp16")
        assert table(tmp_path / "x.tflite") == "float32"
        assert not quantize.stores_lookups_small("fp16")

    @pytest.mark.skipif(why_no_gpu() is not None, reason=str(why_no_gpu()))
    def test_the_fault_still_exists(self, cast: Path) -> None:
        verdict = check_on_gpu(cast, compile_only=True)
        if verdict.ok:
            pytest.fail("the GPU delegate takes fp16 tables: the work-around can go")
        assert "Empty quantization params" in verdict.reason

    @pytest.mark.skipif(why_no_gpu() is not None, reason=str(why_no_gpu()))
    @pytest.mark.parametrize("quantization", ["fp16", "int8"])
    def test_the_delegate_takes_our_files(
        self, tokens: Path, tmp_path: Path, quantization: Quantization
    ) -> None:
        quantize_file(tokens, tmp_path / "x.tflite", quantization)
        assert check_on_gpu(tmp_path / "x.tflite", compile_only=True).ok


def table(path: Path) -> str:
    """How the table of embeddings is stored."""
    (tensor,) = [
        t for t in TFLiteFile(path).graphs[0].tensors if t.shape == (50, 16) and t.is_constant
    ]
    return tensor.dtype
