"""The linear map from latents to rough pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from coreml_sd.bundle import open_bundle
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.latent_preview import LatentPreview, fit_preview, preview_of, shrink
from coreml_sd.models.open_model import open_model

Floats = NDArray[np.float32]


def explained(preview: LatentPreview, latents: Floats, pictures: Floats) -> float:
    """R^2 of previews against pictures averaged down."""
    wanted = shrink(pictures, latents.shape)
    spread = wanted - wanted.mean((0, 2, 3), keepdims=True)
    return float(1 - ((wanted - preview(latents)) ** 2).sum() / (spread**2).sum())


def noise(shape: tuple[int, ...], seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def enlarged(picture: Floats, scale: int) -> Floats:
    return picture.repeat(scale, axis=2).repeat(scale, axis=3)


def test_a_linear_decoder_is_found_exactly() -> None:
    truth = LatentPreview(noise((4, 3), 0), noise((3,), 1))
    latents = noise((2, 4, 8, 6), 2)
    texture = noise((2, 3, 32, 24), 3)
    texture -= enlarged(shrink(texture, latents.shape), 4)  # what averaging takes out again
    found = fit_preview(latents, enlarged(truth(latents), 4) + texture)
    np.testing.assert_allclose(found.weights, truth.weights, atol=1e-5)
    np.testing.assert_allclose(found.bias, truth.bias, atol=1e-5)
    held_out = noise((1, 4, 8, 6), 4)
    assert explained(found, held_out, enlarged(truth(held_out), 4)) > 0.99999


def test_a_decoder_that_is_not_linear_is_met_in_part() -> None:
    truth = LatentPreview(noise((4, 3), 0), noise((3,), 1))
    latents, held_out = noise((2, 4, 16, 16), 2), noise((1, 4, 16, 16), 3)

    def decode(z: Floats) -> Floats:
        return enlarged(np.tanh(2 * truth(z)), 4)

    found = fit_preview(latents, decode(latents))
    assert 0.5 < explained(found, held_out, decode(held_out)) < 0.99
    assert explained(truth, held_out, decode(held_out)) < 0  # the map without its squashing


def test_the_demo_is_met_on_latents_of_another_kind() -> None:
    model = open_model(ConversionConfig(model="demo"))
    vae = model.component("vae_decoder").load()
    found = preview_of(model, vae)
    scale = model.facts.scaling_factor
    pictures = [model.component("vae_encoder").sample_inputs(seed)["x"] for seed in range(4)]
    with torch.inference_mode():
        mean = vae.encode(torch.from_numpy(np.concatenate(pictures)).float()).latent_dist.mean
        decoded = vae.decode(mean).sample.clamp(-1, 1).numpy()
    latents = (mean * scale).numpy()
    assert explained(found, latents, decoded) > 0.7
    # Weights of channels in another order do not fit.
    swapped = LatentPreview(found.weights[::-1], found.bias)
    assert explained(swapped, latents, decoded) < 0.3


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_the_latents_are_those_of_the_unet(shift: float) -> None:
    """A VAE whose scaling and shift differ has other weights for the same networks."""
    import dataclasses

    model = open_model(ConversionConfig(model="demo"))
    vae = model.component("vae_decoder").load()
    facts = dataclasses.replace(model.facts, scaling_factor=1.0, shift_factor=shift)
    plain = preview_of(model, vae)
    other = preview_of(dataclasses.replace(model, facts=facts), vae)
    scale = model.facts.scaling_factor
    np.testing.assert_allclose(other.weights, plain.weights * scale, atol=1e-4)
    expected = plain.bias + shift * scale * plain.weights.sum(0)
    np.testing.assert_allclose(other.bias, expected, atol=1e-4)


def test_the_manifest_holds_it(sd1_bundle: Path) -> None:
    bundle = open_bundle(sd1_bundle)
    preview = bundle.pipeline["preview"]
    assert np.shape(preview["weights"]) == (bundle.pipeline["latent_channels"], 3)
    assert np.shape(preview["bias"]) == (3,)
    assert np.isfinite([*preview["bias"], *np.ravel(preview["weights"])]).all()
    assert "preview" not in bundle.component("vae_decoder")
