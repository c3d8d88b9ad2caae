"""The config of a training: one TOML file, a table for the data, the networks and each stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from coreml_sd.errors import UserError


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the config."""


class DataConfig(Struct, frozen=True):
    """Where pictures and captions come from.

    Attributes:
        kind: `emoji` is the built-in set, `folder` pictures with a `metadata.jsonl` as Hugging
            Face's image folders have it, `shards` tar files as webdataset writes them.
        path: of the folder, or of the folder with the shards.
        size: pixels of a side.
    """

    kind: Literal["emoji", "folder", "shards"] = "emoji"
    path: str = ""
    size: int = 512


class StageConfig(Struct, frozen=True):
    """What every stage takes.

    Attributes:
        steps: in all; a resumed run goes on to it.
        batch: samples of a step, of all processes together.
        warmup: steps in which the learning rate rises from 0.
        ema: decay of the average of the weights.
        clip: largest norm of the gradients.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    ema: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.01
    seed: int = 0
    checkpoint_seconds: float = 300
    sample_seconds: float = 900


class AutoencoderConfig(StageConfig, frozen=True):
    """Of the stages `vae` and `decoder`.

    Attributes:
        crop: pixels of a side that a step looks at; 0 is the whole picture.
        kl: weight of the divergence of the latents from the normal distribution.
        adversarial: weight of the patch discriminator's loss, from step `adversarial_from` on.
        latent_noise: of the latents' spread; the decoder must bear the denoiser's errors.
    """

    crop: int = 0
    kl: float = 1e-6
    adversarial: float = 0.05
    adversarial_from: int = 0
    latent_noise: float = 0.05


class DenoiserConfig(StageConfig, frozen=True):
    """Of the stages `base` and `relu`.

    Attributes:
        empty_captions: the part of the samples without a caption, which makes guidance possible.
    """

    empty_captions: float = 0.1


class GuidanceConfig(StageConfig, frozen=True):
    """Of guidance distillation.

    Attributes:
        guidance: between these two scales each sample's is drawn.
        width: of the embedded scale, `time_cond_proj_dim`.
    """

    guidance: tuple[float, float] = (2.0, 14.0)
    width: int = 256


class StepsConfig(StageConfig, frozen=True):
    """Of step distillation.

    Attributes:
        teacher_steps, student_steps: of a whole picture.
        guidance: between these two scales each sample's is drawn.
        plain: weight of the plain loss beside it.
    """

    teacher_steps: int = 20
    student_steps: int = 8
    guidance: tuple[float, float] = (2.0, 14.0)
    plain: float = 0.0


class OneStepConfig(StageConfig, frozen=True):
    """Of the one-step stage.

    Attributes:
        reconstruction: weight of the squared error of x_0.
        adversarial: weight of the discriminator's term; 0 is the control without one.
        jump: timesteps from the generator's input to where the discriminator looks.
        at_last: the part of the samples that begins with nothing but noise.
        discriminator_every: it learns in each step whose number this divides.
    """

    reconstruction: float = 1.0
    adversarial: float = 1.0
    jump: int = 250
    at_last: float = 0.25
    discriminator_every: int = 1


class NetworkConfig(Struct, frozen=True):
    """Arguments of the networks' classes, by component; empty tables are the presets'.

    Attributes:
        tokenizer: a folder; where it is empty, one is learnt from the captions.
    """

    vae: dict[str, Any] = {}
    unet: dict[str, Any] = {}
    text_encoder: dict[str, Any] = {}
    tokenizer: str = ""


class TrainingConfig(Struct, frozen=True):
    """One training from pictures to one step; a table that is absent is of a stage not run."""

    data: DataConfig
    networks: NetworkConfig = NetworkConfig()
    vae: AutoencoderConfig | None = None
    decoder: AutoencoderConfig | None = None
    base: DenoiserConfig | None = None
    relu: DenoiserConfig | None = None
    guidance: GuidanceConfig | None = None
    steps: StepsConfig | None = None
    one_step: OneStepConfig | None = None


Stage = TypeVar("Stage", bound=StageConfig)


def needed(table: Stage | None, name: str) -> Stage:
    """The table of a stage that is run.

    Raises:
        UserError: it is not there.
    """
    if table is None:
        raise UserError(f"the config has no [{name}]")
    return table


def read_config(path: Path) -> TrainingConfig:
    """Read a TOML file.

    Raises:
        UserError: it is not one, or has a key that there is none of, which it names.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=TrainingConfig)
    except (msgspec.DecodeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
