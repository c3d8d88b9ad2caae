"""Processes of our own, what ends them, and the memory that they give back."""
