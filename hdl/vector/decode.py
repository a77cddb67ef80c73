"""Instruction words to the registers that the sequencer starts from."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import ROW_BITS, model_layout, step_layout
from hdl.isa import INSTRUCTION_BITS, Opcode, RowSelect, instruction_layout
from hdl.vector.program import pass_number
from hdl.vector.slots import ADDRESS_BITS, CONSTANT_BITS

__all__ = ["COUNT_BITS", "Decoder", "job_layout"]

COUNT_BITS = 20
PANEL_BITS = 15  # of LOGITS: columns have numbers of 20 bits


def job_layout() -> data.StructLayout:
    """An instruction as the sequencer runs it."""
    return data.StructLayout(
        {
            "first": 5,  # number of its first pass; none for ATTEND
            "loop": 5,  # of the pass that begins every item but the first
            "items": COUNT_BITS,
            "count": COUNT_BITS,  # blocks in a row of source and destination
            "rows": ROW_BITS,
            "gather": 1,  # source rows are those of the output list
            "source": ADDRESS_BITS,
            "destination": ADDRESS_BITS,
            "constant": CONSTANT_BITS,
            "attend": 1,
            "nothing": 1,  # no row to work on
            "bad": 1,  # a count of zero, or more than is built
            "illegal": 1,  # not a vector instruction
        }
    )


class Decoder(Component):
    """Combinational.

    Members
    -------
    word, model, step : In
    job : Out
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "word": In(INSTRUCTION_BITS),
                "model": In(model_layout()),
                "step": In(step_layout()),
                "job": Out(job_layout()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        model, step, job = self.model, self.step, self.job
        head_blocks = self._config.head_blocks
        bad_head = Signal()  # the model stands since before the instruction
        m.d.sync += bad_head.eq((model.head_blocks == 0) | (model.head_blocks > head_blocks))
        m.d.comb += [job.items.eq(1), job.rows.eq(step.rows)]

        def operands(opcode):
            return data.View(instruction_layout(opcode), self.word)

        def begin(first, *, loop=None, **fields):
            m.d.comb += [
                job.first.eq(pass_number(first)),
                job.loop.eq(pass_number(loop or first)),
                *(job[name].eq(value) for name, value in fields.items()),
            ]

        def select_rows(select):
            with m.If(select == RowSelect.OUTPUT):
                m.d.comb += [
                    job.gather.eq(1),
                    job.rows.eq(step.outputs),
                    job.nothing.eq(step.outputs == 0),
                ]

        with m.Switch(operands(Opcode.END).opcode):
            with m.Case(Opcode.NORM.value):
                i = operands(Opcode.NORM)
                begin(
                    "NORM_SQUARE",
                    loop="NORM_SCALE",
                    items=i.blocks,
                    count=i.blocks,
                    source=i.source,
                    destination=i.destination,
                    constant=i.weights,
                    bad=i.blocks == 0,
                )
                select_rows(i.rows)
            with m.Case(Opcode.QUANTISE.value):
                i = operands(Opcode.QUANTISE)
                begin(
                    "QUANTISE",
                    count=i.blocks,
                    source=i.source,
                    destination=i.destination,
                    bad=i.blocks == 0,
                )
                select_rows(i.rows)
            with m.Case(Opcode.ADD.value):
                i = operands(Opcode.ADD)
                begin(
                    "ADD",
                    items=i.panels,
                    count=i.panels,
                    source=i.destination,
                    destination=i.destination,
                    bad=i.panels == 0,
                )
            with m.Case(Opcode.ROPE.value):
                i = operands(Opcode.ROPE)
                begin(
                    "ROPE_COS",
                    items=i.panels,
                    count=i.panels,
                    destination=i.destination,
                    constant=i.tables,
                    bad=(i.panels == 0) | bad_head,
                )
            with m.Case(Opcode.SWIGLU.value):
                i = operands(Opcode.SWIGLU)
                begin(
                    "SWIGLU_EXP",
                    items=i.pairs,
                    count=i.pairs,
                    destination=i.destination,
                    bad=i.pairs == 0,
                )
            with m.Case(Opcode.APPEND.value):
                i = operands(Opcode.APPEND)
                first = Mux(i.value, pass_number("VALUE_COPY"), pass_number("KEY_COS"))
                m.d.comb += [
                    job.first.eq(first),
                    job.loop.eq(first),
                    job.items.eq(model.kv_heads),
                    job.constant.eq(i.tables),
                    job.bad.eq((model.kv_heads == 0) | bad_head),
                ]
            with m.Case(Opcode.LOGITS.value):
                i = operands(Opcode.LOGITS)
                begin(
                    "LOGITS",
                    items=i.panels,
                    count=i.panels,
                    rows=step.outputs,
                    nothing=step.outputs == 0,
                    bad=(i.panels == 0) | (i.panels[PANEL_BITS:] != 0),
                )
            with m.Case(Opcode.STORE.value):
                i = operands(Opcode.STORE)
                begin("STORE", count=i.blocks, source=i.source, bad=i.blocks == 0)
            with m.Case(Opcode.ATTEND.value):
                m.d.comb += [
                    job.attend.eq(1),
                    job.bad.eq((model.head_group == 0) | bad_head),
                ]
            with m.Default():
                m.d.comb += job.illegal.eq(1)
        return m
