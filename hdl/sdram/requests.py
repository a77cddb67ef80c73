"""AR and AW of the SDRAM port: checked, admitted when nothing can hold them up, cut at rows."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hdl.config import Config
from hdl.memory.axi import BURST_INCR, axi4_signature
from hdl.sdram.pins import bank_hash
from hdl.sdram.segment import segment, segment_bits
from hdl.sdram.timing import SdramTiming

__all__ = ["DECERR", "OKAY", "SLVERR", "SdramRequests"]

OKAY, SLVERR, DECERR = 0, 2, 3


class SdramRequests(wiring.Component):
    """Chooses bursts and cuts them into segments.

    A read is admitted when the read buffer has room for all its beats, a write when all its beats
    are in the write buffer and a response can be kept. So nothing admitted ever waits for a
    manager, and no channel can block another. Reads and writes take turns. At most one burst of
    each kind waits here; a segment leaves every three cycles at the most.

    A burst past the end of the memory gets the response DECERR, one that isn't INCR or not of the
    port's width SLVERR. It runs like any other, with its address wrapped, its data masked.

    Parameters
    ----------
    read_beats, replies
        Sizes of the read buffer and of the queue of write responses.

    Members
    -------
    axi : In(axi4_signature(config))
        Only AR and AW are driven here.
    segments : Out(stream(segment(timing)))
    beat_taken, reply_taken : In(1)
        Pulses: a beat left on R, a response on B.
    whole_write : In(1)
        Pulse: the last beat of a write burst is in the write buffer.
    """

    def __init__(
        self,
        config: Config,
        timing: SdramTiming,
        *,
        read_beats: int,
        write_beats: int,
        replies: int,
    ):
        self.config, self.timing = config, timing
        self._read_beats, self._write_beats, self._replies = read_beats, write_beats, replies
        super().__init__(
            {
                "axi": In(axi4_signature(config)),
                "segments": Out(stream.Signature(segment(timing))),
                "beat_taken": In(1),
                "reply_taken": In(1),
                "whole_write": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, timing, axi = self.config, self.timing, self.axi
        word_bits, row_bits = timing.column_bits - 1, timing.row_bits
        beat_bits = ceil_log2(config.port_bytes // 4)  # of a word's number within its beat
        size_bits = ceil_log2(timing.size_bytes)

        # One burst of each kind, as it came.
        layout = data.StructLayout(
            {"word": word_bits, "bank": 2, "row": row_bits, "len": 8, "id": 1, "resp": 2}
        )

        def slot(name: str, taken: Signal):
            """Register slice of an address channel: (valid, burst)."""
            valid = Signal(name=f"{name}_valid")
            burst = Signal(layout, name=f"{name}_burst")

            def field(part):
                return getattr(axi, name + part)

            inside = field("addr")[size_bits:] == 0
            legal = (field("burst") == BURST_INCR) & (field("size") == ceil_log2(config.port_bytes))
            m.d.comb += field("ready").eq(~valid)
            with m.If(~valid):
                m.d.sync += [
                    valid.eq(field("valid")),
                    Cat(burst.word, burst.bank, burst.row).eq(field("addr")[2:]),
                    burst.len.eq(field("len")),
                    burst.id.eq(field("id")),
                    burst.resp.eq(Mux(~legal, SLVERR, Mux(inside, OKAY, DECERR))),
                ]
            with m.If(taken):
                m.d.sync += valid.eq(0)
            return valid, burst

        take_read, take_write = Signal(), Signal()
        read_valid, read = slot("ar", take_read)
        write_valid, write = slot("aw", take_write)

        # May it start? Room only grows while it waits, so the answer may be a cycle old.
        room = Signal(range(self._read_beats + 1), init=self._read_beats)
        wholes = Signal(range(self._write_beats + 1))
        open_replies = Signal(range(self._replies + 1))
        read_fits, write_fits = Signal(), Signal()
        beat_taken, reply_taken = Signal(), Signal()  # later by a cycle: on the safe side
        m.d.sync += [
            beat_taken.eq(self.beat_taken),
            reply_taken.eq(self.reply_taken),
            room.eq(room + beat_taken - Mux(take_read, read.len + 1, 0)),
            wholes.eq(wholes + self.whole_write - take_write),
            open_replies.eq(open_replies + take_write - reply_taken),
            read_fits.eq(read_valid & (room > read.len) & ~take_read),
            write_fits.eq(
                write_valid & (wholes != 0) & (open_replies != self._replies) & ~take_write
            ),
        ]

        # The burst in hand, and its segments.
        out = self.segments.payload
        hand = Signal(layout)
        is_write, hashed = Signal(), Signal(2)
        left = Signal(8 + beat_bits)  # words - 1
        over = Signal()  # it goes on in the next segment
        span_bits = segment_bits(timing)
        span = Signal(span_bits)  # words - 1 up to the end of the segment
        place = Cat(hand.word, hand.bank)
        m.d.comb += [
            span.eq(~hand.word[:span_bits]),
            out.bank.eq(hand.bank ^ hashed),
            out.row.eq(hand.row),
            out.word.eq(hand.word),
            out.count.eq(Mux(over, span, left)),
            out.write.eq(is_write),
            out.tag.id.eq(hand.id),
            out.tag.resp.eq(hand.resp),
            out.tag.last.eq(~over),
        ]
        with m.FSM():
            with m.State("CHOOSE"):
                m.d.comb += [
                    take_read.eq(read_fits & (~write_fits | is_write)),
                    take_write.eq(write_fits & ~take_read),
                ]
                chosen = data.View(layout, Mux(take_read, read.as_value(), write.as_value()))
                # A beat's first word: what comes below the port's width is left out.
                start = Cat(C(0, beat_bits), chosen.word[beat_bits:])
                m.d.sync += [
                    hand.eq(chosen),
                    hand.word.eq(start),
                    hashed.eq(bank_hash(chosen.row)),
                    left.eq(Cat(C((1 << beat_bits) - 1, beat_bits), chosen.len)),
                ]
                with m.If(take_read | take_write):
                    m.d.sync += is_write.eq(take_write)
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.sync += over.eq(left > span)
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += self.segments.valid.eq(1)
                with m.If(self.segments.ready):
                    m.next = "CHOOSE"
                    with m.If(over):
                        # 4 KiB are four rows of 1 KiB: a burst never leaves them.
                        m.d.sync += [
                            place[:span_bits].eq(0),
                            place[span_bits:].eq(place[span_bits:] + 1),
                            left.eq(left - span - 1),
                        ]
                        m.next = "CUT"
        return m
