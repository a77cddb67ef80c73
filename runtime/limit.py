"""What the simulated memory can give at the most: measured, and stated beside every figure."""

from dataclasses import dataclass

from hdl.config import Config
from sim.verilated.library import MemoryTiming
from sim.verilated.probe import sustained

__all__ = ["MemoryLimit", "memory_limit"]


@dataclass(frozen=True)
class MemoryLimit:
    """A memory model's own limit at a chip's port.

    Attributes
    ----------
    name : of the model, with its parameters
    stream, mixed, scattered : beats a cycle that it sustains, as in `sim.verilated.probe.Sustained`
    shared : reads and writes share one data bus
    """

    name: str
    stream: float
    mixed: float
    scattered: float
    shared: bool

    def __str__(self) -> str:
        return (
            f"{self.name}; sustains {self.stream:.3f} beats a cycle (sequential reads), "
            f"{self.mixed:.3f} (an eighth of them writes), {self.scattered:.3f} (scattered bursts)"
        )


def memory_limit(config: Config, timing: MemoryTiming, seed: int = 0) -> MemoryLimit:
    """Runs the memory model alone against a port that never waits, in the chip's longest bursts."""
    found = sustained(timing, config.port_bytes, config.burst_beats, seed)
    return MemoryLimit(
        str(timing), found.stream, found.mixed, found.scattered, timing.dram is not None
    )
