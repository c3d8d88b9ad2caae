"""Parity of the scheduler step's .tflite, executed by LiteRT on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from coreml_sd.models.component import Arrays, ComponentSpec
from coreml_sd.parity.checks import GATE_TFLITE, SEEDS, Check, decibels
from coreml_sd.runtimes.litert.network import LiteRTNetwork
from coreml_sd.targets.tflite.scheduler_step import scheduler_step, scheduler_step_inputs


def scheduler_step_check(path: Path, unet: ComponentSpec) -> Check:
    """Execute the file on random tensors and compare every output with torch."""
    network, specs = scheduler_step(unet), scheduler_step_inputs(unet)
    file = LiteRTNetwork(path)
    expected, actual = [], []
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        given: Arrays = {
            spec.name: generator.standard_normal(spec.shape).astype(np.float32) for spec in specs
        }
        with torch.inference_mode():
            results = network(*(torch.from_numpy(array) for array in given.values()))
        named = zip(network.outputs, results, strict=True)
        expected.append({name: tensor.numpy() for name, tensor in named})
        actual.append(file.run(given))
    file.close()
    return decibels("file against torch", expected, actual, GATE_TFLITE)
