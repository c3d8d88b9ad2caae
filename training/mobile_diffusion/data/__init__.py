"""Pictures with captions, any of which can be asked for by its number."""
