"""Which ops keep fp32 in an fp16 program: those that make the timestep's sines and cosines."""

from __future__ import annotations

from typing import Any, Literal

Precision = Literal["float16", "float32"]

_WAVES = ("sin", "cos")
_UPSTREAM_STEPS = 3  # angle = scale * (reshape(timestep) * frequencies)


def fp16_except_sinusoid() -> Any:
    """Compute precision for `coremltools.convert`.

    In fp16 the product of a timestep near 1,000 and a frequency has a spacing of 0.5 rad, the
    largest single error of an fp16 UNet; these few ops cost nothing in fp32.
    """
    import coremltools as ct

    return ct.transform.FP16ComputePrecision(op_selector=lambda op: not _feeds_waves(op))


def _feeds_waves(op: Any, steps: int = _UPSTREAM_STEPS) -> bool:
    if op.op_type in _WAVES:
        return True
    if steps == 0 or op.op_type == "const":
        return False
    return any(
        _feeds_waves(consumer, steps - 1) for output in op.outputs for consumer in output.child_ops
    )
