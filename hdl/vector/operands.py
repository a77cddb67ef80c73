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

    The data inputs are what the memories show in the ``fetch`` stage (a, b) or two cycles before
    ``product`` (c); ``a``, ``b`` and ``c`` stand two cycles later. ``temp_*`` and ``scalar_*``:
    addresses a cycle before, one for the reads of both stages; writes are seen by reads of the
    next cycle.

    Members
    -------
    source, factor, factor_value : In
        Select a and b; a cycle before the data.
    addend, addend_value : In
        Select c; a cycle before its data.
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

        # A lane a memory: a word is never handled as one wide value. The sequencer sends no word
        # that would be read in the cycle in which it is written (asserted in the datapath).
        temp = []
        for i in lanes:
            memory = Memory(
                shape=32, depth=1 << self._temp_bits, init=[], attrs={"no_rw_check": True}
            )
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

        # First registers: the memories' data; what is the same on all lanes, 0 where it is not
        # wanted; gates for the rest. So an operand is a few ANDs and an OR.
        def lane(word, i):
            return word[32 * i : 32 * i + 32]

        def first(name, value):
            signal = Signal(len(value), name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        panel_read, rows_read, constants_read, temp_read = [], [], [], []
        for i in lanes:
            panel_read.append(first(f"panel_{i}", lane(self.panel, i)))
            rows_read.append(first(f"rows_{i}", lane(self.rows, i)))
            constants_read.append(first(f"constants_{i}", lane(self.constants, i)))
            temp_read.append(first(f"temp_read_{i}", temp[i]))

        # What selects, and the constants: decoded into registers a cycle before.
        source, factor, addend = self.source, self.factor, self.addend

        def gate(name, condition):
            return first(name, first(f"{name}_next", condition))

        a_panel = gate("a_panel", source == Source.PANEL)
        a_swapped = gate("a_swapped", source == Source.SWAPPED)
        a_rows = gate("a_rows", source == Source.ROWS)
        a_temp = gate("a_temp", source == Source.TEMP)
        sum_next = first("sum_next", source == Source.SUM)
        token_next = first("token_next", source == Source.TOKEN)
        a_common = first(
            "a_common",
            (self.total & sum_next.replicate(32)) | (self.token & token_next.replicate(32)),
        )
        b_rows = gate("b_rows", factor == Factor.SELF)  # with row memory only
        b_constants = gate("b_constants", factor == Factor.CONSTANTS)
        b_panel = gate("b_panel", factor == Factor.PANEL)  # lanes as they are
        b_value = first("b_value", Mux(factor == Factor.VALUE, factor_value, 0))
        b_common = first(
            "b_common", Mux(first("b_scalar", factor == Factor.SCALAR), scalar, b_value)
        )
        c_rows = gate("c_rows", addend == Addend.ROWS)
        c_temp = gate("c_temp", addend == Addend.TEMP)
        c_value = first("c_value", Mux(addend == Addend.VALUE, addend_value, 0))
        c_common = first(
            "c_common", Mux(first("c_scalar", addend == Addend.SCALAR), scalar, c_value)
        )

        def gated(condition, value):
            return value & condition.replicate(32)

        for i in lanes:
            m.d.sync += [
                self.a[i].eq(
                    gated(a_panel, panel_read[i])
                    | gated(a_swapped, panel_read[i ^ 1])
                    | gated(a_rows, rows_read[i])
                    | gated(a_temp, temp_read[i])
                    | a_common
                ),
                self.b[i].eq(
                    gated(b_rows, rows_read[i])
                    | gated(b_constants, constants_read[i])
                    | gated(b_panel, panel_read[i])
                    | b_common
                ),
                self.c[i].eq(gated(c_rows, rows_read[i]) | gated(c_temp, temp_read[i]) | c_common),
            ]
        return m
