"""The Swift command line tool, built once for the test run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

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


@pytest.fixture
def swift_environment(litert_library: Path) -> dict[str, str]:
    return {**os.environ, "LITERT_LIBRARY": str(litert_library)}
