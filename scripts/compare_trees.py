#!/usr/bin/env python
"""Convert with two checkouts and compare what comes out, byte for byte.

    scripts/compare_trees.py OLD_CHECKOUT [NEW_CHECKOUT]

The built-in model, `md-lite`, and a tiny folder of each family, for both targets. Keys of the
manifest that differ are named; the exit status is 1 where a file differs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

_BOTH = ("--target", "coreml,tflite")
# The model, or the function of the tests that writes its folder, and the knobs.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "demo": ("demo", (*_BOTH, "--palettize", "6")),
    "demo, 2 chunks": ("demo", ("--palettize", "4", "--chunks", "2")),
    "md-lite": ("md-lite", ("--palettize", "6", "--components", "text_encoder,vae_decoder")),
    "stable-diffusion": ("tests.conftest:write_pipeline", (*_BOTH, "--palettize", "6")),
    "stable-diffusion-xl": (
        "tests.helpers.tiny_xl:write_xl_pipeline",
        (*_BOTH, "--palettize", "6"),
    ),
    "mobile-diffusion": ("tests.helpers.tiny_md:write_md_pipeline", (*_BOTH, "--palettize", "6")),
}
# What a manifest says of its own bytes.
_OWN = {"manifest_sha256"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--cases", nargs="*", default=list(CASES), help="; ".join(CASES))
    arguments = parser.parse_args()
    differing = 0
    for name in arguments.cases:
        model, knobs = CASES[name]
        with tempfile.TemporaryDirectory() as work:
            folder = _written(model, Path(work) / "model") if ":" in model else model
            bundles = [
                _converted(tree, folder, knobs, Path(work) / side)
                for side, tree in (("old", arguments.old), ("new", arguments.new))
            ]
            differing += _told(name, *bundles)
    return 1 if differing else 0


def _written(writer: str, folder: Path) -> str:
    module, _, function = writer.partition(":")
    getattr(importlib.import_module(module), function)(folder)
    return str(folder)


def _converted(tree: Path, model: str, knobs: tuple[str, ...], bundle: Path) -> Path:
    command = [sys.executable, "-m", "coreml_sd.cli.main", "convert", model, *knobs]
    command += ["--no-verify", "--no-resume", "-o", str(bundle)]
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve())}
    subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True)
    return bundle


def _told(name: str, old: Path, new: Path) -> int:
    sums = [_sums(bundle) for bundle in (old, new)]
    files = sorted(file for file in sums[0].keys() | sums[1].keys() if _differ(file, sums))
    before, after = (json.loads((each / "manifest.json").read_text("utf-8")) for each in (old, new))
    keys = ", ".join(_keys(before, after, "")) or "equal"
    print(f"{name}: {len(sums[0])} files, {len(files)} differ; manifest: {keys}", flush=True)
    for file in files:
        print(f"  {file}")
    return len(files)


def _differ(file: str, sums: list[dict[str, str]]) -> bool:
    return sums[0].get(file) != sums[1].get(file)


def _sums(bundle: Path) -> dict[str, str]:
    return {
        file.relative_to(bundle).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(bundle.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    }


def _keys(old: Any, new: Any, place: str) -> Iterator[str]:
    """Places of a manifest that differ, in order too."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            where = f"{place}.{key}".removeprefix(".")
            if key in _OWN and not place:
                continue
            if key not in old or key not in new:
                yield f"{where} ({'new' if key not in old else 'gone'})"
            else:
                yield from _keys(old[key], new[key], where)
        shared = [[key for key in each if key in old and key in new] for each in (old, new)]
        if shared[0] != shared[1]:
            yield f"{place or 'manifest'} (order)"
    elif json.dumps(old) != json.dumps(new):
        yield place


if __name__ == "__main__":
    sys.exit(main())
