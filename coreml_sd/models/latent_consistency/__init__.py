"""Latent consistency models: Stable Diffusion distilled to a few steps."""
