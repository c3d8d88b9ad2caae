"""What a prompt gives the denoiser is what the manifest says of it, whatever the family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_sd.bundle import open_bundle
from coreml_sd.errors import UserError
from coreml_sd.generation.conditions import ConditionEncoder, Conditions
from coreml_sd.models.denoiser import guidance_embedding
from coreml_sd.runtimes.base import Array

WIDTH, POOLED = 3, 5
STATES = {"component": "text_encoder", "output": "last_hidden_state"}


class Encoder:
    """Answers with the first token after the mark of the start."""

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        ids = inputs["input_ids"]
        value = float(ids[0, 1])
        return {
            "last_hidden_state": np.full((1, ids.shape[1], WIDTH), value, np.float32),
            "pooled_outputs": np.full((1, POOLED), -value, np.float32),
        }


@pytest.fixture
def encode(android_bundle: Callable[[int], Path]) -> Callable[..., Conditions]:
    """The demo's conditions with changes to its facts."""
    bundle = open_bundle(android_bundle(2))

    def encoded(scale: float = 4.0, negative: str = "dog", **changes: Any) -> Conditions:
        denoiser = {**bundle.pipeline["denoiser"], **changes}
        encoder = ConditionEncoder(bundle.path, {**bundle.pipeline, "denoiser": denoiser}, 20)
        network: Any = Encoder()
        return encoder(negative, "cat", scale, lambda _: network, lambda _: None)

    return encoded


def text(*outputs: str) -> dict[str, Any]:
    return {"kind": "text", "outputs": [{**STATES, "output": name} for name in outputs]}


def test_states_are_channels_first_and_pooled_outputs_are_rows(
    encode: Callable[..., Conditions],
) -> None:
    conditions = {"context": text("last_hidden_state"), "pooled": text("pooled_outputs")}
    inputs = encode(conditions=conditions).inputs
    assert inputs["context"].shape == (2, WIDTH, 1, 77)
    assert inputs["pooled"].shape == (2, POOLED)
    assert (inputs["context"][:, 0, 0, 0] == -inputs["pooled"][:, 0]).all()
    assert inputs["pooled"][0, 0] != inputs["pooled"][1, 0]


def test_outputs_are_joined_along_their_channels(encode: Callable[..., Conditions]) -> None:
    both = text("pooled_outputs", "pooled_outputs")
    assert encode(conditions={"both": both}).inputs["both"].shape == (2, 2 * POOLED)


def test_a_denoiser_that_is_told_the_guidance_takes_the_prompts_row(
    encode: Callable[..., Conditions],
) -> None:
    told = {"told": {"kind": "guidance", "width": 256}, "size": {"kind": "size"}}
    conditions = {"context": text("last_hidden_state"), **told}
    alone = encode(8.5, guidance="embedded", conditions=conditions).inputs
    both = encode(8.5, conditions=conditions).inputs
    assert {name: len(rows) for name, rows in alone.items()} == dict.fromkeys(conditions, 1)
    assert (alone["context"] == both["context"][1:]).all()
    assert (alone["told"][0] == guidance_embedding(8.5, 256)).all()
    assert alone["size"].tolist() == [[64, 64, 0, 0, 64, 64]]


def test_an_output_that_nobody_gives_is_named(encode: Callable[..., Conditions]) -> None:
    with pytest.raises(UserError, match="gives last_hidden_state, pooled_outputs, not novel"):
        encode(conditions={"context": text("novel")})


def test_states_and_pooled_outputs_are_not_joined(encode: Callable[..., Conditions]) -> None:
    with pytest.raises(UserError, match="do not go side by side"):
        encode(conditions={"both": text("last_hidden_state", "pooled_outputs")})
