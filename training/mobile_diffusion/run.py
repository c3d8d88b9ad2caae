"""Runs one stage of a training in its folder, from what the stage before it left there."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import CLIPTokenizer

from coreml_sd.errors import UserError
from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet
from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.demo.tokenizer import write_tokenizer
from training.mobile_diffusion import networks, samples
from training.mobile_diffusion.config import (
    AutoencoderConfig,
    DenoiserConfig,
    StageConfig,
    TrainingConfig,
    needed,
)
from training.mobile_diffusion.data.find_set import picture_set
from training.mobile_diffusion.data.latents import Latents
from training.mobile_diffusion.discriminator import LatentDiscriminator
from training.mobile_diffusion.export import export
from training.mobile_diffusion.loop import Loop, Turn
from training.mobile_diffusion.losses import PatchDiscriminator
from training.mobile_diffusion.objectives.guidance import Guided, Unguided
from training.mobile_diffusion.schedule import Schedule
from training.mobile_diffusion.stages.autoencoder import Autoencoder, AutoencoderStage
from training.mobile_diffusion.stages.denoiser import (
    Denoiser,
    DenoiserStage,
    Samples,
    TextDenoiser,
    TextSamples,
)
from training.mobile_diffusion.stages.distillation import (
    GuidanceStage,
    GuidedStudent,
    StepsStage,
    new_student,
)
from training.mobile_diffusion.stages.one_step import BETAS, OneStepStage

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
        self.accelerator = Accelerator(cpu=cpu)
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

    def guidance(self) -> dict[str, float]:
        """A UNet that is told the scale, in one pass, from that of `relu` in two."""
        config = needed(self.config.guidance, "guidance")
        teacher, drawn = self._teacher()
        loop = self._loop("guidance", config, {"student": new_student(teacher.unet, config.width)})
        turns = GuidanceStage(loop, config, drawn, self.schedule, teacher).turns()
        return self._train_unet(loop, "student", turns, drawn, told=True)

    def steps(self) -> dict[str, float]:
        """Few steps of the UNet of `guidance`."""
        config = needed(self.config.steps, "steps")
        _, drawn = self._teacher()
        unet = MobileDiffusionUNet.from_pretrained(self.averaged("guidance"))
        teacher = GuidedStudent(unet).eval().requires_grad_(False).to(self.accelerator.device)
        student = GuidedStudent(MobileDiffusionUNet.from_pretrained(self.averaged("guidance")))
        loop = self._loop("steps", config, {"student": student})
        turns = StepsStage(loop, config, drawn, self.schedule, teacher).turns()
        return self._train_unet(
            loop, "student", turns, drawn, told=True, steps=config.student_steps
        )

    def one_step(self) -> dict[str, float]:
        """One step of the UNet of `relu`, against a copy of half of it."""
        config = needed(self.config.one_step, "one_step")
        torch.manual_seed(config.seed)
        pretrained, drawn = self._teacher()
        trained: dict[str, nn.Module] = {
            "generator": TextDenoiser(copy.deepcopy(pretrained.unet).requires_grad_(True))
        }
        if config.adversarial:
            discriminator = LatentDiscriminator(pretrained.unet)
            trained["discriminator"] = discriminator.requires_grad_(True)
        loop = self._loop(
            "one_step", config, trained, averaged=["generator"], betas=dict.fromkeys(trained, BETAS)
        )
        turns = OneStepStage(loop, config, drawn, self.schedule).turns()
        return self._train_unet(loop, "generator", turns, drawn, told=False, steps=1)

    def export(self, target: Path) -> None:
        """Write the model as a diffusers folder.

        Raises:
            UserError: a stage that it needs was not run here.
        """
        stages = {stage: self.averaged(stage) for stage in ("decoder", "relu")}
        few_steps = {}
        if self._has("steps"):
            student = needed(self.config.steps, "steps")
            few_steps[student.student_steps] = self.averaged("steps")
        if self._has("one_step"):
            few_steps[1] = self.averaged("one_step")
        export(target, stages, few_steps, self.tokenizer, self.latents.scale)

    def _has(self, stage: str) -> bool:
        return (self.folder / stage / AVERAGED).exists()

    def averaged(self, stage: str) -> Path:
        """The folder with a stage's averaged weights.

        Raises:
            UserError: the stage was not run here.
        """
        path = self.folder / stage / AVERAGED
        if not path.exists():
            raise UserError(f"{path} is not there: run the stage {stage} first")
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
        if not self._has("decoder"):
            return self._whole_vae()
        vae: MobileDiffusionVAE = MobileDiffusionVAE.from_pretrained(self.averaged("decoder"))
        return vae

    def _train_autoencoder(
        self, name: str, vae: MobileDiffusionVAE, config: AutoencoderConfig
    ) -> dict[str, float]:
        trained: dict[str, nn.Module] = {"autoencoder": Autoencoder(vae)}
        if config.adversarial:
            trained["discriminator"] = PatchDiscriminator()
        loop = self._loop(name, config, trained, averaged=["autoencoder"])

        def show() -> None:
            averaged: Any = loop.average("autoencoder")
            samples.reconstructions(self.folder / name / samples.NAME, averaged.vae, self.set)
            self._keep(name, averaged.vae.save_pretrained)

        return loop.run(AutoencoderStage(loop, config, self.set).turns(), show)

    def _train_denoiser(
        self, name: str, denoiser: Denoiser, config: DenoiserConfig
    ) -> dict[str, float]:
        drawn = Samples(self.set, self.latents, self.tokenizer)
        loop = self._loop(name, config, {"denoiser": denoiser})

        def show() -> None:
            averaged: Any = loop.average("denoiser")
            texts = TextSamples(drawn, copy.deepcopy(averaged.text_encoder))
            unet = TextDenoiser(averaged.unet)
            path = self.folder / name / samples.NAME
            guided = Guided(unet, texts.states([""]))
            samples.drawn(path, guided, texts, self._decoding_vae(), self.schedule)
            self._keep(name, functools.partial(networks.save_denoiser, averaged))

        return loop.run(DenoiserStage(loop, config, drawn, self.schedule).turns(), show)

    def _train_unet(
        self,
        loop: Loop,
        network: str,
        turns: list[Turn],
        texts: TextSamples,
        *,
        told: bool,
        steps: int = samples.STEPS,
    ) -> dict[str, float]:
        """`told`: the UNet is told the scale."""

        def show() -> None:
            averaged: Any = loop.average(network)
            denoiser = averaged if told else Unguided(averaged)
            path = loop.folder / samples.NAME
            vae = self._decoding_vae()
            samples.drawn(path, denoiser, texts, vae, self.schedule, steps=steps)
            self._keep(loop.folder.name, averaged.unet.save_pretrained)

        return loop.run(turns, show)

    def _teacher(self) -> tuple[TextDenoiser, TextSamples]:
        """The UNet of `relu`, and the data with its text encoder."""
        denoiser = networks.saved_denoiser(self.averaged("relu")).to(self.accelerator.device)
        drawn = Samples(self.set, self.latents, self.tokenizer)
        unet = TextDenoiser(denoiser.unet).eval().requires_grad_(False)
        return unet, TextSamples(drawn, denoiser.text_encoder)

    def _loop(
        self,
        name: str,
        config: StageConfig,
        trained: dict[str, nn.Module],
        averaged: Sequence[str] | None = None,
        betas: Mapping[str, tuple[float, float]] | None = None,
    ) -> Loop:
        # One for each stage: it saves all that it has prepared.
        accelerator = Accelerator(cpu=self.accelerator.device.type == "cpu")
        return Loop(
            self.folder / name,
            config,
            accelerator,
            trained,
            averaged=list(trained) if averaged is None else averaged,
            betas=betas,
        )

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
    "guidance": Run.guidance,
    "steps": Run.steps,
    "one_step": Run.one_step,
}
