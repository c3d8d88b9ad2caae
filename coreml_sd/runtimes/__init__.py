"""Execute one file, or the source network."""
