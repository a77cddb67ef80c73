"""The step descriptor: read, checked and spread into the step's tables."""

from amaranth.hdl import Cat, Module, Mux, Signal
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

ATTRIBUTES = {"no_rw_check": 1}
"""The tables are read by the units after they are whole: no bypass for a word being written."""


class DescriptorReader(wiring.Component):
    """Reads the descriptor, checks it whole, fills row, segment and output tables.

    Latency: the memory's, a cycle for each word, about twenty more. ``DESCRIPTOR_READ_BEATS`` are
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
        Largest token and position of the step, for the model's limits; a token too wide for the
        table has the top bit set, whatever the rest.
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
                "last_token": Out(TOKEN_BITS + 1),
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
            memory = Memory(shape=shape, depth=64, init=[], attrs=ATTRIBUTES)
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

        # A word is taken in one cycle and looked at in the next, beside what it was taken as: no
        # comparison stands between a memory's output and the state.
        valid, ready = reader.words.valid, Signal()
        word = Signal(32)  # taken a cycle ago
        magic, none, large, flags = Signal(), Signal(), Signal(), Signal()  # what it is, likewise
        place = Signal(DESCRIPTOR_SEGMENT_WORDS, init=1)  # in the header or segment, one-hot
        index = Signal(6)  # row or output in its list
        total = Signal(32)  # of all words, the checksum among them
        body = Signal(DescriptorError)  # first error behind the header
        previous = Signal(ROW_BITS)  # last output row
        row = Signal(ROW_BITS)  # rows that segments hold so far
        segment_place = Signal(6)  # in the table
        entry = Signal(segment_entry())
        many, high, reserved = Signal(), Signal(), Signal()  # of a segment's words
        free_rows = Signal(ROW_BITS)  # rows of the step without a segment
        end = Signal(POSITION_BITS + 1)  # one past the last position of the segment
        beyond = Signal()  # it is past the page table

        # Errors of the words: found in one cycle, kept in the next if none was before.
        header, found, found_header = (
            Signal(DescriptorError, name=name) for name in ("header", "found", "found_header")
        )
        m.d.sync += [found.eq(DescriptorError.NONE), found_header.eq(DescriptorError.NONE)]
        with m.If(body == DescriptorError.NONE):
            m.d.sync += body.eq(found)

        def fail(error, condition):
            with m.If(condition):
                m.d.sync += found.eq(error)

        def bad(error, condition):
            with m.If(condition):
                m.d.sync += found_header.eq(error)

        take = Signal()
        taken = Signal()
        as_header = [Signal(name=f"as_header{i}") for i in range(DESCRIPTOR_HEADER_WORDS)]
        as_segment = [Signal(name=f"as_segment{i}") for i in range(DESCRIPTOR_SEGMENT_WORDS)]
        as_token, as_output, first_output = Signal(), Signal(), Signal()
        list_index = Signal(6)  # row of a token, place of an output
        m.d.comb += [take.eq(valid & ready), reader.words.ready.eq(ready)]
        m.d.sync += [
            taken.eq(take),
            list_index.eq(index),
            *[flag.eq(0) for flag in (*as_header, *as_segment, as_token, as_output)],
        ]
        with m.If(take):
            m.d.sync += [
                word.eq(reader.words.payload),
                magic.eq(reader.words.payload == DESCRIPTOR_MAGIC),
                none.eq(reader.words.payload == 0),
                large.eq(reader.words.payload[ROW_BITS:].any()),
                flags.eq((reader.words.payload & ~FLAG_STORE_LOGITS) != 0),
                place.eq(place.rotate_left(1)),
                index.eq(index + 1),
            ]
        with m.If(taken):
            m.d.sync += total.eq(total + word)

        few = word[:ROW_BITS]
        with m.If(as_header[0]):
            bad(DescriptorError.MAGIC, ~magic)
        with m.If(as_header[1]):
            m.d.sync += step.rows.eq(word)
            bad(DescriptorError.ROWS, none | large | (few > c.row_capacity))
        with m.If(as_header[2]):
            m.d.sync += step.segments.eq(word)
            bad(DescriptorError.SEGMENTS, none | large | (few > step.rows))
        with m.If(as_header[3]):
            m.d.sync += step.outputs.eq(word)
            bad(DescriptorError.OUTPUTS, large | (few > step.rows))
        with m.If(as_header[4]):
            m.d.sync += step.store_logits.eq(word[0])
            bad(DescriptorError.RESERVED, flags)
        with m.If(as_header[6]):
            m.d.sync += step.result_address[:32].eq(word)
            bad(DescriptorError.ALIGNMENT, (word & (c.port_bytes - 1)) != 0)
        with m.If(as_header[7]):
            m.d.sync += step.result_address[32:].eq(word)

        with m.If(header == DescriptorError.NONE):
            with m.If(found_header != DescriptorError.NONE):
                m.d.sync += header.eq(found_header)
            with m.Elif(as_header[7] & (word >= 256)):  # (the last one, no time to find it first)
                m.d.sync += header.eq(DescriptorError.ALIGNMENT)

        m.d.sync += [
            free_rows.eq(step.rows - row),
            end.eq(entry.position + entry.rows),
            beyond.eq(end > entry.pages * PAGE_TOKENS),
        ]
        with m.If(as_segment[0]):
            m.d.sync += [entry.rows.eq(word), entry.row.eq(row)]
            m.d.sync += many.eq(large)
        with m.If(as_segment[1]):
            m.d.sync += [entry.position.eq(word), high.eq(word[POSITION_BITS:] != 0)]
        with m.If(as_segment[2]):
            m.d.sync += entry.owner.eq(word)
            m.d.sync += many.eq(many | (entry.rows == 0) | (entry.rows > free_rows))
        with m.If(as_segment[3]):
            m.d.sync += [entry.pages.eq(word), high.eq(high | (word >= 1 << 16))]
        with m.If(as_segment[4]):
            m.d.sync += entry.table[:32].eq(word)
            m.d.sync += reserved.eq((word & (c.port_bytes - 1)) != 0)
        with m.If(as_segment[5]):
            m.d.sync += entry.table[32:].eq(word)
            fail(DescriptorError.POSITION, high | beyond)
            fail(DescriptorError.SEGMENT_ROWS, many)
            m.d.sync += reserved.eq(reserved | (word >= 256))
        with m.If(as_segment[6]):
            fail(DescriptorError.ALIGNMENT, reserved)
            m.d.sync += reserved.eq(~none)
        with m.If(as_segment[7]):
            fail(DescriptorError.RESERVED, reserved | ~none)
            m.d.sync += row.eq(row + entry.rows)
            m.d.sync += segment_place.eq(segment_place + 1)
        m.d.comb += [
            segment_write.addr.eq(segment_place),
            segment_write.data.eq(entry),
            segment_write.en.eq(as_segment[7]),
        ]

        # Positions: the segment of the row that was taken a cycle ago is kept here, the next one
        # too, as it was read; the one after it is read.
        position, following_position = Signal(POSITION_BITS), Signal(POSITION_BITS)
        rows_left, following_rows = Signal(ROW_BITS), Signal(ROW_BITS)
        segment_ends, read_once = Signal(), Signal()
        high_token, largest_token = Signal(), Signal(TOKEN_BITS)
        m.d.comb += [
            self.last_token.eq(Cat(largest_token, high_token)),
            token_write.addr.eq(list_index),
            token_write.data.eq(word),
            token_write.en.eq(as_token),
            position_write.addr.eq(list_index),
            position_write.data.eq(position),
            position_write.en.eq(as_token),
            output_write.addr.eq(list_index),
            output_write.data.eq(word),
            output_write.en.eq(as_output),
        ]
        with m.If(as_token):
            with m.If(word[TOKEN_BITS:].any()):
                m.d.sync += high_token.eq(1)
            with m.If(word[:TOKEN_BITS] > largest_token):
                m.d.sync += largest_token.eq(word)
            with m.If(position > self.last_position):
                m.d.sync += self.last_position.eq(position)
        with m.If(as_output):
            m.d.sync += [previous.eq(word), first_output.eq(0)]
            fail(
                DescriptorError.OUTPUT_ROW,
                large | (few >= step.rows) | (~first_output & (few <= previous)),
            )

        # How far: the words of a list against its length, a cycle ahead.
        words, beats = Signal(11), Signal(10)
        m.d.sync += [
            words.eq(
                DESCRIPTOR_HEADER_WORDS
                + step.rows
                + step.outputs
                + step.segments * DESCRIPTOR_SEGMENT_WORDS
            ),
        ]
        beat_words = c.port_bytes // 4
        m.d.comb += beats.eq((words + beat_words - 1) // beat_words)
        left = Signal(ROW_BITS)  # segments, rows or outputs still to take
        balanced, no_outputs = Signal(), Signal()
        m.d.sync += [balanced.eq(total == 0), no_outputs.eq(step.outputs == 0)]

        more = Signal()  # the rest is to be read
        rest_address = Signal(40)
        m.d.sync += [
            more.eq(0),
            rest_address.eq(self.address + first * c.port_bytes),
        ]
        m.d.comb += [
            reader.start.eq(self.start | more),
            reader.address.eq(Mux(self.start, self.address, rest_address)),
            reader.count.eq(Mux(self.start, first, beats - first)),
        ]
        m.d.sync += read_once.eq(0)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += ready.eq(1)
                    m.next = "HEADER"

            with m.State("HEADER"):
                with m.If(take):
                    for i, flag in enumerate(as_header):
                        m.d.sync += flag.eq(place[i])
                    with m.If(place[-1]):
                        m.d.sync += ready.eq(0)
                        m.next = "LOOK"

            with m.State("LOOK"):
                m.next = "REST"

            with m.State("REST"):
                m.d.sync += left.eq(step.segments)
                with m.If(header != DescriptorError.NONE):
                    m.d.comb += self.error.eq(header)
                    m.next = "DONE"
                with m.Else():
                    # (The header's last words did not change `words`.)
                    m.d.sync += [self.counted.eq(1), more.eq(beats > first)]
                    m.d.sync += ready.eq(1)
                    m.next = "SEGMENTS"

            with m.State("SEGMENTS"):
                with m.If(take):
                    for i, flag in enumerate(as_segment):
                        m.d.sync += flag.eq(place[i])
                    with m.If(place[-1]):
                        m.d.sync += left.eq(left - 1)
                        with m.If(left == 1):
                            m.d.sync += ready.eq(0)
                            m.next = "WRITTEN"

            with m.State("WRITTEN"):
                m.next = "FIRST"

            with m.State("FIRST"):  # segment 0 is read from the table
                m.d.sync += [left.eq(step.rows), index.eq(0)]
                m.next = "SECOND"

            with m.State("SECOND"):
                m.d.sync += [ready.eq(1), read_once.eq(1)]
                m.next = "ROWS"

            with m.State("ROWS"):
                with m.If(take):
                    m.d.sync += [as_token.eq(1), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.d.sync += [index.eq(0), left.eq(step.outputs), first_output.eq(1)]
                        with m.If(no_outputs):
                            m.d.sync += ready.eq(0)
                            m.next = "LAST"
                        with m.Else():
                            m.next = "OUTPUTS"

            with m.State("OUTPUTS"):
                with m.If(take):
                    m.d.sync += [as_output.eq(1), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.d.sync += ready.eq(0)
                        m.next = "LAST"

            with m.State("LAST"):  # the last word is looked at
                m.next = "SUM"

            with m.State("SUM"):  # and is in `total` now
                m.next = "CHECK"

            with m.State("CHECK"):
                with m.If(~balanced):
                    m.d.comb += self.error.eq(DescriptorError.CHECKSUM)
                with m.Elif(body != DescriptorError.NONE):
                    m.d.comb += self.error.eq(body)
                with m.Elif(free_rows != 0):
                    m.d.comb += self.error.eq(DescriptorError.SEGMENT_ROWS)
                with m.Else():
                    m.d.sync += self.good.eq(1)
                m.next = "DONE"

            with m.State("DONE"):  # until reset
                pass

        next_segment, second_next = Signal(6), Signal(6, init=1)
        m.d.comb += segment_ends.eq(
            fsm.ongoing("SECOND") | read_once | (as_token & (rows_left == 1))
        )
        with m.If(segment_ends):
            m.d.sync += [
                position.eq(following_position),
                rows_left.eq(following_rows),
                following_position.eq(segment_read.data.position),
                following_rows.eq(segment_read.data.rows),
                next_segment.eq(second_next),
                second_next.eq(second_next + 1),
            ]
        with m.Elif(as_token):
            m.d.sync += [position.eq(position + 1), rows_left.eq(rows_left - 1)]
        ahead = Mux(segment_ends, second_next, next_segment)
        m.d.comb += segment_read.addr.eq(Mux(self.good, self.segments.address, ahead))
        return m
