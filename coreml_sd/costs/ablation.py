"""What each decision of MobileDiffusion does to the size of its networks, counted without weights.

From Stable Diffusion 1.5 to a MobileDiffusion folder, one switch after the other, by one counter.
The paper (arXiv 2311.16567) does not tell from which network its percentages are counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coreml_sd.compress.choose import stored_bytes
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.errors import UserError
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.layer_weights import layer_weights
from coreml_sd.mobile.measure import network_costs
from coreml_sd.models.component import TensorSpec
from coreml_sd.models.folder.network_configs import network_configs
from coreml_sd.models.mobile_diffusion.family import FAMILY
from coreml_sd.models.pipeline import DiffusionModel

if TYPE_CHECKING:
    from coreml_sd.mobile.steps import StepSequence

_BITS = 6
_FLOAT_BYTES = 4
_TOKENS = 77


@dataclass(frozen=True)
class Count:
    """One network: parameters and bytes of its weights; per pass at batch 1 multiply-accumulates
    and the largest single tensor in fp16 bytes (scores of an attention written out whole)."""

    parameters: int
    macs: int
    largest_bytes: int
    fp16_bytes: int
    palette_bytes: int
    int8_bytes: int


@dataclass(frozen=True)
class Paper:
    """What the paper says of one decision: its change of the number of parameters, and by how much
    the network becomes more efficient, both as parts of one; None where it says nothing."""

    parameters: float | None = None
    efficiency: float | None = None


@dataclass(frozen=True)
class Row:
    """A network after one more decision; changes are parts of one, against the row before."""

    network: str
    decision: str
    count: Count
    paper: Paper = Paper()
    change: float | None = None
    macs_change: float | None = None

    @property
    def difference(self) -> float | None:
        """Our change of the number of parameters less the paper's."""
        if self.change is None or self.paper.parameters is None:
            return None
        return self.change - self.paper.parameters


@dataclass(frozen=True)
class Decision:
    """One switch: what the config has before, and what the paper says of turning it on."""

    name: str
    before: dict[str, Any]
    paper: Paper = Paper()


def ablation(model: DiffusionModel) -> list[Row]:
    """Rows for the UNet, then for the VAE's decoder.

    Raises:
        UserError: the model is of another family.
    """
    if model.facts.family != FAMILY.name:
        raise UserError(
            f"{model.source.name}: --ablate counts the switches of MobileDiffusion; give md, "
            "md-lite or a MobileDiffusion folder"
        )
    unet, vae = network_configs(model.folder, "unet", "vae")
    return [*_compared(_unet_rows(unet)), *_compared(_decoder_rows(vae))]


@dataclass(frozen=True)
class Total:
    """One component of a model: parameters and multiply-accumulates of a pass at batch 1."""

    component: str
    parameters: int
    macs: int


def totals(model: DiffusionModel) -> list[Total]:
    """What draws a picture, component by component, counted without weights."""
    found = []
    for component in model.components:
        if component.name == "vae_encoder":
            continue
        form = mobile_form(component.form, component.open().module, MobileOptions("original"))
        inputs = [
            dataclasses.replace(spec, shape=(1, *spec.shape[1:])) for spec in component.inputs
        ]
        count = _count(form, tuple(inputs))
        found.append(Total(component.name, count.parameters, count.macs))
    return found


def unet_decisions(config: dict[str, Any]) -> list[Decision]:
    """The switches of the UNet in the paper's order."""
    widths = list(config["block_out_channels"])
    spread = [*widths[:-1], *[2 * widths[-2]] * 2]  # 320, 640, 1280, 1280 for the presets
    return [
        Decision(
            "T3.1 middle transformers",
            {"transformers_in_middle": False, "block_out_channels": spread},
            Paper(0.0, 0.26),
        ),
        Decision("T3.2 decoupled attention", {"decoupled_attention": False}, Paper(None, 0.15)),
        Decision("T3.3 shared key and value", {"shared_key_value": False}, Paper(-0.05)),
        Decision("T3.4 Swish gate", {"gate": "gelu"}, Paper(0.0)),
        Decision("T3.5 ReLU attention", {"weighing": "softmax"}, Paper(0.0)),
        Decision("T3.6 feed-forward 8 to 6", {"feed_forward_expansion": 8}, Paper(-0.10)),
        Decision("T3.7 separable convolution", {"separable_convolutions": False}, Paper(-0.10)),
        Decision("T3.8 fewer residual blocks", {"pruned_blocks": False}, Paper(-0.15, 0.19)),
    ]


def count_unet(config: dict[str, Any]) -> Count:
    """Count a `MobileDiffusionUNet` of a config."""
    import torch

    from coreml_sd.models.mobile_diffusion import MobileDiffusionUNet

    with torch.device("meta"):
        network = MobileDiffusionUNet.from_config(config)
    form = mobile_form("mobile_diffusion_unet", network, MobileOptions("original"))
    side = config["sample_size"]
    return _count(form, _unet_inputs(config["in_channels"], side, config["cross_attention_dim"]))


def _unet_rows(config: dict[str, Any]) -> Iterator[Row]:
    yield Row("unet", "Stable Diffusion 1.5", _stable_diffusion_unet())
    decisions = unet_decisions(config)
    now = dict(config)
    for decision in decisions:
        now |= decision.before
    yield Row("unet", f"T3.10 {config['in_channels']} latent channels", count_unet(now))
    for decision in decisions:
        now |= {key: config[key] for key in decision.before}
        yield Row("unet", decision.name, count_unet(now), decision.paper)


def _decoder_rows(config: dict[str, Any]) -> Iterator[Row]:
    wide = {"latent_channels": 4, "light_decoder": False, "decoder_layers_per_block": 2}
    yield Row("vae_decoder", "Stable Diffusion 1.5", _stable_diffusion_decoder())
    for name, key, paper in (
        ("T3.10 8 latent channels", "latent_channels", Paper()),
        ("T3.10 one block less a level", "decoder_layers_per_block", Paper(39.3 / 49.5 - 1)),
        ("T3.10 half the widths", "light_decoder", Paper(9.8 / 39.3 - 1)),
    ):
        wide |= {key: config[key]}
        yield Row("vae_decoder", name, _count_decoder({**config, **wide}), paper)


def _compared(rows: Iterator[Row]) -> Iterator[Row]:
    before: Count | None = None
    for row in rows:
        if before is None:
            yield row
        else:
            change = row.count.parameters / before.parameters - 1
            macs = row.count.macs / before.macs - 1
            yield dataclasses.replace(row, change=change, macs_change=macs)
        before = row.count


def _stable_diffusion_unet() -> Count:
    """diffusers' own class with the config of Stable Diffusion 1.5."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    form = mobile_form("unet", network, MobileOptions("original"))
    return _count(form, _unet_inputs(4, 64, 768))


def _stable_diffusion_decoder() -> Count:
    import torch
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        network = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    form = mobile_form("vae_decoder", network, MobileOptions("original"))
    return _count(form, (TensorSpec("z", (1, 4, 64, 64), "float16", ""),))


def _count_decoder(config: dict[str, Any]) -> Count:
    import torch

    from coreml_sd.models.mobile_diffusion import MobileDiffusionVAE

    with torch.device("meta"):
        network = MobileDiffusionVAE.from_config(config)
    form = mobile_form("vae_decoder", network, MobileOptions("original"))
    side = config["sample_size"] // 2 ** (len(config["block_out_channels"]) - 1)
    shape = (1, config["latent_channels"], side, side)
    return _count(form, (TensorSpec("z", shape, "float16", ""),))


def _unet_inputs(channels: int, side: int, context: int) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec("sample", (1, channels, side, side), "float16", ""),
        TensorSpec("timestep", (1,), "float32", ""),
        TensorSpec("encoder_hidden_states", (1, context, 1, _TOKENS), "float16", ""),
    )


def _count(form: StepSequence, inputs: tuple[TensorSpec, ...]) -> Count:
    costs = network_costs(form, inputs)
    parameters = sum(parameter.numel() for parameter in form.parameters())
    layers = layer_weights(form)
    shapes = [tuple(weight.shape) for weight in layers.values()]
    fp16 = sum(form.step_bytes())
    saved = sum(
        stored_bytes(shape, None) - stored_bytes(shape, PaletteSpec(_BITS)) for shape in shapes
    )
    in_layers = sum(weight.numel() for weight in layers.values())
    scales = sum(shape[0] for shape in shapes)  # one for each output channel
    int8 = in_layers + _FLOAT_BYTES * (scales + parameters - in_layers)
    return Count(parameters, costs.macs, costs.largest_bytes, fp16, fp16 - saved, int8)
