"""Finished components and palettes of a conversion that has not ended yet, kept for the next run.

They lie beside the output, in `.NAME.parts`, as hard links to the files of the conversion in work:
they cost neither time nor space, and are gone when the bundle is whole. The name of a part is a
hash of all that decides its bytes, so what was made from something else is never taken.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from coreml_sd import __version__
from coreml_sd.bundle import file_sum
from coreml_sd.compress.solve_ahead import palettes_of
from coreml_sd.conversion.plan import Plan
from coreml_sd.errors import CoremlSDError, KilledError, NoRoomError, UserError
from coreml_sd.files.foreign import parse_json, read_text, require_regular
from coreml_sd.files.inside_folder import file_inside
from coreml_sd.processes.stopping import when_stopped

_LIBRARIES = (
    "ai-edge-litert", "ai-edge-quantizer", "coremltools", "diffusers", "litert-converter",
    "litert-torch", "llvmlite", "numba", "numpy", "safetensors", "torch", "transformers",
)  # fmt: skip
_RECORD = "part.json"
_PALETTES = "palettes-"


class Parts:
    """The finished components of one conversion."""

    def __init__(
        self, plan: Plan, destination: Path, verify: bool, digest: Callable[[], str], *, keep: bool
    ) -> None:
        """
        Args:
            verify: whether the files are executed before they count as finished.
            digest: gives the hash of the model's files, when it is known.
            keep: False removes what an earlier run left, and keeps nothing.
        """
        self.destination = destination
        self.folder = destination.with_name(f".{destination.name}.parts")
        self.sums: dict[str, dict[str, Any]] = {}  # of files that were read once already
        self._plan, self._verify, self._digest, self._keep = plan, verify, digest, keep

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """While the conversion runs: its parts outlive a stop, a kill, a full disk or memory.

        They do not outlive a mistake or a failed gate, where the next run would meet it again or
        make something else.
        """
        try:
            with when_stopped(self._told):
                yield
        except (KilledError, NoRoomError):
            raise
        except CoremlSDError:
            self.remove()
            raise

    def take(self, staging: Path) -> dict[str, dict[str, Any]]:
        """Put the parts that fit into `staging`; gives their entries by component.

        All others are removed: what belongs to another config, model or version, and what changed.
        """
        if not self._keep:
            self.remove()
        if self.folder.is_symlink():  # what lies behind it is not ours to remove
            self.folder.unlink()
        if not self.folder.is_dir():
            return {}
        wanted = {self._name(component.name): component.name for component in self._plan.components}
        taken = {}
        for part in sorted(self.folder.iterdir()):
            if part.name.removeprefix(_PALETTES) in wanted and part.is_file():
                continue
            entry = self._taken(part, staging) if part.name in wanted else None
            if entry is None:
                _removed(part)
            else:
                taken[wanted[part.name]] = entry
        return taken

    def add(self, component: str, entry: dict[str, Any], staging: Path) -> None:
        """Keep a component that is finished, with its manifest entry."""
        if not self._keep:
            return
        sums = {
            file.relative_to(staging).as_posix(): file_sum(file) for file in _files(entry, staging)
        }
        self.sums |= sums
        part = self.folder / self._name(component)
        new = self.folder / f"new-{component}-{os.getpid()}"
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            for name in sums:
                _link(staging / name, new / name)
            (new / _RECORD).write_text(_sealed({"entry": entry, "files": sums}), "utf-8")
            new.rename(part)  # never seen before it is whole
        except OSError:  # no hard links there, or no room: the conversion itself is not harmed
            shutil.rmtree(new, ignore_errors=True)

    def add_palettes(self, component: str, lines: list[Any]) -> None:
        """Keep the palettes of a component that is not finished."""
        if not self._keep:
            return
        path = self.folder / f"{_PALETTES}{self._name(component)}"
        new = self.folder / f"new-{component}-{os.getpid()}.palettes"
        with contextlib.suppress(OSError):  # no room: the conversion itself is not harmed
            self.folder.mkdir(exist_ok=True)
            new.write_text(_sealed({"lines": lines}), "utf-8")
            new.replace(path)  # never seen before it is whole

    def palettes(self, component: str) -> list[Any] | None:
        """Palettes that an earlier run kept, if they are those of this conversion."""
        if not self._keep or not self.folder.is_dir():
            return None
        path = self.folder / f"{_PALETTES}{self._name(component)}"
        try:
            lines = _unsealed(read_text(path))["lines"]
            palettes_of(lines)
        except (UserError, ValueError, KeyError, TypeError):
            return None
        return list(lines)

    def remove(self) -> None:
        """Remove all of them: the bundle is whole, or they are of no use."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _name(self, component: str) -> str:
        facts = {**_facts(self._plan), "model": self._digest(), "verify": self._verify}
        text = json.dumps({**facts, "component": component}, sort_keys=True)
        return f"{component}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def _taken(self, part: Path, staging: Path) -> dict[str, Any] | None:
        try:
            entry, sums = _finished(_unsealed(read_text(part / _RECORD)))
            held = {name: require_regular(file_inside(part, name)) for name in sums}
            if any(file_sum(held[name]) != known for name, known in sums.items()):
                return None
            targets = {name: file_inside(staging, name) for name in sums}
        except (OSError, UserError, ValueError):
            return None
        try:
            for name, target in targets.items():
                _link(held[name], target)
        except OSError:  # vanished, or no hard links there
            for top in {Path(name).parts[0] for name in sums}:
                _removed(staging / top)
            return None
        self.sums |= sums
        return entry

    def _told(self) -> str | None:
        held = [part.name for part in self.folder.glob("*-*") if not part.name.startswith("new-")]
        if not held:
            return None
        names = ", ".join(sorted(name.rsplit("-", 1)[0] for name in held))
        return f"the next run goes on from {self.folder} ({names})"


def _facts(plan: Plan) -> dict[str, Any]:
    """All that decides the bytes of a component, beside the model's own files."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "config": plan.config.to_dict(),
        "source": [plan.model.source.name, plan.model.source.revision],
        "card": plan.model.folder.licence_and_author(),
        "version": [__version__, _code_digest()],
        "libraries": versions,
        "machine": [sys.version, platform.system(), platform.machine()],
    }


@functools.cache
def _code_digest() -> str:
    """A checkout changes more often than its version."""
    folder = Path(__file__).parents[1]
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def _files(entry: dict[str, Any], staging: Path) -> list[Path]:
    paths = [staging / file["path"] for file in entry["files"]]
    found = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sorted(file for file in found if file.is_file())


def _removed(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    with contextlib.suppress(OSError):
        part.unlink()


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def _sealed(record: dict[str, Any]) -> str:
    text = json.dumps(record)
    return hashlib.sha256(text.encode()).hexdigest() + "\n" + text


def _unsealed(sealed: str) -> dict[str, Any]:
    """The record of a sealed text.

    Raises:
        ValueError: the text is not what was written.
    """
    seal, _, text = sealed.partition("\n")
    record = (
        parse_json(text, any_number=True)
        if hashlib.sha256(text.encode()).hexdigest() == seal
        else None
    )
    if not isinstance(record, dict):
        raise ValueError("not a record")
    return record


def _finished(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The manifest entry and the sums of the files of a finished component.

    Raises:
        ValueError: the record is of another kind.
    """
    entry, sums = record.get("entry"), record.get("files")
    paths = entry.get("files") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(sums, dict) or not isinstance(paths, list):
        raise ValueError("not a record of a component")
    if not all(isinstance(path, dict) and isinstance(path.get("path"), str) for path in paths):
        raise ValueError("not a record of files")
    tops = {path["path"] for path in paths}
    if not sums or not all(name.partition("/")[0] in tops for name in sums):
        raise ValueError("files of another component")
    return entry, sums
