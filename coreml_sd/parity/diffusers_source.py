"""A model as diffusers' own pipeline opens it: what a conversion is held against.

Nothing here goes through this package's reading of the folder: diffusers chooses the classes, the
weight files and the tokenizers, and corrects old configs. A folder that is misread here does not
pass because what it is held against was misread with it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coreml_sd.compress.source_network import OpenedSource
from coreml_sd.errors import UserError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.folder.diffusers_folder import NETWORKS, DiffusersFolder
from coreml_sd.models.folder.few_step_unets import ADVICE_NAME
from coreml_sd.models.own_classes import own_class
from coreml_sd.models.weights.seeded import SeededFolder
from coreml_sd.models.weights.tensor_file import TensorFile
from coreml_sd.models.weights.values import set_tensor
from coreml_sd.parity.checks import GATE_MOBILE, SEEDS, Check, decibels
from coreml_sd.parity.reference import Reference, reference
from coreml_sd.processes.memory import let_pages_go

_SMALL = ("scheduler", "tokenizer", "tokenizer_2")
_DTYPES = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}
_MOST_PAGES = 1 << 26  # bytes of mapped weights that are kept in memory


def diffusers_source(folder: DiffusersFolder) -> DiffusersSource | None:
    """What diffusers makes of a folder; None for random weights, which no pipeline opens."""
    return None if isinstance(folder, SeededFolder) else DiffusersSource(folder)


def own_network(folder: DiffusersFolder, component: ComponentSpec) -> Reference | None:
    """A component's network as diffusers' own pipeline opens it, where there is such a pipeline."""
    source = diffusers_source(folder)
    return None if source is None else source.network(component.part)


def held_against(
    folder: DiffusersFolder, component: ComponentSpec, *, pruned: bool
) -> tuple[Reference | None, tuple[Check, ...]]:
    """The network as diffusers opens it, for the checks of a component, and checks to put first.

    A pruned network is none of diffusers': there what it was made from is compared.
    """
    own = own_network(folder, component)
    if own is None or not pruned:
        return own, ()
    return None, (reading_check(component, own),)


def reading_check(component: ComponentSpec, own: Reference) -> Check:
    """The network as it is read here, before it is changed, against diffusers' own."""
    opened = component.open()
    here = reference(component, OpenedSource(opened.module, opened.weights))
    inputs = [component.sample_inputs(SEEDS[0])]
    expected, found = own.outputs(component, inputs), here.outputs(component, inputs)
    return decibels("source as read against diffusers' pipeline", expected, found, GATE_MOBILE)


class DiffusersSource:
    """A folder opened by diffusers.

    The weights stay in their files, mapped, in the width that they are stored in.
    """

    def __init__(self, folder: DiffusersFolder) -> None:
        self._folder = folder

    @property
    def advises_scheduler(self) -> bool:
        """Whether the folder's own advice names a scheduler, which diffusers does not read."""
        advice = self._folder.path / ADVICE_NAME
        return advice.is_file() and "scheduler" in self._folder.json_file(ADVICE_NAME)

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline, with all its networks.

        Raises:
            UserError: diffusers cannot open the folder.
        """
        return self._opened(NETWORKS)

    def pipeline_with(self, denoiser: str) -> Any:
        """The pipeline with another UNet of the folder in the place of the usual one.

        Raises:
            UserError: diffusers cannot open it.
        """
        if denoiser not in self._folder.few_step_unets:
            return self.pipeline
        return type(self.pipeline)(**{**self.pipeline.components, "unet": self._unet(denoiser)})

    def network(self, part: str) -> Reference:
        """One network, which diffusers opens as a part of the pipeline, or alone where it is a
        further UNet; its parameters are on `meta`, and their values are read when asked for.

        Raises:
            UserError: diffusers cannot open it.
        """
        if part in self._folder.few_step_unets:
            opened = self._unet(part)
        else:
            opened = getattr(self._opened((part,)), part)
        network: nn.Module = opened.eval().requires_grad_(False)
        values = _MappedTensors(network, self._folder.weight_files(part))
        return Reference(network, values, values.let_go)

    def _opened(self, networks: Collection[str]) -> Any:
        from diffusers import DiffusionPipeline

        index = self._folder.index
        kind = own_class(index.get("_class_name")) or DiffusionPipeline
        parts = [part for part, entry in index.items() if isinstance(entry, list)]
        left_out = {part: None for part in parts if part not in (*networks, *_SMALL)}
        variants = {name for name in self._folder.variants.values() if name}
        held = [part for part in self._folder.networks if part in NETWORKS]
        with self._refused():
            return kind.from_pretrained(
                str(self._folder.path),
                torch_dtype={part: self._dtype(part) for part in held},
                variant=next(iter(variants), None),
                use_safetensors=True,
                local_files_only=True,
                **left_out,
            )

    def _unet(self, part: str) -> Any:
        """A further UNet, which no index of a pipeline names: of the class that its config says."""
        import diffusers

        name = self._folder.config(part).get("_class_name", "")
        kind = own_class(name) or getattr(diffusers, name, None)
        if kind is None:
            raise UserError(f"{self._folder.path}/{part}: diffusers has no {name}")
        with self._refused():
            return kind.from_pretrained(
                str(self._folder.path / part),
                torch_dtype=self._dtype(part),
                variant=self._folder.variants[part],
                use_safetensors=True,
                local_files_only=True,
            )

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        """Whatever a folder makes diffusers say becomes one line."""
        try:
            with quiet():
                yield
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self._folder.path}: diffusers cannot open it: {reason}") from None

    def _dtype(self, part: str) -> torch.dtype:
        """The type of all weights, so that they stay mapped; fp32 where they are of several."""
        files = [TensorFile(path) for path in self._folder.weight_files(part)]
        held = {entry.dtype for file in files for entry in file.entries.values()}
        floats = [name for name in held if "F" in name]
        return _DTYPES.get(floats[0], torch.float32) if len(floats) == 1 else torch.float32


class _MappedTensors:
    """The values of a network's parameters, as `coreml_sd.compress.weight_streaming.TensorSource`.

    Pages of the files leave memory again when many were read.
    """

    def __init__(self, network: nn.Module, files: list[Path]) -> None:
        """Puts the network on `meta`."""
        self._values = dict(network.named_parameters(remove_duplicate=False))
        self._files, self._read = files, 0
        for name, value in self._values.items():
            empty = nn.Parameter(value.to("meta"), requires_grad=False)
            set_tensor(network, name, empty)

    def tensor(self, name: str) -> torch.Tensor:
        """A parameter's values as they are stored."""
        value = self._values[name]
        if self._read > _MOST_PAGES:
            self.let_go()
        self._read += value.nbytes
        return value.detach()

    def let_go(self) -> None:
        """Pages that were read leave memory."""
        self._read = 0
        for file in self._files:
            let_pages_go(file, private=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' progress bars, and what they say of old configs and long prompts."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    kept = [(each, each.get_verbosity()) for each in (diffusers_logging, transformers_logging)]
    bars = [each for each, _ in kept if each.is_progress_bar_enabled()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each, _ in kept:
            each.set_verbosity_error()
        for each in bars:
            each.disable_progress_bar()
        try:
            yield
        finally:
            for each, level in kept:
                each.set_verbosity(level)
            for each in bars:
                each.enable_progress_bar()
