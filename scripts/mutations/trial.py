"""A copy of the repository in which mutations are tried, one after the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.mutations.entries import Mutation
from scripts.mutations.verdict import BROKEN, Verdict, verdict

SHARED = "COREML_SD_TEST_FOLDER"  # where tests find bundles of an earlier run
LIBRARIES = (
    "torch", "numpy", "msgspec", "numba", "coremltools", "transformers", "diffusers",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
)  # fmt: skip
PRELOADED = Path(__file__).parent / "preloaded.py"
_SECONDS = 900  # for the tests of one mutation, or of one file


class Trial:
    """The copy, and runs of pytest in it.

    Args:
        root: a git checkout; files that git ignores are not copied.
        folder: a new folder for the copy.
        shared: what tests make once for all trials, such as bundles.
        libraries: what is loaded once for all runs.
    """

    def __init__(
        self, root: Path, folder: Path, shared: Path, libraries: Sequence[str] = LIBRARIES
    ) -> None:
        self._folder, self._shared = folder, shared
        self.copy = folder / "copy"
        _copy(root, self.copy)
        environment = {
            **{key: value for key, value in os.environ.items() if key != SHARED},
            "PYTHONPATH": str(self.copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_WAIT_POLICY": "passive",
            "OMP_NUM_THREADS": "1",
        }
        # Their bytecode holds a hash of the source: one of a time and a size could miss a change.
        hashed = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "."]
        subprocess.run([sys.executable, *hashed], cwd=self.copy, env=environment, check=False)
        self._process = subprocess.Popen(
            [sys.executable, str(PRELOADED), *libraries], cwd=self.copy, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def intact(self, killers: Sequence[str]) -> str:
        """Run tests on the intact copy, and so make what they share; what failed, if anything.

        Each file by itself, as a mutation's: not all libraries bear one another in a process.
        """
        files = sorted({killer.partition("::")[0] for killer in killers})
        for file in files:
            status = self._pytest([k for k in killers if k.partition("::")[0] == file], True)
            if status != "0":
                return f"{self._output.read_text('utf-8')[-6000:]}\n{file}: status {status}"
        return ""

    def judge(self, mutation: Mutation) -> Verdict:
        """Run the tests of a mutation with its line changed, and put the line back."""
        path = self.copy / mutation.file
        intact = path.read_bytes()
        try:
            path.write_bytes(mutation.applied(intact.decode("utf-8")).encode("utf-8"))
            status = self._pytest(mutation.killers, not mutation.converts)
        finally:
            path.write_bytes(intact)
        if status == "late":
            return Verdict(BROKEN, f"its tests take over {_SECONDS} s")
        return verdict(int(status), self._report, mutation.killers)

    def close(self) -> None:
        """End the process that runs the tests."""
        self._process.communicate()

    @property
    def _report(self) -> Path:
        return self._folder / "report.xml"

    @property
    def _output(self) -> Path:
        return self._folder / "output.txt"

    def _pytest(self, killers: Sequence[str], takes_shared: bool) -> str:
        """Its status. The processes that tests start are in the copy too."""
        self._report.unlink(missing_ok=True)
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--junitxml={self._report}"]
        options.append(f"--basetemp={self._folder / 'made'}")
        request = {
            "arguments": [*options, *killers],
            "environment": {SHARED: str(self._shared)} if takes_shared else {},
            "output": str(self._output),
            "seconds": _SECONDS,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip() or "-1"


def _copy(root: Path, copy: Path) -> None:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=root, capture_output=True, check=True).stdout
    for name in listed.decode("utf-8").split("\0"):
        source, target = root / name, copy / name
        if name and source.is_file() and not source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    environment = root / ".venv"
    if environment.exists():
        (copy / ".venv").symlink_to(environment.resolve())
