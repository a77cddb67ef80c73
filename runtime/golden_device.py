"""The golden model as a device."""

from compiler.image import Image
from hdl.isa import Counter
from runtime.device import Device, DeviceFault, Progress
from sim.golden.fault import ChipFault
from sim.golden.machine import GoldenChip

__all__ = ["GoldenDevice"]


class GoldenDevice(Device):
    """Bit-exact and without cycles: results in milliseconds, ``counters`` empty."""

    name = "golden"

    def __init__(self, image: Image):
        super().__init__(image)
        self.chip = GoldenChip(self.config, self.memory)

    def _execute(self, progress: Progress | None) -> dict[Counter, int]:
        try:
            self.chip.run(self.map.program, self.map.descriptor)
        except ChipFault as fault:
            raise DeviceFault(f"{fault} (instruction {fault.index})") from None
        return {}
