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
    DESCRIPTOR_SEGMENT_WORDS,
    FLAG_STORE_LOGITS,
    DescriptorError,
)

__all__ = ["DescriptorReader"]


class DescriptorReader(wiring.Component):
    """Reads the descriptor, checks it whole, fills row, segment and output tables.

    Latency: about two memory latencies and a cycle for each word and row. Errors are found in the
    order header, checksum, output rows, segments ascending (see ``hdl/isa.py`` for the layout).

    Members
    -------
    start : In(1), address : In(40)
        Pulse with the descriptor's address.
    done : Out(1), error : Out(8)
        Pulse at the end; ``error`` is a DescriptorError (NONE: tables and ``step`` are good).
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
                "done": Out(1),
                "error": Out(DescriptorError),
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
        header_beats = 4 * DESCRIPTOR_HEADER_WORDS // c.port_bytes

        m.submodules.reader = reader = WordReader(c, 32, depth=32, burst=16)
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
            segment_read.addr.eq(self.segments.address),
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

        def finish(error):
            m.d.comb += self.done.eq(1)
            m.d.comb += self.error.eq(error)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [index.eq(0), total.eq(0), body.eq(DescriptorError.NONE)]
                m.d.sync += [row.eq(0), segment.eq(0)]
                m.d.comb += [
                    reader.start.eq(self.start),
                    reader.address.eq(self.address),
                    reader.count.eq(header_beats),
                ]
                with m.If(self.start):
                    m.d.sync += [self.last_token.eq(0), self.last_position.eq(0)]
                    m.next = "HEADER"

            header = Signal(DescriptorError)
            with m.State("HEADER"):
                m.d.comb += ready.eq(1)

                def bad(error, condition):
                    with m.If((header == DescriptorError.NONE) & condition):
                        m.d.sync += header.eq(error)

                with m.If(take), m.Switch(index):
                    with m.Case(0):
                        m.d.sync += header.eq(
                            Mux(
                                word == DESCRIPTOR_MAGIC,
                                DescriptorError.NONE,
                                DescriptorError.MAGIC,
                            )
                        )
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
                words = Signal(11)
                m.d.comb += [
                    words.eq(
                        step.rows + step.outputs + (step.segments << 3) + c.port_bytes // 4 - 1
                    ),
                    reader.start.eq(header == DescriptorError.NONE),
                    reader.address.eq(self.address + 4 * DESCRIPTOR_HEADER_WORDS),
                    reader.count.eq(words // (c.port_bytes // 4)),
                ]
                m.d.sync += index.eq(0)
                with m.If(header != DescriptorError.NONE):
                    finish(header)
                    m.next = "IDLE"
                with m.Else():
                    m.next = "TOKENS"

            with m.State("TOKENS"):
                m.d.comb += [
                    ready.eq(1),
                    token_write.addr.eq(index),
                    token_write.data.eq(word),
                    token_write.en.eq(take),
                ]
                with m.If(take):
                    with m.If(word > self.last_token):
                        m.d.sync += self.last_token.eq(word)
                    with m.If(index == step.rows - 1):
                        m.d.sync += index.eq(0)
                        m.next = "OUTPUTS"

            with m.State("OUTPUTS"):
                with m.If(index == step.outputs):
                    m.d.sync += index.eq(0)
                    m.next = "SEGMENT"
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

            with m.State("SEGMENT"):
                m.d.comb += ready.eq(1)
                with m.If(take), m.Switch(index):
                    with m.Case(0):
                        m.d.sync += [entry.rows.eq(word), entry.row.eq(row)]
                        m.d.sync += many.eq((word == 0) | (word > step.rows - row))
                    with m.Case(1):
                        m.d.sync += [entry.position.eq(word), reserved.eq(0)]
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
                        m.d.sync += index.eq(0)
                        m.next = "SPREAD"

            with m.State("SPREAD"):  # a position for each row of the segment
                position = Signal(POSITION_BITS)
                m.d.comb += [
                    position.eq(entry.position + index),
                    position_write.addr.eq(row),
                    position_write.data.eq(position),
                    position_write.en.eq(body == DescriptorError.NONE),
                    segment_write.addr.eq(segment),
                    segment_write.data.eq(entry),
                    segment_write.en.eq(1),
                ]
                m.d.sync += [index.eq(index + 1), row.eq(row + 1)]
                with m.If(position > self.last_position):
                    m.d.sync += self.last_position.eq(position)
                with m.If((index == entry.rows - 1) | (body != DescriptorError.NONE)):
                    m.d.sync += [index.eq(0), segment.eq(segment + 1)]
                    with m.If(segment == step.segments - 1):
                        m.next = "CHECK"
                    with m.Else():
                        m.next = "SEGMENT"

            with m.State("CHECK"):
                with m.If((total + checksum)[:32] != 0):
                    finish(DescriptorError.CHECKSUM)
                with m.Elif(body != DescriptorError.NONE):
                    finish(body)
                with m.Elif(row != step.rows):
                    finish(DescriptorError.SEGMENT_ROWS)
                with m.Else():
                    finish(DescriptorError.NONE)
                m.next = "IDLE"
        return m
