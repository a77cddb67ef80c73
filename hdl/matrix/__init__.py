"""Matrix unit: systolic array, weight loader, activation feeder, block-scale accumulators."""

from hdl.matrix.array import SystolicArray, array_latency
from hdl.matrix.unit import MatrixUnit

__all__ = ["MatrixUnit", "SystolicArray", "array_latency"]
