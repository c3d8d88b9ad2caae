"""Which files of a folder hold a network's weights: the choice that the libraries make.

diffusers looks for an index of shards, then for the one file; transformers the other way round.
Names are compared whole: a copy beside a file, a hidden file or another variant is not read.
Sources: `ModelMixin.from_pretrained` and `_identify_model_variants` of diffusers,
`_get_resolved_checkpoint_files` of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.models.folder.files import shards_of

_DIFFUSERS, _TRANSFORMERS = "diffusion_pytorch_model", "model"
_ENDING = ".safetensors"
_INDEX = f"{_ENDING}.index"
_PICKLES = (".bin", ".ckpt", ".pt")
SAVE_AS_FP16 = (
    "save it again with `DiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float16)"
    ".save_pretrained(NEW_FOLDER)`"
)


@dataclass(frozen=True)
class WeightNames:
    """The names that one network's weight files go by in a folder."""

    part: str

    @property
    def stem(self) -> str:
        """What every one of them begins with."""
        return _TRANSFORMERS if self._is_transformers else _DIFFUSERS

    @property
    def _is_transformers(self) -> bool:
        return self.part.startswith("text_encoder")

    def first(self, names: Collection[str], variant: str | None) -> str | None:
        """The file that loading begins with: an index of shards, or the weights themselves."""
        mark = f".{variant}" if variant else ""
        indexes = [f"{self.stem}{_INDEX}{mark}.json"]
        if variant and not self._is_transformers:
            indexes.append(f"{self.stem}{_ENDING}{mark}.index.json")
        single = [f"{self.stem}{mark}{_ENDING}"]
        order = single + indexes if self._is_transformers else indexes + single
        return next((name for name in order if name in names), None)

    def variants(self, names: Collection[str]) -> list[str]:
        """The variants that are there whole, such as `fp16`."""
        pattern = re.compile(
            rf"{re.escape(self.stem)}(?:\.(?P<a>[\w-]+){re.escape(_ENDING)}"
            rf"|{re.escape(_INDEX)}\.(?P<b>[\w-]+)\.json"
            rf"|{re.escape(_ENDING)}\.(?P<c>[\w-]+)\.index\.json)"
        )
        matches = [match for name in names if (match := pattern.fullmatch(name))]
        found = {match["a"] or match["b"] or match["c"] for match in matches}
        return sorted(name for name in found if name and not re.search(r"-\d+-of-\d+$", name))

    def holds(self, name: str, variant: str | None) -> bool:
        """Whether a file may be a shard of this variant."""
        mark = f".{variant}" if variant else ""
        shard = rf"{re.escape(self.stem)}(?:{re.escape(mark)})?-\d+-of-\d+(?:{re.escape(mark)})?"
        return re.fullmatch(shard + re.escape(_ENDING), name) is not None


def choose_variant(
    folder: str, listing: Mapping[str, Collection[str]], asked: str | None
) -> dict[str, str | None]:
    """The variant of each network's files: None is the plain ones.

    Without a wish the plain files are taken, or, where a network has none, the only variant that
    all such networks have. Of a network without the variant its plain files are taken, as diffusers
    does.

    Args:
        folder: how errors name the model.
        listing: the names of the files in each network's folder.
        asked: the variant that the user wants.

    Raises:
        UserError: a network has no safetensors weights, or several variants to choose from.
    """
    chosen = asked or _only_variant(folder, listing)
    if asked and not any(asked in WeightNames(part).variants(listing[part]) for part in listing):
        raise UserError(f"{folder}: no variant {asked}; it has {_variants(listing) or 'none'}")
    result = {}
    for part, names in listing.items():
        known = WeightNames(part)
        result[part] = chosen if chosen and known.first(names, chosen) else None
        if known.first(names, result[part]) is None:
            raise _missing(folder, part, names)
    return result


def _only_variant(folder: str, listing: Mapping[str, Collection[str]]) -> str | None:
    lacking = [part for part, names in listing.items() if not WeightNames(part).first(names, None)]
    if not lacking:
        return None
    held = [set(WeightNames(part).variants(listing[part])) for part in lacking]
    common = sorted(set.intersection(*held))
    if len(common) == 1:
        return common[0]
    for part, variants in zip(lacking, held, strict=True):
        if not variants:
            raise _missing(folder, part, listing[part])
    raise UserError(
        f"{folder}/{lacking[0]}: no plain weights ({WeightNames(lacking[0]).stem}{_ENDING}), and "
        f"{_variants(listing) or 'no one variant for all networks'}: choose with --variant"
    )


def _variants(listing: Mapping[str, Collection[str]]) -> str:
    held = {name for part, names in listing.items() for name in WeightNames(part).variants(names)}
    return ", ".join(sorted(held))


def _missing(folder: str, part: str, names: Collection[str]) -> UserError:
    wanted = f"{WeightNames(part).stem}{_ENDING}"
    if any(name.endswith(_PICKLES) and not name.startswith(".") for name in names):
        return UserError(
            f"{folder}/{part}: no safetensors weights ({wanted}): only pickled weights, which are "
            "not opened here; open it in diffusers where you trust it, and `save_pretrained`"
        )
    others = sorted(n for n in names if n.endswith(_ENDING) and not n.startswith("."))
    beside = f" (there is {', '.join(others)}, a name that diffusers does not read)"
    return UserError(
        f"{folder}/{part}: no safetensors weights: {wanted} is missing{beside if others else ''}; "
        "give a complete diffusers folder"
    )


def weight_files(folder: Path, part: str, variant: str | None) -> list[Path]:
    """The files that hold one network's weights, in the order in which they are read.

    Raises:
        UserError: the index is damaged, or a shard that it names is missing.
    """
    names = file_names(folder / part)
    first = WeightNames(part).first(names, variant)
    if first is None:
        raise _missing(str(folder), part, names)
    if first.endswith(_ENDING):
        return [folder / part / first]
    return [folder / part / shard for shard in _shards(folder / part / first, names)]


def file_names(folder: Path) -> list[str]:
    """Names of the files in a folder; none where it is not there."""
    return sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []


def _shards(index: Path, names: Collection[str]) -> list[str]:
    shards = shards_of(index)
    for shard in shards:
        if shard not in names:
            raise UserError(f"{index}: its shard {shard} is missing; download it again")
    return shards
