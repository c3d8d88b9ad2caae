"""torch's way to see every op of a network, which it documents and keeps in a private module."""

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TorchDispatchMode"]
