"""Operand fetch: from the memories to the multiplier's and adder's inputs."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import model_layout
from hdl.vector.program import (
    Addend,
    AddendValue,
    Factor,
    FactorValue,
    Source,
)
from hdl.vector.slots import row_index_bits, temp_address_bits

__all__ = ["OperandFetch"]

ONE = 0x3F800000
MINUS_ZERO = 0x80000000
MINUS_LOG2E = 0xBFB8AA3B


class OperandFetch(Component):
    """Selects and registers operands; holds the temp memory and the row scalars.

    The data inputs are what the memories show in the ``fetch`` stage (a, b) or one cycle before
    the adder (c); ``a``, ``b`` and ``c`` stand one cycle later. ``temp_*`` and ``scalar_*``:
    addresses a cycle before, one for the reads of both stages; writes are seen by reads of the
    next cycle.

    Members
    -------
    source, factor, factor_value : In
        Select a and b.
    addend, addend_value : In
        Select c.
    panel, rows, constants : In(word_bits)
    total, token : In(32)
        The row's sum and argmax.
    temp_address, temp_write, scalar_address, scalar_write : In
    a, b, c : Out(32).array(lanes)
    """

    def __init__(self, config: Config):
        self._lanes = config.lanes
        self._temp_bits = temp_address_bits(config)
        self._row_bits = row_index_bits(config)
        word = config.word_bits
        super().__init__(
            {
                "source": In(Source),
                "factor": In(Factor),
                "factor_value": In(FactorValue),
                "addend": In(Addend),
                "addend_value": In(AddendValue),
                "model": In(model_layout()),
                "panel": In(word),
                "rows": In(word),
                "constants": In(word),
                "total": In(32),
                "token": In(32),
                "temp_address": In(self._temp_bits),
                "temp_enable": In(1),
                "temp_write": In(data.StructLayout({"enable": 1, "address": self._temp_bits})),
                "temp_data": In(32).array(self._lanes),
                "scalar_address": In(self._row_bits),
                "scalar_write": In(
                    data.StructLayout({"enable": 1, "address": self._row_bits, "data": 32})
                ),
                "a": Out(32).array(self._lanes),
                "b": Out(32).array(self._lanes),
                "c": Out(32).array(self._lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = range(self._lanes)

        # A lane a memory: a word is never handled as one wide value.
        temp = []
        for i in lanes:
            memory = Memory(shape=32, depth=1 << self._temp_bits, init=[])
            m.submodules[f"temp_{i}"] = memory
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.addr.eq(self.temp_address),
                read.en.eq(self.temp_enable),
                write.addr.eq(self.temp_write.address),
                write.en.eq(self.temp_write.enable),
                write.data.eq(self.temp_data[i]),
            ]
            temp.append(read.data)

        m.submodules.scalars = scalars = Memory(shape=32, depth=1 << self._row_bits, init=[])
        read, write = scalars.read_port(), scalars.write_port()
        m.d.comb += [
            read.addr.eq(self.scalar_address),
            write.addr.eq(self.scalar_write.address),
            write.en.eq(self.scalar_write.enable),
            write.data.eq(self.scalar_write.data),
        ]
        scalar = read.data

        factor_value = Array(
            [
                ONE,
                self.model.inverse_dim,
                self.model.score_scale,
                MINUS_LOG2E,
            ]
        )[self.factor_value.as_value()]
        addend_value = Array([MINUS_ZERO, ONE, self.model.norm_epsilon])[
            self.addend_value.as_value()
        ]
        common = Signal(32)
        common_factor = Signal(32)
        common_addend = Signal(32)
        m.d.comb += [
            common.eq(Mux(self.source == Source.SUM, self.total, self.token)),
            common_factor.eq(Mux(self.factor == Factor.SCALAR, scalar, factor_value)),
            common_addend.eq(Mux(self.addend == Addend.SCALAR, scalar, addend_value)),
        ]

        def lane(word, i):
            return word[32 * i : 32 * i + 32]

        with m.Switch(self.source):
            with m.Case(Source.PANEL):
                m.d.sync += [self.a[i].eq(lane(self.panel, i)) for i in lanes]
            with m.Case(Source.SWAPPED):
                m.d.sync += [self.a[i].eq(lane(self.panel, i ^ 1)) for i in lanes]
            with m.Case(Source.ROWS):
                m.d.sync += [self.a[i].eq(lane(self.rows, i)) for i in lanes]
            with m.Case(Source.TEMP):
                m.d.sync += [self.a[i].eq(temp[i]) for i in lanes]
            with m.Default():
                m.d.sync += [self.a[i].eq(common) for i in lanes]
        with m.Switch(self.factor):
            with m.Case(Factor.SELF):  # with row memory only
                m.d.sync += [self.b[i].eq(lane(self.rows, i)) for i in lanes]
            with m.Case(Factor.CONSTANTS):
                m.d.sync += [self.b[i].eq(lane(self.constants, i)) for i in lanes]
            with m.Case(Factor.PANEL):
                m.d.sync += [self.b[i].eq(lane(self.panel, i)) for i in lanes]
            with m.Default():
                m.d.sync += [self.b[i].eq(common_factor) for i in lanes]
        with m.Switch(self.addend):
            with m.Case(Addend.ROWS):
                m.d.sync += [self.c[i].eq(lane(self.rows, i)) for i in lanes]
            with m.Case(Addend.TEMP):
                m.d.sync += [self.c[i].eq(temp[i]) for i in lanes]
            with m.Default():
                m.d.sync += [self.c[i].eq(common_addend) for i in lanes]
        return m
