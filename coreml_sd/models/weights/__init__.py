"""Weights of a network: read when they are needed, by name."""
