"""Data of the SDRAM port: from the pads to R, from W to the pads, and B."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hdl.config import Config
from hdl.memory.axi import axi4_signature
from hdl.sdram.segment import tag

__all__ = ["ReadBuffer", "WriteBuffer"]

ATTRIBUTES = {"no_rw_check": 1}
"""A word is read a cycle after it was written at the earliest: no bypass is needed."""


class ReadBuffer(wiring.Component):
    """Collects words into beats and keeps them until R takes them, a beat every cycle at the most.

    Whoever asks for words has seen to it that there is room (``beats`` of them).

    Members
    -------
    axi : In(axi4_signature(config))
        Only R is driven here.
    valid : In(1), word : In(32), tag : In(tag())
        A word from the chip, lowest address first; ``tag.last`` with the last of a burst.
    taken : Out(1)
        Pulse: a beat left.
    """

    def __init__(self, config: Config, *, beats: int):
        self.config, self._beats = config, beats
        super().__init__(
            {
                "axi": In(axi4_signature(config)),
                "valid": In(1),
                "word": In(32),
                "tag": In(tag()),
                "taken": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, axi = self.config, self.axi
        layout = data.StructLayout({"data": config.port_bits, "tag": tag()})
        m.submodules.memory = memory = Memory(
            shape=layout.size, depth=self._beats, init=[], attrs=ATTRIBUTES
        )
        read, write = memory.read_port(), memory.write_port()
        beat = Signal(layout)
        word, whole = Signal(32), Signal()
        m.d.comb += word.eq(Mux(self.tag.resp == 0, self.word, 0))
        words = config.port_bytes // 4
        if words == 1:
            m.d.comb += [beat.data.eq(word), whole.eq(1)]
        else:
            held = Signal(config.port_bits - 32, reset_less=True)
            number = Signal(range(words))
            m.d.comb += [beat.data.eq(Cat(held, word)), whole.eq(number == words - 1)]
            with m.If(self.valid):
                m.d.sync += [held.eq(beat.data[32:]), number.eq(number + 1)]
        put, get = Signal(range(self._beats)), Signal(range(self._beats))
        m.d.comb += [
            beat.tag.eq(self.tag),
            write.addr.eq(put),
            write.data.eq(beat),
            write.en.eq(self.valid & whole),
            read.addr.eq(get),
        ]
        with m.If(write.en):
            m.d.sync += put.eq(put + 1)

        # The memory's own output register, then R.
        found, move = Signal(), Signal()
        out = Signal(layout, reset_less=True)  # nothing between the memory and this register
        free = ~axi.rvalid | axi.rready
        m.d.comb += [
            axi.rdata.eq(out.data),
            axi.rid.eq(out.tag.id),
            axi.rresp.eq(out.tag.resp),
            axi.rlast.eq(out.tag.last),
            move.eq(~found | free),
            read.en.eq(move),
            self.taken.eq(axi.rvalid & axi.rready),
        ]
        with m.If(move):
            m.d.sync += [found.eq(get != put), get.eq(get + (get != put))]
        with m.If(free):
            m.d.sync += [axi.rvalid.eq(found), out.eq(read.data)]
        return m


class WriteBuffer(wiring.Component):
    """Keeps the beats of W until the scheduler writes them; queues the responses.

    Members
    -------
    axi : In(axi4_signature(config))
        Only W and B are driven here.
    whole : Out(1)
        Pulse: the last beat of a burst has come.
    phase, write, tag : In
        Of the scheduler, in the cycle of the decision.
    active : Out(1), half : Out(16), strobe : Out(2)
        To the pads, from the cycle after ``write`` on: low half of the word, then high half.
    taken : Out(1)
        Pulse: a response left.
    """

    def __init__(self, config: Config, *, beats: int, replies: int):
        self.config, self._beats, self._replies = config, beats, replies
        super().__init__(
            {
                "axi": In(axi4_signature(config)),
                "whole": Out(1),
                "phase": In(1),
                "write": In(1),
                "tag": In(tag()),
                "active": Out(1),
                "half": Out(16),
                "strobe": Out(2),
                "taken": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, axi = self.config, self.axi
        m.submodules.memory = memory = Memory(
            shape=config.port_bits + config.port_bytes,
            depth=self._beats,
            init=[],
            attrs=ATTRIBUTES,
        )
        read, write = memory.read_port(), memory.write_port()

        # W into the memory. `wready` falls with two places left: it is a cycle old.
        put, get = Signal(range(self._beats)), Signal(range(self._beats))
        level = Signal(range(self._beats + 1))
        accept, leave, gone = Signal(), Signal(), Signal()  # gone: a cycle late, to be safe
        m.d.comb += [
            accept.eq(axi.wvalid & axi.wready),
            write.addr.eq(put),
            write.data.eq(Cat(axi.wdata, axi.wstrb)),
            write.en.eq(accept),
            read.addr.eq(get),
        ]
        m.d.sync += [
            level.eq(level + accept - gone),
            gone.eq(leave),
            axi.wready.eq(level < self._beats - 2),
            self.whole.eq(accept & axi.wlast),
        ]
        with m.If(accept):
            m.d.sync += put.eq(put + 1)
        with m.If(leave):
            m.d.sync += get.eq(get + 1)

        # The memory shows the next beat all the time, and what may be written has been in it for
        # long. A word taken is still shown in the cycle after, so `word` holds it for two.
        words = config.port_bytes // 4
        word, strobe = Signal(32, reset_less=True), Signal(4, reset_less=True)
        good = Signal()
        if words == 1:
            shown, mask = read.data[:32], read.data[32:]
            m.d.comb += leave.eq(self.write)
        else:
            number = Signal(range(words))
            shown = read.data[: config.port_bits].word_select(number, 32)
            mask = read.data[config.port_bits :].word_select(number, 4)
            m.d.comb += leave.eq(self.write & (number == words - 1))
            m.d.sync += number.eq(number + (self.phase & self.active))
        m.d.sync += [word.eq(shown), strobe.eq(mask)]
        with m.If(~self.phase):
            m.d.sync += [self.active.eq(self.write), good.eq(self.tag.resp == 0)]
        m.d.comb += [
            self.half.eq(Mux(self.phase, word[:16], word[16:])),
            self.strobe.eq(Mux(self.phase, strobe[:2], strobe[2:]) & good.replicate(2)),
        ]

        layout = data.StructLayout({"id": 1, "resp": 2})
        m.submodules.replies = replies = SyncFIFOBuffered(width=layout.size, depth=self._replies)
        reply = data.View(layout, replies.r_data)
        m.d.sync += [
            replies.w_en.eq(self.write & self.tag.last),
            replies.w_data.eq(Cat(self.tag.id, self.tag.resp)),
        ]
        m.d.comb += [
            replies.r_en.eq(axi.bready),
            axi.bvalid.eq(replies.r_rdy),
            axi.bid.eq(reply.id),
            axi.bresp.eq(reply.resp),
            self.taken.eq(axi.bvalid & axi.bready),
        ]
        return m
