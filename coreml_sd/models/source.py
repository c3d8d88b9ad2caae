"""Find a model: the built-in demo, a diffusers folder, or a hub id (its cache respected)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.models.mobile_diffusion.presets import PRESETS

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED_FILES = ("*.json", "*.txt", "*.safetensors", "README.md", "*.model")


@dataclass(frozen=True)
class Source:
    """A model on this disk: its name, folder, and the hub commit it came from (if any)."""

    name: str
    folder: Path
    revision: str | None = None


def find_source(model: str, revision: str | None = None) -> Source:
    """Locate `model`: `demo`, a preset, a folder, or a hub id such as `org/name`.

    A preset has random weights and the tokenizer of the demo.

    Raises:
        UserError: nothing of that name is found, or the hub cannot be reached.
    """
    if model == DEMO:
        return Source(DEMO, DEMO_FOLDER)
    if model in PRESETS:
        return Source(model, DEMO_FOLDER)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Source(folder.resolve().name, folder.resolve())
    if folder.is_file():
        raise UserError(f"{model}: is a file; give a diffusers folder or a hub id")
    if not _HUB_ID.fullmatch(model) or model.startswith((".", "~")):
        raise UserError(f"{model}: no such folder; give a diffusers folder, a hub id or `demo`")
    return _from_hub(model, revision)


def _from_hub(model: str, revision: str | None) -> Source:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                model, revision=revision, allow_patterns=list(_WANTED_FILES)
            )
        )
    except errors.RevisionNotFoundError:
        raise UserError(f"{model}: the hub has no revision {revision}") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{model}: gated on the hub; accept its terms, then `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{model}: no such folder here and no such model on the hub") from None
    except errors.LocalEntryNotFoundError:
        raise UserError(
            f"{model}: no such folder here, not in the hub cache, and the hub cannot be reached"
        ) from None
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{model}: the hub answered: {reason}") from None
    return Source(model, folder, revision=folder.name)
