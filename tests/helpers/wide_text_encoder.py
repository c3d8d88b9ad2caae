"""Text encoders as wide as those of Stable Diffusion and one layer deep, as fp32 .tflite files."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.cut_table import cut_tables
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.runtimes.litert.file import Op, TFLiteFile
from coreml_sd.targets.tflite.export import export_tflite

_OPTIONS = MobileOptions("batched", layout="channels-last", pooled=False)
_INPUTS = [TensorSpec("input_ids", (1, 77), "float32", "")]


def wide_text_encoder(tokens: int, width: int, table_limit: int) -> StepSequence:
    """A random one for Android; `table_limit` is in bytes at fp32."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
    )
    network = mobile_form("text_encoder", CLIPTextModel(config).eval(), _OPTIONS)
    cut_tables(network, table_limit)
    return network


def export_text_encoder(network: StepSequence, path: Path) -> TFLiteFile:
    """The network as a file."""
    export_tflite(path, "text_encoder", network, _INPUTS)
    return TFLiteFile(path)


def sum_of_embeddings(file: TFLiteFile) -> Op:
    """The op that adds the positions to the tokens."""
    (found,) = [op for op in file.graphs[0].ops if op.kind == "ADD" and op.layer == "embeddings"]
    return found
