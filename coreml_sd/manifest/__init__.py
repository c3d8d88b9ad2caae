"""The declared form of manifest.json, and the rules between its values."""
