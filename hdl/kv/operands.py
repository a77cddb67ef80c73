"""Checks of an instruction's operands, the model registers and the step; products of the nest."""

from amaranth import Cat, Module, Signal
from amaranth.lib.wiring import Component, In, Out

from hdl.config import BLOCK, Config
from hdl.interfaces import model_layout, step_layout
from hdl.kv.records import Operand, log2_exact

__all__ = ["LayerTotals", "OperandCheck"]


class OperandCheck(Component):
    """First thing wrong, or NONE; a cycle after the operands.

    Members
    -------
    model, step
        Held.
    offset
        ATTEND's; 0 for PREPARE.
    bad
        :class:`~hdl.kv.records.Operand`.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "model": In(model_layout()),
                "step": In(step_layout()),
                "offset": In(32),
                "bad": Out(Operand),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, model, step = self._config, self.model, self.step
        beat_bits = log2_exact(config.port_bytes)
        aligned = model.kv_base | model.kv_page_bytes | self.offset
        checks = [
            (Operand.HEAD_BLOCKS, model.head_blocks == 0),
            (Operand.HEAD_BLOCKS, model.head_blocks > config.head_blocks),
            (Operand.KV_HEADS, model.kv_heads == 0),
            (Operand.BATCH, model.head_group == 0),
            (Operand.BATCH, model.batch_rows == 0),
            (Operand.STEP, (step.rows == 0) | (step.rows > config.row_capacity)),
            (Operand.STEP, (step.segments == 0) | (step.segments > step.rows)),
            (Operand.ALIGNMENT, aligned[:beat_bits] != 0),
            (Operand.ALIGNMENT, model.kv_owners[:2] != 0),
        ]
        found = Signal(len(checks))
        m.d.sync += found.eq(Cat(wrong for _, wrong in checks))
        for number, (detail, _) in enumerate(checks):
            with m.If(found[number]) if number == 0 else m.Elif(found[number]):
                m.d.comb += self.bad.eq(detail)
        return m


class LayerTotals(Component):
    """Products that hold for a whole step, by repeated addition (64 cycles at the most).

    Members
    -------
    start
        Pulse.
    busy
        The totals are not valid yet.
    head_rows
        2 * KV_HEADS * rows: head-rows of keys and values appended in a layer.
    group_blocks
        HEAD_GROUP * HEAD_BLOCKS: query blocks of a KV head.
    page_bytes_of_head
        2 * (1024 * HEAD_BLOCKS + 32): bytes of a head's halves. Always valid.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "model": In(model_layout()),
                "step": In(step_layout()),
                "start": In(1),
                "busy": Out(1),
                "head_rows": Out(16),
                "group_blocks": Out(11),
                "page_bytes_of_head": Out(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        rows = Signal.like(self.step.rows)
        blocks = Signal.like(self.model.head_blocks)
        m.d.comb += [
            self.busy.eq((rows != 0) | (blocks != 0)),
            self.page_bytes_of_head.eq((self.model.head_blocks << 11) + 2 * BLOCK),
        ]
        with m.If(rows != 0):
            m.d.sync += [
                rows.eq(rows - 1),
                self.head_rows.eq(self.head_rows + (self.model.kv_heads << 1)),
            ]
        with m.If(blocks != 0):
            m.d.sync += [
                blocks.eq(blocks - 1),
                self.group_blocks.eq(self.group_blocks + self.model.head_group),
            ]
        with m.If(self.start):
            m.d.sync += [
                rows.eq(self.step.rows),
                blocks.eq(self.model.head_blocks),
                self.head_rows.eq(0),
                self.group_blocks.eq(0),
            ]
        return m
