"""Parity: the outputs of saved files against torch, each figure beside its gate."""
