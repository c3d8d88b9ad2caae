"""What the built-in model draws, and which subject and background that looks most like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from training.demo import subjects

FIRST_SEED = 1_000_000
BORDER = 2  # pixels: the glyphs leave them free
Pictures = NDArray[np.uint8]


def draw(
    model: Path, prompts: list[str], steps: int, guidance: float, batch_size: int
) -> tuple[Pictures, Any]:
    """One picture per prompt `[n, h, w, 3]`, seeds counting up; and the pipeline."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        model, torch_dtype=torch.float32, safety_checker=None
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for begin in track(range(0, len(prompts), batch_size), description="drawing"):
        batch = prompts[begin : begin + batch_size]
        seeds = range(FIRST_SEED + begin, FIRST_SEED + begin + len(batch))
        images = pipeline(
            batch,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        ).images
        pictures.append(np.rint(images * 255).astype(np.uint8))
    return np.concatenate(pictures), pipeline


def nearest_subject(picture: Pictures, renders: Pictures) -> int:
    """Index of the render `[subjects, h, w, 3]` with the least squared pixel difference."""
    gaps = renders.astype(np.float32) - picture.astype(np.float32)
    return int(np.square(gaps).mean(axis=(1, 2, 3)).argmin())


def nearest_background(picture: Pictures) -> int:
    """Index of the background colour nearest to the median of the picture's border."""
    border = np.ones(picture.shape[:2], dtype=bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    colour = np.median(picture[border].astype(np.float32), axis=0)
    colours = np.array(list(subjects.BACKGROUNDS.values()), dtype=np.float32)
    return int(np.square(colours - colour).sum(axis=1).argmin())


def contact_sheet(drawn: Pictures, wanted: Pictures, columns: int = 12) -> Image.Image:
    """Generated beside rendered, row by row."""
    pairs = np.concatenate([drawn, wanted], axis=2)
    blank = np.full((-len(pairs) % columns, *pairs.shape[1:]), 255, np.uint8)
    pairs = np.concatenate([pairs, blank])
    rows = [np.concatenate(pairs[i : i + columns], axis=1) for i in range(0, len(pairs), columns)]
    return Image.fromarray(np.concatenate(rows))
