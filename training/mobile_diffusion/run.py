"""Runs one stage of a training in its folder, from what the stage before it left there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from torch import nn

from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.mobile_diffusion import samples
from training.mobile_diffusion.config import AutoencoderConfig, TrainingConfig
from training.mobile_diffusion.data.find_set import picture_set
from training.mobile_diffusion.loop import Loop
from training.mobile_diffusion.losses import PatchDiscriminator
from training.mobile_diffusion.stages.autoencoder import Autoencoder, AutoencoderStage

AVERAGED = "averaged"  # the folder of a stage's weights, as diffusers saves them


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

    def vae(self) -> dict[str, float]:
        """Encoder and whole decoder."""
        torch.manual_seed(self.config.vae.seed)
        return self._autoencoder("vae", self._new_vae(light=False), self.config.vae)

    def decoder(self) -> dict[str, float]:
        """The light decoder, with the encoder of `vae` frozen."""
        torch.manual_seed(self.config.decoder.seed)
        whole = MobileDiffusionVAE.from_pretrained(self.averaged("vae"))
        vae = self._new_vae(light=True)
        for part in ("encoder", "quant_conv"):
            getattr(vae, part).load_state_dict(getattr(whole, part).state_dict())
            getattr(vae, part).requires_grad_(False)
        return self._autoencoder("decoder", vae, self.config.decoder)

    def averaged(self, stage: str) -> Path:
        """The folder with a stage's averaged weights.

        Raises:
            FileNotFoundError: the stage was not run here.
        """
        path = self.folder / stage / AVERAGED
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: run the stage {stage} first")
        return path

    def keep(self, stage: str, **networks: Any) -> None:
        """Write a stage's averaged weights; a reader sees those before or these, never a part."""
        target = self.folder / stage / AVERAGED
        partial = target.with_name("partial-averaged")
        shutil.rmtree(partial, ignore_errors=True)
        for name, network in networks.items():
            network.save_pretrained(partial if len(networks) == 1 else partial / name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)

    def _new_vae(self, *, light: bool) -> MobileDiffusionVAE:
        settings = {**self.config.networks.vae, "light_decoder": light}
        vae: MobileDiffusionVAE = MobileDiffusionVAE(**settings)
        return vae

    def _autoencoder(
        self, name: str, vae: MobileDiffusionVAE, config: AutoencoderConfig
    ) -> dict[str, float]:
        networks: dict[str, nn.Module] = {"autoencoder": Autoencoder(vae)}
        if config.adversarial:
            networks["discriminator"] = PatchDiscriminator()
        loop = Loop(
            self.folder / name, config, self.accelerator, networks, averaged=["autoencoder"]
        )

        def show() -> None:
            averaged: Any = loop.average("autoencoder")
            samples.reconstructions(self.folder / name / "samples.png", averaged.vae, self.set)
            self.keep(name, vae=averaged.vae)

        return loop.run(AutoencoderStage(loop, config, self.set).turns(), show)


STAGES: dict[str, Callable[[Run], dict[str, float]]] = {"vae": Run.vae, "decoder": Run.decoder}
