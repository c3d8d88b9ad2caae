"""What the benchmarks share."""

from coreml_sd.libraries import quieten

quieten()  # here, so that it holds in every process that a benchmark starts
