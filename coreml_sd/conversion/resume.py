"""Finished components and palettes of a conversion that has not ended yet, kept for the next run.

They lie beside the output, in `.NAME.resume`, as hard links to the files of the conversion in work:
they cost neither time nor space, and are gone when the bundle is whole. The name of a checkpoint is
a hash of all that decides its bytes, so what was made from something else is never taken.
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

import msgspec
from msgspec import to_builtins

from coreml_sd import __version__
from coreml_sd.bundle import file_sum
from coreml_sd.compress.solve_ahead import palettes_of
from coreml_sd.conversion.finished import FinishedComponent
from coreml_sd.errors import CoremlSDError, KilledError, NoRoomError, UserError
from coreml_sd.files.foreign import parse_json, read_text, require_regular
from coreml_sd.files.inside_folder import file_inside
from coreml_sd.manifest.form import Component
from coreml_sd.processes.stopping import when_stopped
from coreml_sd.targets.plan import Plan

_LIBRARIES = (
    "ai-edge-litert", "ai-edge-quantizer", "coremltools", "diffusers", "litert-converter",
    "litert-torch", "llvmlite", "numba", "numpy", "safetensors", "torch", "transformers",
)  # fmt: skip
_RECORD = "component.json"
_PALETTES = "palettes-"


class Checkpoints:
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
        self.folder = destination.with_name(f".{destination.name}.resume")
        self.sums: dict[str, dict[str, Any]] = {}  # of files that were read once already
        self._plan, self._verify, self._digest, self._keep = plan, verify, digest, keep

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """While the conversion runs: its checkpoints outlive a stop, a kill, a full disk or memory.

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

    def take(self, staging: Path) -> dict[str, FinishedComponent]:
        """Put the checkpoints that fit into `staging`; gives their components by name.

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
        for checkpoint in sorted(self.folder.iterdir()):
            if checkpoint.name.removeprefix(_PALETTES) in wanted and checkpoint.is_file():
                continue
            component = self._taken(checkpoint, staging) if checkpoint.name in wanted else None
            if component is None:
                _removed(checkpoint)
            else:
                taken[wanted[checkpoint.name]] = component
        return taken

    def add(self, name: str, component: FinishedComponent, staging: Path) -> None:
        """Keep a component that is finished, with what the manifest says of it."""
        if not self._keep:
            return
        sums = {
            file.relative_to(staging).as_posix(): file_sum(file)
            for file in _files(component.entry, staging)
        }
        self.sums |= sums
        checkpoint = self.folder / self._name(name)
        new = self.folder / f"new-{name}-{os.getpid()}"
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            for path in sums:
                _link(staging / path, new / path)
            record = {"component": to_builtins(component), "files": sums}
            (new / _RECORD).write_text(_sealed(record), "utf-8")
            new.rename(checkpoint)  # never seen before it is whole
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

    def _taken(self, checkpoint: Path, staging: Path) -> FinishedComponent | None:
        try:
            component, sums = _finished(_unsealed(read_text(checkpoint / _RECORD)))
            held = {name: require_regular(file_inside(checkpoint, name)) for name in sums}
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
        return component

    def _told(self) -> str | None:
        held = [
            checkpoint.name
            for checkpoint in self.folder.glob("*-*")
            if not checkpoint.name.startswith("new-")
        ]
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


def _files(entry: Component, staging: Path) -> list[Path]:
    paths = [staging / file.path for file in entry.files]
    found = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sorted(file for file in found if file.is_file())


def _removed(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint, ignore_errors=True)
    with contextlib.suppress(OSError):
        checkpoint.unlink()


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


def _finished(record: dict[str, Any]) -> tuple[FinishedComponent, dict[str, dict[str, Any]]]:
    """The finished component and the sums of its files.

    Raises:
        ValueError: the record is of another kind.
    """
    component = msgspec.convert(record.get("component"), FinishedComponent)
    sums = record.get("files")
    tops = {file.path for file in component.entry.files}
    if not isinstance(sums, dict) or not sums:
        raise ValueError("no files")
    if not all(name.partition("/")[0] in tops for name in sums):
        raise ValueError("files of another component")
    return component, sums
