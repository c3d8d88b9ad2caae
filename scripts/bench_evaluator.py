#!/usr/bin/env python3
"""Time the evaluator against plain torch fp32, alternating in one run: medians and ratios."""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch
from bench.turns import in_turn, seconds

from coreml_sd.config import ConversionConfig
from coreml_sd.convert import convert
from coreml_sd.models.open_model import open_model
from coreml_sd.runtimes.mil import MilNetwork
from coreml_sd.runtimes.source import SourceNetwork


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--palettize", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = ConversionConfig(model=arguments.model, palettize=arguments.palettize, chunks="1")
    model = open_model(config)
    with tempfile.TemporaryDirectory() as folder:
        bundle = convert(config, Path(folder) / "b", verify=False)
        for component in model.components:
            given = component.sample_inputs(0)
            source = SourceNetwork(component)
            (path,) = bundle.files(component.name)
            runs = {"torch": source.run}
            for mode in ("fp32", "fp16"):
                runs[mode] = MilNetwork(path, mode=mode).run  # type: ignore[arg-type]
            for run in runs.values():
                run(given)
            turns = [partial(seconds, partial(run, given)) for run in runs.values()]
            times = in_turn(turns, arguments.rounds)
            medians = dict(zip(runs, map(statistics.median, times), strict=True))
            print(
                f"{component.name}: torch {1000 * medians['torch']:.1f} ms, "
                + ", ".join(
                    f"{mode} {medians[mode] / medians['torch']:.2f}x" for mode in ("fp32", "fp16")
                )
                + f" ({arguments.threads} threads)"
            )


if __name__ == "__main__":
    main()
