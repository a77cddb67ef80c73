"""A whole board: everything between its pins."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.accelerator import Accelerator
from hdl.board.arbiter import AxiArbiter
from hdl.config import Config
from hdl.link import Link
from hdl.sdram import SdramPort, SdramTiming, sdram_signature

__all__ = ["LEDS", "Board"]

LEDS = ("ready", "running", "faulted", "link_busy", "link_dropped")
"""Lights from the lowest: memory initialised; a step runs; the last one ended with a fault; the
line is in use; a damaged frame has come since reset."""


class Board(wiring.Component):
    """Accelerator and host link on one SDRAM. Wiring only.

    Parameters
    ----------
    config
    timing
        Of the SDRAM; its ``clock_hz`` is that of ``sync``.
    baud
        Of the host link.

    Members
    -------
    sdram : Out(sdram_signature())
    uart_rx : In(1), uart_tx : Out(1)
    leds : Out(8)
        As ``LEDS``, the others dark.
    """

    def __init__(self, config: Config, *, timing: SdramTiming | None = None, baud: int = 3_000_000):
        self.config, self.timing, self._baud = config, timing or SdramTiming(), baud
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
        config, timing = self.config, self.timing
        m.submodules.accelerator = accelerator = Accelerator(config)
        m.submodules.link = link = Link(
            config,
            clock_hz=round(timing.clock_hz),
            baud=self._baud,
            memory_bytes=timing.size_bytes,
        )
        m.submodules.arbiter = arbiter = AxiArbiter(config)
        m.submodules.memory = memory = SdramPort(config, timing)
        connect(m, accelerator.m_axi, arbiter.a)
        connect(m, link.memory, arbiter.b)
        connect(m, arbiter.memory, memory.axi)
        connect(m, memory.pins, flipped(self.sdram))
        connect(m, link.registers, accelerator.s_axil)
        dropped = Signal()
        m.d.sync += dropped.eq(dropped | link.dropped)
        m.d.comb += [
            link.irq.eq(accelerator.irq),
            link.rx.eq(self.uart_rx),
            self.uart_tx.eq(link.tx),
            self.leds.eq(
                Cat(memory.ready, accelerator.running, accelerator.faulted, link.busy, dropped)
            ),
        ]
        return m
