"""A chip as the host sees it: memory, doorbell, counters, faults."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from hdl.config import Config
from hdl.isa import Counter

__all__ = ["Chip", "ChipMaker", "DeviceFault", "Progress"]

Progress = Callable[[int], None]
"""Called now and then with the cycles of this step so far."""


class DeviceFault(Exception):
    """The chip stopped a step; the text says cause, unit and instruction. The next one may run."""


class Chip(Protocol):
    """What every chip does.

    ``memory`` is the chip's memory, uint8, shared with the host, or on a board kept like it: then
    what the chip writes is seen only in the bytes given to ``expect``.
    """

    memory: np.ndarray

    def expect(self, result: slice) -> None:
        """The bytes of memory that the host will read after the steps from now on."""
        ...

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        """One step, doorbell to done: the counters by name (empty on a chip without cycles).

        Raises ``DeviceFault`` when the chip stops the step.
        """
        ...

    def close(self) -> None:
        """Give back what the chip holds."""
        ...


ChipMaker = Callable[[Config, np.ndarray], Chip]
"""Makes a chip around a memory."""
