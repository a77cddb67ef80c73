"""Memory as the chip reaches it: inside its window and aligned, or a fault."""

import numpy as np

from hdl.isa import Fault
from sim.golden.fault import ChipFault

__all__ = ["span"]


def span(memory: np.ndarray, address: int, size: int, alignment: int = 1) -> np.ndarray:
    """View of ``size`` bytes at ``address`` of ``memory`` (uint8); ``ChipFault`` BAD_ADDRESS."""
    if not 0 <= address <= memory.size - size:
        raise ChipFault(
            Fault.BAD_ADDRESS,
            f"{size} bytes at {address:#x} are outside the memory of {memory.size:#x} bytes",
        )
    if address % alignment:
        raise ChipFault(Fault.BAD_ADDRESS, f"{address:#x} is not aligned to {alignment} bytes")
    return memory[address : address + size]
