"""Faults of ai-edge-litert's GPU delegate, each tied to the versions that have it."""

from __future__ import annotations

from coreml_sd.upstream.versions import installed_version

# Up to this version the GPU delegate refuses a lookup in a table that is stored in fp16: it takes
# the DEQUANTIZE before it for one of integers and misses their scales.
LAST_WITHOUT_FP16_LOOKUP = (2, 3)


def refuses_fp16_lookup() -> bool:
    """Whether the GPU delegate of the installed version refuses fp16 tables of embeddings."""
    return installed_version("ai-edge-litert") <= LAST_WITHOUT_FP16_LOOKUP
