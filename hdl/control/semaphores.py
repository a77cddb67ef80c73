"""Counting semaphores between units."""

from amaranth.hdl import Assert, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.interfaces import semaphore_signature
from hdl.isa import SEMAPHORES

__all__ = ["SemaphoreFile"]

_COUNT_BITS = 8


class SemaphoreFile(wiring.Component):
    """Eight counters; any unit may take or give.

    A take of several semaphores happens in one cycle or not at all. When two units ask for the
    same semaphore in the same cycle, the unit with the lower number is served first. A count that
    would pass 255 sets ``overflow``, and stays.

    Latency: a take that can be served is answered two cycles after it is asked for (in the same
    cycle where the mask is empty), one that waits for a give three cycles after the give. A request
    stays until it is answered.

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

        # A request is registered, decided on, and answered from a register. (A unit that is reset
        # takes its request back; counts are cleared before the next step.)
        asked = [Signal(SEMAPHORES, name=f"asked{i}") for i in range(self._units)]
        granted, answer = Signal(self._units), Signal(self._units)
        m.d.sync += answer.eq(granted)
        for i, (unit, mask) in enumerate(zip(units, asked, strict=True)):
            m.d.comb += unit.wait_ready.eq(answer[i] | (unit.wait_mask == 0))
            waits = unit.wait_valid & ~answer[i] & ~self.clear
            m.d.sync += mask.eq(unit.wait_mask & waits.replicate(SEMAPHORES))

        # One that was taken a cycle ago may be at zero when its count has followed.
        taken = Signal(SEMAPHORES)
        some, not_zero = Signal(SEMAPHORES), Signal(SEMAPHORES)
        m.d.comb += some.eq(not_zero & ~taken)
        claimed: Value = Const(0, SEMAPHORES)
        given_away: Value = Const(0, SEMAPHORES)
        for i, mask in enumerate(asked):
            m.d.comb += granted[i].eq((mask != 0) & ~answer[i] & ((mask & (~some | claimed)) == 0))
            claimed |= mask
            given_away |= mask & granted[i].replicate(SEMAPHORES)
        m.d.sync += taken.eq(given_away & (~self.clear).replicate(SEMAPHORES))

        lost = Signal(SEMAPHORES)
        for i, count in enumerate(counts):
            given = Signal(range(self._units + 1), name=f"given{i}")
            total = Signal(_COUNT_BITS + 1, name=f"total{i}")
            m.d.sync += given.eq(Mux(self.clear, 0, sum(unit.signal[i] for unit in units)))
            m.d.comb += [
                total.eq(count + given - taken[i]),
                lost[i].eq(total[_COUNT_BITS]),
            ]
            with m.If(self.clear):
                m.d.sync += [count.eq(0), not_zero[i].eq(0)]
            with m.Elif(~lost[i]):
                m.d.sync += [count.eq(total), not_zero[i].eq(total != 0)]
            with m.If(taken[i] & ~self.clear):
                m.d.sync += Assert(count != 0, "semaphore taken at zero")
        m.d.sync += self.overflow.eq(lost.any() & ~self.clear)
        return m
