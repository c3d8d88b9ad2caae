"""Every script starts and says what it is for."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "scripts"


def answered(script: Path) -> str:
    """What is wrong with a script's answer to `--help`, if anything."""
    command = [sys.executable, str(script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{script.name}: status {done.returncode}\n{done.stderr}"
    return "" if done.stdout.startswith("usage: ") else f"{script.name}: {done.stdout}"


def test_every_script_answers_help() -> None:
    """From any folder, and before it imports what takes seconds."""
    scripts = sorted(FOLDER.glob("*.py"))
    assert len(scripts) >= 12
    with ThreadPoolExecutor(4) as pool:
        assert "".join(pool.map(answered, scripts)) == ""


def test_a_script_that_does_not_start_is_noticed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("from scripts.bench_convert import no_such_name\n", "utf-8")
    assert answered(broken).startswith("broken.py: status 1")
