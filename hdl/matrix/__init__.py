"""Matrix unit: systolic array, weight loader, feeder, block-scale accumulators."""

from hdl.matrix.array import SystolicArray

__all__ = ["SystolicArray"]
