"""Findings about saved files that would hurt on a device; read from the files alone."""
