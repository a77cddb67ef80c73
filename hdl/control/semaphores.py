"""Counting semaphores between units."""

from functools import reduce

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.interfaces import semaphore_signature
from hdl.isa import SEMAPHORES

__all__ = ["SemaphoreFile"]

_COUNT_BITS = 8


class SemaphoreFile(wiring.Component):
    """Eight counters; any unit may take or give.

    A take of several semaphores happens in one cycle or not at all. When two units ask for the
    same semaphore in the same cycle, the unit with the lower number is served first. A give is
    visible to takers in the next cycle. A count that would pass 255 sets ``overflow``, and stays.

    Members
    -------
    unit0, unit1, ... : In(semaphore_signature)
    clear : In(1)
        All counts to zero.
    overflow : Out(1)
        A give was lost (pulse).
    """

    def __init__(self, units: int):
        self._units = units
        super().__init__(
            {f"unit{i}": In(semaphore_signature()) for i in range(units)}
            | {"clear": In(1), "overflow": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        units = [getattr(self, f"unit{i}") for i in range(self._units)]
        counts = [Signal(_COUNT_BITS, name=f"count{i}") for i in range(SEMAPHORES)]
        some = Cat(count.any() for count in counts)
        claimed: list[Value] = []
        for unit in units:
            earlier = reduce(lambda a, b: a | b, claimed, 0)
            m.d.comb += unit.wait_ready.eq((unit.wait_mask & (~some | earlier)) == 0)
            claimed.append(Mux(unit.wait_valid, unit.wait_mask, 0))
        lost = Signal(SEMAPHORES)
        for i, count in enumerate(counts):
            taken = Signal(name=f"taken{i}")
            m.d.comb += taken.eq(
                Cat(u.wait_valid & u.wait_ready & u.wait_mask[i] for u in units).any()
            )
            given = sum(u.signal[i] for u in units)
            total = Signal(_COUNT_BITS + 1, name=f"total{i}")
            m.d.comb += [
                total.eq(count - taken + given),
                lost[i].eq(total[_COUNT_BITS]),
            ]
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            with m.Elif(~lost[i]):
                m.d.sync += count.eq(total)
            with m.If(taken & ~self.clear):
                m.d.sync += Assert(count != 0, "semaphore taken at zero")
        m.d.comb += self.overflow.eq(lost.any() & ~self.clear)
        return m
