"""The fault record: the first fault of a step, kept until the next doorbell."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Signal, Value
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
    noticed : Out(1)
        Somebody reported while enabled, two cycles ago or before: a record will be found.
    found : Out(1)
        A fault is recorded, from three cycles after its report. What it says is taken in the
        cycle before: a source holds its report so long.
    cause, detail, unit, index, address : Out
    """

    def __init__(self, units: tuple[Unit, ...]):
        self._units = units
        super().__init__(
            {f"source{i}": In(fault_signature()) for i in range(len(units))}
            | {
                "enable": In(1),
                "clear": In(1),
                "noticed": Out(1),
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
        sources = [getattr(self, f"source{i}") for i in range(len(self._units))]
        first = Signal(len(sources))  # who reported in the first cycle with a report
        chosen = Signal(len(sources))  # one of them
        m.d.sync += self.noticed.eq(self.enable & first.any())
        with m.If(~self.enable):
            m.d.sync += [first.eq(0), chosen.eq(0)]
        with m.Else():
            with m.If(~first.any() & ~self.found):
                m.d.sync += first.eq(Cat(source.valid for source in sources))
            m.d.sync += chosen.eq(first & -first)
        with m.If(chosen.any() & ~self.found):
            m.d.sync += self.found.eq(1)
            for name in ("cause", "detail", "index", "address"):
                target = Value.cast(getattr(self, name))
                m.d.sync += target.eq(
                    _any_of(
                        Value.cast(getattr(source, name)) & bit.replicate(len(target))
                        for source, bit in zip(sources, chosen, strict=True)
                    )
                )
            m.d.sync += Value.cast(self.unit).eq(
                _any_of(
                    Const(unit.value, 3) & bit.replicate(3)
                    for unit, bit in zip(self._units, chosen, strict=True)
                )
            )
        with m.If(self.clear):
            m.d.sync += [self.found.eq(0), self.cause.eq(Fault.NONE), self.detail.eq(0)]
            m.d.sync += [self.unit.eq(Unit.CONTROL), self.index.eq(0), self.address.eq(0)]
        return m


def _any_of(terms):
    """OR of all, as a balanced tree."""
    terms = list(terms)
    while len(terms) > 1:
        terms = [reduce(or_, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return terms[0]
