"""A diffusers folder on disk: which files it holds and what they say, as the libraries read it."""
