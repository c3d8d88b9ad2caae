"""The evaluator: executes a saved .mlpackage on any machine, without Core ML."""

from coreml_sd.runtimes.base import StoredWeight
from coreml_sd.runtimes.mil.network import MilNetwork, Mode
from coreml_sd.runtimes.mil.package import MilPackage
from coreml_sd.runtimes.mil.trace import NumericTrace, OpRange

__all__ = ["MilNetwork", "MilPackage", "Mode", "NumericTrace", "OpRange", "StoredWeight"]
