"""The step descriptor: read, checked and spread into the step's tables."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import PAGE_TOKENS, Config
from hdl.control.words import WordReader
from hdl.interfaces import (
    POSITION_BITS,
    ROW_BITS,
    TOKEN_BITS,
    read_client,
    read_port,
    row_entry,
    segment_entry,
    step_layout,
)
from hdl.isa import (
    DESCRIPTOR_HEADER_WORDS,
    DESCRIPTOR_MAGIC,
    DESCRIPTOR_READ_BEATS,
    DESCRIPTOR_SEGMENT_WORDS,
    FLAG_STORE_LOGITS,
    DescriptorError,
)

__all__ = ["DescriptorReader"]


class DescriptorReader(wiring.Component):
    """Reads the descriptor, checks it whole, fills row, segment and output tables.

    Latency: the memory's, a cycle for each word, about ten more. ``DESCRIPTOR_READ_BEATS`` are
    asked for at once, the rest as soon as the header is in: with a wide port the latency of the
    second request passes while the words of the first are taken. Errors are found in the order
    header, checksum, segments ascending, output rows (see ``hdl/isa.py`` for the layout).

    Members
    -------
    start : In(1), address : In(40)
        Pulse with the descriptor's address.
    error : Out(8)
        DescriptorError, not NONE for one cycle where it ends badly.
    counted : Out(1)
        Level, until reset: the header is good, ``step`` stands.
    good : Out(1)
        Level, until reset: tables and ``step`` are whole and checked.
    step : Out(step_layout)
    last_token, last_position : Out
        Largest token and position of the step, for the model's limits.
    rows : In(read_port(6, row_entry)), segments : In(read_port(6, segment_entry)),
    outputs : In(read_port(6, row)) : tables, for the units
    memory : Out(read_client)
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "address": In(40),
                "error": Out(DescriptorError),
                "counted": Out(1),
                "good": Out(1),
                "step": Out(step_layout()),
                "last_token": Out(32),
                "last_position": Out(POSITION_BITS),
                "rows": In(read_port(6, row_entry())),
                "segments": In(read_port(6, segment_entry())),
                "outputs": In(read_port(6, ROW_BITS)),
                "memory": Out(read_client(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c, step = self._config, self.step
        first = DESCRIPTOR_READ_BEATS
        m.submodules.reader = reader = WordReader(c, 32, depth=2 * first, burst=first)
        connect(m, flipped(self.memory), reader.memory)

        def table(name, shape):
            memory = Memory(shape=shape, depth=64, init=[])
            m.submodules[name] = memory
            return memory.write_port(), memory.read_port()

        token_write, token_read = table("tokens", TOKEN_BITS)
        position_write, position_read = table("positions", POSITION_BITS)
        segment_write, segment_read = table("segments", segment_entry())
        output_write, output_read = table("outputs", ROW_BITS)
        m.d.comb += [
            token_read.addr.eq(self.rows.address),
            position_read.addr.eq(self.rows.address),
            self.rows.data.token.eq(token_read.data),
            self.rows.data.position.eq(position_read.data),
            self.segments.data.eq(segment_read.data),
            output_read.addr.eq(self.outputs.address),
            self.outputs.data.eq(output_read.data),
        ]

        word, valid, ready = reader.words.payload, reader.words.valid, reader.words.ready
        index = Signal(10)  # word in the header or segment, row or output in its list
        total, checksum = Signal(32), Signal(32)
        body = Signal(DescriptorError)  # first error behind the header
        previous = Signal(32)  # last output row
        row = Signal(ROW_BITS)  # rows that segments hold so far
        segment = Signal(ROW_BITS)
        entry = Signal(segment_entry())
        many, high, reserved = Signal(), Signal(8), Signal()  # of a segment's words

        def fail(error, condition):
            with m.If((body == DescriptorError.NONE) & condition):
                m.d.sync += body.eq(error)

        take = valid & ready
        with m.If(take):
            m.d.sync += [total.eq(total + word), index.eq(index + 1)]

        # Positions: the segment of the row that is taken now, its table read a cycle ahead
        place, ahead = Signal(ROW_BITS), Signal(ROW_BITS)  # row in its segment; next to be read
        position = Signal(POSITION_BITS)
        m.d.comb += [
            position.eq(segment_read.data.position + place),
            ahead.eq(segment),
            segment_read.addr.eq(Mux(self.good, self.segments.address, ahead)),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [
                    reader.start.eq(self.start),
                    reader.address.eq(self.address),
                    reader.count.eq(first),
                ]
                with m.If(self.start):
                    m.next = "HEADER"

            header = Signal(DescriptorError)
            with m.State("HEADER"):
                m.d.comb += ready.eq(1)

                def bad(error, condition):
                    with m.If((header == DescriptorError.NONE) & condition):
                        m.d.sync += header.eq(error)

                with m.If(take), m.Switch(index):
                    with m.Case(0):
                        bad(DescriptorError.MAGIC, word != DESCRIPTOR_MAGIC)
                    with m.Case(1):
                        m.d.sync += step.rows.eq(word)
                        bad(DescriptorError.ROWS, (word == 0) | (word > c.row_capacity))
                    with m.Case(2):
                        m.d.sync += step.segments.eq(word)
                        bad(DescriptorError.SEGMENTS, (word == 0) | (word > step.rows))
                    with m.Case(3):
                        m.d.sync += step.outputs.eq(word)
                        bad(DescriptorError.OUTPUTS, word > step.rows)
                    with m.Case(4):
                        m.d.sync += step.store_logits.eq(word[0])
                        bad(DescriptorError.RESERVED, (word & ~FLAG_STORE_LOGITS) != 0)
                    with m.Case(5):
                        m.d.sync += [checksum.eq(word), total.eq(total)]
                    with m.Case(6):
                        m.d.sync += step.result_address[:32].eq(word)
                        bad(DescriptorError.ALIGNMENT, (word & (c.port_bytes - 1)) != 0)
                    with m.Case(7):
                        m.d.sync += step.result_address[32:].eq(word)
                        bad(DescriptorError.ALIGNMENT, word >= 256)
                        m.next = "REST"

            with m.State("REST"):
                beat_words = c.port_bytes // 4
                words, beats = Signal(11), Signal(10)
                m.d.comb += [
                    words.eq(
                        DESCRIPTOR_HEADER_WORDS
                        + step.rows
                        + step.outputs
                        + step.segments * DESCRIPTOR_SEGMENT_WORDS
                    ),
                    beats.eq((words + beat_words - 1) // beat_words),
                    reader.start.eq((header == DescriptorError.NONE) & (beats > first)),
                    reader.address.eq(self.address + first * c.port_bytes),
                    reader.count.eq(beats - first),
                ]
                m.d.sync += index.eq(0)
                with m.If(header != DescriptorError.NONE):
                    m.d.comb += self.error.eq(header)
                    m.next = "DONE"
                with m.Else():
                    m.d.sync += self.counted.eq(1)
                    m.next = "SEGMENTS"

            with m.State("SEGMENTS"):
                m.d.comb += [
                    ready.eq(1),
                    segment_write.addr.eq(segment),
                    segment_write.data.eq(entry),
                ]
                with m.If(take), m.Switch(index):
                    with m.Case(0):
                        m.d.sync += [entry.rows.eq(word), entry.row.eq(row)]
                        m.d.sync += many.eq((word == 0) | (word > step.rows - row))
                    with m.Case(1):
                        m.d.sync += entry.position.eq(word)
                        m.d.sync += high.eq(word[POSITION_BITS:] != 0)
                    with m.Case(2):
                        m.d.sync += entry.owner.eq(word)
                    with m.Case(3):
                        m.d.sync += entry.pages.eq(word)
                        m.d.sync += high.eq(high | (word >= 1 << 16))
                    with m.Case(4):
                        m.d.sync += entry.table[:32].eq(word)
                        m.d.sync += reserved.eq((word & (c.port_bytes - 1)) != 0)
                    with m.Case(5):
                        m.d.sync += entry.table[32:].eq(word)
                        fail(DescriptorError.SEGMENT_ROWS, many)
                        fail(
                            DescriptorError.POSITION,
                            ~many
                            & (
                                high.any()
                                | (entry.position + entry.rows > entry.pages * PAGE_TOKENS)
                            ),
                        )
                        m.d.sync += reserved.eq(reserved | (word >= 256))
                    with m.Case(6):
                        fail(DescriptorError.ALIGNMENT, reserved)
                        m.d.sync += reserved.eq(word != 0)
                    with m.Case(DESCRIPTOR_SEGMENT_WORDS - 1):
                        fail(DescriptorError.RESERVED, reserved | (word != 0))
                        m.d.comb += segment_write.en.eq(1)
                        m.d.sync += [
                            index.eq(0),
                            row.eq(row + entry.rows),
                            segment.eq(segment + 1),
                        ]
                        with m.If(segment == step.segments - 1):
                            m.d.sync += segment.eq(0)
                            m.next = "FIRST"

            with m.State("FIRST"):  # segment 0 is read from the table
                m.next = "ROWS"

            with m.State("ROWS"):
                m.d.comb += [
                    ready.eq(1),
                    token_write.addr.eq(index),
                    token_write.data.eq(word),
                    token_write.en.eq(take),
                    position_write.addr.eq(index),
                    position_write.data.eq(position),
                    position_write.en.eq(take),
                ]
                with m.If(take):
                    with m.If(word > self.last_token):
                        m.d.sync += self.last_token.eq(word)
                    with m.If(position > self.last_position):
                        m.d.sync += self.last_position.eq(position)
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == segment_read.data.rows - 1):
                        m.d.comb += ahead.eq(segment + 1)
                        m.d.sync += [place.eq(0), segment.eq(ahead)]
                    with m.If(index == step.rows - 1):
                        m.d.sync += index.eq(0)
                        m.next = "OUTPUTS"

            with m.State("OUTPUTS"):
                with m.If(index == step.outputs):
                    m.next = "CHECK"
                with m.Else():
                    m.d.comb += [
                        ready.eq(1),
                        output_write.addr.eq(index),
                        output_write.data.eq(word),
                        output_write.en.eq(take),
                    ]
                    with m.If(take):
                        m.d.sync += previous.eq(word)
                        fail(
                            DescriptorError.OUTPUT_ROW,
                            (word >= step.rows) | ((index != 0) & (word <= previous)),
                        )

            with m.State("CHECK"):
                with m.If((total + checksum)[:32] != 0):
                    m.d.comb += self.error.eq(DescriptorError.CHECKSUM)
                with m.Elif(body != DescriptorError.NONE):
                    m.d.comb += self.error.eq(body)
                with m.Elif(row != step.rows):
                    m.d.comb += self.error.eq(DescriptorError.SEGMENT_ROWS)
                with m.Else():
                    m.d.sync += self.good.eq(1)
                m.next = "DONE"

            with m.State("DONE"):  # until reset
                pass
        return m
