"""The vector unit."""

from hdl.vector.unit import VectorUnit

__all__ = ["VectorUnit"]
