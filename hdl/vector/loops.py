"""The loop nest of one pass: blocks, rows, words, and the addresses that go with them."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import ROW_BITS
from hdl.vector.slots import (
    ADDRESS_BITS,
    CONSTANT_BITS,
    HEAD_BITS,
    PARTICIPANT_BITS,
    row_index_bits,
    word_index_bits,
)

__all__ = ["TOKEN_COUNT_BITS", "LoopNest", "nest_layout"]

TOKEN_COUNT_BITS = 22
BLOCK_COUNT_BITS = 12


def nest_layout() -> data.StructLayout:
    """Parameters of a pass; they hold while it runs.

    A row's destination is ``destination_step`` on in a group of ``group`` rows,
    ``destination_stride`` from group to group. ``columns`` take part of group 0, ``columns_step``
    more in each group.
    """
    return data.StructLayout(
        {
            "rows": ROW_BITS,
            "blocks": BLOCK_COUNT_BITS,
            "narrow": 1,  # one word a row
            "block": HEAD_BITS,  # number of the first block
            "source": ADDRESS_BITS,
            "source_stride": ADDRESS_BITS,
            "destination": ADDRESS_BITS,
            "destination_step": ADDRESS_BITS,
            "destination_stride": ADDRESS_BITS,
            "group": 7,
            "constant": CONSTANT_BITS,
            "constant_stride": 6,
            "columns": signed(TOKEN_COUNT_BITS),
            "columns_step": 1,
        }
    )


class LoopNest(Component):
    """Counts through a pass, one word a ``step``. The word's addresses come a cycle later.

    Members
    -------
    parameters : In
    load : In(1)
        Go to the first word.
    step : In(1)
        Go to the next.
    blocks : Out
        Blocks of the pass, from the cycle after ``load`` on.
    row, block, word : Out
        Of the present word.
    source, destination, constant, participants : Out
        Of the word before a ``step``, in the cycle after it and until the cycle after the next.
    first_block : Out(1)
        The present word is of the pass's first block.
    block_start, word_start : Out(1)
        The present word is the first of a block (of all rows), of a row.
    block_starts, word_starts : Out(1)
        They will be in the next cycle.
    last : Out(1)
        It is the last of the pass.
    """

    def __init__(self, config: Config):
        self._words = config.block_words
        super().__init__(
            {
                "parameters": In(nest_layout()),
                "load": In(1),
                "step": In(1),
                "blocks": Out(BLOCK_COUNT_BITS),
                "row": Out(row_index_bits(config)),
                "block": Out(HEAD_BITS),
                "word": Out(word_index_bits(config)),
                "source": Out(ADDRESS_BITS),
                "destination": Out(ADDRESS_BITS),
                "constant": Out(CONSTANT_BITS),
                "participants": Out(PARTICIPANT_BITS),
                "first_block": Out(1),
                "block_start": Out(1),
                "word_start": Out(1),
                "block_starts": Out(1),
                "word_starts": Out(1),
                "last": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        parameters = self.parameters
        p = Signal(nest_layout(), reset_less=True)  # a cycle later, when they are needed
        last_row_number = Signal(ROW_BITS, reset_less=True)
        last_in_group = Signal(7, reset_less=True)
        blocks_left = Signal(BLOCK_COUNT_BITS, reset_less=True)
        # Registers too: whether a word goes out, and what follows then, hangs on them.
        last_word, last_row, last_block = Signal(), Signal(), Signal()
        short = self._words == 1
        m.d.comb += [
            self.blocks.eq(p.blocks),
            self.last.eq(last_word & last_row & last_block),
        ]
        next_row, next_block = Signal(), Signal()
        m.d.comb += [
            next_row.eq(self.step & last_word & ~last_row),
            next_block.eq(self.step & last_word & last_row),
        ]
        m.d.comb += [
            self.word_starts.eq(self.load | Mux(self.step, last_word, self.word_start)),
            self.block_starts.eq(
                self.load | Mux(self.step, last_word & last_row, self.block_start)
            ),
        ]
        m.d.sync += [
            self.word_start.eq(self.word_starts),
            self.block_start.eq(self.block_starts),
        ]
        with m.If(self.load):
            m.d.sync += [
                p.eq(parameters),
                last_row_number.eq(parameters.rows - 1),
                last_in_group.eq(parameters.group - 1),
                self.row.eq(0),
                self.word.eq(0),
                self.block.eq(parameters.block),
                self.first_block.eq(1),
                blocks_left.eq(parameters.blocks),
                last_word.eq(parameters.narrow | short),
                last_row.eq(parameters.rows == 1),
                last_block.eq(parameters.blocks == 1),
            ]
        with m.Elif(self.step):
            m.d.sync += [
                self.word.eq(Mux(last_word, 0, self.word + 1)),
                last_word.eq(Mux(last_word, p.narrow | short, self.word + 1 == self._words - 1)),
            ]
            with m.If(next_row):
                m.d.sync += [
                    self.row.eq(self.row + 1),
                    last_row.eq(self.row + 1 == last_row_number),
                ]
            with m.If(next_block):
                m.d.sync += [
                    self.row.eq(0),
                    last_row.eq(last_row_number == 0),
                    self.block.eq(self.block + 1),
                    self.first_block.eq(0),
                    blocks_left.eq(blocks_left - 1),
                    last_block.eq(blocks_left == 2),
                ]
        self._addresses(m, p, last_in_group, next_row, next_block)
        return m

    def _addresses(self, m, p, last_in_group, next_row, next_block):
        """A cycle behind the counters."""
        load, row, block = Signal(), Signal(), Signal()
        m.d.sync += [load.eq(self.load), row.eq(next_row), block.eq(next_block)]
        group = Signal(7, reset_less=True)
        group_ends = Signal()
        columns = Signal(signed(TOKEN_COUNT_BITS), reset_less=True)
        # Where the block and the group of rows began
        source_block = Signal(ADDRESS_BITS, reset_less=True)
        destination_block = Signal(ADDRESS_BITS, reset_less=True)
        destination_group = Signal(ADDRESS_BITS, reset_less=True)
        constant_block = Signal(CONSTANT_BITS, reset_less=True)
        m.d.comb += [
            # 0 .. 32
            self.participants.eq(Mux(columns[-1], 0, Mux(columns[5:-1].any(), 32, columns[:5]))),
        ]
        with m.If(row):
            m.d.sync += [
                self.source.eq(self.source + p.source_stride),
                self.constant.eq(self.constant + p.constant_stride),
            ]
            with m.If(group_ends):
                following = destination_group + p.destination_stride
                m.d.sync += [
                    group.eq(0),
                    group_ends.eq(last_in_group == 0),
                    self.destination.eq(following),
                    destination_group.eq(following),
                    columns.eq(columns + p.columns_step),
                ]
            with m.Else():
                m.d.sync += [
                    group.eq(group + 1),
                    group_ends.eq(group + 1 == last_in_group),
                    self.destination.eq(self.destination + p.destination_step),
                ]
        with m.If(load | block):
            source = Mux(load, p.source, source_block + 1)
            destination = Mux(load, p.destination, destination_block + 1)
            constant = Mux(load, p.constant, constant_block + 1)
            m.d.sync += [
                group.eq(0),
                group_ends.eq(last_in_group == 0),
                columns.eq(p.columns),
                self.source.eq(source),
                source_block.eq(source),
                self.destination.eq(destination),
                destination_block.eq(destination),
                destination_group.eq(destination),
                self.constant.eq(constant),
                constant_block.eq(constant),
            ]
