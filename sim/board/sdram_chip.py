"""The SDRAM chip: rules, latency, byte masks and storage."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from hdl.sdram import SdramTiming, sdram_signature
from sim.board.sdram_rules import PADS, SdramRules

__all__ = ["WORD_BYTES", "SdramChip"]

WORD_BYTES = 8
"""Bytes in a word of ``storage``."""


class SdramChip(wiring.Component):
    """A 16-bit SDRAM on the controller's clock, for simulation.

    What is on the pads in a cycle is taken at its end; data read stands in the cycle CAS latency
    later, as on a board whose chip is clocked between the controller's edges. Masked bytes of a
    read, and a bus that nobody drives, carry noise. ``rst`` is power-up: storage
    stays as it was.

    ``storage`` is one memory of 64-bit words. A verilated harness finds it by that name in this
    component's module and may read and write it as bytes in order: byte ``i`` of the array is what
    the port shows at address ``hdl.sdram.cell_address(i, timing)`` (its own inverse).

    Parameters
    ----------
    timing
        Rules and shape.

    Members
    -------
    pins : In(sdram_signature())
    """

    def __init__(self, timing: SdramTiming | None = None):
        self.timing = timing or SdramTiming()
        super().__init__({"pins": In(sdram_signature())})

    def elaborate(self, platform):
        m = Module()
        timing, pins = self.timing, self.pins
        m.submodules.rules = rules = SdramRules(timing)
        for name in PADS:
            m.d.comb += getattr(rules, name).eq(getattr(pins, name))

        m.submodules.storage = storage = Memory(
            shape=8 * WORD_BYTES, depth=timing.size_bytes // WORD_BYTES, init=[]
        )
        read, write = storage.read_port(), storage.write_port(granularity=8)
        place = rules.access
        word = Cat(place.column[2:], place.bank, place.row)
        lane = Signal(2)
        strobe = Mux(rules.valid & place.write, ~pins.dqm, 0)
        m.d.comb += [
            read.addr.eq(word),
            read.en.eq(rules.valid & ~place.write),
            write.addr.eq(word),
            write.data.eq(pins.dq_o.replicate(4)),
        ]
        for number in range(4):
            m.d.comb += write.en.word_select(number, 2).eq(
                Mux(place.column[:2] == number, strobe, 0)
            )
        m.d.sync += lane.eq(place.column[:2])

        out = read.data.word_select(lane, 16)
        for stage in range(timing.cas_latency - 1):
            later = Signal(16, name=f"out_{stage}")
            m.d.sync += later.eq(out)
            out = later
        mask, masked, noise = Signal(2), Signal(2), Signal(16, init=0xACE1)
        m.d.sync += [
            mask.eq(pins.dqm),
            masked.eq(mask),
            noise.eq(Cat(noise[1:], noise[0] ^ noise[2] ^ noise[3] ^ noise[5])),
        ]
        for byte in range(2):
            half = slice(8 * byte, 8 * byte + 8)
            shown = Mux(rules.drives & ~masked[byte], out[half], noise[half])
            m.d.comb += pins.dq_i[half].eq(Mux(pins.dq_oe, pins.dq_o[half], shown))
        return m
