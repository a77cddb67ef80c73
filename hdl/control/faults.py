"""The fault record: the first fault of a step, kept until the next doorbell."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.interfaces import ADDRESS_BITS, INDEX_BITS, fault_signature
from hdl.isa import Fault, Unit

__all__ = ["FaultRecord"]


class FaultRecord(wiring.Component):
    """Keeps the first report; of several in one cycle the source with the lowest number.

    Parameters
    ----------
    units : who stands behind each source

    Members
    -------
    source0, source1, ... : In(fault_signature)
    enable : In(1)
        Reports count.
    clear : In(1)
    found : Out(1)
        A fault is recorded (from the cycle after its report).
    cause, detail, unit, index, address : Out
    """

    def __init__(self, units: tuple[Unit, ...]):
        self._units = units
        super().__init__(
            {f"source{i}": In(fault_signature()) for i in range(len(units))}
            | {
                "enable": In(1),
                "clear": In(1),
                "found": Out(1),
                "cause": Out(Fault),
                "detail": Out(32),
                "unit": Out(Unit),
                "index": Out(INDEX_BITS),
                "address": Out(ADDRESS_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        waiting = Signal()
        m.d.comb += waiting.eq(~self.found & self.enable)
        for i, unit in reversed(list(enumerate(self._units))):
            source = getattr(self, f"source{i}")
            with m.If(source.valid & waiting):
                m.d.sync += [
                    self.found.eq(1),
                    self.cause.eq(source.cause),
                    self.detail.eq(source.detail),
                    self.unit.eq(unit),
                    self.index.eq(source.index),
                    self.address.eq(source.address),
                ]
        with m.If(self.clear):
            m.d.sync += [self.found.eq(0), self.cause.eq(Fault.NONE), self.detail.eq(0)]
            m.d.sync += [self.unit.eq(Unit.CONTROL), self.index.eq(0), self.address.eq(0)]
        return m
