"""Reading .tflite files: what stands in them, and one plain error where they are damaged."""

import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")

from ai_edge_litert import schema_py_generated as schema

from coreml_sd.errors import UserError
from coreml_sd.runtimes.litert.file import TFLiteFile
from tests.helpers.build_tflite import GraphWriter
from tests.helpers.tiny_tflite import TinyFiles

WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An input, a stored weight, an ADD of both, and a TANH of the sum."""
    graph = GraphWriter()
    given = graph.input((2, 3, 4, 1), name="net.Net/net.Block_first/net.Conv2d_inner;1")
    total = graph.op(
        "ADD",
        [given, graph.constant(WEIGHT)],
        (2, 3, 4, 1),
        options=schema.AddOptionsT(),
        name="net.Net/net.Block_second/net.Norm_0;",
    )
    result = graph.op("TANH", [total], (2, 3, 4, 1), name="text_output")
    return graph.write(tmp_path / "small.tflite", [result])


def everything(path: Path) -> int:
    """Reads all that there is to read; gives the number of stored values."""
    file = TFLiteFile(path)
    values = 0
    for graph in file.graphs:
        for op in graph.ops:
            if op.kind == "CONV_2D":
                file.option(op, "StrideH", 1)
        for tensor in graph.tensors:
            values += file.data(tensor).size if tensor.is_constant else 0
    return values + len(file.signatures) + len(file.op_counts()) + file.weight_bytes()


def test_it_reads_what_was_written(small: Path) -> None:
    file = TFLiteFile(small)
    (graph,) = file.graphs
    assert [op.kind for op in graph.ops] == ["ADD", "TANH"]
    assert file.op_counts() == {"ADD": 1, "TANH": 1}
    weight = graph.ops[0].inputs[1]
    assert weight is not None and weight.is_constant and weight.scales == 0
    np.testing.assert_array_equal(file.data(weight), WEIGHT)
    assert file.weight_bytes() == WEIGHT.nbytes
    assert [tensor.shape for tensor in (*graph.inputs, *graph.outputs)] == [(2, 3, 4, 1)] * 2


def test_a_layer_is_the_path_of_its_module(small: Path) -> None:
    (graph,) = TFLiteFile(small).graphs
    assert [op.layer for op in graph.ops] == ["second.0", "text_output"]


def test_options_are_read_by_name(small: Path) -> None:
    file = TFLiteFile(small)
    add, tanh = file.graphs[0].ops
    assert file.option(add, "FusedActivationFunction", "none") == 0
    assert file.option(tanh, "FusedActivationFunction", "none") == "none"
    with pytest.raises(UserError, match="ADD #0: damaged options"):
        file.option(add, "Beta", 1.0)


def test_a_computed_tensor_has_no_values(small: Path) -> None:
    file = TFLiteFile(small)
    with pytest.raises(UserError, match="has no readable values"):
        file.data(file.graphs[0].outputs[0])


@pytest.mark.parametrize("content", [b"", b"short", b"not a model at all", bytes(64)])
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tflite: .*convert again"):
        everything(tmp_path / "x.tflite")


class TestDamage:
    """However a file is damaged: it reads, or one error names it. Nothing else may come out."""

    @pytest.fixture(scope="class")
    @staticmethod
    def whole(tiny_files: TinyFiles, sd1_folder: Path) -> bytes:
        return tiny_files(sd1_folder, "text_encoder").unquantized.read_bytes()

    def test_intact_it_reads(self, whole: bytes, tmp_path: Path) -> None:
        assert read(tmp_path / "x.tflite", whole)

    def test_any_truncation(self, whole: bytes, tmp_path: Path) -> None:
        draw = random.Random(0)
        lengths = [*range(64), *(draw.randrange(len(whole)) for _ in range(40))]
        for length in lengths:
            assert not read(tmp_path / "x.tflite", whole[:length])

    def test_any_flipped_bits(self, whole: bytes, tmp_path: Path) -> None:
        """Those in weights cannot be noticed here, which is what the checksums are for."""
        draw = random.Random(1)
        results = []
        for _ in range(80):
            data = bytearray(whole)
            for _ in range(40):
                data[draw.randrange(8, len(whole))] ^= 1 << draw.randrange(8)
            results.append(read(tmp_path / "x.tflite", bytes(data)))
        assert not all(results)


def read(path: Path, data: bytes) -> bool:
    """Whether it could be read; anything but a `UserError` that names the file gets through."""
    path.write_bytes(data)
    try:
        everything(path)
    except UserError as error:
        assert str(path) in str(error)
        return False
    return True
