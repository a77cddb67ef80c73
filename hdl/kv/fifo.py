"""A FIFO between two streams of the same payload."""

from amaranth import Module, Mux, Shape, Signal
from amaranth.hdl import ShapeCastable
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
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
        The two ends. Without ``block_memory`` ``i.ready`` and ``o.valid`` are registers.
    level
        Transfers inside.
    """

    def __init__(self, shape, depth: int, *, block_memory: bool = False):
        self._depth = depth
        self._block_memory = block_memory
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
        width = Shape.cast(self._shape).width
        out = Signal(width)
        m.d.comb += self.o.payload.eq(
            self._shape(out) if isinstance(self._shape, ShapeCastable) else out
        )
        if self._block_memory:
            m.submodules.fifo = fifo = SyncFIFOBuffered(width=width, depth=self._depth)
            m.d.comb += [
                fifo.w_data.eq(self.i.payload),
                fifo.w_en.eq(self.i.valid),
                self.i.ready.eq(fifo.w_rdy),
                out.eq(fifo.r_data),
                self.o.valid.eq(fifo.r_rdy),
                fifo.r_en.eq(self.o.ready),
                self.level.eq(fifo.level),
            ]
            return m

        # One place more than the depth: what is offered to a full FIFO is written there, so that
        # the enable of a wide memory is nobody's decision but the sender's.
        places = self._depth + 1
        m.submodules.storage = storage = Memory(shape=width, depth=places, init=[])
        store, load = storage.write_port(), storage.read_port(domain="comb")
        room = Signal(init=1)
        some = Signal()
        give, take = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(room),
            self.o.valid.eq(some),
            give.eq(self.i.valid & room),
            take.eq(self.o.ready & some),
            store.en.eq(self.i.valid),
            store.data.eq(self.i.payload),
            out.eq(load.data),
        ]
        for port, moves in ((store, give), (load, take)):
            with m.If(moves):
                m.d.sync += port.addr.eq(Mux(port.addr == places - 1, 0, port.addr + 1))
        with m.If(give & ~take):
            m.d.sync += [
                self.level.eq(self.level + 1),
                some.eq(1),
                room.eq(self.level != self._depth - 1),
            ]
        with m.If(take & ~give):
            m.d.sync += [
                self.level.eq(self.level - 1),
                some.eq(self.level != 1),
                room.eq(1),
            ]
        return m
