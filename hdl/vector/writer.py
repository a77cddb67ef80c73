"""Writes FP32 blocks and token numbers to memory."""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import bits_for, exact_log2

from hdl.config import BLOCK, Config
from hdl.interfaces import ROW_BITS, write_client
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
        Byte addresses of block 0 and token 0.
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

        # Entries: address and kind in registers, words in a memory
        entry = data.StructLayout({"address": 40, "token": 1, "row": ROW_BITS})
        queue = [Signal(entry, name=f"entry_{i}", reset_less=True) for i in range(ENTRIES)]
        m.submodules.words = words = Memory(
            shape=config.word_bits, depth=ENTRIES << word_bits, init=[]
        )
        put, get = words.write_port(), words.read_port(domain="comb")
        head = Signal(entry_bits)
        tail = Signal(entry_bits)
        level = Signal(bits_for(ENTRIES))
        word = self.word
        first = word.token | (word.word == 0)
        last = word.token | (word.word == config.block_words - 1)
        complete = Signal()
        done = Signal()
        m.d.comb += [
            complete.eq(word.valid & last),
            put.addr.eq(Cat(Mux(word.token, 0, word.word)[:word_bits], tail)),
            put.data.eq(Cat(self.values)),
            put.en.eq(word.valid),
            self.room.eq(done),
        ]
        with m.If(word.valid & first):
            address = Mux(
                word.token,
                self.token_base + (word.row << 2),
                self.block_base + (word.destination << exact_log2(BLOCK_BYTES)),
            )[:40]
            beat_bits = exact_log2(port_bytes)
            for i, place in enumerate(queue):
                with m.If(tail == i):
                    m.d.sync += [
                        place.address.eq(Cat(Const(0, beat_bits), address[beat_bits:])),
                        place.token.eq(word.token),
                        place.row.eq(word.row),
                    ]
        with m.If(complete):
            m.d.sync += [tail.eq(tail + 1), Assert(level != ENTRIES)]
        m.d.sync += level.eq(level + complete - done)

        # One entry at a time: request, then its beats
        beats = BLOCK_BYTES // port_bytes
        word_beats = word_bytes // port_bytes
        request, stream = self.memory.request, self.memory.data
        now = Signal(entry)
        with m.Switch(head):
            for i, place in enumerate(queue):
                with m.Case(i):
                    m.d.comb += now.eq(place)
        beat = Signal(bits_for(beats - 1))
        m.d.comb += [
            request.payload.address.eq(now.address),
            request.payload.beats.eq(Mux(now.token, 1, beats)),
            get.addr.eq(Cat((beat >> exact_log2(word_beats))[:word_bits], head)),
        ]
        shown = get.data
        if word_beats > 1:
            shown = get.data.word_select(beat[: exact_log2(word_beats)], config.port_bits)
        place_in_beat = now.row[: exact_log2(port_bytes // 4)] if port_bytes > 4 else Const(0, 1)
        strobe = Mux(now.token, Const(0xF, 4) << (place_in_beat << 2), (1 << port_bytes) - 1)

        # A beat goes through a register: the queue is not read behind the port's ready.
        free, reading = Signal(), Signal()
        m.d.comb += free.eq(~stream.valid | stream.ready)
        with m.If(free):
            m.d.sync += stream.valid.eq(reading)
        with m.If(free & reading):
            m.d.sync += [stream.payload.data.eq(shown), stream.payload.strobe.eq(strobe)]

        outstanding = Signal(6)
        with m.FSM():
            with m.State("REQUEST"):
                m.d.comb += request.valid.eq((level != 0) & ~outstanding.all())
                with m.If(request.valid & request.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += reading.eq(1)
                with m.If(free):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(now.token | (beat == beats - 1)):
                        m.d.comb += done.eq(1)
                        m.d.sync += [beat.eq(0), head.eq(head + 1)]
                        m.next = "REQUEST"

        asked = request.valid & request.ready
        m.d.sync += outstanding.eq(outstanding + asked - self.memory.done)
        m.d.comb += self.idle.eq((level == 0) & (outstanding == 0) & ~word.valid)
        return m
