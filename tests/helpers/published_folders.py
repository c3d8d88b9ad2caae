"""Published folders as `tests/zoo` has them: small files as they are, without the weights."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

ZOO = Path(__file__).parents[1] / "zoo"
NAMES = tuple(sorted(path.name for path in ZOO.iterdir() if path.is_dir()))
_CACHE = Path(os.environ.get("COREML_SD_CACHE", "~/.cache/coreml-sd")).expanduser()
CLIP_VOCABULARY = _CACHE / "clip-vocabulary"

# Tokenizers, named like `sd-1-4/tokenizer` -> their small files.
PUBLISHED: dict[str, dict[str, Any]] = {
    folder.relative_to(ZOO).as_posix(): {
        file.name: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))
    }
    for folder in sorted(ZOO.glob("*/tokenizer*"))
}


def write_published_tokenizer(name: str, model: Path, vocabulary: Path) -> Path:
    """`model` with the tokenizer of a published folder."""
    part = model / name.rsplit("/", 1)[1]
    shutil.copytree(ZOO / name, part, copy_function=shutil.copyfile)
    for file in ("vocab.json", "merges.txt"):
        shutil.copyfile(vocabulary / file, part / file)
    index = {part.name: ["transformers", "CLIPTokenizer"]}
    (model / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return model
