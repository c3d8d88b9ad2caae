"""What the benchmarks share."""

from coreml_sd.upstream.noise import quieten

quieten()  # here, so that it holds in every process that a benchmark starts
