"""Every graph of the built-in model on the real GPU delegate."""

from pathlib import Path

import pytest

from coreml_sd.bundle import open_bundle
from coreml_sd.runtimes.litert.gpu_gate import check_on_gpu, tflite_files
from coreml_sd.runtimes.litert.vulkan import why_no_gpu

LACKING = why_no_gpu()
FILES = ["TextEncoder", "Unet", "VAEDecoder", "VAEEncoder", "SchedulerStep"]


def test_these_are_all_files(demo_bundle: Path) -> None:
    assert [file.stem for file in tflite_files(open_bundle(demo_bundle))] == FILES


@pytest.mark.skipif(LACKING is not None, reason=LACKING or "")
@pytest.mark.parametrize("name", FILES)
def test_it_is_taken_whole_and_equals_the_cpu(demo_bundle: Path, name: str) -> None:
    """However long this machine takes."""
    verdict = check_on_gpu(demo_bundle / f"{name}.tflite", fp16=False, time_limit=3600.0)
    assert verdict.fully_accelerated, verdict.reason
    assert verdict.ok, verdict.reason
