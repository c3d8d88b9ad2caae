"""The arithmetic between two runs of the UNet as a .tflite: guidance, one linear step, scaling."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.schedulers.linear_step import GUIDED_NAMES, LATENT_NAMES, LATENTS, WEIGHT_NAMES
from coreml_sd.targets.tflite.export import export_tflite

SIGNATURE = "scheduler_step"
OUTPUTS = ("next_latent", "guided", "sample")

_PREDICTIONS = {1: ("noise_pred", "noise_pred_text"), 2: ("noise_pred",)}
_MEMORY = (*LATENT_NAMES, *GUIDED_NAMES[1:], "noise")


class SchedulerStep(nn.Module):
    """One `LinearStep` with its guidance; the weights are an input, so that one file serves every
    scheduler.

    Takes the UNet's prediction `(2, C, h, w)`, the unguided row first (for a UNet of batch 1 the
    two rows as two tensors), the last latents, the earlier guided predictions and the noise, each
    `(1, C, h, w)`, and the weights `(1, W, 1, 1)` in the order of `WEIGHT_NAMES`. Gives the next
    latent, this step's guided prediction, and the UNet's next input `(B, C, h, w)`.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.9).
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        predictions, memory = tensors[: -len(_MEMORY) - 1], tensors[-len(_MEMORY) - 1 : -1]
        weights = tensors[-1].chunk(len(WEIGHT_NAMES), dim=1)
        guidance, summands, scale = weights[0], weights[1:-1], weights[-1]
        unguided, conditional = predictions if self.batch == 1 else predictions[0].chunk(2)
        guided = unguided + guidance * (conditional - unguided)
        tensors = (*memory[:LATENTS], guided, *memory[LATENTS:])
        latent = summands[0] * tensors[0]
        for weight, tensor in zip(summands[1:], tensors[1:], strict=True):
            latent = latent + weight * tensor
        sample = scale * latent
        # Repeated by CONCATENATION: the GPU delegate has no BROADCAST_TO.
        return latent, guided, torch.cat([sample] * self.batch)


def scheduler_step(unet: ComponentSpec) -> StepSequence:
    """The step that fits a UNet, as a network with named tensors."""
    batch = unet.inputs[0].shape[0]
    inputs = (*_PREDICTIONS[batch], *_MEMORY, "weights")
    return StepSequence([Step("step", SchedulerStep(batch), inputs, OUTPUTS)], inputs, OUTPUTS)


def scheduler_step_inputs(unet: ComponentSpec) -> tuple[TensorSpec, ...]:
    """Its inputs, in order."""
    batch, *latent = unet.inputs[0].shape
    predictions = [
        TensorSpec(name, unet.inputs[0].shape, "float32", "Prediction of the UNet")
        for name in _PREDICTIONS[batch]
    ]
    memory = [
        TensorSpec(name, (1, *latent), "float32", "What the last steps left") for name in _MEMORY
    ]
    weights = TensorSpec("weights", (1, len(WEIGHT_NAMES), 1, 1), "float32", "Of the sum")
    return (*predictions, *memory, weights)


def export_scheduler_step(path: Path, unet: ComponentSpec) -> None:
    """Write the step's .tflite.

    Raises:
        CoremlSDError: the conversion fails.
    """
    export_tflite(path, SIGNATURE, scheduler_step(unet), scheduler_step_inputs(unet))
