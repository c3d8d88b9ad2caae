"""Parity of .tflite files: intact ones pass every gate, the smallest faults do not."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")

from coreml_sd.errors import UserError
from coreml_sd.parity.checks import GATE_FILE, Check, ComponentParity
from coreml_sd.parity.reference import Reference
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.targets.tflite.export import export_tflite
from coreml_sd.targets.tflite.profiles import Gelu, Quantization, profile
from coreml_sd.targets.tflite.proof import component_parity, weight_only
from coreml_sd.targets.tflite.rewrites import AndroidForm, android_form
from coreml_sd.upstream import ai_edge_litert_faults
from tests.helpers.tiny_tflite import TinyFile, TinyFiles

Measure = Callable[..., ComponentParity]
QUANTIZATIONS = ("fp32", "fp16", "int8", "dynamic-int8")
CASES = [
    *(("sd1_folder", name, "gpu") for name in ("text_encoder", "unet")),
    *(("sd1_folder", name, "gpu") for name in ("vae_decoder", "vae_encoder")),
    ("sd2_folder", "text_encoder", "mali"),
    ("sd2_folder", "unet", "mali"),
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case).replace("_folder", ""))
def case(request: pytest.FixtureRequest, tiny_files: TinyFiles) -> tuple[TinyFile, Gelu]:
    folder, component, name = request.param
    tiny = tiny_files(request.getfixturevalue(folder), component, name)
    return tiny, "clipped" if name == "mali" else "exact"


@pytest.fixture
def unet(tiny_files: TinyFiles, sd1_folder: Path) -> TinyFile:
    return tiny_files(sd1_folder, "unet")


@pytest.fixture
def text_encoder(tiny_files: TinyFiles, sd1_folder: Path) -> TinyFile:
    return tiny_files(sd1_folder, "text_encoder")


def measure(
    tiny: TinyFile,
    path: Path,
    quantization: Quantization,
    *,
    gelu: Gelu = "exact",
    source: nn.Module | None = None,
    form: AndroidForm | None = None,
) -> ComponentParity:
    return component_parity(
        tiny.component,
        Reference(source or tiny.source),
        (form or tiny.form).network,
        path,
        quantization,
        gelu,
        tiny.unquantized,
    )


def check(parity: ComponentParity, beginning: str) -> Check:
    (found,) = [each for each in parity.checks if each.name.startswith(beginning)]
    return found


def headline(parity: ComponentParity) -> Check:
    return check(parity, parity.headline)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
class TestIntactFiles:
    def test_every_gate_is_passed(
        self, case: tuple[TinyFile, Gelu], tmp_path: Path, quantization: Quantization
    ) -> None:
        tiny, gelu = case
        path = tiny.quantized(tmp_path / "x.tflite", quantization)
        parity = measure(tiny, path, quantization, gelu=gelu)
        assert parity.passed, [each for each in parity.checks if not each.passed]
        assert (parity.component, parity.target) == (tiny.component.name, "tflite")
        assert parity.label == "run by LiteRT on the CPU (XNNPACK)"
        assert check(parity, "mobile form against the source").value >= 100
        assert check(parity, "file before quantization").value >= 100
        if quantization == "dynamic-int8":
            assert headline(parity).gate_value == 25
        else:
            assert headline(parity).gate_value == GATE_FILE == 85
            assert check(parity, "ops that round activations").value == 0


class TestFigures:
    def test_the_reference_carries_the_weights_of_the_file(
        self, unet: TinyFile, tmp_path: Path
    ) -> None:
        """Against the source itself the same file is 40 dB further off."""
        for quantization in ("fp16", "int8"):
            path = unet.quantized(tmp_path / "x.tflite", quantization)
            parity = measure(unet, path, quantization)
            against_source = check(parity, "file against the source")
            assert against_source.gate_value is None and against_source.passed
            assert headline(parity).value - against_source.value > 25

    def test_the_distance_of_tanh_gelu_is_reported(
        self, tiny_files: TinyFiles, sd2_folder: Path, tmp_path: Path
    ) -> None:
        tiny = tiny_files(sd2_folder, "unet", "mali")
        path = tiny.quantized(tmp_path / "x.tflite", "fp32")
        parity = measure(tiny, path, "fp32", gelu="clipped")
        assert check(parity, "mobile form against the source with tanh GELU").value >= 100
        distance = check(parity, "tanh GELU against the source")
        assert distance.gate_value is None and 40 < distance.value < 100

    def test_the_source_is_left_as_it_was(self, unet: TinyFile, tmp_path: Path) -> None:
        before = {name: value.clone() for name, value in unet.source.state_dict().items()}
        measure(unet, unet.quantized(tmp_path / "x.tflite", "int8"), "int8")
        after = unet.source.state_dict()
        assert all(np.array_equal(before[name], after[name]) for name in before)

    def test_they_are_right_for_a_table_of_embeddings_in_fp16(
        self, text_encoder: TinyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As it will be stored where the GPU delegate takes it."""
        monkeypatch.setattr(ai_edge_litert_faults, "LAST_WITHOUT_FP16_LOOKUP", (0, 0))
        path = text_encoder.quantized(tmp_path / "x.tflite", "fp16")
        right = headline(measure(text_encoder, path, "fp16")).value
        monkeypatch.undo()
        assert right - headline(measure(text_encoder, path, "fp16")).value > 25

    def test_they_are_right_for_a_table_that_is_cut(
        self, text_encoder: TinyFile, tmp_path: Path
    ) -> None:
        """Each part of a table has scales of its own: another network than the whole one."""
        cut = with_cut_table(text_encoder, tmp_path)
        for quantization in ("int8", "fp16"):
            parity = measure(cut, cut.quantized(tmp_path / "x.tflite", quantization), quantization)
            assert parity.passed, [each for each in parity.checks if not each.passed]

    def test_negative_control_a_cut_table_taken_for_a_whole_one(
        self, text_encoder: TinyFile, tmp_path: Path
    ) -> None:
        cut = with_cut_table(text_encoder, tmp_path)
        path = cut.quantized(tmp_path / "x.tflite", "int8")
        whole = dataclasses.replace(cut, form=text_encoder.form, source=text_encoder.source)
        assert not headline(measure(whole, path, "int8")).passed

    def test_it_is_json(self, text_encoder: TinyFile, tmp_path: Path) -> None:
        path = text_encoder.quantized(tmp_path / "x.tflite", "fp16")
        facts = measure(text_encoder, path, "fp16").to_json()
        assert facts["headline"] in [entry["name"] for entry in facts["checks"]]
        assert all(entry["passed"] for entry in facts["checks"])


class TestNegativeControls:
    def test_keys_and_values_swapped_in_one_attention(self, unet: TinyFile, tmp_path: Path) -> None:
        path = unet.quantized(tmp_path / "x.tflite", "fp16")
        swapped = copy.deepcopy(unet.source)
        attention = swapped.down_blocks[0].attentions[0].transformer_blocks[0].attn1
        attention.to_k, attention.to_v = attention.to_v, attention.to_k
        parity = measure(unet, path, "fp16", source=swapped, form=rewritten(unet, swapped))
        assert check(parity, "mobile form").passed
        assert not check(parity, "file before quantization").passed
        assert not headline(parity).passed and not parity.passed

    @pytest.mark.parametrize(("quantization", "bit"), [("fp16", 13), ("int8", 6), ("fp32", 30)])
    def test_one_high_bit_of_one_weight(
        self, unet: TinyFile, tmp_path: Path, quantization: Quantization, bit: int
    ) -> None:
        """An exponent bit of a float, the highest of an integer's magnitude."""
        path = unet.quantized(tmp_path / "x.tflite", quantization)
        assert headline(measure(unet, path, quantization)).passed
        flip(path, "conv_out", bit)
        parity = measure(unet, path, quantization)
        assert not headline(parity).passed
        assert check(parity, "file before quantization").passed

    def test_the_gate_of_dynamic_int8_notices_it_too(self, unet: TinyFile, tmp_path: Path) -> None:
        """Its gate is low: a weight that becomes 1,000 times as large is what it must see."""
        path = unet.quantized(tmp_path / "x.tflite", "dynamic-int8")
        flip(path, "conv_out", 30, of_bias=True)
        assert not headline(measure(unet, path, "dynamic-int8")).passed

    def test_one_quantization_taken_for_another(self, unet: TinyFile, tmp_path: Path) -> None:
        path = unet.quantized(tmp_path / "x.tflite", "int8")
        assert not headline(measure(unet, path, "fp16")).passed

    def test_a_clipped_gelu_taken_for_the_exact_one(
        self, tiny_files: TinyFiles, sd2_folder: Path, tmp_path: Path
    ) -> None:
        tiny = tiny_files(sd2_folder, "unet", "mali")
        parity = measure(tiny, tiny.quantized(tmp_path / "x.tflite", "fp32"), "fp32")
        assert not check(parity, "mobile form against the source").passed

    def test_weights_that_are_not_a_number(self, unet: TinyFile, tmp_path: Path) -> None:
        path = unet.quantized(tmp_path / "x.tflite", "fp32")
        change(path, "conv_out", lambda values: values.fill(np.nan))
        parity = measure(unet, path, "fp32")
        assert headline(parity).figure == "not finite" and not parity.passed


class TestWeightOnly:
    """T1.5: the same file must mean the same on CPU and GPU."""

    @pytest.mark.parametrize("quantization", ["fp32", "fp16", "int8"])
    def test_files_that_dequantize_pass(
        self, text_encoder: TinyFile, tmp_path: Path, quantization: Quantization
    ) -> None:
        assert weight_only(text_encoder.quantized(tmp_path / "x.tflite", quantization)).passed

    def test_a_dynamic_file_does_not(self, text_encoder: TinyFile, tmp_path: Path) -> None:
        path = text_encoder.quantized(tmp_path / "x.tflite", "dynamic-int8")
        found = weight_only(path)
        assert not found.passed and found.value == TFLiteFile(path).op_counts()["CONV_2D"]
        assert found.detail == "CONV_2D in encoder_layers_0.self_attn.k_proj"

    def test_nor_where_it_is_given_out_for_int8(
        self, text_encoder: TinyFile, tmp_path: Path
    ) -> None:
        path = text_encoder.quantized(tmp_path / "x.tflite", "dynamic-int8")
        parity = measure(text_encoder, path, "int8")
        assert not check(parity, "ops that round activations").passed and not parity.passed


class TestDamagedFiles:
    """LiteRT itself may crash on these; our reader says so first."""

    @pytest.mark.parametrize("part", [0.0, 0.0001, 0.3, 0.6])
    def test_a_truncated_file(self, text_encoder: TinyFile, tmp_path: Path, part: float) -> None:
        path = text_encoder.quantized(tmp_path / "x.tflite", "fp16")
        whole = path.read_bytes()
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UserError, match=r"x\.tflite: .*convert again"):
            measure(text_encoder, path, "fp16")

    def test_another_kind_of_file(self, text_encoder: TinyFile, tmp_path: Path) -> None:
        (tmp_path / "x.tflite").write_bytes(b"PK\x03\x04" + bytes(100))
        with pytest.raises(UserError, match="not a TFLite file"):
            measure(text_encoder, tmp_path / "x.tflite", "fp16")

    def test_no_file(self, text_encoder: TinyFile, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot be read"):
            measure(text_encoder, tmp_path / "x.tflite", "fp16")


def with_cut_table(tiny: TinyFile, folder: Path) -> TinyFile:
    """The same network made for a GPU whose buffers hold three quarters of the table."""
    source = tiny.component.load()
    limit = 3 * 4 * source.get_input_embeddings().weight.numel() // 4
    limited = dataclasses.replace(profile("gpu"), table_limit=limit)
    form = android_form(tiny.component, source, limited)
    path = folder / "cut.fp32"
    export_tflite(path, tiny.component.name, form.network, tiny.component.inputs)
    assert TFLiteFile(path).op_counts()["EMBEDDING_LOOKUP"] == 2
    return dataclasses.replace(tiny, source=source, form=form, unquantized=path)


def rewritten(tiny: TinyFile, source: nn.Module) -> AndroidForm:
    return android_form(tiny.component, source, profile("gpu"))


def flip(path: Path, layer: str, bit: int, *, of_bias: bool = False) -> None:
    """Flip one bit of the largest value of a convolution's weight, or of its bias."""

    def change_one(values: np.ndarray) -> None:
        index = np.abs(values.astype(np.float32)).argmax()
        words = values.view(f"u{values.itemsize}")
        words[index] ^= words.dtype.type(1 << bit)

    change(path, layer, change_one, of_bias=of_bias)


def change(
    path: Path, layer: str, edit: Callable[[np.ndarray], None], *, of_bias: bool = False
) -> None:
    """Edit the stored values of one convolution in the file, in place."""
    file = TFLiteFile(path)
    ops = file.graphs[0].ops
    (op,) = [op for op in ops if op.kind == "CONV_2D" and op.layer == layer]
    given = op.inputs[2 if of_bias else 1]
    assert given is not None
    if not given.is_constant:
        (maker,) = [each for each in ops if given in each.outputs]
        (given,) = maker.inputs
        assert given is not None
    before = file.data(given).ravel().copy()
    data = path.read_bytes()
    assert data.count(before.tobytes()) == 1
    after = before.copy()
    edit(after)
    path.write_bytes(data.replace(before.tobytes(), after.tobytes()))
