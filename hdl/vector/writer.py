"""Writes FP32 blocks and token numbers to memory."""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.utils import bits_for, exact_log2

from hdl.config import BLOCK, Config
from hdl.interfaces import ROW_BITS, write_client
from hdl.streams import SkidBuffer
from hdl.vector.slots import ADDRESS_BITS, row_index_bits, word_index_bits

__all__ = ["MemoryWriter", "memory_word"]

BLOCK_BYTES = 4 * BLOCK
ENTRIES = 4


def memory_word(config: Config) -> data.StructLayout:
    """A word to be written."""
    return data.StructLayout(
        {
            "valid": 1,
            "token": 1,  # one 32-bit word, number ``row``; else a block's next word
            "word": word_index_bits(config),
            "row": row_index_bits(config),
            "destination": ADDRESS_BITS,  # block
        }
    )


class MemoryWriter(Component):
    """Queue of blocks of 32 FP32 (or single tokens), a memory request each.

    Words are always accepted: the sender counts :attr:`entries` free places, takes one for each
    block (token) and gets it back with ``room``.

    Members
    -------
    block_base, token_base : In(40)
        Byte addresses of block 0 and token 0, with the words.
    word, values : In
        ``values`` of a token: its number on every lane.
    memory : Out
        Write client.
    room : Out(1)
        Pulse: a place is free again.
    idle : Out(1)
        Nothing queued and every response has come.
    """

    entries = ENTRIES

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "block_base": In(40),
                "token_base": In(40),
                "word": In(memory_word(config)),
                "values": In(32).array(config.lanes),
                "memory": Out(write_client(config)),
                "room": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        port_bytes = config.port_bytes
        word_bytes = config.word_bits // 8
        word_bits = exact_log2(config.block_words)
        entry_bits = exact_log2(ENTRIES)

        # Words and entries (address and kind) in memories; an entry's address takes two cycles.
        entry = data.StructLayout({"address": 40, "token": 1, "row": ROW_BITS})
        m.submodules.queue = queue = Memory(shape=entry, depth=ENTRIES, init=[])
        enter, oldest = queue.write_port(), queue.read_port(domain="comb")
        m.submodules.words = words = Memory(
            shape=config.word_bits, depth=ENTRIES << word_bits, init=[]
        )
        put, get = words.write_port(), words.read_port(domain="comb")
        head = Signal(entry_bits)
        tail = Signal(entry_bits)
        level = Signal(bits_for(ENTRIES))  # entries that take a place
        empty = Signal(init=1)  # there are none
        ready = Signal.like(level)  # those of them that can go to memory
        word = self.word
        first = word.token | (word.word == 0)
        last = word.token | (word.word == config.block_words - 1)
        complete = Signal()
        done = Signal()
        # A word goes through a register: it comes from where the multipliers are.
        place = Signal(word_bits + entry_bits, reset_less=True)
        values = Signal(config.word_bits, reset_less=True)
        arrived = Signal()
        m.d.comb += [
            complete.eq(word.valid & last),
            put.addr.eq(place),
            put.data.eq(values),
            put.en.eq(arrived),
        ]
        m.d.sync += [
            self.room.eq(done),
            place.eq(Cat(Mux(word.token, 0, word.word)[:word_bits], tail)),
            values.eq(Cat(self.values)),
            arrived.eq(word.valid),
        ]
        begun = [word.valid & first]
        completed = [complete]
        for step in (1, 2):
            begun.append(Signal(name=f"begun_{step}"))
            completed.append(Signal(name=f"completed_{step}"))
            m.d.sync += [begun[-1].eq(begun[-2]), completed[-1].eq(completed[-2])]
        base, offset, address = (
            Signal(40, name=name, reset_less=True) for name in ("base", "offset", "address")
        )
        about = Cat(tail, word.token, word.row)
        about_1 = Signal(about.shape(), reset_less=True)
        about_2 = Signal.like(about_1)
        beat_bits = exact_log2(port_bytes)
        m.d.sync += [
            base.eq(Mux(word.token, self.token_base, self.block_base)),
            offset.eq(Mux(word.token, word.row << 2, word.destination << exact_log2(BLOCK_BYTES))),
            address.eq(base + offset),
            about_1.eq(about),
            about_2.eq(about_1),
        ]
        m.d.comb += [
            Cat(enter.addr, enter.data.token, enter.data.row[: len(word.row)]).eq(about_2),
            enter.data.address.eq(Cat(Const(0, beat_bits), address[beat_bits:])),
            enter.en.eq(begun[2]),
        ]
        with m.If(complete):
            m.d.sync += [tail.eq(tail + 1), Assert(level != ENTRIES)]
        m.d.sync += [
            level.eq(level + complete - done),
            empty.eq(Mux(complete ^ done, ~complete & (level == 1), empty)),
            ready.eq(ready + completed[2] - done),
        ]

        # One entry at a time: request, then its beats
        beats = BLOCK_BYTES // port_bytes
        word_beats = word_bytes // port_bytes
        now = oldest.data
        beat = Signal(bits_for(beats - 1))
        m.d.comb += [
            oldest.addr.eq(head),
            get.addr.eq(Cat((beat >> exact_log2(word_beats))[:word_bits], head)),
        ]
        place_in_beat = now.row[: exact_log2(port_bytes // 4)] if port_bytes > 4 else Const(0, 1)
        strobe = Mux(now.token, Const(0xF, 4) << (place_in_beat << 2), (1 << port_bytes) - 1)

        # The word that is read, in a register
        reading, read = Signal(), Signal()
        read_word = Signal(config.word_bits, reset_less=True)
        select = Signal(exact_log2(word_beats), reset_less=True)
        read_strobe = Signal(port_bytes, reset_less=True)
        shown = read_word
        if word_beats > 1:
            shown = read_word.word_select(select, config.port_bits)

        # The port is far away: nothing but the slice hangs on its ready.
        m.submodules.slice = part = SkidBuffer(self.memory.data.payload.shape())
        connect(m, part.o, flipped(self.memory.data))
        m.d.comb += [
            part.i.valid.eq(read),
            part.i.payload.data.eq(shown),
            part.i.payload.strobe.eq(read_strobe),
        ]
        free = part.i.ready
        with m.If(free):
            m.d.sync += [
                read.eq(reading),
                read_word.eq(get.data),
                select.eq(beat[: len(select)]),
                read_strobe.eq(strobe),
            ]

        # So with the request: its beats may come before it is taken.
        request = self.memory.request
        ask, asks = Signal(), Signal()
        m.d.comb += asks.eq(ask & ~request.valid)
        m.d.sync += request.valid.eq(Mux(request.valid, ~request.ready, ask))
        with m.If(~request.valid):
            m.d.sync += [
                request.payload.address.eq(now.address),
                request.payload.beats.eq(Mux(now.token, 1, beats)),
            ]

        outstanding = Signal(6)  # the request in the register is one of them
        answered_all = Signal(init=1)  # it is 0
        final = Signal()  # the entry's last beat
        with m.FSM():
            with m.State("REQUEST"):
                m.d.sync += final.eq(now.token | (beats == 1))
                m.d.comb += ask.eq((ready != 0) & ~outstanding.all())
                with m.If(asks):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += reading.eq(1)
                with m.If(free):
                    m.d.sync += [beat.eq(beat + 1), final.eq(beat == beats - 2)]
                    with m.If(final):
                        m.d.comb += done.eq(1)
                        m.d.sync += [beat.eq(0), head.eq(head + 1)]
                        m.next = "REQUEST"

        # A cycle late, in which the entry is still there
        asked, answered = Signal(), Signal()
        m.d.sync += [
            asked.eq(asks),
            answered.eq(self.memory.done),
            outstanding.eq(outstanding + asked - answered),
            answered_all.eq(Mux(asked ^ answered, ~asked & (outstanding == 1), answered_all)),
        ]
        m.d.comb += self.idle.eq(empty & answered_all)
        return m
