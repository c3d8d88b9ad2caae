"""Flipped bits in the files of a bundle."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.errors import CoremlSDError, UserError
from scripts.faults.findings import Findings


def flip_bits(bundle: Path, work: Path, count: int, seed: int) -> Findings:
    """Flip one bit at a time, every file of the bundle in turn; `work` gets a copy of it.

    Each time, opening must refuse the bundle. The file's own reader, asked without the checksums,
    may read it or refuse it in one line; anything else would be a traceback.
    """
    findings, chance = Findings(), random.Random(seed)
    shutil.rmtree(work, ignore_errors=True)
    copy = Path(shutil.copytree(bundle, work))
    intact = open_bundle(copy)
    reports = {copy / "parity.html", copy / "parity.json"}  # made later, by purpose not listed
    files = sorted(file for file in copy.rglob("*") if file.is_file() and file not in reports)
    for number in range(count):
        file = files[number % len(files)]
        place, bit = chance.randrange(file.stat().st_size), chance.randrange(8)
        name = f"{file.relative_to(copy)}, byte {place}, bit {bit}"
        _flip(file, place, bit)
        findings.counts["flips"] += 1
        try:
            open_bundle(copy)
            findings.broken.append(f"{name}: accepted")
        except UserError as error:
            findings.expect("\n" not in str(error), f"{name}: {error}")
        except Exception as error:  # the very thing that is looked for
            findings.broken.append(f"{name}: {error!r}")
        try:
            _read(file, intact)
            findings.counts["read without checksums"] += 1
        except CoremlSDError:
            findings.counts["refused by the reader itself"] += 1
        except Exception as error:  # the very thing that is looked for
            findings.broken.append(f"{name}: its reader gave {error!r}")
        _flip(file, place, bit)
    try:
        open_bundle(copy)
    except CoremlSDError as error:
        findings.broken.append(f"with every bit flipped back: {error}")
    findings.counts["files"] = min(len(files), count)
    return findings


def _flip(file: Path, place: int, bit: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ 1 << bit]))


def _read(file: Path, bundle: Bundle) -> None:
    """Read one file as the commands do."""
    from coreml_sd.generation.prompt import PromptEncoder
    from coreml_sd.runtimes.litert.file import TFLiteFile
    from coreml_sd.runtimes.mil import MilPackage

    package = next((each for each in file.parents if each.suffix == ".mlpackage"), None)
    if package is not None:
        held = MilPackage(package)
        for program in held.programs:
            for function in program.functions:
                list(program.operations(function))
        held.weight_bytes()
    elif file.suffix == ".tflite":
        network = TFLiteFile(file)
        network.op_counts()
        network.weight_bytes()
    elif file.name in ("vocab.json", "merges.txt"):
        PromptEncoder(bundle.path, bundle.pipeline["tokenizer"]).encode("a cat")
    elif file.name == "manifest.json":
        open_bundle(bundle.path, check=False)
