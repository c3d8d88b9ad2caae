"""Files of LiteRT from elsewhere: an offset, a length or an index that leads out is refused before
LiteRT, which follows all of them, sees the file."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from coreml_sd.errors import UserError
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.targets.saved_files import lint_files
from tests.helpers.build_tflite import GraphWriter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A fully connected layer, a reshape and a signature."""
    graph = GraphWriter()
    x = graph.input((1, 4))
    weights = graph.constant(np.ones((4, 4), np.float32))
    bias = graph.constant(np.ones(4, np.float32))
    layer = graph.op("FULLY_CONNECTED", [x, weights, bias], (1, 4), options=connected())
    shape = graph.constant(np.array([4, 1]), "int32")
    y = graph.op("RESHAPE", [layer, shape], (4, 1), options=reshape())
    return changed(graph.write(tmp_path / "a.tflite", [y]), lambda model: sign(model, x, y))


def connected() -> schema.FullyConnectedOptionsT:
    return schema.FullyConnectedOptionsT()


def reshape() -> schema.ReshapeOptionsT:
    options = schema.ReshapeOptionsT()
    options.newShape = [4, 1]
    return options


def sign(model: schema.ModelT, x: int, y: int) -> None:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "main", 0
    for side, name, index in (("inputs", "x", x), ("outputs", "y", y)):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        setattr(signature, side, [entry])
    model.signatureDefs = [signature]


def changed(path: Path, change: Callable[[schema.ModelT], object]) -> Path:
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def set_of(place: str, name: str, value: object) -> Callable[[schema.ModelT], None]:
    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        places = {
            "graph": graph,
            "op": graph.operators[0],
            "tensor": graph.tensors[0],
            "signature": model.signatureDefs[0],
            "entry": model.signatureDefs[0].inputs[0],
            "buffer": model.buffers[1],
        }
        setattr(places[place], name, value)

    return change


def scales(model: schema.ModelT) -> None:
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [1.0] * 3, [0] * 3
    model.subgraphs[0].tensors[0].quantization = quantization


CHANGES = {
    "an op's input": set_of("op", "inputs", [0, 1, 99]),
    "an input below none": set_of("op", "inputs", [0, 1, -2]),
    "an op's result": set_of("op", "outputs", [-1]),
    "an op's kind": set_of("op", "opcodeIndex", 9),
    "a graph's input": set_of("graph", "inputs", [1 << 30]),
    "a tensor's buffer": set_of("tensor", "buffer", 77),
    "a tensor's size": set_of("tensor", "shape", [1 << 30, 1 << 30]),
    "a tensor's axes": set_of("tensor", "shape", [1] * 40),
    "a signature's graph": set_of("signature", "subgraphIndex", 3),
    "a signature's tensor": set_of("entry", "tensorIndex", 1 << 31),
    "a signature's name": set_of("entry", "name", "y"),
    "a buffer behind the tables": set_of("buffer", "offset", 1 << 40),
    "scales": scales,
}


def read(path: Path) -> None:
    file = TFLiteFile(path)
    assert file.signatures
    file.op_counts()


def test_negative_control_the_file_is_read(file: Path) -> None:
    read(file)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_leads_out_is_refused(file: Path, change: Callable[[schema.ModelT], None]) -> None:
    with pytest.raises(UserError, match=r"a\.tflite: damaged"):
        read(changed(file, change))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tflite")
    with pytest.raises(UserError, match="not a regular file"):
        TFLiteFile(tmp_path / "a.tflite")


@pytest.mark.parametrize("size", [0, 3, 8, 60, 200])
def test_a_truncated_file_is_refused(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError, match=r"a\.tflite"):
        read(file)


WORDS = """
import sys
from pathlib import Path
import numpy as np
from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.litert.network import LiteRTNetwork
path, values = Path(sys.argv[1]), [0, 1, 0xFFFFFFFF, 1 << 31, 1 << 20, 64]
whole = path.read_bytes()
taken = 0
for place in range(8, len(whole) - 3, 4):
    value = values[place // 4 % len(values)]
    path.write_bytes(whole[:place] + value.to_bytes(4, "little") + whole[place + 4 :])
    try:
        network = LiteRTNetwork(path, threads=1)
        given = {name: np.zeros(each.shape, each.dtype) for name, each in network.inputs.items()}
        network.run(given)
        network.close()
        taken += 1
    except CoremlSDError:
        pass
print("taken", taken, "of", len(whole) // 4 - 2)
"""


def test_no_changed_word_ends_the_process(file: Path) -> None:
    """Each word of the file in turn; what is taken is run."""
    done = subprocess.run(
        [sys.executable, "-c", WORDS, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    _, taken, _, total = done.stdout.split()
    assert 0 < int(taken) < int(total)


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("CONV_2D", [(1, 4, 4, 8)]),
        ("CONV_2D", [(1, 4, 4, 8), (8, 8)]),
        ("FULLY_CONNECTED", [(1, 8)]),
        ("BATCH_MATMUL", [(8,), (8, 8)]),
        ("MEAN", []),
    ],
)
def test_an_op_without_what_its_kind_reads_is_damage(
    tmp_path: Path, kind: str, shapes: list[tuple[int, ...]]
) -> None:
    graph = GraphWriter()
    given = [graph.input(shape) for shape in shapes]
    path = tmp_path / "net.tflite"
    graph.write(path, [graph.op(kind, given, (1, 4, 4, 8))])
    for read in (lambda: TFLiteFile(path).graphs, lambda: lint_files(path, "gpu")):
        with pytest.raises(UserError, match=r"net\.tflite"):
            read()
