#!/usr/bin/env python3
"""Score the built-in model: for every subject, is the right thing drawn on the right background?

Each subject is drawn once on a background that rotates over the eight, with a seed not used in
training, 20 DPM-Solver++ steps and guidance 3. The nearest render on the asked background (pixels)
must be the asked subject; the colour of the border must be nearest to the asked background.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from training.demo import autoencoder, captions, render, subjects

FIRST_SEED = 1_000_000
BORDER = 2  # pixels: the glyphs leave them free
Pictures = NDArray[np.uint8]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "coreml_sd/models/demo")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--grid", type=Path, help="PNG: generated beside rendered")
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


def draw(arguments: argparse.Namespace, prompts: list[str]) -> tuple[Pictures, object]:
    """One picture per prompt `[n, h, w, 3]`, seeds counting up; and the pipeline."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        arguments.model, torch_dtype=torch.float32, safety_checker=None
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for begin in track(range(0, len(prompts), arguments.batch), description="drawing"):
        batch = prompts[begin : begin + arguments.batch]
        seeds = range(FIRST_SEED + begin, FIRST_SEED + begin + len(batch))
        images = pipeline(
            batch,
            num_inference_steps=arguments.steps,
            guidance_scale=arguments.guidance,
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


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    subject_list = subjects.load_subjects()
    colours = list(subjects.BACKGROUNDS)
    renders = render.render_all(render.render_glyphs(subject_list))
    asked = [index % len(colours) for index in range(len(subject_list))]
    prompts = [
        captions.caption(subject.name, colours[colour], captions.NAMED[0])
        for subject, colour in zip(subject_list, asked, strict=True)
    ]
    drawn, pipeline = draw(arguments, prompts)
    found = [
        nearest_subject(picture, renders[:, colour])
        for picture, colour in zip(drawn, asked, strict=True)
    ]
    backgrounds = [nearest_background(picture) for picture in drawn]
    wrong = [(i, j) for i, j in enumerate(found) if i != j]
    flat = renders.reshape(-1, *renders.shape[2:])
    vae = pipeline.vae  # type: ignore[attr-defined]
    decibels = autoencoder.mean_psnr(
        flat, autoencoder.reconstruct(vae, autoencoder.encode_all(vae, flat))
    )
    right = len(found) - len(wrong)
    same = sum(a == b for a, b in zip(asked, backgrounds, strict=True))
    print(f"subjects right:    {right} of {len(found)} ({100 * right / len(found):.1f} %)")
    print(f"backgrounds right: {same} of {len(found)} ({100 * same / len(found):.1f} %)")
    print(f"VAE on all {len(flat)} renders: {decibels:.2f} dB")
    for index, mistaken in wrong:
        print(f"  {prompts[index]}: looks most like {subject_list[mistaken].name}")
    if arguments.grid:
        wanted = renders[np.arange(len(asked)), asked]
        contact_sheet(drawn, wanted).save(arguments.grid)
        print(f"contact sheet: {arguments.grid}")


if __name__ == "__main__":
    main()
