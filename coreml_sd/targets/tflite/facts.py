"""What the manifest says of the .tflite of one component."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec

from coreml_sd.manifest.form import NetworkFile, Split, TargetFacts
from coreml_sd.mobile.serialized_conv import SplitRecord
from coreml_sd.mobile.steps import StepSequence


def tflite_facts(
    path: Path, network: StepSequence, splits: Sequence[SplitRecord], quantization: str
) -> TargetFacts:
    """The file, its operations and the convolutions that were split."""
    from coreml_sd.runtimes.litert.file import TFLiteFile

    written = TFLiteFile(path)
    file = NetworkFile(
        path.name,
        "tflite",
        list(network.inputs),
        list(network.outputs),
        written.weight_bytes(),
        quantization,
    )
    records = [msgspec.convert(dataclasses.asdict(split), Split) for split in splits]
    return TargetFacts([file], ops=written.op_counts(), splits=records)
