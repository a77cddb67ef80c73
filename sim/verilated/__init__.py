"""Fast simulation: the whole chip verilated into a shared library, with a memory model."""

from sim.verilated.build import BuildConfig, BuildError, build, cached_verilog
from sim.verilated.library import (
    BusError,
    MemoryStats,
    MemoryTiming,
    SimulatedChip,
    SimulationError,
)

__all__ = [
    "BuildConfig",
    "BuildError",
    "BusError",
    "MemoryStats",
    "MemoryTiming",
    "SimulatedChip",
    "SimulationError",
    "build",
    "cached_verilog",
]
