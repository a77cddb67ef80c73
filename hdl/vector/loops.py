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
    """Counts through a pass, one word a ``step``; registers only, no latency.

    Members
    -------
    parameters : In
    load : In(1)
        Go to the first word.
    step : In(1)
        Go to the next.
    row, block, word, source, destination, constant, participants : Out
        Of the present word.
    first_block : Out(1)
        The present word is of the pass's first block.
    block_start, word_start : Out(1)
        The present word is the first of a block (of all rows), of a row.
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
                "last": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p = self.parameters
        blocks_left = Signal(BLOCK_COUNT_BITS)
        group = Signal(7)
        source_block = Signal(ADDRESS_BITS)
        destination_block = Signal(ADDRESS_BITS)
        destination_group = Signal(ADDRESS_BITS)
        constant_block = Signal(CONSTANT_BITS)
        columns = Signal(signed(TOKEN_COUNT_BITS))

        last_word = Signal()
        last_row = Signal()
        m.d.comb += [
            last_word.eq(p.narrow | (self.word == self._words - 1)),
            last_row.eq(self.row == p.rows - 1),
            self.word_start.eq(self.word == 0),
            self.block_start.eq((self.word == 0) & (self.row == 0)),
            self.last.eq(last_word & last_row & (blocks_left == 1)),
            self.participants.eq(Mux(columns < 0, 0, Mux(columns > 32, 32, columns))),
        ]
        with m.If(self.load):
            m.d.sync += [
                self.row.eq(0),
                self.word.eq(0),
                self.block.eq(p.block),
                self.first_block.eq(1),
                blocks_left.eq(p.blocks),
                group.eq(0),
                self.source.eq(p.source),
                source_block.eq(p.source + 1),
                self.destination.eq(p.destination),
                destination_group.eq(p.destination + p.destination_stride),
                destination_block.eq(p.destination + 1),
                self.constant.eq(p.constant),
                constant_block.eq(p.constant + 1),
                columns.eq(p.columns),
            ]
        with m.Elif(self.step):
            m.d.sync += self.word.eq(Mux(last_word, 0, self.word + 1))
            with m.If(last_word & ~last_row):
                m.d.sync += [
                    self.row.eq(self.row + 1),
                    self.source.eq(self.source + p.source_stride),
                    self.constant.eq(self.constant + p.constant_stride),
                ]
                with m.If(group == p.group - 1):
                    m.d.sync += [
                        group.eq(0),
                        self.destination.eq(destination_group),
                        destination_group.eq(destination_group + p.destination_stride),
                        columns.eq(columns + p.columns_step),
                    ]
                with m.Else():
                    m.d.sync += [
                        group.eq(group + 1),
                        self.destination.eq(self.destination + p.destination_step),
                    ]
            with m.If(last_word & last_row):
                m.d.sync += [
                    self.row.eq(0),
                    group.eq(0),
                    self.block.eq(self.block + 1),
                    self.first_block.eq(0),
                    blocks_left.eq(blocks_left - 1),
                    self.source.eq(source_block),
                    source_block.eq(source_block + 1),
                    self.destination.eq(destination_block),
                    destination_group.eq(destination_block + p.destination_stride),
                    destination_block.eq(destination_block + 1),
                    self.constant.eq(constant_block),
                    constant_block.eq(constant_block + 1),
                    columns.eq(p.columns),
                ]
        return m
