"""Performance counters: one event bit each, 48 bits wide."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.isa import Counter

__all__ = ["Counters"]

_BITS = 48


class Counters(wiring.Component):
    """Counts the cycles in which each event bit is set while ``enable`` is.

    Events are registered once before they count. Reads take one cycle. ARRAY_FIRST and ARRAY_LAST
    take the value of CYCLES at their first and last event instead.

    Members
    -------
    events : In(len(Counter))
        Bit ``Counter.X.value``.
    enable, clear : In(1)
    index : In(7)
        Counter number and, in bit 0, which half.
    data : Out(32)
        The half in the next cycle (high half: 16 bits).
    """

    def __init__(self):
        super().__init__(
            {
                "events": In(len(Counter)),
                "enable": In(1),
                "clear": In(1),
                "index": In(7),
                "data": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        events = Signal.like(self.events)
        with m.If(self.enable | events.any()):
            m.d.sync += events.eq(self.events & self.enable.replicate(len(Counter)))
        counts = [Signal(_BITS, name=c.name.lower()) for c in Counter]
        for counter, count in zip(Counter, counts, strict=True):
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            with m.Elif(events[counter.value]):
                if counter is Counter.ARRAY_FIRST:
                    with m.If(count == 0):
                        m.d.sync += count.eq(counts[Counter.CYCLES.value])
                elif counter is Counter.ARRAY_LAST:
                    m.d.sync += count.eq(counts[Counter.CYCLES.value])
                else:
                    m.d.sync += count.eq(count + 1)
        halves = Array([half for count in counts for half in (count[:32], count[32:])])
        m.d.sync += self.data.eq(halves[self.index])
        return m
