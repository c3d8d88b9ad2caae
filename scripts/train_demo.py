#!/usr/bin/env python3
"""Train the built-in model `demo`: renders, VAE, text encoder and UNet, export.

Every stage goes on from its checkpoint in --runs, so the same command resumes a stopped run, and
larger budgets extend a finished one. Set OMP_WAIT_POLICY=passive where other work shares the cores.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

ROOT = Path(__file__).parents[1]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/demo", help="checkpoints")
    parser.add_argument("--export", type=Path, default=ROOT / "coreml_sd/models/demo")
    parser.add_argument("--vae-minutes", type=float, default=60)
    parser.add_argument("--decoder-minutes", type=float, default=0, help="go on, encoder frozen")
    parser.add_argument("--denoiser-minutes", type=float, default=120)
    parser.add_argument("--export-only", action="store_true", help="export the newest checkpoints")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    import numpy as np
    import torch
    from torch import nn

    from training.demo import (
        autoencoder,
        captions,
        denoiser,
        export,
        render,
        samples,
        subjects,
        tokenizer,
    )

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    subject_list = subjects.load_subjects()
    backgrounds = list(subjects.BACKGROUNDS)
    names = [(subject.name, colour) for subject in subject_list for colour in backgrounds]
    pictures = render.render_all(render.render_glyphs(subject_list))
    pictures = pictures.reshape(-1, *pictures.shape[2:])
    texts = captions.all_captions([subject.name for subject in subject_list], backgrounds)
    words = tokenizer.write_tokenizer(arguments.runs / "tokenizer", texts)

    if not arguments.export_only:
        autoencoder.train_vae(arguments.runs, pictures, arguments.vae_minutes)
    if arguments.decoder_minutes and not arguments.export_only:
        autoencoder.train_vae(
            arguments.runs, pictures, arguments.decoder_minutes, decoder_only=True
        )
    vae, networks = export.load_averaged(arguments.runs, words)
    latents = autoencoder.cached_latents(arguments.runs, vae, pictures)
    scaling_factor = float(1 / latents.std())
    if not arguments.export_only:
        show_reconstructions(arguments.runs, vae, latents, pictures)
        scaled = latents * scaling_factor
        chosen = [names[index] for index in np.linspace(0, len(names) - 1, 32).astype(int)]
        shown = [captions.caption(name, colour, captions.NAMED[0]) for name, colour in chosen]

        def write_samples(modules: nn.ModuleDict, averaged: dict[str, torch.Tensor]) -> None:
            path = arguments.runs / "samples.png"
            samples.write_grid(path, vae, modules, averaged, words, shown, scaling_factor)

        networks = denoiser.train_denoiser(
            arguments.runs, scaled, names, words, arguments.denoiser_minutes, write_samples
        )
    tokenizer_folder = arguments.runs / "tokenizer"
    export.export(arguments.export, vae, networks, words, tokenizer_folder, scaling_factor)
    print(f"exported to {arguments.export}")


def show_reconstructions(runs, vae, latents, pictures) -> None:  # type: ignore[no-untyped-def]
    """Print the VAE's figure and save some renders beside their reconstructions."""
    import numpy as np
    from PIL import Image

    from training.demo import autoencoder

    decoded = autoencoder.reconstruct(vae, latents)
    print(f"VAE: {autoencoder.mean_psnr(pictures, decoded):.2f} dB", flush=True)
    chosen = np.linspace(0, len(pictures) - 1, 64).astype(int)
    pairs = np.concatenate([decoded[chosen], pictures[chosen]], axis=2)
    rows = [np.concatenate(pairs[row : row + 8], axis=1) for row in range(0, 64, 8)]
    Image.fromarray(np.concatenate(rows)).save(runs / "vae.png")


if __name__ == "__main__":
    main()
