"""Change inputs at seeded random places and give them to every reader.

Found are: an error that no user should see, a process that dies, an answer that takes over 30 s,
more than 4 GB, a file where none should be. Exit status 1 where something was found.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.fuzzing.commands import run_commands
from scripts.fuzzing.hunt import Findings, Hunt
from scripts.fuzzing.kinds import KINDS, Material

_MANY = 1 << 40


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for all kinds together")
    parser.add_argument("--inputs", type=int, default=_MANY, help="of each kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=[*KINDS, "commands"], default=[])
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--work", type=Path, default=Path("fuzz-work"))
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    material = make_material(options.work.resolve())
    kinds = options.only or [*KINDS, "commands"]
    seconds = 60 * options.minutes / len(kinds)
    findings = Findings()
    for kind in kinds:
        if kind == "commands":
            work, count = options.work.resolve(), options.inputs
            run_commands(material, work, options.seed, count, seconds, findings)
        else:
            hunt = Hunt(kind, options.seed, material, options.work.resolve())
            hunt.run(options.first, options.inputs, seconds, findings)
        print(f"{kind}: {findings.tried[kind]} inputs", flush=True)
    return told(findings, options.seed)


def told(findings: Findings, seed: int) -> int:
    """Print what was found; the exit status."""
    for fault, count in findings.faults.most_common():
        print(f"{count} x {fault}\n    scripts/fuzz --seed {seed} {findings.examples[fault]}")
    print(f"{sum(findings.tried.values())} inputs, {len(findings.faults)} kinds of fault")
    return 1 if findings.faults else 0


def make_material(work: Path) -> Material:
    """A narrow Stable Diffusion with random weights, and its bundle for both targets; once."""
    from coreml_sd.config import ConversionConfig
    from coreml_sd.conversion.convert import convert
    from coreml_sd.models.find_model import DEMO_FOLDER
    from scripts.bench.random_folder import write_folder

    material = Material(work / "model", work / "model.bundle")
    if not material.model.is_dir():
        write_folder(material.model, DEMO_FOLDER / "tokenizer", small=True)
        (material.model / "README.md").write_text("---\nlicense: mit\ntags: [a, b]\n---\ntext\n")
    if not material.bundle.is_dir():
        targets = ["coreml", "tflite"]
        config = ConversionConfig(model=str(material.model), targets=targets, palettize=6)
        convert(config, material.bundle, verify=False)
    return material


if __name__ == "__main__":
    sys.exit(main())
