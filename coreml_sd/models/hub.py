"""Fetch a model from the hub: the files that are used, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import read_table
from coreml_sd.models.folder.corrections import SCHEDULER_FILE
from coreml_sd.models.folder.diffusers_folder import INDEX_NAME, NETWORKS
from coreml_sd.models.folder.few_step_unets import ADVICE_NAME, few_step_unets
from coreml_sd.models.folder.weight_files import WeightNames, choose_variant

_TOKENIZERS = ("tokenizer", "tokenizer_2")
_BESIDE = (INDEX_NAME, "README.md", ADVICE_NAME)


def fetch(model: str, revision: str | None, variant: str | None) -> Path:
    """The folder in the hub's cache with the files of one model that are used.

    Raises:
        UserError: there is no such model or revision, it is gated, the hub cannot be reached and
            the cache does not have it, or its weights cannot be used.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        index = huggingface_hub.hf_hub_download(model, INDEX_NAME, revision=revision)
        names = _listed(model, revision)
        if names is None:  # what was fetched before is there whole
            return Path(index).parent
        further: list[str] = []
        if ADVICE_NAME in names:
            advice = Path(huggingface_hub.hf_hub_download(model, ADVICE_NAME, revision=revision))
            further = [*few_step_unets(read_table(advice, any_number=True), str(advice))]
        wanted = sorted(files_in_use(model, names, _parts(Path(index)), variant, further))
        return Path(
            huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=wanted)
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
    except errors.EntryNotFoundError:
        raise UserError(
            f"{model}: has no {INDEX_NAME}: it is no diffusers folder; give a model that is one"
        ) from None
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{model}: the hub answered: {reason}") from None


def files_in_use(
    model: str,
    names: Iterable[str],
    parts: Callable[[str], bool],
    variant: str | None,
    few_step_unets: Sequence[str] = (),
) -> Iterator[str]:
    """Of a repository's files those that a conversion reads.

    Args:
        names: of all its files, with their folders.
        parts: whether the pipeline has a part of this name.
        few_step_unets: folders of further UNets.

    Raises:
        UserError: a network has no safetensors weights, or several variants to choose from.
    """
    held = set(names)
    networks = [*filter(parts, NETWORKS), *few_step_unets]
    configs = [f"{part}/config.json" for part in networks]
    configs += [SCHEDULER_FILE] if parts("scheduler") else []
    yield from (name for name in (*_BESIDE, *configs) if name in held)
    for part in _TOKENIZERS:
        if parts(part):
            yield from (n for n in held if n.startswith(f"{part}/") and _is_text(n))
    listing = {
        part: [n.removeprefix(f"{part}/") for n in held if n.startswith(f"{part}/")]
        for part in networks
    }
    for part, chosen in choose_variant(model, listing, variant).items():
        known = WeightNames(part)
        first = known.first(listing[part], chosen)
        yield f"{part}/{first}"
        if first and first.endswith(".json"):
            yield from (f"{part}/{n}" for n in listing[part] if known.holds(n, chosen))


def _listed(model: str, revision: str | None) -> list[str] | None:
    """Names of all files; None where the hub cannot be asked."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        found: list[str] = huggingface_hub.list_repo_files(model, revision=revision)
    except errors.HfHubHTTPError:
        raise
    except Exception:  # clients name a missing network in many ways
        return None
    return found


def _parts(index: Path) -> Callable[[str], bool]:
    held = read_table(index, any_number=True)
    return lambda part: isinstance(held.get(part), list) and held[part][:1] not in ([], [None])


def _is_text(name: str) -> bool:
    return name.endswith((".json", ".txt")) and not name.rpartition("/")[2].startswith(".")
