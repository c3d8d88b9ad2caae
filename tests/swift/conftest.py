"""The Swift command line tool, built once for the test run, and a bundle for it to draw from."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from tests.shared_folder import SharedFolder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def coreml_sd_run() -> Path:
    """The built `coreml-sd-run`."""
    swift = shutil.which("swift")
    if swift is None:
        pytest.skip("no Swift toolchain here")
    with FileLock(ROOT / ".build.lock"):
        build = [swift, "build", "--product", "coreml-sd-run", "--package-path", str(ROOT)]
        done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / ".build" / "debug" / "coreml-sd-run"


@pytest.fixture(scope="session")
def litert_library() -> Path:
    """LiteRT's library, from the wheel."""
    wheel = pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")
    return Path(wheel.__path__[0]) / "libLiteRt.so"


@pytest.fixture(scope="session")
def demo_bundle(shared_folder: SharedFolder) -> Path:
    """The built-in model for Android: int8 text encoder and UNet, fp16 VAE."""
    pytest.importorskip("litert_torch", reason="the extra `android` is not installed")
    from coreml_sd.config import ConversionConfig
    from coreml_sd.convert import convert

    def make(path: Path) -> None:
        config = ConversionConfig(model="demo", targets=["tflite"], palettize=6)
        convert(config, path, verify=False)

    return shared_folder.once("demo-tflite.bundle", make)


@pytest.fixture
def swift_environment(litert_library: Path) -> dict[str, str]:
    return {**os.environ, "LITERT_LIBRARY": str(litert_library)}
