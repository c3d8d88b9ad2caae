"""Convert diffusion models for phones on any computer, and prove what each file does."""

__version__ = "0.1.0"
