"""Cuts MATMUL and ATTEND into array tiles."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import BLOCK, Config
from hdl.interfaces import (
    ROW_BITS,
    fault_signature,
    instruction_signature,
    model_layout,
    step_layout,
    visit_layout,
)
from hdl.isa import SEMAPHORES, Fault, Opcode, RowSelect, instruction_layout
from hdl.matrix.tile import tile_layout
from hdl.multiplier import Multiplier

__all__ = ["TileSequencer"]


class TileSequencer(Component):
    """Takes instructions and page visits, checks the operands, gives tiles in the order of work.

    A tile can be taken every other cycle; an instruction costs four cycles besides its tiles, while
    its predecessor's last tile waits to be taken.

    Members
    -------
    instruction, model, step, visits, fault
        As in docs/spec.md, section 4.
    tiles : Out(stream(tile_layout))
        The payload stands for a cycle after it was taken.
    wait : Out(stream(8))
        Semaphore mask of each instruction, in order, before its first tile.
    active, waits : Out(1)
        At work on an instruction; no page visit has come.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "instruction": In(instruction_signature()),
                "model": In(model_layout()),
                "step": In(step_layout()),
                "visits": In(stream.Signature(visit_layout(config))),
                "tiles": Out(stream.Signature(tile_layout(config))),
                "wait": Out(stream.Signature(SEMAPHORES)),
                "fault": Out(fault_signature()),
                "active": Out(1),
                "waits": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        # The tile in the making; the one given stands in a register
        tile = Signal(tile_layout(c))
        made = Signal()
        taken = Signal()
        m.d.comb += taken.eq(made & ~self.tiles.valid)
        with m.If(self.tiles.ready):
            m.d.sync += self.tiles.valid.eq(0)
        with m.If(taken):
            m.d.sync += [self.tiles.valid.eq(1), self.tiles.payload.eq(tile)]

        # The instruction, and its operands under both readings
        word = Signal(self.instruction.p.shape()["word"].shape, reset_less=True)
        index = Signal.like(self.instruction.p.index, reset_less=True)
        matmul = instruction_layout(Opcode.MATMUL)(word)
        attend = instruction_layout(Opcode.ATTEND)(word)
        incoming = instruction_layout(Opcode.MATMUL)(self.instruction.p.word)
        is_matmul, is_attend, of_outputs = (
            Signal(name=name, reset_less=True) for name in ("is_matmul", "is_attend", "of_outputs")
        )
        rows = Signal(ROW_BITS, reset_less=True)
        end = Signal(21, reset_less=True)  # behind the activation blocks of all rows
        end_weights = Signal(21, reset_less=True)
        m.submodules.span = span = Multiplier(ROW_BITS, 12, signed=False)
        opening = Signal()  # no tile given yet

        # Where the next tile is
        reduction = Signal(range(max(c.passes, 2)))
        group = Signal(range(max(c.head_blocks * c.column_groups, 2)))
        block = Signal(12)
        panels_left = Signal(20, reset_less=True)  # after the present one; a cycle late
        address = Signal(20, reset_less=True)
        line = Signal(range(max(c.slot_beats, 2)), reset_less=True)  # beats of whole lines before

        # Attention: the visit whose scores are made, the one before, whose values come after
        visit = Signal(visit_layout(c), reset_less=True)
        before = Signal(visit_layout(c), reset_less=True)
        any_before = Signal()
        weights_at = Signal(20, reset_less=True)
        buffer = Signal()

        line_beats = Signal(range(c.slot_beats + 1))  # beats of a token
        m.d.comb += line_beats.eq(self.model.head_blocks * (BLOCK // c.port_bytes))

        # Of the instruction or the model: constant while tiles are made
        last_of_blocks = Signal(12, reset_less=True)
        last_of_head = Signal(4, reset_less=True)
        last_group_of_values = Signal(len(group) + 1, reset_less=True)
        bad_model, illegal, empty = Signal(), Signal(), Signal()
        m.d.sync += [
            bad_model.eq(
                (self.model.head_blocks == 0)
                | (self.model.head_blocks > c.head_blocks)
                | (self.model.head_group == 0)
                | (self.model.query_stride == 0)
            ),
            last_of_blocks.eq(matmul.blocks - 1),
            last_of_head.eq(self.model.head_blocks - 1),
            last_group_of_values.eq(self.model.head_blocks * c.column_groups - 1),
        ]

        # Registers too: a tile is made every other cycle at most, so what they compare has stood
        def at(place, value, name):
            reached = Signal(name=name, reset_less=True)
            m.d.sync += reached.eq(place == value)
            return reached

        last_reduction = at(reduction, c.passes - 1, "last_reduction")
        last_group = at(group, c.column_groups - 1, "last_group")
        last_block_of_matmul = at(block, last_of_blocks, "last_block_of_matmul")
        last_block_of_score = at(block, last_of_head, "last_block_of_score")
        last_group_of_head = at(group, last_group_of_values, "last_group_of_head")
        # A panel may be a single tile: the count goes on a cycle late, and looks ahead
        last_panel = Signal(reset_less=True)
        end_of_panel, panel_ended = Signal(), Signal()
        m.d.sync += panel_ended.eq(0)
        with m.If(panel_ended):
            m.d.sync += [panels_left.eq(panels_left - 1), last_panel.eq(panels_left == 1)]

        m.d.comb += [
            tile.reduction.eq(reduction),
            tile.group.eq(group % c.column_groups),
            tile.opens.eq(opening),
            self.wait.p.eq(matmul.wait),
            self.fault.index.eq(index),
        ]

        def next_reduction():
            m.d.sync += [reduction.eq(reduction + 1), opening.eq(0)]
            with m.If(last_reduction):
                m.d.sync += reduction.eq(0)

        with m.FSM(name="state") as fsm:
            works = ~fsm.ongoing("IDLE") & ~fsm.ongoing("FAULT")
            m.d.comb += self.active.eq(works | self.tiles.valid)
            with m.State("IDLE"):
                m.d.comb += self.instruction.ready.eq(1)
                m.d.sync += [
                    word.eq(self.instruction.p.word),
                    index.eq(self.instruction.p.index),
                    is_matmul.eq(incoming.opcode == Opcode.MATMUL),
                    is_attend.eq(incoming.opcode == Opcode.ATTEND),
                    of_outputs.eq(
                        (incoming.opcode == Opcode.MATMUL) & (incoming.rows == RowSelect.OUTPUT)
                    ),
                ]
                with m.If(self.instruction.valid):
                    m.next = "CHECK"

            with m.State("CHECK"):
                count = Mux(of_outputs, self.step.outputs, self.step.rows)
                m.d.comb += [
                    span.a.eq(count),
                    span.b.eq(Mux(is_matmul, matmul.blocks, self.model.query_stride)),
                ]
                m.d.sync += [
                    rows.eq(count),
                    opening.eq(1),
                    any_before.eq(0),
                    buffer.eq(0),
                    panels_left.eq(matmul.panels - 1),
                    last_panel.eq(matmul.panels == 1),
                    weights_at.eq(attend.weights),
                    address.eq(matmul.activations),
                ]
                m.d.sync += [
                    illegal.eq(~is_matmul & ~is_attend),
                    empty.eq(
                        Mux(is_matmul, (matmul.blocks == 0) | (matmul.panels == 0), bad_model)
                    ),
                ]
                m.next = "MULTIPLY"

            with m.State("MULTIPLY"):
                m.next = "ADD"
                with m.If(illegal):
                    m.d.sync += self.fault.cause.eq(Fault.ILLEGAL_INSTRUCTION)
                    m.next = "FAULT"
                with m.Elif(empty):
                    m.d.sync += self.fault.cause.eq(Fault.BAD_OPERAND)
                    m.next = "FAULT"

            with m.State("ADD"):
                m.d.sync += [
                    end.eq(Mux(rows == 0, 0, matmul.activations + span.p)),
                    end_weights.eq(Mux(is_attend, attend.weights + 2 * c.row_capacity, 0)),
                ]
                m.next = "START"

            with m.State("START"):
                past = end > c.activation_blocks
                past_weights = end_weights > c.activation_blocks
                with m.If(past | past_weights):
                    m.d.sync += self.fault.cause.eq(Fault.BAD_OPERAND)
                    m.next = "FAULT"
                with m.Else():
                    m.d.comb += self.wait.valid.eq(1)
                    with m.If(self.wait.ready):
                        m.next = "VISIT"
                        with m.If(is_matmul):
                            m.next = "MATMUL"

            with m.State("FAULT"):
                m.d.comb += self.fault.valid.eq(1)

            with m.State("MATMUL"):
                last_block = last_block_of_matmul
                m.d.comb += [
                    made.eq(1),
                    tile.rows.eq(rows),
                    tile.address.eq(address),
                    tile.stride.eq(matmul.blocks),
                    tile.first.eq(block == 0),
                    tile.panel_first.eq((block == 0) & (group == 0) & (reduction == 0)),
                    end_of_panel.eq(last_block & last_group & last_reduction),
                    tile.panel_last.eq(end_of_panel),
                    tile.closes.eq(end_of_panel & last_panel),
                    tile.signal.eq(Mux(end_of_panel & last_panel, matmul.signal, 0)),
                ]
                with m.If(taken):
                    next_reduction()
                    with m.If(last_reduction):
                        m.d.sync += group.eq(Mux(last_group, 0, group + 1))
                        with m.If(last_group):
                            m.d.sync += [block.eq(block + 1), address.eq(address + 1)]
                    with m.If(end_of_panel):
                        m.d.sync += [
                            block.eq(0),
                            address.eq(matmul.activations),
                            panel_ended.eq(1),
                        ]
                        with m.If(last_panel):
                            m.next = "IDLE"

            with m.State("VISIT"):
                m.d.comb += [
                    self.visits.ready.eq(1),
                    self.waits.eq(~self.visits.valid & ~self.tiles.valid),
                ]
                m.d.sync += [
                    visit.eq(self.visits.p),
                    address.eq(attend.queries + self.visits.p.query_offset),
                    line.eq(0),
                ]
                with m.If(self.visits.valid):
                    m.next = "SCORE"

            with m.State("SCORE"):
                last_block = last_block_of_score
                along = Cat(
                    Const(0, _log2(c.column_beats)), reduction[: _log2(c.passes)], block[:4]
                )
                m.d.comb += [
                    made.eq(1),
                    tile.page.eq(1),
                    tile.slot.eq(visit.slot),
                    tile.beat.eq(line + along),
                    tile.rows.eq(visit.query_rows),
                    tile.query.eq(1),
                    tile.address.eq(address),
                    tile.stride.eq(self.model.query_stride),
                    tile.first.eq(block == 0),
                    tile.panel_first.eq((block == 0) & (group == 0) & (reduction == 0)),
                    end_of_panel.eq(last_block & last_group & last_reduction),
                    tile.panel_last.eq(end_of_panel),
                ]
                with m.If(taken):
                    next_reduction()
                    with m.If(last_reduction):
                        m.d.sync += [group.eq(group + 1), line.eq(line + line_beats * c.cols)]
                        with m.If(last_group):
                            m.d.sync += [
                                group.eq(0),
                                line.eq(0),
                                block.eq(block + 1),
                                address.eq(address + 1),
                            ]
                    with m.If(end_of_panel):
                        m.d.sync += block.eq(0)
                        with m.If(any_before):
                            m.next = "VALUE"
                        with m.Else():
                            m.d.sync += [before.eq(visit), any_before.eq(1)]
                            m.next = "VISIT"
                            with m.If(visit.end):
                                m.next = "VALUE"

            with m.State("VALUE"):
                along = Cat(Const(0, _log2(c.row_beats)), group)
                start = (group == 0) & (reduction == 0)
                m.d.comb += [
                    made.eq(1),
                    tile.page.eq(1),
                    tile.value.eq(1),
                    tile.slot.eq(before.slot),
                    tile.beat.eq(line + along),
                    tile.rows.eq(before.query_rows),
                    tile.address.eq(weights_at),
                    tile.stride.eq(1),
                    tile.first.eq(before.first),
                    tile.output.eq(1),
                    tile.panel.eq(Mux(before.parity, c.head_blocks, 0) + group // c.column_groups),
                    tile.weights_first.eq(start),
                    tile.batch_first.eq(start & before.first),
                    end_of_panel.eq(last_group_of_head & last_reduction),
                    tile.weights_last.eq(end_of_panel),
                    tile.batch_last.eq(end_of_panel & before.last),
                    tile.closes.eq(end_of_panel & before.end),
                ]
                with m.If(taken):
                    next_reduction()
                    m.d.sync += line.eq(line + line_beats * c.rows)
                    with m.If(last_reduction):
                        m.d.sync += [line.eq(0), group.eq(group + 1)]
                    with m.If(end_of_panel):
                        m.d.sync += [
                            group.eq(0),
                            buffer.eq(~buffer),
                            weights_at.eq(attend.weights + Mux(buffer, 0, c.row_capacity)),
                            before.eq(visit),
                        ]
                        m.next = "VISIT"
                        with m.If(before.end):
                            m.next = "IDLE"
                        with m.Elif(visit.end):
                            m.next = "VALUE"
        return m


def _log2(n: int) -> int:
    """Exponent of a power of two."""
    return n.bit_length() - 1
