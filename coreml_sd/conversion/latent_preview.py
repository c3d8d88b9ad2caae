"""A latent as a small, rough picture: a linear map from its channels to red, green and blue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_sd.manifest.form import Preview
from coreml_sd.models.pipeline import DiffusionModel

_Floats = NDArray[np.float32]

_SEED = 0
_SIDE = 8  # of the latents; the networks are convolutional, so small ones say the same
_PATCHES = (3, 4)  # patches along the side of each picture; more of them fit no better


@dataclass(frozen=True)
class LatentPreview:
    """`weights` `(C, 3)` and `bias` `(3,)`: a latent as the UNet sees it to RGB, -1 to 1."""

    weights: _Floats
    bias: _Floats

    def __call__(self, latents: _Floats) -> _Floats:
        """Latents `(B, C, h, w)` to pictures `(B, 3, h, w)`."""
        picture: _Floats = np.einsum("bchw,cr->brhw", latents, self.weights)
        return picture + self.bias[:, None, None]

    def facts(self) -> Preview:
        """For the manifest, `pipeline.preview`."""
        rows = [_rounded(row) for row in self.weights]
        return Preview(weights=rows, bias=_rounded(self.bias))


def _rounded(colour: _Floats) -> tuple[float, float, float]:
    red, green, blue = (round(float(part), 5) for part in colour)
    return red, green, blue


def fit_preview(latents: _Floats, pictures: _Floats) -> LatentPreview:
    """Least squares from latents `(B, C, h, w)` to pictures `(B, 3, H, W)`, averaged down."""
    channels = latents.shape[1]
    wanted = shrink(pictures, latents.shape).transpose(0, 2, 3, 1).reshape(-1, 3)
    given = latents.transpose(0, 2, 3, 1).reshape(-1, channels)
    given = np.concatenate([given, np.ones_like(given[:, :1])], axis=1)
    exact = np.linalg.lstsq(given.astype(np.float64), wanted.astype(np.float64), rcond=None)[0]
    solution: _Floats = exact.astype(np.float32)
    return LatentPreview(solution[:channels], solution[channels])


def preview_of(model: DiffusionModel, vae: Any) -> LatentPreview:
    """The preview of a model, from its own VAE: pictures of coloured patches, encoded, so that the
    latents are some that the UNet would make, and decoded again."""
    scale, shift = model.facts.scaling_factor, model.facts.shift_factor
    encode = _network(model.of_role("latent_encoder").published(vae))
    decode = _network(model.of_role("latent_decoder").published(vae))
    latents, pictures = [], []
    for picture in _patchworks(_SIDE * model.facts.vae_scale_factor):
        z = encode(picture)[:, : model.facts.latent_channels]
        latents.append((z - shift) * scale)
        pictures.append(np.clip(decode(z), -1, 1))
    return fit_preview(np.concatenate(latents), np.concatenate(pictures))


def _patchworks(side: int) -> list[_Floats]:
    """Pictures `(1, 3, side, side)` of patches in random colours, -1 to 1."""
    source = np.random.default_rng(_SEED)
    pictures = []
    for count in _PATCHES:
        place = np.arange(side) * count // side
        colours = source.uniform(-1, 1, (1, 3, count, count)).astype(np.float32)
        pictures.append(colours[:, :, place][:, :, :, place])
    return pictures


def _network(module: Any) -> Callable[[_Floats], _Floats]:
    def run(given: _Floats) -> _Floats:
        with torch.inference_mode():
            result: _Floats = module(torch.from_numpy(np.ascontiguousarray(given)))[0].numpy()
        return result

    return run


def shrink(pictures: _Floats, shape: tuple[int, ...]) -> _Floats:
    """Pictures `(B, 3, H, W)` averaged down to the height and width of latents of a shape."""
    batch, channels, height, width = pictures.shape
    rows, columns = height // shape[2], width // shape[3]
    tiles = pictures.reshape(batch, channels, shape[2], rows, shape[3], columns)
    smaller: _Floats = tiles.mean((3, 5))
    return smaller
