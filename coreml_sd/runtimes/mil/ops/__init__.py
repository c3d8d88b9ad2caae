"""Every op the evaluator knows, by theme; importing this package fills the table."""

from coreml_sd.runtimes.mil.ops import (  # noqa: F401 - imported to register their ops
    attention,
    elementwise,
    gather,
    image,
    linear,
    normalization,
    reduction,
    shape,
)
from coreml_sd.runtimes.mil.ops.registry import OPS, Op

__all__ = ["OPS", "Op"]
