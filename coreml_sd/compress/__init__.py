"""Palettes, quantization and pruning."""
