"""Prompt to picture over any runtime."""
