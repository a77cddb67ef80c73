"""Controller and chip together, for benches."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.memory.axi import axi4_signature
from hdl.sdram import SdramPort, SdramTiming
from sim.board.sdram_chip import SdramChip

__all__ = ["SdramSystem"]


class SdramSystem(wiring.Component):
    """An AXI4 memory: :class:`SdramPort` on a :class:`SdramChip`.

    Parameters
    ----------
    config, timing
        Of the port.
    chip
        Timing of the chip if it is another one.

    Members
    -------
    axi : In(axi4_signature(config)), ready : Out(1)
        As of the port.
    """

    def __init__(self, config: Config, timing: SdramTiming, chip: SdramTiming | None = None):
        self.config, self.timing, self._chip = config, timing, chip or timing
        super().__init__({"axi": In(axi4_signature(config)), "ready": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.port = port = SdramPort(self.config, self.timing)
        m.submodules.chip = chip = SdramChip(self._chip)
        connect(m, flipped(self.axi), port.axi)
        connect(m, port.pins, chip.pins)
        m.d.comb += self.ready.eq(port.ready)
        return m
