"""Prompts to token ids, framed and padded as the text encoder was trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.models.tokenizer_files import MERGES_NAME, VOCAB_NAME, plain_words

_WORD_END = "</w>"


@dataclass(frozen=True)
class EncodedPrompt:
    """`ids` `(1, max_tokens)` float32; `cut` is the text that did not fit (empty if all did).

    `cut` begins with the whole of the word that the cut goes through: a run of letters, a digit, a
    run of other characters, or an added word.
    """

    ids: NDArray[np.float32]
    cut: str


@dataclass(frozen=True)
class PromptEncoder:
    """CLIP's tokenizer from `vocab.json` and `merges.txt` in a folder.

    `facts` are the manifest's facts of one tokenizer: special ids, the full length, added words.
    Damaged files are a `UserError`.
    """

    folder: Path
    facts: dict[str, Any]

    def encode(self, prompt: str) -> EncodedPrompt:
        """Start token, the prompt, end token, padding; words beyond the length are cut.

        The ids are those that diffusers' pipelines give their text encoder.
        """
        length = int(self.facts["max_tokens"])
        body = self._tokenizer.encode(self._expand(prompt), add_special_tokens=False).ids
        kept = body[: length - 2]
        ids = [self.facts["bos_token_id"], *kept, self.facts["eos_token_id"]]
        ids += [self.facts["pad_token_id"]] * (length - len(ids))
        return EncodedPrompt(np.array([ids], dtype=np.float32), self._cut(body, len(kept)))

    def _expand(self, prompt: str) -> str:
        """A word with several embeddings, `x`, `x_1`, ..., is written as all of them.

        As diffusers' `TextualInversionLoaderMixin.maybe_convert_prompt`: only where the word
        stands in the prompt exactly as it was added.
        """
        contents = set(self._added.values())
        if not any(f"{content}_1" in contents for content in contents):
            return prompt
        tokens = self._tokenizer.encode(prompt, add_special_tokens=False).tokens
        for token in dict.fromkeys(token for token in tokens if token in contents):
            written, count = token, 1
            while f"{token}_{count}" in contents:
                written += f" {token}_{count}"
                count += 1
            prompt = prompt.replace(token, written)
        return prompt

    def _cut(self, body: list[int], kept: int) -> str:
        """Text of the tokens from `kept` on, and of those before that are part of one word."""
        if kept == len(body):
            return ""
        while kept and not self._ends_word(body[kept - 1]) and body[kept] not in self._added:
            kept -= 1
        return " ".join(
            text
            for is_added, run in groupby(body[kept:], self._added.__contains__)
            for text in (map(self._added.__getitem__, run) if is_added else [self._spell(run)])
        )

    def _ends_word(self, id: int) -> bool:
        return id in self._added or self._tokenizer.id_to_token(id).endswith(_WORD_END)

    def _spell(self, ids: Any) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text.replace(_WORD_END, " ").strip()

    @cached_property
    def _added(self) -> dict[int, str]:
        """Added words by their ids."""
        words = self._tokenizer.get_added_tokens_decoder()
        return {id: word.content for id, word in words.items()}

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return _build(self.folder, self.facts)
        except Exception as error:  # the library raises nothing narrower for damaged files
            raise UserError(
                f"{self.folder}: {VOCAB_NAME} or {MERGES_NAME} cannot be read ({error}); "
                "restore them"
            ) from None


def _build(folder: Path, facts: dict[str, Any]) -> Any:
    """CLIP's normalizer, splitting and merging from transformers; the added words of the facts."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import BPE
    from transformers import CLIPTokenizerFast

    loaded = CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True).backend_tokenizer
    vocabulary, merges = BPE.read_file(str(folder / VOCAB_NAME), str(folder / MERGES_NAME))
    added = facts.get("added_tokens")
    words = plain_words(vocabulary, facts) if added is None else added
    # A word that is added gets the id that it has in the vocabulary.
    vocabulary |= {word["content"]: word["id"] for word in words}
    settings = ("unk_token", "end_of_word_suffix", "continuing_subword_prefix", "fuse_unk")
    kept = {name: getattr(loaded.model, name) for name in settings}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, **kept))
    tokenizer.normalizer, tokenizer.pre_tokenizer = loaded.normalizer, loaded.pre_tokenizer
    tokenizer.decoder = loaded.decoder
    flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
    tokenizer.add_tokens(
        [AddedToken(word["content"], **{flag: word[flag] for flag in flags}) for word in words]
    )
    return tokenizer
