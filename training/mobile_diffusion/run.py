"""Runs one stage of a training in its folder, from what the stage before it left there."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from torch import nn
from transformers import CLIPTokenizer

from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.demo.tokenizer import write_tokenizer
from training.mobile_diffusion import networks, samples
from training.mobile_diffusion.config import (
    AutoencoderConfig,
    DenoiserConfig,
    TrainingConfig,
    needed,
)
from training.mobile_diffusion.data.find_set import picture_set
from training.mobile_diffusion.data.latents import Latents
from training.mobile_diffusion.loop import Loop
from training.mobile_diffusion.losses import PatchDiscriminator
from training.mobile_diffusion.schedule import Schedule
from training.mobile_diffusion.stages.autoencoder import Autoencoder, AutoencoderStage
from training.mobile_diffusion.stages.denoiser import Denoiser, DenoiserStage, Samples

AVERAGED = "averaged"  # the folder of a stage's weights, as diffusers saves them
LATENTS = "latents.safetensors"


class Run:
    """A training in a folder: one folder in it for each stage.

    Args:
        folder: made where it is not there.
        cpu: train on the CPU though there is a GPU.
    """

    def __init__(self, folder: Path, config: TrainingConfig, *, cpu: bool = False) -> None:
        self.folder, self.config = folder, config
        project = ProjectConfiguration(project_dir=str(folder), automatic_checkpoint_naming=False)
        self.accelerator = Accelerator(cpu=cpu, project_config=project)
        self.set = picture_set(config.data)
        self.schedule = Schedule.from_config(networks.SCHEDULER)

    def vae(self) -> dict[str, float]:
        """Encoder and whole decoder."""
        config = needed(self.config.vae, "vae")
        torch.manual_seed(config.seed)
        vae = networks.new_vae(self.config.networks, light=False)
        return self._train_autoencoder("vae", vae, config)

    def decoder(self) -> dict[str, float]:
        """The light decoder, with the encoder of `vae` frozen."""
        config = needed(self.config.decoder, "decoder")
        torch.manual_seed(config.seed)
        whole = self._whole_vae()
        vae = networks.new_vae(self.config.networks, light=True)
        for part in ("encoder", "quant_conv"):
            getattr(vae, part).load_state_dict(getattr(whole, part).state_dict())
            getattr(vae, part).requires_grad_(False)
        return self._train_autoencoder("decoder", vae, config)

    def base(self) -> dict[str, float]:
        """Text encoder and UNet with softmax attention."""
        config = needed(self.config.base, "base")
        torch.manual_seed(config.seed)
        denoiser = networks.new_denoiser(self.config.networks, self.tokenizer)
        return self._train_denoiser("base", denoiser, config)

    def relu(self) -> dict[str, float]:
        """The UNet of `base` with ReLU attention; its text encoder stays as it is."""
        config = needed(self.config.relu, "relu")
        denoiser = networks.saved_denoiser(self.averaged("base"))
        denoiser.unet = denoiser.unet.with_weighing("relu")
        denoiser.text_encoder.requires_grad_(False)
        return self._train_denoiser("relu", denoiser, config)

    def averaged(self, stage: str) -> Path:
        """The folder with a stage's averaged weights.

        Raises:
            FileNotFoundError: the stage was not run here.
        """
        path = self.folder / stage / AVERAGED
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: run the stage {stage} first")
        return path

    @functools.cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """The config's, or one that is learnt from the captions."""
        if self.config.networks.tokenizer:
            return CLIPTokenizer.from_pretrained(self.config.networks.tokenizer)
        with self.accelerator.main_process_first():
            return write_tokenizer(self.folder / "tokenizer", self.set.captions())

    @functools.cached_property
    def latents(self) -> Latents:
        """By the encoder of `vae`; those of a small set are kept beside it."""
        kept = self.averaged("vae") / LATENTS
        return Latents(self.set, self._whole_vae(), kept, self.accelerator)

    def _whole_vae(self) -> MobileDiffusionVAE:
        vae: MobileDiffusionVAE = MobileDiffusionVAE.from_pretrained(self.averaged("vae"))
        return vae

    def _decoding_vae(self) -> MobileDiffusionVAE:
        """With the light decoder where there is one yet."""
        if not (self.folder / "decoder" / AVERAGED).exists():
            return self._whole_vae()
        vae: MobileDiffusionVAE = MobileDiffusionVAE.from_pretrained(self.averaged("decoder"))
        return vae

    def _train_autoencoder(
        self, name: str, vae: MobileDiffusionVAE, config: AutoencoderConfig
    ) -> dict[str, float]:
        trained: dict[str, nn.Module] = {"autoencoder": Autoencoder(vae)}
        if config.adversarial:
            trained["discriminator"] = PatchDiscriminator()
        loop = Loop(self.folder / name, config, self.accelerator, trained, averaged=["autoencoder"])

        def show() -> None:
            averaged: Any = loop.average("autoencoder")
            samples.reconstructions(self.folder / name / samples.NAME, averaged.vae, self.set)
            self._keep(name, averaged.vae.save_pretrained)

        return loop.run(AutoencoderStage(loop, config, self.set).turns(), show)

    def _train_denoiser(
        self, name: str, denoiser: Denoiser, config: DenoiserConfig
    ) -> dict[str, float]:
        drawn = Samples(self.set, self.latents, self.tokenizer)
        loop = Loop(
            self.folder / name,
            config,
            self.accelerator,
            {"denoiser": denoiser},
            averaged=["denoiser"],
        )

        def show() -> None:
            averaged: Any = loop.average("denoiser")
            path = self.folder / name / samples.NAME
            samples.guided(path, averaged, drawn, self._decoding_vae(), self.schedule)
            self._keep(name, functools.partial(networks.save_denoiser, averaged))

        return loop.run(DenoiserStage(loop, config, drawn, self.schedule).turns(), show)

    def _keep(self, stage: str, write: Callable[[Path], object]) -> None:
        """Write a stage's averaged weights; a reader sees those before or these, never a part."""
        target = self.folder / stage / AVERAGED
        partial = target.with_name(f"partial-{AVERAGED}")
        shutil.rmtree(partial, ignore_errors=True)
        write(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


STAGES: dict[str, Callable[[Run], dict[str, float]]] = {
    "vae": Run.vae,
    "decoder": Run.decoder,
    "base": Run.base,
    "relu": Run.relu,
}
