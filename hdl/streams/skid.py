"""A stream's register slice: nothing passes through it within a cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

__all__ = ["SkidBuffer"]


class SkidBuffer(Component):
    """Two places; ``o.valid`` and ``i.ready`` are registers. A payload a cycle, one cycle later.

    Members
    -------
    i : In(stream(shape)), o : Out(stream(shape))
    clear : In(1)
        Forget what is inside.
    full : Out(1)
        The second place is taken.
    """

    def __init__(self, shape):
        signature = stream.Signature(shape)
        super().__init__({"i": In(signature), "o": Out(signature), "clear": In(1), "full": Out(1)})

    def elaborate(self, platform):
        m = Module()
        spare = Signal.like(self.i.payload, reset_less=True)
        spared = self.full
        m.d.comb += self.i.ready.eq(~spared)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(spared | self.i.valid),
                self.o.payload.eq(Mux(spared, spare, self.i.payload)),
                spared.eq(0),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += spared.eq(1)
        with m.If(~spared):
            m.d.sync += spare.eq(self.i.payload)
        with m.If(self.clear):
            m.d.sync += [self.o.valid.eq(0), spared.eq(0)]
        return m
