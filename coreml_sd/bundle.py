"""The bundle: a folder of exported files described by one manifest.json; write, read, verify."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.files.foreign import open_regular, parse_json, read_bytes
from coreml_sd.files.inside_folder import file_inside
from coreml_sd.manifest.defaults import with_defaults
from coreml_sd.manifest.rules import FORMAT, VERSION, check_manifest
from coreml_sd.processes.stopping import when_stopped

MANIFEST_NAME = "manifest.json"
_REPORTS = ("parity.html", "parity.json")  # written after the bundle is whole, never checksummed
_SEAL = "manifest_sha256"  # the manifest's own checksum, taken with zeros in its place
_UNSEALED = "0" * 64
_UNFINISHED = ".unfinished"  # in a staging folder from its beginning: another one has none
_in_use: set[Path] = set()  # staging folders of this process


@dataclass(frozen=True)
class Bundle:
    """A finished bundle on disk.

    `manifest` holds, beside `format` and `manifest_version`: `tool`, `model`, `config`, `pipeline`
    (facts that generation needs), `components` (name -> inputs, outputs, files in running order),
    `files` (relative path -> sha256, bytes) and `parity`; with a UNet for TFLite also
    `scheduler_step` (path, inputs, outputs, order of the weights). `seconds` that each component
    took are known right after a conversion, and in no file: equal input gives equal bytes.
    """

    path: Path
    manifest: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def pipeline(self) -> dict[str, Any]:
        """Facts that generation needs: prediction type, sizes, latent scale, scheduler."""
        facts: dict[str, Any] = self.manifest["pipeline"]
        return facts

    @property
    def components(self) -> dict[str, dict[str, Any]]:
        """Component name -> what the manifest says of it."""
        table: dict[str, dict[str, Any]] = self.manifest["components"]
        return table

    def component(self, name: str) -> dict[str, Any]:
        """What the manifest says of one component.

        Raises:
            UserError: the bundle does not hold it.
        """
        try:
            return self.components[name]
        except KeyError:
            held = ", ".join(self.components)
            raise UserError(
                f"{self.path}: no {name} in this bundle (it holds {held}); convert again with it"
            ) from None

    @property
    def targets(self) -> list[str]:
        """What the bundle holds files for: `coreml`, `tflite`."""
        names: list[str] = self.manifest["config"]["targets"]
        return names

    def files(self, component: str, target: str) -> list[Path]:
        """The files of one component for one target, in running order (chunks chain).

        Raises:
            UserError: the bundle holds none.
        """
        entries = self.component(component)["files"]
        paths = [self.path / entry["path"] for entry in entries if entry["target"] == target]
        if not paths:
            raise UserError(
                f"{self.path}: no {target} files of {component} in this bundle; convert again with "
                f"--target {target}"
            )
        return paths

    def file(self, component: str, target: str) -> Path:
        """The only file of one component for one target.

        Raises:
            UserError: the bundle holds none, or several.
        """
        path, *more = self.files(component, target)
        if more:
            raise UserError(
                f"{self.path}: {component} is cut into {1 + len(more)} {target} files; one is run"
            )
        return path

    def all_files(self) -> list[dict[str, Any]]:
        """What the manifest says of every network's file: components in order, then the step
        between two runs of the UNet."""
        entries = [entry for component in self.components.values() for entry in component["files"]]
        step = self.manifest.get("scheduler_step")
        return [*entries, step] if step else entries


def usual_path(model: str) -> Path:
    """Where a model's bundle is, unless somebody says otherwise: here, named like the model."""
    return Path(f"{Path(model).name.removesuffix('.safetensors')}.bundle")


def open_bundle(path: Path, *, check: bool = True) -> Bundle:
    """Read a bundle's manifest and check every file against it.

    Args:
        path: the bundle's folder.
        check: compare sizes and SHA-256 of all files (reads the whole bundle once).

    Raises:
        UserError: no bundle, a half-written one, a newer manifest, one whose values make no sense,
            a missing or changed file, one that lies outside the folder; a changed manifest is
            noticed without `check` too.
    """
    if not path.is_dir():
        raise UserError(
            f"{path}: no such bundle; make one with `coreml-sd convert MODEL -o {path}`"
        )
    bundle = Bundle(path, _read_manifest(path / MANIFEST_NAME))
    if check:
        verify_files(bundle)
    return bundle


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path.parent}: not a bundle, or a half-written one (no {path.name})")
    content = read_bytes(path)
    try:
        manifest = parse_json(content.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({error}); convert again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path}: not the manifest of a bundle (another format); convert again")
    version = manifest.get("manifest_version")
    if type(version) is not int or version < 1:
        raise UserError(f"{path}: manifest_version: {version!r} is none; convert again")
    if version > VERSION:
        raise UserError(
            f"{path}: manifest version {version}, this coreml-sd reads up to {VERSION}; "
            "update coreml-sd"
        )
    _require_intact(path, content, manifest)
    try:
        check_manifest(manifest)
    except UserError as error:
        raise UserError(f"{path}: {error}; convert again") from None
    return with_defaults(manifest)


def verify_files(bundle: Bundle) -> None:
    """Compare every file with the manifest.

    Raises:
        UserError: a file is missing, differs or lies outside the folder, or a package holds one
            that the manifest does not list; named.
    """
    listed = bundle.manifest["files"]
    for relative, entry in listed.items():
        file = file_inside(bundle.path, relative)
        if not file.exists():
            raise UserError(f"{file}: missing from the bundle; convert again or restore it")
        with _opened(file) as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != entry["bytes"] or _sha256(opened) != entry["sha256"]:
                raise UserError(
                    f"{file}: changed since the conversion; convert again or restore it"
                )
    for package in sorted({entry["path"] for entry in bundle.all_files()} - listed.keys()):
        for file in sorted((bundle.path / package).rglob("*")):
            if not file.is_dir() and file.relative_to(bundle.path).as_posix() not in listed:
                raise UserError(f"{file}: not listed in {MANIFEST_NAME}; remove it")


def _opened(file: Path) -> BinaryIO:
    try:
        return open_regular(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def new_bundle(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A staging folder beside `path` that becomes the bundle when the block ends without error.

    The manifest is written last (`write_manifest`) and the folder is renamed into place, so a
    conversion that is killed or fails never leaves something that opens as a bundle.

    Raises:
        UserError: the destination is not empty (and not an old bundle to overwrite), or cannot
            be written.
    """
    check_destination(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        staging = _staging_folder(path)
        (staging / _UNFINISHED).touch()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another -o"
        ) from None
    _in_use.add(staging)
    try:
        with when_stopped(lambda: _remove_while_in_use(staging)):
            yield staging
        if not (staging / MANIFEST_NAME).is_file():
            raise CoremlSDError(f"{path}: the bundle was not finished (no {MANIFEST_NAME})")
        if not (staging / _UNFINISHED).is_file():
            raise UserError(
                f"{path}: its folder was removed while it was written; run the conversion again"
            )
        (staging / _UNFINISHED).unlink()
        _replace(path, staging)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{path}: writing failed ({reason}); free some space or choose another -o"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _in_use.discard(staging)


def check_destination(path: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that holds something that would be lost.

    Raises:
        UserError: it exists and is not empty, or is not a bundle although `overwrite` is set.
    """
    if path.is_file():
        raise UserError(f"{path}: is a file; choose another folder with -o")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{path}: not empty; add --overwrite or choose another folder with -o")
    if not (path / MANIFEST_NAME).is_file():
        raise UserError(f"{path}: not a bundle, so it is not overwritten; choose another -o")


def write_manifest(
    staging: Path, manifest: dict[str, Any], known: Mapping[str, dict[str, Any]] | None = None
) -> None:
    """Write manifest.json with the checksums of every file in the staging folder.

    Args:
        known: checksums of files that need not be read again, by their path in the bundle.
    """
    known = known or {}
    files = {}
    for file in sorted(staging.rglob("*")):
        if file.is_file() and file.name not in (MANIFEST_NAME, _UNFINISHED, *_REPORTS):
            name = file.relative_to(staging).as_posix()
            files[name] = known.get(name) or file_sum(file)
    header = {"format": FORMAT, "manifest_version": VERSION}
    whole = {**header, **manifest, "files": files, _SEAL: _UNSEALED}
    text = json.dumps(whole, indent=2, allow_nan=False) + "\n"
    seal = hashlib.sha256(text.encode()).hexdigest()
    write_atomically(staging / MANIFEST_NAME, text.replace(_seal_line(_UNSEALED), _seal_line(seal)))


def _seal_line(seal: Any) -> str:
    return f'"{_SEAL}": "{seal}"'


def _require_intact(manifest_path: Path, content: bytes, manifest: dict[str, Any]) -> None:
    """The manifest names every file's checksum and has its own.

    Raises:
        UserError: it was changed since it was written.
    """
    seal, blank = (_seal_line(each).encode() for each in (manifest.get(_SEAL), _UNSEALED))
    if content.count(seal) == 1:
        unsealed = content.replace(seal, blank)
        if hashlib.sha256(unsealed).hexdigest() == manifest[_SEAL]:
            return
    raise UserError(f"{manifest_path}: changed since the conversion; convert again or restore it")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def file_sum(file: Path) -> dict[str, Any]:
    """What the manifest says of a file."""
    return {"sha256": file_sha256(file), "bytes": file.stat().st_size}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return _sha256(file)


def _sha256(file: Any) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _staging_folder(path: Path) -> Path:
    """A fresh hidden folder beside `path`; its name carries the process that owns it."""
    prefix = f".{path.name}.partial-{os.getpid()}-"
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    staging.chmod(0o755)
    return staging


def _remove_while_in_use(staging: Path) -> None:
    """Another thread still writes there: under a new name it cannot add to what is removed."""
    doomed = staging.with_name(f"{staging.name}-stopped")
    staging.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Staging folders of earlier conversions that were killed (their process is gone)."""
    prefix = f".{path.name}.partial-"
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*"):
        owner = leftover.name.removeprefix(prefix).split("-")[0]
        # In a container every conversion may get the same number: that of this process.
        running = owner.isdigit() and int(owner) != os.getpid() and _is_running(int(owner))
        if not running and leftover not in _in_use:
            shutil.rmtree(leftover, ignore_errors=True)


def _is_running(process: int) -> bool:
    """A zombie writes no more; where nobody collects it, it stays for good."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True  # another user's


def _replace(path: Path, staging: Path) -> None:
    if not path.exists():
        staging.rename(path)
        return
    old = _staging_folder(path)
    path.rename(old / path.name)
    try:
        staging.rename(path)
    except OSError:
        (old / path.name).rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
