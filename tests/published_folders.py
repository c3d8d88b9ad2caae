"""Tokenizers of published folders: their own small files, with a vocabulary put beside them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

_FACTS = Path(__file__).with_name("published_tokenizers.json")
PUBLISHED: dict[str, dict[str, Any]] = json.loads(_FACTS.read_text(encoding="utf-8"))
_CACHE = Path(os.environ.get("COREML_SD_CACHE", "~/.cache/coreml-sd")).expanduser()
CLIP_VOCABULARY = _CACHE / "clip-vocabulary"


def write_published_tokenizer(name: str, model: Path, vocabulary: Path) -> Path:
    """`model` with the tokenizer of a published folder, named like `sd-1-4/tokenizer`."""
    part = model / name.rsplit("/", 1)[1]
    part.mkdir(parents=True)
    for file, value in PUBLISHED[name].items():
        (part / file).write_text(json.dumps(value), encoding="utf-8")
    for file in ("vocab.json", "merges.txt"):
        shutil.copyfile(vocabulary / file, part / file)
    index = {part.name: ["transformers", "CLIPTokenizer"]}
    (model / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return model
