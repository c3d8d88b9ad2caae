"""Train MobileDiffusion: `python -m training.mobile_diffusion STAGE --config FILE.toml`."""
