"""The installed wheel converts the built-in model, from an empty folder and without a network."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

# Runs at the start of every process of the environment, those that a conversion starts too.
NO_NETWORK = """
import socket


def refuse(self, address):
    if self.family != socket.AF_UNIX:
        raise OSError(f"this environment has no network: {address}")
    return connect(self, address)


connect, socket.socket.connect = socket.socket.connect, refuse
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that sees neither the working tree nor the environment's own paths."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh one with the wheel; the libraries are those of this run, our own package is not.

    The line of a .pth file adds a folder, but not what the .pth files in that folder would add,
    of which one is this project as it was installed for its tests.
    """
    folder = tmp_path_factory.mktemp("installed") / "env"
    made = run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    assert made.returncode == 0, made.stderr
    python = folder / "bin/python"
    install = (python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    installed = run(*install, cwd=folder.parent)
    assert installed.returncode == 0, installed.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "libraries.pth").write_text("\n".join(sorted(libraries)), encoding="utf-8")
    (site / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    return folder


def test_the_package_is_that_of_the_wheel(environment: Path, tmp_path: Path) -> None:
    code = "import coreml_sd; print(coreml_sd.__file__)"
    found = run(environment / "bin/python", "-c", code, cwd=tmp_path)
    assert Path(found.stdout.strip()).is_relative_to(environment)


def test_the_environment_has_no_network(environment: Path, tmp_path: Path) -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    found = run(environment / "bin/python", "-c", code, cwd=tmp_path)
    assert "this environment has no network" in found.stderr


def test_it_converts_the_built_in_model(environment: Path, tmp_path: Path) -> None:
    """Two networks with their proof: what the others need beside them is code and weights, which
    `test_wheel_contents.py` counts."""
    asked = ("--palettize", "6", "--components", "text_encoder,vae_encoder")
    done = run(environment / "bin/coreml-sd", "convert", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["demo.bundle"]
    packages = {path.name for path in (tmp_path / "demo.bundle").glob("*.mlpackage")}
    assert packages == {"TextEncoder.mlpackage", "VAEEncoder.mlpackage"}
