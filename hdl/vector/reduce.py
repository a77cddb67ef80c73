"""Sums over rows, in the order that the numerics prescribe."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hdl.config import Config
from hdl.fp import FpAdd, held, scale_down
from hdl.vector.slots import row_index_bits, word_index_bits
from hdl.vector.timing import DelayLine

__all__ = ["RowSums", "sum_tag"]


def sum_tag(config: Config) -> data.StructLayout:
    """What goes with a word to be summed."""
    return data.StructLayout(
        {
            "valid": 1,
            "word": word_index_bits(config),
            "row": row_index_bits(config),
            "parity": 1,
            "buffer": 1,
            "first": 1,  # the sum starts with this block
            "attention": 1,  # the sum so far is multiplied by 2**-shift
        }
    )


class RowSums(Component):
    """Running sum a row: binary tree over a block's lanes and words, then blocks as they come.

    One word a cycle; the words of a block follow each other without a gap. Blocks of one row must
    be ``Timing.accumulate`` cycles apart. A sum is in its memory ``Timing.sum_write`` -
    ``Timing.summands`` + 1 cycles after its last word.

    Members
    -------
    tag, values : In
        Word to be summed (``tag.valid``).
    shift_address : Out, shift : In(8)
        Read port {row, buffer} of the rescaling shift.
    read_address : In, read_data : Out(32)
        Read port {row, parity} of the sums.
    """

    def __init__(self, config: Config):
        self._config = config
        self._row_bits = row_index_bits(config)
        super().__init__(
            {
                "tag": In(sum_tag(config)),
                "values": In(32).array(config.lanes),
                "shift_address": Out(self._row_bits + 1),
                "shift": In(8),
                "read_address": In(self._row_bits + 1),
                "read_data": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tags = DelayLine(m, self.tag)
        stage = 0

        def enable(stage):
            """Of an adder whose operands stand at this stage: it moves where there is a word."""
            return held(platform, Cat(tags.at("valid", stage + s) for s in range(FpAdd.latency)))

        values = list(self.values)
        while len(values) > 1:
            half = []
            for i in range(len(values) // 2):
                m.submodules[f"lanes_{len(values)}_{i}"] = add = FpAdd()
                m.d.comb += [
                    add.enable.eq(enable(stage)),
                    add.a.eq(values[2 * i]),
                    add.b.eq(values[2 * i + 1]),
                ]
                half.append(add.o)
            values = half
            stage += FpAdd.latency
        value = values[0]

        # Words of a block: a level holds the even one and adds it to the odd one. Only the odd
        # ones go on, so the tag of the block's last word is the tag of the sum.
        for level in range(exact_log2(self._config.block_words)):
            even = Signal(32, name=f"even_{level}", reset_less=True)
            m.submodules[f"words_{level}"] = add = FpAdd()
            with m.If(tags.at("valid", stage) & ~tags.at("word", stage)[level]):
                m.d.sync += even.eq(value)
            m.d.comb += [add.enable.eq(enable(stage)), add.a.eq(even), add.b.eq(value)]
            value = add.o
            stage += FpAdd.latency

        last = self._config.block_words - 1
        m.submodules.sums = sums = Memory(shape=32, depth=2 << self._row_bits, init=[])
        old, read, write = sums.read_port(), sums.read_port(), sums.write_port()
        scaled = Signal(32, reset_less=True)
        before = stage - 1  # the sum so far stands, with its shift
        m.d.comb += [
            self.shift_address.eq(Cat(tags.at("row", before - 1), tags.at("buffer", before - 1))),
            old.addr.eq(_address(tags, before - 1)),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
        ]
        shift = Signal(8)
        m.d.comb += shift.eq(Mux(tags.at("attention", before), self.shift, 0))
        lowered = scale_down(m, old.data, shift)
        with m.If(held(platform, tags.at("valid", before))):
            m.d.sync += scaled.eq(
                Mux(
                    tags.at("first", before),
                    Const(0x80000000, 32),  # -0: adds nothing, bit for bit
                    lowered,
                )
            )
        m.submodules.accumulate = add = FpAdd()
        m.d.comb += [add.enable.eq(enable(stage)), add.a.eq(scaled), add.b.eq(value)]
        stage += FpAdd.latency
        m.d.comb += [
            write.addr.eq(_address(tags, stage)),
            write.data.eq(add.o),
            write.en.eq(tags.at("valid", stage) & (tags.at("word", stage) == last)),
        ]
        return m


def _address(tags: DelayLine, stage: int):
    return Cat(tags.at("row", stage), tags.at("parity", stage))
