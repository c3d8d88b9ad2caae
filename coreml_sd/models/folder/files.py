"""What a model's folder may hold, looked at once before any library reads it.

The libraries open what they find: they would wait for a pipe, read a device without end, and take
a pickle where a config or an index of shards names one.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import read_bytes, read_table, require_shallow
from coreml_sd.files.limits import LIMITS

_TEXTS = (".json", ".txt", ".md", ".jinja", ".model")
_SAFE = ".safetensors"
# Names of files and keys of configs that make the libraries load something else than the weights.
_ADAPTER = "adapter_config.json"
_OTHER_WEIGHTS = ("quantization_config", "transformers_weights")


def require_safe_folder(folder: Path) -> None:
    """Look at every file of a model's folder and of the folders in it.

    Raises:
        UserError: something is neither a file nor a folder, a text is larger than the limit, or an
            index or a config leads to weights other than safetensors; the file is named.
    """
    for count, (file, kind, size) in enumerate(_entries(folder)):
        if count >= LIMITS.files:
            raise UserError(f"{folder}: more than {LIMITS.files} files; give a diffusers folder")
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise UserError(f"{file}: not a regular file; put the file itself there")
        if file.suffix in _TEXTS and size > LIMITS.text_bytes:
            raise UserError(
                f"{file}: larger than {LIMITS.text_bytes >> 20} MB, the most that such a file may "
                "have"
            )
        if file.name == _ADAPTER:
            raise UserError(f"{file}: adapters are not supported; merge it, or take the file away")
        if stat.S_ISREG(kind) and file.suffix == ".json":
            _require_shallow(file)
            if _SAFE in file.name:
                shards_of(file)


def _require_shallow(file: Path) -> None:
    """The libraries parse it with Python's own parser."""
    try:
        require_shallow(read_bytes(file).decode("utf-8", "replace"))
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None


def shards_of(index: Path) -> list[str]:
    """Names of the files that an index of shards names, in order.

    Raises:
        UserError: it is damaged, or names what is no safetensors file beside it.
    """
    places = read_table(index, any_number=True).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: not an index of shards (no weight_map); download it again")
    for shard in places.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise UserError(f"{index}: names {shard!r}, which is not a file beside it")
        if not shard.endswith(_SAFE):
            raise UserError(
                f"{index}: names {shard!r}; only safetensors weights are opened: open the model in "
                "diffusers where you trust it, and `save_pretrained`"
            )
    return sorted(set(places.values()))


def require_own_weights(file: Path, config: dict[str, Any]) -> None:
    """Refuse a network's config that leads to other weights than those beside it.

    Raises:
        UserError: it does; names the key.
    """
    for key in _OTHER_WEIGHTS:
        if config.get(key) is not None:
            raise UserError(
                f"{file}: {key} is not supported; save the model again in fp16, and without it"
            )


def _entries(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """Path, kind and size of what lies in a folder and in the folders in it."""
    try:
        for entry in sorted(folder.iterdir()):
            try:
                found = entry.stat()
            except FileNotFoundError:  # a link to nothing: whoever needs the file names it
                continue
            yield entry, found.st_mode, found.st_size
            if stat.S_ISDIR(found.st_mode):
                for inner in sorted(entry.iterdir()):
                    try:
                        found = inner.stat()
                    except FileNotFoundError:
                        continue
                    yield inner, found.st_mode, found.st_size
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
