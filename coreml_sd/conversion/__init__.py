"""Model to bundle: planned, converted, proved; resumed where it was interrupted."""
