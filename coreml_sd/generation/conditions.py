"""What a prompt gives the denoiser: inputs that stay the same for all steps of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.generation.prompt import PromptEncoder
from coreml_sd.models.denoiser import (
    TOKENIZERS,
    Condition,
    Denoiser,
    FewSteps,
    Size,
    Text,
    TextOutput,
    for_steps,
    guidance_embedding,
    size_numbers,
)
from coreml_sd.runtimes.base import Array, Network

_Floats = NDArray[np.float32]
_Outputs = dict[tuple[str, str], _Floats]  # of a component by name, a row for each prompt


@dataclass(frozen=True)
class Conditions:
    """`inputs`: the denoiser's by name, two rows each, for the negative prompt and for the prompt,
    or one where it combines nothing. `cut`: the part of the prompt that did not fit."""

    inputs: dict[str, Array]
    cut: str


def told_denoiser(facts: dict[str, Any], steps: int) -> Denoiser:
    """The denoiser that draws with so many steps; `facts` are the manifest's `pipeline`."""
    usual = msgspec.convert(facts["denoiser"], Denoiser)
    few_steps = msgspec.convert(facts.get("few_steps", []), list[FewSteps])
    return for_steps(steps, usual, ((few.steps, few.denoiser) for few in few_steps))


class ConditionEncoder:
    """Encodes prompts with the text encoders that the denoiser asks for.

    Args:
        folder: the bundle's, with `vocab.json` and `merges.txt`.
        facts: the manifest's `pipeline`.
        steps: that a picture is drawn with: they say which denoiser.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], steps: int) -> None:
        self.denoiser = told_denoiser(facts, steps)
        self._facts = facts
        wanted = {
            output.component
            for condition in self.denoiser.conditions.values()
            if isinstance(condition, Text)
            for output in condition.outputs
        }
        self._prompts = {
            encoder: PromptEncoder(folder, facts[tokenizer])
            for encoder, tokenizer in TOKENIZERS.items()
            if encoder in wanted
        }

    @property
    def networks(self) -> tuple[str, ...]:
        """The text encoders, in the order of their use."""
        return tuple(self._prompts)

    def __call__(
        self,
        negative_prompt: str,
        prompt: str,
        guidance: float,
        network: Callable[[str], Network],
        done_with: Callable[[str], None],
    ) -> Conditions:
        """Run every encoder on the prompts, and let go of each before the next is fetched."""
        combines = self.denoiser.guidance == "classifier-free"
        prompts = (negative_prompt, prompt) if combines else (prompt,)
        outputs: _Outputs = {}
        cut = ""
        for encoder, tokens in self._prompts.items():
            encoded = [tokens.encode(text) for text in prompts]
            opened = network(encoder)
            results = [opened.run({"input_ids": row.ids}) for row in encoded]
            done_with(encoder)
            outputs |= {(encoder, name): _rows(results, name) for name in results[0]}
            cut = encoded[-1].cut
        if combines and not negative_prompt and self._facts.get("zeros_for_empty_prompt"):
            for rows in outputs.values():
                rows[0] = 0.0
        inputs = {
            name: self._input(condition, outputs, len(prompts), guidance)
            for name, condition in self.denoiser.conditions.items()
        }
        return Conditions(inputs, cut)

    def _input(
        self, condition: Condition, outputs: _Outputs, rows: int, guidance: float
    ) -> _Floats:
        if isinstance(condition, Size):
            return np.array([size_numbers(self._facts["size"])] * rows, np.float32)
        if isinstance(condition, Text):
            joined = _joined(condition, outputs)
            return _channels_first(joined) if joined.ndim == 3 else joined
        return np.stack([guidance_embedding(guidance, condition.width)] * rows)


def _rows(results: list[dict[str, Array]], name: str) -> _Floats:
    return np.concatenate([result[name] for result in results]).astype(np.float32)


def _joined(condition: Text, outputs: _Outputs) -> _Floats:
    """States `(B, T, C)` or pooled outputs `(B, P)`, side by side."""
    parts = [_found(each, outputs) for each in condition.outputs]
    if len({part.shape[:-1] for part in parts}) > 1:
        told = " and ".join(f"{each.component}'s {each.output}" for each in condition.outputs)
        raise UserError(f"{told} do not go side by side; convert again")
    return np.concatenate(parts, axis=-1)


def _found(wanted: TextOutput, outputs: _Outputs) -> _Floats:
    encoder = wanted.component
    given = {name: rows for (component, name), rows in outputs.items() if component == encoder}
    if wanted.output not in given:
        names = ", ".join(given)
        raise UserError(f"{encoder} gives {names}, not {wanted.output}; convert again")
    return given[wanted.output]


def _channels_first(states: _Floats) -> _Floats:
    """`(B, T, C)` to `(B, C, 1, T)`."""
    return states.transpose(0, 2, 1)[:, :, None, :]
