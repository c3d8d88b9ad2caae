"""What tells a sampler from an average: clear backgrounds in their shares, sharp edges."""

import itertools

import numpy as np
import pytest

from training.demo.sampler_score import NEAR, backgrounds, sharpness
from training.demo.subjects import BACKGROUNDS

COLOURS = np.array(list(BACKGROUNDS.values()), np.float32)


def on(colours: np.ndarray) -> np.ndarray:
    """A grey square on each colour: `[n, 32, 32, 3]`."""
    pictures = np.broadcast_to(colours[:, None, None], (len(colours), 32, 32, 3)).copy()
    pictures[:, 8:24, 8:24] = 128
    return np.rint(pictures).astype(np.uint8)


def test_backgrounds_in_their_shares_are_samples() -> None:
    noisy = COLOURS.repeat(4, axis=0) + np.random.default_rng(0).normal(0, 6, (32, 3))
    found = backgrounds(on(noisy.clip(0, 255)))
    assert found.clear == 1 and set(found.shares.values()) == {1.0} and found.are_samples


def test_an_average_of_backgrounds_is_none() -> None:
    found = backgrounds(on(COLOURS.mean(axis=0, keepdims=True).repeat(8, axis=0)))
    assert found.clear == 0 and not found.are_samples


def test_half_of_one_and_half_of_another_is_not_clear() -> None:
    pictures = on(COLOURS[:1])
    pictures[:, :, 16:] = COLOURS[1].astype(np.uint8)
    found = backgrounds(pictures)
    assert found.clear == 0 and 0.4 < found.clearness[0] < 0.6


@pytest.mark.parametrize("missing", [1, 7])
def test_backgrounds_that_never_come_are_noticed(missing: int) -> None:
    found = backgrounds(on(COLOURS[missing:].repeat(4, axis=0)))
    assert found.clear == 1 and not found.are_samples


def test_no_colour_is_near_to_two_backgrounds_at_once_and_counted_twice() -> None:
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(COLOURS, 2))
    assert nearest / 2 < NEAR < nearest  # so the nearest alone is counted
    middle = (COLOURS[0] + COLOURS[7]) / 2
    assert sum(backgrounds(on(middle[None])).shares.values()) in (0.0, 8.0)


def test_blurred_pictures_have_less_power_at_high_frequencies() -> None:
    sharp = on(COLOURS)
    blurred = np.stack([np.roll(sharp, (dy, dx), (1, 2)) for dy in (0, 1) for dx in (0, 1)])
    blurred = blurred.mean(axis=0).round().astype(np.uint8)
    assert sharpness(blurred) < 0.8 * sharpness(sharp)
    assert sharpness(np.full((1, 32, 32, 3), 77, np.uint8)) == pytest.approx(0, abs=1e-20)


def test_the_power_of_a_wave_is_its_own() -> None:
    """cos^2 has a mean of a half: an eighth at each of its two frequencies of half its height."""
    wave = 127.5 + 127.5 * np.cos(2 * np.pi * np.arange(32) / 4)
    pictures = np.rint(np.broadcast_to(wave[None, None, :, None], (1, 32, 32, 3))).astype(np.uint8)
    assert sharpness(pictures) == pytest.approx(2 * 0.25**2, rel=0.02)
