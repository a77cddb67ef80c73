"""Credits with the matrix unit: what is there to be read, and what is free to be written."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import bits_for

from hdl.config import Config
from hdl.vector.timing import Timing

__all__ = ["READ_CYCLES", "Credits"]

READ_CYCLES = Timing.issue + Timing.address + 1
"""From the sequencer's step to a word until its panel has been read."""


class Credits(Component):
    """Counts pulses of both sides (docs/spec.md, section 3).

    Members
    -------
    ring_produce, output_produce, weights_release : In(1)
    ring_release, output_release : Out(1)
        Some cycles after the sequencer asked, when the last word has been read.
    release : In(2), release_outputs : In(1)
        The sequencer sends the last word of that many ring panels, of the output panels.
    take_weights : In(1)
        The sequencer starts to fill a P buffer.
    ring : Out
        Ring panels that can be read; ``first`` and ``second`` are the oldest two.
    outputs : Out
        Batches whose output panels can be read.
    weights : Out
        P buffers free.
    """

    def __init__(self, config: Config):
        self._ring = config.panel_ring
        panel = bits_for(config.panels - 1)
        super().__init__(
            {
                "ring_produce": In(1),
                "output_produce": In(1),
                "weights_release": In(1),
                "ring_release": Out(1),
                "output_release": Out(1),
                "release": In(2),
                "release_outputs": In(1),
                "take_weights": In(1),
                "ring": Out(bits_for(self._ring)),
                "outputs": Out(2),
                "weights": Out(2, init=2),
                "first": Out(panel),
                "second": Out(panel),
            }
        )

    def elaborate(self, platform):
        m = Module()
        last = self._ring - 1

        m.d.sync += [
            self.ring.eq(self.ring + self.ring_produce - self.release),
            self.outputs.eq(self.outputs + self.output_produce - self.release_outputs),
            self.weights.eq(self.weights + self.weights_release - self.take_weights),
        ]
        with m.If(self.ring_produce):
            m.d.sync += Assert(self.ring != self._ring, "panel ring overflow")
        with m.If(self.release > self.ring):
            m.d.sync += Assert(0, "panel released that was not there")
        with m.If(self.output_produce):
            m.d.sync += Assert(self.outputs != 2, "output panels overflow")
        with m.If(self.weights_release & ~self.take_weights):
            m.d.sync += Assert(self.weights != 2, "P buffers overflow")

        m.d.comb += self.second.eq(Mux(self.first == last, 0, self.first + 1))
        with m.If(self.release == 1):
            m.d.sync += self.first.eq(self.second)
        with m.If(self.release == 2):
            m.d.sync += self.first.eq(Mux(self.second == last, 0, self.second + 1))

        # A pulse a panel; the second a cycle after the first. Passes that release are longer apart.
        one = [self.release != 0]
        two = [self.release == 2]
        outputs = [self.release_outputs]
        for chain, length in ((one, READ_CYCLES), (two, READ_CYCLES + 1), (outputs, READ_CYCLES)):
            for i in range(length):
                later = Signal(name=f"release_{len(chain)}_{length}_{i}")
                m.d.sync += later.eq(chain[-1])
                chain.append(later)
        m.d.comb += [
            self.ring_release.eq(one[-1] | two[-1]),
            self.output_release.eq(outputs[-1]),
        ]
        return m
