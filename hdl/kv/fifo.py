"""A FIFO between two streams of the same payload."""

from amaranth import Module, Shape
from amaranth.hdl import ShapeCastable
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out

__all__ = ["StreamFIFO"]


class StreamFIFO(Component):
    """First word falls through; one transfer a cycle each way.

    Parameters
    ----------
    shape
        Payload.
    depth
        Transfers it holds; at least 2.
    block_memory
        True: storage read synchronously (block RAM), one more cycle from input to output.

    Members
    -------
    i, o
        The two ends.
    level
        Transfers inside.
    """

    def __init__(self, shape, depth: int, *, block_memory: bool = False):
        width = Shape.cast(shape).width
        kind = SyncFIFOBuffered if block_memory else SyncFIFO
        self._fifo = kind(width=width, depth=depth)
        self._shape = shape
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = self._fifo
        out = fifo.r_data
        if isinstance(self._shape, ShapeCastable):
            out = self._shape(fifo.r_data)
        m.d.comb += [
            fifo.w_data.eq(self.i.payload),
            fifo.w_en.eq(self.i.valid),
            self.i.ready.eq(fifo.w_rdy),
            self.o.payload.eq(out),
            self.o.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.o.ready),
            self.level.eq(fifo.level),
        ]
        return m
