"""Tables of embeddings on the real GPU delegate, whole and cut."""

from pathlib import Path

import pytest

from coreml_sd.runtimes.litert.gpu_gate import check_on_gpu
from coreml_sd.runtimes.litert.vulkan import why_no_gpu
from coreml_sd.targets.tflite.profiles import profile
from tests.helpers.wide_text_encoder import export_text_encoder, wide_text_encoder

LACKING = why_no_gpu()
SD1 = (49_408, 768)  # 145 MiB at fp32; Vulkan guarantees 128 for a buffer


@pytest.mark.skipif(LACKING is not None, reason=LACKING or "")
@pytest.mark.parametrize(("tokens", "width", "parts"), [(200, 768, 1), (*SD1, 2)])
def test_they_equal_the_cpu(tokens: int, width: int, parts: int, tmp_path: Path) -> None:
    network = wide_text_encoder(tokens, width, profile("gpu").table_limit)
    file = export_text_encoder(network, tmp_path / "x.tflite")
    assert file.op_counts()["EMBEDDING_LOOKUP"] == parts
    verdict = check_on_gpu(file.path, fp16=False)
    assert verdict.fully_accelerated, verdict.reason
    assert verdict.ok, verdict.reason
