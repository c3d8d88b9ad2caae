"""Files from elsewhere, read with limits."""
