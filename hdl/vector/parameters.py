"""From the instruction that runs and its present pass to the parameters of the loop nest."""

from amaranth.hdl import Module, Mux, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hdl.config import BLOCK, Config
from hdl.interfaces import ROW_BITS, model_layout, visit_layout
from hdl.isa import INSTRUCTION_BITS, Opcode, instruction_layout
from hdl.vector.decode import COUNT_BITS
from hdl.vector.loops import TOKEN_COUNT_BITS, nest_layout
from hdl.vector.program import Blocks, Place, pass_layout
from hdl.vector.slots import ADDRESS_BITS, CONSTANT_BITS, HEAD_BITS

__all__ = ["PassParameters", "progress_layout"]


def progress_layout() -> data.StructLayout:
    """How far an instruction has come: what the sequencer keeps of it from pass to pass."""
    return data.StructLayout(
        {
            "rows": ROW_BITS,
            "gather": 1,  # source rows are those of the output list
            "items": COUNT_BITS,  # still to do, this one included
            "count": COUNT_BITS,  # blocks in a row of source and destination
            "source": ADDRESS_BITS,
            "destination": ADDRESS_BITS,
            "constant": CONSTANT_BITS,
            "columns": TOKEN_COUNT_BITS,  # of the vocabulary, from this panel on
            "head": 8,
            "head_block": HEAD_BITS,
            "buffer": 1,  # of P
        }
    )


class PassParameters(Component):
    """Combinational.

    Members
    -------
    now : In(pass_layout)
        The pass.
    word, progress : In
        The instruction.
    visit, batch : In(visit_layout)
        The page visited; the batch that waits for FINAL.
    span : In(signed)
        Tokens of the visit's page up to the position of its first row.
    model : In(model_layout)
    parameters : Out(nest_layout)
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "now": In(pass_layout()),
                "word": In(INSTRUCTION_BITS),
                "progress": In(progress_layout()),
                "visit": In(visit_layout(config)),
                "batch": In(visit_layout(config)),
                "span": In(signed(TOKEN_COUNT_BITS)),
                "model": In(model_layout()),
                "parameters": Out(nest_layout()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        now, progress, model = self.now, self.progress, self.model
        visit, batch, p = self.visit, self.batch, self.parameters
        longest = self._config.head_blocks
        with m.Switch(now.blocks):
            with m.Case(Blocks.ONE):
                m.d.comb += p.blocks.eq(1)
            with m.Case(Blocks.ALL):
                m.d.comb += p.blocks.eq(progress.count)
            with m.Case(Blocks.STRIP):
                m.d.comb += p.blocks.eq(Mux(progress.items >= longest, longest, progress.items))
            with m.Case(Blocks.HEAD):
                m.d.comb += p.blocks.eq(model.head_blocks)
        query_rows = Mux(now.final, batch.query_rows, visit.query_rows)
        sine = Mux(now.sine, model.head_blocks, 0)
        m.d.comb += [
            p.rows.eq(Mux(now.queries, query_rows, progress.rows)),
            p.narrow.eq(now.narrow),
            p.block.eq(progress.head_block),
            p.source.eq(progress.source),
            p.source_stride.eq(Mux(progress.gather, 0, progress.count)),
            p.group.eq(Mux(now.queries, model.head_group, 1)),
            p.constant.eq(progress.constant + progress.head_block + sine),
            p.constant_stride.eq(Mux(now.blocks == Blocks.STRIP, 0, model.head_blocks << 1)),
            p.columns.eq(BLOCK),
        ]
        attend = data.View(instruction_layout(Opcode.ATTEND), self.word)
        with m.Switch(now.place):
            with m.Case(Place.BASE):
                m.d.comb += [
                    p.destination.eq(progress.destination),
                    p.destination_stride.eq(progress.count),
                ]
            with m.Case(Place.WEIGHTS):
                second = Mux(progress.buffer, self._config.row_capacity, 0)
                m.d.comb += [
                    p.destination.eq(attend.weights + second),
                    p.destination_step.eq(1),
                    p.destination_stride.eq(model.head_group),
                ]
            with m.Case(Place.OUTPUT):
                m.d.comb += [
                    p.destination.eq(attend.output + batch.query_offset),
                    p.destination_step.eq(model.head_blocks),
                    p.destination_stride.eq(model.query_stride),
                ]
        with m.If(now.masked):
            with m.If(now.queries):
                m.d.comb += [
                    p.columns.eq(self.span),
                    p.columns_step.eq(1),
                ]
            with m.Else():
                m.d.comb += p.columns.eq(progress.columns.as_signed())
        return m
