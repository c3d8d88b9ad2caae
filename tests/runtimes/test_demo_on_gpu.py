"""Every graph of the built-in model on the real GPU delegate."""

from pathlib import Path

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.convert import convert
from coreml_sd.runtimes.litert.gpu_gate import check_on_gpu, tflite_files
from coreml_sd.runtimes.litert.vulkan import why_no_gpu

LACKING = why_no_gpu()


@pytest.mark.skipif(LACKING is not None, reason=LACKING or "")
@pytest.mark.parametrize(
    "components", [["text_encoder"], ["unet"], ["vae_decoder"], ["vae_encoder"]], ids=str
)
def test_it_is_taken_whole_and_equals_the_cpu(components: list[str], tmp_path: Path) -> None:
    config = ConversionConfig(model="demo", targets=["tflite"], components=components, palettize=6)
    bundle = convert(config, tmp_path / "b", verify=False)
    for file in tflite_files(bundle):
        verdict = check_on_gpu(file, fp16=False)
        assert verdict.fully_accelerated, verdict.reason
        assert verdict.ok, verdict.reason
