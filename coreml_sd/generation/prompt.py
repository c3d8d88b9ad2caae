"""Prompts to token ids, framed and padded as the text encoder was trained."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import read_table, require_regular
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME, plain_words

# Python takes four control characters for white space, Unicode and the tokenizer do not.
_BLANK = r"[^\S\x1c-\x1f]"
_INK = r"[\S\x1c-\x1f]"
_UNSPACED = r"[\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"
_WORD_START = re.compile(f"(?<!{_INK}){_INK}|{_UNSPACED}")
_LONGEST = 1_000_000  # characters of a prompt whose added words were written out
_TAIL = re.compile(f"{_BLANK}+\\Z")


@dataclass(frozen=True)
class EncodedPrompt:
    """`ids` `(1, max_tokens)` float32; `cut` is the text that did not fit (empty if all did).

    `cut` begins with the whole of the word that the cut goes through. A word is what stands between
    spaces; in Chinese and Japanese any character begins one.
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
        body = self._body(prompt)
        kept = body[: length - 2]
        ids = [self.facts["bos_token_id"], *kept, self.facts["eos_token_id"]]
        ids += [self.facts["pad_token_id"]] * (length - len(ids))
        cut = self._cut(prompt, len(kept)) if len(body) > len(kept) else ""
        return EncodedPrompt(np.array([ids], dtype=np.float32), cut)

    def _body(self, prompt: str) -> list[int]:
        """Ids without framing."""
        ids: list[int] = self._tokenizer.encode(self._expand(prompt), add_special_tokens=False).ids
        return ids

    def _expand(self, prompt: str) -> str:
        """A word with several embeddings, `x`, `x_1`, ..., is written as all of them.

        As diffusers' `TextualInversionLoaderMixin.maybe_convert_prompt`: only where the word
        stands in the prompt exactly as it was added.
        """
        contents = self._added
        if not any(f"{content}_1" in contents for content in contents):
            return prompt
        tokens = self._tokenizer.encode(prompt, add_special_tokens=False).tokens
        for token in dict.fromkeys(token for token in tokens if token in contents):
            written, count = token, 1
            while f"{token}_{count}" in contents:
                written += f" {token}_{count}"
                count += 1
            prompt = prompt.replace(token, written)
            if len(prompt) > _LONGEST:
                raise UserError(
                    f"the prompt grows beyond {_LONGEST:,} characters by its added words, such as "
                    f"{token[:40]!r}; write fewer of them"
                )
        return prompt

    def _cut(self, prompt: str, kept: int) -> str:
        """The prompt from its last word on that has no more than `kept` tokens before it."""
        starts = [match.start() for match in _WORD_START.finditer(prompt)] or [0]
        first, last = 0, len(starts) - 1
        while first < last:
            middle = (first + last + 1) // 2
            if len(self._body(prompt[: starts[middle]])) <= kept:
                first = middle
            else:
                last = middle - 1
        return _TAIL.sub("", prompt[starts[first] :])

    @cached_property
    def _added(self) -> frozenset[str]:
        words = self._tokenizer.get_added_tokens_decoder().values()
        return frozenset(word.content for word in words)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return _build(self.folder, self.facts)
        except Exception as error:  # the library raises nothing narrower for damaged files
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.folder}: {VOCAB_NAME} or {MERGES_NAME} cannot be read ({reason}); "
                "restore them"
            ) from None


def _build(folder: Path, facts: dict[str, Any]) -> Any:
    """CLIP's normalizer, splitting and merging from transformers; the added words of the facts."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import BPE

    loaded = _clip_tokenizer(folder).backend_tokenizer
    _, merges = BPE.read_file(str(folder / VOCAB_NAME), str(folder / MERGES_NAME))
    vocabulary = read_table(folder / VOCAB_NAME)  # where no word may stand twice
    added = facts.get("added_tokens")
    words = plain_words(vocabulary, facts) if added is None else added
    # A word that is added gets the id that it has in the vocabulary.
    vocabulary |= {word["content"]: word["id"] for word in words}
    settings = ("unk_token", "end_of_word_suffix", "continuing_subword_prefix", "fuse_unk")
    kept = {name: getattr(loaded.model, name) for name in settings}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, **kept))
    tokenizer.normalizer, tokenizer.pre_tokenizer = loaded.normalizer, loaded.pre_tokenizer
    flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
    tokenizer.add_tokens(
        [AddedToken(word["content"], **{flag: word[flag] for flag in flags}) for word in words]
    )
    return tokenizer


def _clip_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of two files alone: it would read others that lie beside them."""
    from transformers import CLIPTokenizerFast

    with tempfile.TemporaryDirectory(prefix="coreml-sd-") as alone:
        for name in (VOCAB_NAME, MERGES_NAME):
            shutil.copyfile(require_regular(folder / name), Path(alone) / name)
        return CLIPTokenizerFast.from_pretrained(alone, local_files_only=True)
