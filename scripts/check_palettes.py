#!/usr/bin/env python
"""Squared error of every palette of a bundle beside that of coremltools' solver, weight by weight.

    scripts/check_palettes.py MODEL_FOLDER COMPONENT [--bits 6]

The palettes are those of the converter (`compress.solve_ahead`), the others those of the kmeans1d
that coremltools brings, on the same histogram and rounded to fp16 in the same way. Exits with 1
where one of ours is worse.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from coreml_sd.compress.histogram import histogram
from coreml_sd.compress.solve_ahead import solving_ahead
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.weights.tensor_file import TensorFile
from coreml_sd.models.weights.values import FileWeights, fp16_value

_ROUNDING = 1e-9  # relative: sums in another order


def main() -> int:
    """Compare; one line for the whole, one for each weight that is worse."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("component", nargs="?", default="unet")
    parser.add_argument("--bits", type=int, default=6)
    arguments = parser.parse_args()
    files = DiffusersFolder(arguments.folder).weight_files(arguments.component)
    with solving_ahead(files, PaletteSpec(arguments.bits), 2) as ahead:
        solved = ahead.finish(lambda done, of: None)
    opened = {path: TensorFile(path) for path in files}
    ratios, worse = [], 0
    for (path, key), palette in sorted(solved.items()):
        weight = fp16_value(FileWeights({key: (opened[path], key)}), key)
        theirs = coremltools_error(weight, arguments.bits)
        ratios.append(palette.squared_error / theirs if theirs else 1.0)
        if palette.squared_error > theirs * (1 + _ROUNDING):
            worse += 1
            print(f"{key}: {palette.squared_error:.9g}, coremltools {theirs:.9g}")
    print(
        f"{len(ratios)} weights at {arguments.bits} bits: {worse} with a higher squared error; "
        f"ours by theirs {min(ratios):.9f} to {max(ratios):.9f}"
    )
    return 1 if worse else 0


def coremltools_error(weight: np.ndarray, bits: int) -> float:
    """What the palette of coremltools' solver, rounded to fp16, leaves of a weight."""
    from coremltools._deps import kmeans1d

    counted = histogram(weight)
    found = kmeans1d.cluster(counted.values, 1 << bits, weights=counted.counts)
    table = np.sort(np.float16(found.centroids).astype(np.float64))
    nearest = table[np.searchsorted((table[1:] + table[:-1]) / 2, counted.values)]
    return float(np.sum(counted.counts * (counted.values - nearest) ** 2))


if __name__ == "__main__":
    sys.exit(main())
