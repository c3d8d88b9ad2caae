"""Models: families, their folders and their weights."""
