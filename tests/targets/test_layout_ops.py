"""How many ops of a .tflite only move data: the mobile form against the published network."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

import torch

from coreml_sd.config import ConversionConfig
from coreml_sd.mobile.batched_attention import batched_attention
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.targets.tflite.export import export_tflite
from scripts.bench.layout_forms import component_forms, counts

HEADS, MAP = 2, (1, 16, 8, 8)
ALL_SCORES = 4 * HEADS * 64 * 64  # bytes


def test_the_mobile_form_moves_less_and_the_naive_way_more(sd1_folder: Path) -> None:
    component = open_model(ConversionConfig(model=str(sd1_folder))).component("text_encoder")
    forms = component_forms(component)
    found = {form: counts(network, inputs) for form, network, inputs in forms}
    published, naive, mobile = found["published"], found["naive"], found["mobile"]
    assert naive["TRANSPOSE"] > 2 * published["TRANSPOSE"] >= 2 * mobile["TRANSPOSE"]
    assert mobile["RESHAPE"] < published["RESHAPE"] < naive["RESHAPE"]
    assert "FULLY_CONNECTED" not in mobile
    assert mobile["CONV_2D"] == published["FULLY_CONNECTED"] == 12  # two layers of six


class Attention(torch.nn.Module):
    """Self-attention of a map."""

    def __init__(self, score_limit: int) -> None:
        super().__init__()
        self.score_limit = score_limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return batched_attention(x, 2 * x, 3 * x, HEADS, None, self.score_limit)


@pytest.mark.parametrize("pieces", [1, 4])
def test_attention_in_pieces_transposes_no_more_than_whole(pieces: int) -> None:
    inputs = (TensorSpec("x", MAP, "float32", ""),)
    step = Step("attention", Attention(ALL_SCORES // pieces), ("x",), ("y",))
    ops = counts(StepSequence([step], ("x",), ("y",)), inputs)
    assert ops["SOFTMAX"] == pieces
    # The map enters three times and leaves once; each part and the result are split or joined.
    assert ops["TRANSPOSE"] == 3 + 1 + 4


@pytest.mark.parametrize("batch", [1, 2])
def test_the_exporter_does_not_join_the_scores_of_pieces_again(tmp_path: Path, batch: int) -> None:
    limit = ALL_SCORES // 4
    inputs = (TensorSpec("x", (batch, *MAP[1:]), "float32", ""),)
    step = Step("attention", Attention(limit), ("x",), ("y",))
    export_tflite(tmp_path / "a.tflite", "a", StepSequence([step], ("x",), ("y",)), inputs)
    (graph,) = TFLiteFile(tmp_path / "a.tflite").graphs
    assert max(4 * result.elements for op in graph.ops for result in op.outputs) <= limit
