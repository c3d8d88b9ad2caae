"""What a prompt gives the UNet: inputs that stay the same for all steps of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.generation.prompt import PromptEncoder
from coreml_sd.models.stable_diffusion_xl.family import time_ids
from coreml_sd.runtimes.base import Array, Network

_Floats = NDArray[np.float32]
_TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


@dataclass(frozen=True)
class Conditions:
    """`inputs`: the UNet's by name, two rows each: for the negative prompt, then for the prompt.
    `cut`: the part of the prompt that did not fit."""

    inputs: dict[str, Array]
    cut: str


class ConditionEncoder:
    """Encodes prompts with the text encoders of a bundle.

    Args:
        folder: the bundle's, with `vocab.json` and `merges.txt`.
        facts: the manifest's `pipeline`.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._prompts = {
            encoder: PromptEncoder(folder, facts[tokenizer])
            for encoder, tokenizer in _TOKENIZERS.items()
            if tokenizer in facts
        }

    @property
    def networks(self) -> tuple[str, ...]:
        """The text encoders, in the order of their use."""
        return tuple(self._prompts)

    def __call__(
        self,
        negative_prompt: str,
        prompt: str,
        network: Callable[[str], Network],
        done_with: Callable[[str], None],
    ) -> Conditions:
        """Run every encoder on both prompts, and let go of each before the next is fetched."""
        states, pooled, cut = [], None, ""
        for encoder, tokens in self._prompts.items():
            encoded = [tokens.encode(text) for text in (negative_prompt, prompt)]
            opened = network(encoder)
            results = [opened.run({"input_ids": each.ids}) for each in encoded]
            done_with(encoder)
            states.append(_rows(results, self._states_name))
            pooled = _rows(results, "pooled_outputs") if self._two else None
            cut = encoded[1].cut
        joined = np.concatenate(states, axis=2)
        if pooled is None:
            return Conditions({"encoder_hidden_states": _channels_first(joined)}, cut)
        if not negative_prompt and self._facts["zeros_for_empty_prompt"]:
            joined[0], pooled[0] = 0.0, 0.0
        ids = np.array([time_ids(self._facts["size"])] * 2, np.float32)
        context = _channels_first(joined)
        inputs = {"encoder_hidden_states": context, "time_ids": ids, "text_embeds": pooled}
        return Conditions(inputs, cut)

    @property
    def _two(self) -> bool:
        return len(self._prompts) > 1

    @property
    def _states_name(self) -> str:
        return "hidden_embeds" if self._two else "last_hidden_state"


def _rows(results: list[dict[str, Array]], name: str) -> _Floats:
    return np.concatenate([result[name] for result in results]).astype(np.float32)


def _channels_first(states: _Floats) -> _Floats:
    """`(2, T, C)` to `(2, C, 1, T)`."""
    return states.transpose(0, 2, 1)[:, :, None, :]
