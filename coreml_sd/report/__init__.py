"""The parity report of a bundle: what is compared, and how it is shown."""
