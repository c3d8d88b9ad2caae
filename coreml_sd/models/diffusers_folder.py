"""A diffusers folder on disk: its index, configs and weights, checked before they are used."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models.weights import not_finite

INDEX_NAME = "model_index.json"
_NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")


@dataclass(frozen=True)
class DiffusersFolder:
    """The parts of a saved diffusers pipeline, by the names diffusers gives them."""

    path: Path

    @cached_property
    def index(self) -> dict[str, Any]:
        """model_index.json: the pipeline class and its parts.

        Raises:
            UserError: the folder is no diffusers folder.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such folder")
        return self.json_file(INDEX_NAME)

    def json_file(self, relative: str) -> dict[str, Any]:
        """One JSON object of the folder.

        Raises:
            UserError: the file is missing or is not a JSON object.
        """
        file = self.path / relative
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{self.path}: no {relative}; give a complete diffusers folder"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not a JSON file ({error})") from None
        if not isinstance(content, dict):
            raise UserError(f"{file}: not a JSON object")
        return content

    def config(self, part: str) -> dict[str, Any]:
        """config.json of one network (`unet`, `vae`, `text_encoder`)."""
        return self.json_file(f"{part}/config.json")

    def weight_files(self, part: str) -> list[Path]:
        """The safetensors files of one network: the plain ones, else the fp16 variant.

        Raises:
            UserError: there are none.
        """
        found = sorted((self.path / part).glob("*.safetensors"))
        files = [file for file in found if ".non_ema" not in file.name]
        plain = [file for file in files if ".fp16" not in file.name]
        if files:
            return plain or files
        pickled = any((self.path / part).glob("*.bin"))
        why = (
            "only pickled weights (.bin); save it with safe_serialization" if pickled else "missing"
        )
        raise UserError(f"{self.path / part}: no safetensors weights: {why}")

    def weight_bytes(self, part: str) -> int:
        """Bytes of the weight files of one network."""
        return sum(file.stat().st_size for file in self.weight_files(part))

    def variant(self, part: str) -> str | None:
        """The diffusers variant name of the weight files."""
        return "fp16" if ".fp16" in self.weight_files(part)[0].name else None

    def check_weights(self, part: str) -> None:
        """Read every tensor of one network once.

        Raises:
            UserError: a truncated file, or NaN or inf in a tensor, named.
        """
        for file in self.weight_files(part):
            _check_weight_file(file)

    def tensor_shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of one network, from the headers of its files."""
        from coreml_sd.models.tensor_file import TensorFile

        files = [TensorFile(path) for path in self.weight_files(part)]
        return {name: entry.shape for file in files for name, entry in file.entries.items()}

    def digest(self) -> str:
        """SHA-256 over the configs and weights in use: which model this is, wherever it lies."""
        total = hashlib.sha256()
        for file in self._files_in_use():
            total.update(file.relative_to(self.path).as_posix().encode())
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def licence_and_author(self) -> tuple[str, str]:
        """What the model card's header says; a pointer to the card where it says nothing."""
        card = self.path / "README.md"
        header: dict[str, Any] = {}
        if card.is_file():
            from huggingface_hub import metadata_load

            header = metadata_load(card) or {}
        licence = header.get("license_name") or header.get("license") or "see the model's own terms"
        author = header.get("author") or "see the source model's card"
        return str(licence), str(author)

    def _files_in_use(self) -> list[Path]:
        parts = [part for part in _NETWORKS if (self.path / part).is_dir()]
        files = [file for part in parts for file in self.weight_files(part)]
        return sorted([*files, *self.path.glob("*.json"), *self.path.glob("*/*.json")])


def _check_weight_file(file: Path) -> None:
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - a safe_open handle is no mapping
                tensor = tensors.get_tensor(name)
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise not_finite(f"{file}: {name}")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: truncated or damaged ({error}); download it again") from None
