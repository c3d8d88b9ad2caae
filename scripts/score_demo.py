#!/usr/bin/env python3
"""Score the built-in model: for every subject, is the right thing drawn on the right background?

Each subject is drawn once on a background that rotates over the eight, with a seed not used in
training, 20 DPM-Solver++ steps and guidance 3. The nearest render on the asked background (pixels)
must be the asked subject; the colour of the border must be nearest to the asked background.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


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


def main() -> None:
    arguments = parse_arguments()
    import numpy as np
    import torch

    from training.demo import autoencoder, captions, render, score, subjects

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
    drawn, pipeline = score.draw(
        arguments.model, prompts, arguments.steps, arguments.guidance, arguments.batch
    )
    found = [
        score.nearest_subject(picture, renders[:, colour])
        for picture, colour in zip(drawn, asked, strict=True)
    ]
    backgrounds = [score.nearest_background(picture) for picture in drawn]
    wrong = [(i, j) for i, j in enumerate(found) if i != j]
    flat = renders.reshape(-1, *renders.shape[2:])
    vae = pipeline.vae
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
        score.contact_sheet(drawn, wanted).save(arguments.grid)
        print(f"contact sheet: {arguments.grid}")


if __name__ == "__main__":
    main()
