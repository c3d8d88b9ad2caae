"""Training of the built-in text-to-image model `demo`."""
