"""Tokens and positions of an exported text encoder: added with as many axes on both sides."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.runtimes.litert.mixed_rank import mixed_rank_ops
from tests.helpers.wide_text_encoder import (
    export_text_encoder,
    sum_of_embeddings,
    wide_text_encoder,
)

TOKENS = 200


@pytest.mark.parametrize(("width", "parts"), [(768, 1), (768, 3), (640, 1), (32, 1)])
def test_both_have_four_axes(tmp_path: Path, width: int, parts: int) -> None:
    network = wide_text_encoder(TOKENS, width, table_limit=4 * TOKENS * width // parts)
    file = export_text_encoder(network, tmp_path / "x.tflite")
    total = sum_of_embeddings(file)
    shapes = [t.shape for t in (*total.inputs, *total.outputs) if t is not None]
    assert shapes == [(1, 77, 2, width // 2)] * 3
    assert not mixed_rank_ops(file)
    assert file.op_counts()["EMBEDDING_LOOKUP"] == parts


def test_negative_control_a_reshape_that_only_adds_axes_is_dropped(tmp_path: Path) -> None:
    """Where this fails, the converter no longer does so, and the halves are not needed."""
    network = wide_text_encoder(TOKENS, 768, table_limit=2**30)
    embeddings: Any = network.get_submodule("embeddings")
    embeddings.halved = False
    file = export_text_encoder(network, tmp_path / "x.tflite")
    total = sum_of_embeddings(file)
    assert [t.shape for t in total.inputs if t is not None] == [(77, 768), (1, 77, 768)]
    assert mixed_rank_ops(file) == [total]
