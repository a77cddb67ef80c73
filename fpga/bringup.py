"""The board without its accelerator: what to build and try first, in minutes."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.control.axi_lite import AXI4LiteSlave
from hdl.link import Link
from hdl.sdram import SdramPort, SdramTiming, sdram_signature

__all__ = ["BringUp"]


class BringUp(wiring.Component):
    """Host link and SDRAM: clock, pins, serial line and memory can be tried from the host.

    The host writes and reads memory as with the whole board; every register answers SLVERR.

    Parameters and members as of ``hdl.board.Board``; LEDs 0 and 1: memory initialised, line in use.
    """

    def __init__(self, config: Config, *, timing: SdramTiming, baud: int):
        self.config, self.timing, self._baud = config, timing, baud
        super().__init__(
            {
                "sdram": Out(sdram_signature()),
                "uart_rx": In(1, init=1),
                "uart_tx": Out(1, init=1),
                "leds": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = Link(
            self.config,
            clock_hz=round(self.timing.clock_hz),
            baud=self._baud,
            memory_bytes=self.timing.size_bytes,
        )
        m.submodules.memory = memory = SdramPort(self.config, self.timing)
        m.submodules.registers = registers = AXI4LiteSlave()
        connect(m, link.memory, memory.axi)
        connect(m, memory.pins, flipped(self.sdram))
        connect(m, link.registers, registers.bus)
        m.d.comb += [
            link.rx.eq(self.uart_rx),
            self.uart_tx.eq(link.tx),
            self.leds.eq(Cat(memory.ready, link.busy)),
        ]
        return m
