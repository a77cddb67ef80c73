"""Words of tables in memory, fetched a beat at a time and many ahead."""

from amaranth import Module, Mux, Signal
from amaranth.hdl import Assert
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS
from hdl.kv.records import log2_exact
from hdl.streams import StreamFIFO

__all__ = ["WordLookup"]


class WordLookup(Component):
    """Read 32-bit words, in order, each with a note that travels along.

    The beat of the last read is kept: a word in the beat of the word before costs no read. Up to
    ``depth`` words wait for memory, so a long latency is paid once, not once a word.

    Parameters
    ----------
    config, note (shape), depth

    Members
    -------
    request
        ``address`` (byte, word aligned), ``skip`` (don't read: the word is meaningless), ``note``.
    reply
        ``word`` and ``note``, in order of the requests.
    read
        Beat addresses (bytes) to read. Every one is answered by a cycle of ``arrive``, in order.
    arrive, beat
        A beat of an earlier ``read`` is here; can't be refused.
    forget
        Pulse while nothing is in flight: drop the kept beat (memory may have changed).

    A request every three cycles. Latency: request to reply 5 cycles where the beat is kept, else 7
    more than the memory's.
    """

    def __init__(self, config: Config, note: data.StructLayout, depth: int):
        self._config = config
        self._depth = depth
        self._note = note
        super().__init__(
            {
                "request": In(
                    stream.Signature(
                        data.StructLayout({"address": ADDRESS_BITS, "skip": 1, "note": note})
                    )
                ),
                "reply": Out(stream.Signature(data.StructLayout({"word": 32, "note": note}))),
                "read": Out(stream.Signature(ADDRESS_BITS)),
                "arrive": In(1),
                "beat": In(config.port_bits),
                "forget": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lane_bits = log2_exact(self._config.port_bytes // 4)
        beat_bits = lane_bits + 2
        # (A field of no bits, at a port of one word, is not good Verilog: then it is a constant 0.)
        pending_layout = data.StructLayout(
            {"fetch": 1, "lane": max(lane_bits, 1), "note": self._note}
        )
        m.submodules.pending = pending = StreamFIFO(pending_layout, self._depth)
        m.submodules.beats = beats = StreamFIFO(self._config.port_bits, self._depth)

        # Ask: a beat that was asked for last will be in `line` when this word's turn comes. A
        # request is taken in one cycle, compared in the next, noted in the third (and its beat
        # asked for), as soon as the read before it is taken.
        request = Signal.like(self.request.p)
        have, compared, hit = Signal(), Signal(), Signal()
        asked = Signal(ADDRESS_BITS - beat_bits)  # the newest beat asked for
        asked_valid = Signal()
        done = Signal()
        space = Signal()  # (the last one went in three cycles ago or before)
        m.d.sync += space.eq(pending.i.ready)
        m.d.comb += [
            self.request.ready.eq(~have),
            self.read.payload.eq(asked << beat_bits),
            done.eq(compared & space & (hit | ~self.read.valid)),
            pending.i.valid.eq(done),
            pending.i.p.fetch.eq(~hit),
            pending.i.p.lane.eq(request.address[2:beat_bits]),
            pending.i.p.note.eq(request.note),
        ]
        with m.If(~have):
            m.d.sync += request.eq(self.request.p)
        m.d.sync += [
            have.eq(Mux(have, ~done, self.request.valid)),
            compared.eq(have & ~done),
        ]
        with m.If(~compared):
            m.d.sync += hit.eq(
                request.skip | (asked_valid & (asked == request.address[beat_bits:]))
            )
        with m.If(self.read.ready):
            m.d.sync += self.read.valid.eq(0)
        with m.If(done & ~hit):
            m.d.sync += [
                self.read.valid.eq(1),
                asked.eq(request.address[beat_bits:]),
                asked_valid.eq(1),
            ]
        with m.If(self.forget):
            m.d.sync += asked_valid.eq(0)

        # Answer. Every pending fetch has a place in `beats`: they are as deep as each other.
        line = Signal(self._config.port_bits)
        current = Signal(self._config.port_bits)
        head = pending.o.p
        take = Signal()  # what a reply needs was there a cycle ago, and it is still
        fetched = Signal()  # ... and it is a new beat
        m.d.comb += [
            beats.i.valid.eq(self.arrive),
            beats.i.payload.eq(self.beat),
            pending.o.ready.eq(take),
            beats.o.ready.eq(fetched),
            current.eq(line),
        ]
        able = pending.o.valid & ~self.reply.valid & ~take
        m.d.sync += [
            take.eq(able & (~head.fetch | beats.o.valid)),
            fetched.eq(able & head.fetch & beats.o.valid),
        ]
        with m.If(fetched):
            m.d.comb += current.eq(beats.o.payload)
        with m.If(self.reply.ready):
            m.d.sync += self.reply.valid.eq(0)
        with m.If(take):
            m.d.sync += [
                line.eq(current),
                self.reply.valid.eq(1),
                self.reply.p.word.eq(current.word_select(head.lane, 32)),
                self.reply.p.note.eq(head.note),
            ]
        with m.If(self.arrive):
            m.d.sync += Assert(beats.i.ready)
        return m
