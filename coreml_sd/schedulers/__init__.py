"""Schedulers by name, their settings, and which of ours is a model's own."""
