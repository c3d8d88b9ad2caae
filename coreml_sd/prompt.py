"""Prompts to token ids, framed and padded as the text encoder was trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError


@dataclass(frozen=True)
class EncodedPrompt:
    """`ids` `(1, max_tokens)` float32; `cut` is the text that did not fit (empty if all did)."""

    ids: NDArray[np.float32]
    cut: str


@dataclass(frozen=True)
class PromptEncoder:
    """CLIP's tokenizer from `vocab.json` and `merges.txt` in a folder.

    `facts` are the manifest's tokenizer facts: special ids and the full length. Damaged files are a
    `UserError`.
    """

    folder: Path
    facts: dict[str, Any]

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        try:
            return CLIPTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        except Exception as error:  # the library raises nothing narrower for damaged files
            raise UserError(
                f"{self.folder}: vocab.json or merges.txt cannot be read ({error}); restore them"
            ) from None

    def encode(self, prompt: str) -> EncodedPrompt:
        """Start token, the prompt, end token, padding; words beyond the length are cut."""
        length = int(self.facts["max_tokens"])
        body = self._tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
        kept, rest = body[: length - 2], body[length - 2 :]
        ids = [self.facts["bos_token_id"], *kept, self.facts["eos_token_id"]]
        ids += [self.facts["pad_token_id"]] * (length - len(ids))
        cut = self._tokenizer.decode(rest).strip() if rest else ""
        return EncodedPrompt(np.array([ids], dtype=np.float32), cut)
