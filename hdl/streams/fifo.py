"""A FIFO between two streams of the same payload."""

from amaranth import Module, Mux, Shape, Signal
from amaranth.hdl import ShapeCastable
from amaranth.lib import stream
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
        The two ends; ``i.ready`` and ``o.valid`` are registers.
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
        # One place more than is used: what is offered to a full FIFO is written there, so that the
        # enable of a wide memory is nobody's decision but the sender's.
        holds = self._depth - self._block_memory
        m.submodules.storage = storage = Memory(
            shape=width, depth=holds + 1, init=[], attrs={"no_rw_check": 1}
        )
        store = storage.write_port()
        load = storage.read_port(domain="sync" if self._block_memory else "comb")
        room = Signal(init=1)
        some = Signal()
        give, take = Signal(), Signal()
        inside = Signal(range(holds + 1))
        m.d.comb += [
            self.i.ready.eq(room),
            give.eq(self.i.valid & room),
            store.en.eq(self.i.valid),
            store.data.eq(self.i.payload),
            out.eq(load.data),
        ]
        if self._block_memory:
            m.d.comb += [
                take.eq(some & (~self.o.valid | self.o.ready)),
                load.en.eq(take),
                self.level.eq(inside + self.o.valid),
            ]
            m.d.sync += self.o.valid.eq(take | (self.o.valid & ~self.o.ready))
        else:
            m.d.comb += [
                self.o.valid.eq(some),
                take.eq(some & self.o.ready),
                self.level.eq(inside),
            ]
        for port, moves in ((store, give), (load, take)):
            with m.If(moves):
                m.d.sync += port.addr.eq(Mux(port.addr == holds, 0, port.addr + 1))
        with m.If(give & ~take):
            m.d.sync += [inside.eq(inside + 1), some.eq(1), room.eq(inside != holds - 1)]
        with m.If(take & ~give):
            m.d.sync += [inside.eq(inside - 1), some.eq(inside != 1), room.eq(1)]
        return m
