"""Costs of .tflite files: counted by hand, and equal to the network's own and to Core ML's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")

from ai_edge_litert import schema_py_generated as schema

from coreml_sd.bundle import open_bundle
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.costs.file_costs import FileCosts
from coreml_sd.errors import UserError
from coreml_sd.mobile import mobile_form
from coreml_sd.mobile.measure import network_costs
from coreml_sd.models.open_model import open_model
from coreml_sd.targets.saved_files import file_costs
from tests.helpers.build_tflite import GraphWriter

RANDOM = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def quantized(graph: GraphWriter, *shape: int) -> int:
    """An int8 weight with one scale for each output channel."""
    index = graph.constant(RANDOM.integers(-127, 127, shape), "int8")
    parameters = schema.QuantizationParametersT()
    parameters.scale = [0.1] * shape[0]
    graph.tensors[index].quantization = parameters
    return index


def only_op(
    path: Path, kind: str, *shapes: tuple[int, ...], out: tuple[int, ...], **options: Any
) -> FileCosts:
    graph = GraphWriter()
    reads = [graph.input(shape) for shape in shapes]
    file = graph.write(path / "net.tflite", [graph.op(kind, reads, out, **options)])
    return file_costs(file)


def test_macs_of_every_kind(tmp_path: Path) -> None:
    def macs(kind: str, *shapes: tuple[int, ...], out: tuple[int, ...], **options: Any) -> int:
        return only_op(tmp_path, kind, *shapes, out=out, **options).macs

    grouped = (16, 3, 3, 4)  # two groups of four channels
    assert macs("CONV_2D", (1, 9, 9, 8), (16, 3, 3, 8), out=(1, 9, 9, 16)) == 81 * 16 * 9 * 8
    assert macs("CONV_2D", (1, 9, 9, 8), grouped, out=(1, 9, 9, 16)) == 81 * 16 * 9 * 4
    assert macs("DEPTHWISE_CONV_2D", (1, 9, 9, 8), (1, 3, 3, 8), out=(1, 9, 9, 8)) == 81 * 8 * 9
    assert macs("FULLY_CONNECTED", (2, 5, 8), (16, 8), out=(2, 5, 16)) == 10 * 16 * 8
    assert macs("BATCH_MATMUL", (3, 5, 8), (3, 8, 7), out=(3, 5, 7)) == 3 * 5 * 7 * 8
    assert macs("ADD", (3, 5), (3, 5), out=(3, 5)) == 0
    adjoint = schema.BatchMatMulOptionsT()
    adjoint.adjX = True
    shapes = ((3, 8, 5), (3, 8, 7))
    assert macs("BATCH_MATMUL", *shapes, out=(3, 5, 7), options=adjoint) == 3 * 5 * 7 * 8


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """int8 weight -> DEQUANTIZE -> CONV_2D with a zero bias -> MUL by a norm weight."""
    graph = GraphWriter()
    x = graph.input((1, 4, 4, 8))
    wide = graph.op("DEQUANTIZE", [quantized(graph, 16, 1, 1, 8)], (16, 1, 1, 8))
    zeros = graph.constant(np.zeros(16, np.float32))
    conv = graph.op("CONV_2D", [x, wide, zeros], (1, 4, 4, 16), name="n.N/a.Conv2d_mid;")
    axes = graph.constant(np.arange(4), "int32")
    moved = graph.op("TRANSPOSE", [conv, axes], (1, 4, 4, 16))
    gain = graph.constant(noise(1, 1, 1, 16))
    out = graph.op("MUL", [moved, gain], (1, 4, 4, 16))
    return graph.write(tmp_path / "small.tflite", [out])


def test_integer_weights_count_their_elements_and_fillers_count_nothing(small: Path) -> None:
    costs = file_costs(small)
    assert costs.parameters == 16 * 8 + 16
    assert costs.weight_bytes == 16 * 8 + 4 * 16 + 4 * 4 + 4 * 16
    assert costs.ops == {"DEQUANTIZE": 1, "CONV_2D": 1, "TRANSPOSE": 1, "MUL": 1}
    kernel, gain = costs.weights
    assert (kernel.kind, kernel.bits, kernel.shape) == ("int8", 8, (16, 1, 1, 8))
    assert kernel.stored_bytes == 16 * 8 + 4 * 16
    assert (gain.kind, gain.bits, gain.stored_bytes) == ("float32", 32, 64)


def test_the_peak_is_weights_input_and_what_is_alive_at_once(small: Path) -> None:
    costs = file_costs(small)
    given, mapped, widened = 4 * 16 * 8, 4 * 16 * 16, 4 * 16 * 8
    assert costs.activation_bytes == given + max(widened + mapped, 2 * mapped)
    assert costs.peak_bytes == costs.weight_bytes + costs.activation_bytes


def test_every_form_has_the_macs_of_the_network(
    sd1_folder: Path, sd1_bundle: Path, tmp_path: Path, quick_export: None
) -> None:
    config = ConversionConfig(
        model=str(sd1_folder),
        targets=["tflite"],
        components=["text_encoder", "unet", "vae_decoder"],
        quantize="int8",
    )
    android, apple = convert(config, tmp_path / "b", verify=False), open_bundle(sd1_bundle)
    # Beside its parameters a file stores the causal mask or the sinusoid's frequencies.
    extra = {"text_encoder": 77 * 77, "unet": 16}
    for name in config.components:
        component = open_model(config).component(name)
        mobile = mobile_form(component.name, component.load())
        macs = network_costs(mobile, component.inputs).macs
        (of_tflite,) = [file_costs(file) for file in android.files(component.name, "tflite")]
        of_coreml = [file_costs(file) for file in apple.files(component.name, "coreml")]
        assert of_tflite.macs == sum(costs.macs for costs in of_coreml) == macs
        parameters = sum(p.numel() for p in mobile.parameters())
        assert of_tflite.parameters == parameters + extra.get(component.name, 0)


def test_any_damage_is_one_clear_error(small: Path, tmp_path: Path) -> None:
    whole, file = small.read_bytes(), tmp_path / "damaged.tflite"
    refused = 0
    for position in range(8, len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 0x55
        file.write_bytes(changed if position % 4 else whole[:position])
        try:
            file_costs(file)
        except UserError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_an_op_without_its_weight_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged"):
        only_op(tmp_path, "CONV_2D", (1, 4, 4, 8), out=(1, 4, 4, 8))
