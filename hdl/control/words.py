"""Memory beats to a stream of fixed-width words, with room reserved before it asks."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.config import Config
from hdl.interfaces import read_client
from hdl.streams import StreamFIFO

__all__ = ["WordReader"]


class WordReader(wiring.Component):
    """Reads ``count`` beats from ``address`` on and gives them as words of ``word_bits``.

    Words are cut from (or put together of) beats, lowest byte first. At most ``depth`` beats are on
    their way or waiting, so that no beat is refused. To forget what is left over, reset the reader
    when the memory port is idle.

    Parameters
    ----------
    word_bits : divides, or is a multiple of, the port's width
    depth : beats of the FIFO
    burst : beats in a request at the most, at most ``depth / 2``

    Members
    -------
    start : In(1), address : In(40), count : In(24)
        Pulse to begin; everything of the last start must have been asked for.
    words : Out(stream(word_bits))
    memory : Out(read_client)
    """

    def __init__(self, config: Config, word_bits: int, *, depth: int, burst: int):
        port = config.port_bits
        if max(port, word_bits) % min(port, word_bits):
            raise ValueError(f"words of {word_bits} bits do not fit beats of {port}")
        self._config, self._word_bits = config, word_bits
        self._depth, self._burst = depth, burst
        super().__init__(
            {
                "start": In(1),
                "address": In(40),
                "count": In(24),
                "words": Out(stream.Signature(word_bits)),
                "memory": Out(read_client(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c, port, width = self._config, self._config.port_bits, self._word_bits
        m.submodules.fifo = fifo = StreamFIFO(port, self._depth, block_memory=True)
        request, beat = self.memory.request, self.memory.data

        # Requests: at most as many beats as there is room for; three cycles each
        address, left = Signal(40), Signal(24)  # of what is not asked for yet
        size = Signal(range(self._burst + 1))
        some, sized = Signal(), Signal()  # `size` is that of the next request; it is not 0
        taken = Signal(range(self._depth + 1))  # beats asked for that have not left the FIFO
        room = Signal()
        ask, asked, popped = Signal(), Signal(), Signal()
        m.d.comb += [
            ask.eq(sized & some & room & (~request.valid | request.ready)),
        ]
        m.d.sync += [
            asked.eq(ask),
            popped.eq(fifo.o.ready & fifo.o.valid),
            room.eq(taken <= self._depth - self._burst),
            sized.eq(~self.start & ~ask & ~asked),
            some.eq(left != 0),
            size.eq(Mux(left > self._burst, self._burst, left)),
        ]
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(self.start):
            m.d.sync += [address.eq(self.address), left.eq(self.count)]
        with m.Elif(ask):
            m.d.sync += [
                request.valid.eq(1),
                request.payload.address.eq(address),
                request.payload.beats.eq(size),
                address.eq(address + size * c.port_bytes),
                left.eq(left - size),
            ]
        m.d.sync += taken.eq(taken + Mux(asked, request.payload.beats, 0) - popped)
        m.d.comb += [fifo.i.payload.eq(beat.payload), fifo.i.valid.eq(beat.valid)]

        # Beat to word: words stand in a register
        parts = max(port, width) // min(port, width)
        part = Signal(range(max(parts, 2)))
        last = part == parts - 1
        word, free = self.words.payload, Signal()
        m.d.comb += free.eq(~self.words.valid | self.words.ready)
        with m.If(self.words.ready):
            m.d.sync += self.words.valid.eq(0)
        with m.If(free & fifo.o.valid):
            m.d.sync += part.eq(Mux(last, 0, part + 1))
            if width <= port:
                m.d.comb += fifo.o.ready.eq(last)
                m.d.sync += [
                    word.eq(fifo.o.payload.word_select(part, width)),
                    self.words.valid.eq(1),
                ]
            else:
                m.d.comb += fifo.o.ready.eq(1)
                m.d.sync += [
                    word.eq((word >> port) | (fifo.o.payload << (width - port))),
                    self.words.valid.eq(last),
                ]
        return m
