"""Names that are the same in Python and Swift."""

import re
import subprocess
from pathlib import Path

from coreml_sd import __version__
from coreml_sd.schedulers.schedulers import NAMES

ROOT = Path(__file__).resolve().parents[2]
HELP = (ROOT / "swift/Tests/RunCommandTests/help.txt").read_text(encoding="utf-8")


def test_schedulers() -> None:
    (listed,) = re.findall(r"--scheduler (\S+)", HELP.split("Examples:")[0])
    assert listed == "|".join(NAMES)


def test_version(coreml_sd_run: Path) -> None:
    done = subprocess.run([coreml_sd_run, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"coreml-sd-run {__version__}\n"
