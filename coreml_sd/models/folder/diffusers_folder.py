"""A diffusers folder on disk: its index, configs and weights, checked before they are used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import open_regular, read_table
from coreml_sd.models.folder.few_step_unets import ADVICE_NAME, few_step_unets
from coreml_sd.models.folder.files import require_own_weights, require_safe_folder
from coreml_sd.models.folder.model_card import card_texts
from coreml_sd.models.folder.pointer_files import require_content
from coreml_sd.models.folder.weight_files import choose_variant, file_names, weight_files
from coreml_sd.models.weights.values import not_finite

INDEX_NAME = "model_index.json"
NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")


@dataclass(frozen=True)
class DiffusersFolder:
    """The parts of a saved diffusers pipeline, by the names diffusers gives them.

    `wanted_variant` is the variant of the weight files that the user asks for, such as `fp16`.
    """

    path: Path
    wanted_variant: str | None = field(default=None, kw_only=True)

    @cached_property
    def index(self) -> dict[str, Any]:
        """model_index.json: the pipeline class and its parts.

        Raises:
            UserError: the folder is no diffusers folder, or holds what no library should read.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such folder")
        require_safe_folder(self.path)
        return self.json_file(INDEX_NAME)

    def indexed_class(self, part: str) -> str | None:
        """The class that model_index.json names for a part; None where it names none."""
        entry = self.index.get(part)
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
            return entry[1]
        return None

    def json_file(self, relative: str) -> dict[str, Any]:
        """One JSON object of the folder.

        Raises:
            UserError: the file is missing, is not a JSON object, or has a key twice.
        """
        file = self.path / relative
        try:
            require_content(file)
        except FileNotFoundError:
            raise UserError(
                f"{self.path}: no {relative}; give a complete diffusers folder"
            ) from None
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        return read_table(file, any_number=True)

    def config(self, part: str) -> dict[str, Any]:
        """config.json of one network (`unet`, `vae`, `text_encoder`), as it is written.

        The text encoder's part of a whole CLIP model's config is taken out of it.
        """
        config = self.json_file(f"{part}/config.json")
        require_own_weights(self.path / part / "config.json", config)
        nested = config.get("text_config")
        if part.startswith("text_encoder") and isinstance(nested, dict):
            return nested
        return config

    def weight_files(self, part: str) -> list[Path]:
        """The safetensors files of one network, which diffusers would read too.

        Raises:
            UserError: there are none, an index is damaged, or it is not clear which to take.
        """
        return weight_files(self.path, part, self.variants[part])

    @cached_property
    def variants(self) -> dict[str, str | None]:
        """The variant of each network's files, None for the plain ones.

        Raises:
            UserError: a network has no safetensors weights, or several variants to choose from.
        """
        listing = {part: file_names(self.path / part) for part in self.networks}
        return choose_variant(str(self.path), listing, self.wanted_variant)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which variant is taken where nobody asked for one."""
        taken = sorted({name for name in self.variants.values() if name})
        if self.wanted_variant or not taken:
            return ()
        parts = ", ".join(part for part, name in self.variants.items() if name)
        return (f"weights of the {taken[0]} variant: there are no plain ones ({parts})",)

    @cached_property
    def networks(self) -> tuple[str, ...]:
        """The networks of the pipeline that are converted, by their folders."""
        held = (*NETWORKS, *self.few_step_unets)
        return tuple(part for part in held if (self.path / part).is_dir())

    @cached_property
    def few_step_unets(self) -> dict[str, int]:
        """Folders of UNets for few steps, each with the most that it draws with.

        Raises:
            UserError: coreml_sd.json cannot be read, or names them otherwise.
        """
        file = self.path / ADVICE_NAME
        return few_step_unets(self.json_file(ADVICE_NAME), str(file)) if file.is_file() else {}

    def weight_bytes(self, part: str) -> int:
        """Bytes of the weight files of one network."""
        return sum(file.stat().st_size for file in self.weight_files(part))

    def check_weights(self, part: str) -> None:
        """Read every tensor of one network once.

        Raises:
            UserError: a truncated file, or NaN or inf in a tensor, named.
        """
        for file in self.weight_files(part):
            _check_weight_file(file)

    def tensor_shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of one network, from the headers of its files."""
        from coreml_sd.models.weights.tensor_file import TensorFile

        files = [TensorFile(path) for path in self.weight_files(part)]
        return {name: entry.shape for file in files for name, entry in file.entries.items()}

    def digest(self) -> str:
        """SHA-256 over the configs and weights in use: which model this is, wherever it lies."""
        total = hashlib.sha256()
        for file in self._files_in_use():
            total.update(file.relative_to(self.path).as_posix().encode())
            with open_regular(file) as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def licence_and_author(self) -> tuple[str, str]:
        """What the model card's header says; a pointer to the card where it says nothing.

        Raises:
            UserError: the card's header cannot be read.
        """
        card = self.path / "README.md"
        header = card_texts(card) if card.exists() else {}
        licence = header.get("license_name") or header.get("license") or "see the model's own terms"
        return licence, header.get("author") or "see the source model's card"

    def _files_in_use(self) -> list[Path]:
        files = [file for part in self.networks for file in self.weight_files(part)]
        configs = [
            *self.path.glob("*.json"), *self.path.glob("*/*.json"), *self.path.glob("*/merges.txt")
        ]  # fmt: skip
        return sorted([*files, *(file for file in configs if not file.name.startswith("."))])


def _check_weight_file(file: Path) -> None:
    import torch
    from safetensors import SafetensorError, safe_open

    from coreml_sd.models.weights.tensor_file import TensorFile

    TensorFile(file)  # what the format forbids is told alike wherever weights are read
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - a safe_open handle is no mapping
                tensor = tensors.get_tensor(name)
                tensor = tensor.half() if tensor.itemsize == 1 else tensor  # 8-bit floats
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise not_finite(f"{file}: {name}")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: truncated or damaged ({error}); download it again") from None
