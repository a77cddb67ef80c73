"""The golden model as a chip."""

import numpy as np

from hdl.config import Config
from hdl.isa import Counter
from runtime.chip import DeviceFault, Progress
from sim.golden.fault import ChipFault
from sim.golden.machine import GoldenChip as Machine

__all__ = ["GoldenChip"]


class GoldenChip:
    """Bit-exact and without cycles: results in milliseconds, no counters."""

    def __init__(self, config: Config, memory: np.ndarray):
        self.memory = memory
        self._machine = Machine(config, memory)

    def expect(self, result: slice) -> None:
        pass  # the memory is shared

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        try:
            self._machine.run(program, descriptor)
        except ChipFault as fault:
            raise DeviceFault(f"{fault} (instruction {fault.index})") from None
        return {}

    def close(self) -> None:
        pass
