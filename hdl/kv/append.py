"""Writing new keys and values into their pages."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Assert
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.utils import bits_for

from hdl.config import BLOCK, Config
from hdl.interfaces import (
    ADDRESS_BITS,
    ROW_BITS,
    append_payload,
    model_layout,
    read_port,
    write_client,
)
from hdl.isa import Fault
from hdl.kv.fifo import StreamFIFO
from hdl.kv.records import Operand, fault_report, frame_layout, log2_exact, times

__all__ = ["AppendWriter"]

MAX_OUTSTANDING = 15
"""Writes without a response."""


class AppendWriter(Component):
    """A quantised block becomes a write of 32 bytes; a head's last block also one of a scale byte.

    Members
    -------
    append
        Blocks; any order of rows and heads.
    enable
        Blocks are taken (the frame table is ready).
    rows
        Rows of the step.
    target
        Head-rows of keys and values in a layer.
    restart
        Pulse: a new layer, nothing appended.
    frame
        The frame table.
    memory
        Writes; up to 15 await their response.
    complete
        ``target`` head-rows were appended and every write is done.
    quiet
        Every block taken is written.
    fault
        BAD_OPERAND, detail APPEND, PAGE_RANGE or APPEND_COUNT; no block is taken afterwards.

    Throughput: 32 / port_bytes cycles a block, one more at the end of a head. Latency: 4 cycles to
    the write request.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "model": In(model_layout()),
                "append": In(stream.Signature(append_payload())),
                "enable": In(1),
                "rows": In(ROW_BITS),
                "target": In(16),
                "restart": In(1),
                "frame": Out(read_port(bits_for(config.row_capacity - 1), frame_layout())),
                "memory": Out(write_client(config)),
                "complete": Out(1),
                "quiet": Out(1),
                "fault": Out(fault_report()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        model = self.model
        block_beats = BLOCK // config.port_bytes
        beat_bits = log2_exact(config.port_bytes)

        # An address pipeline, one adder a step; it moves as a whole. Step 3 is written out.
        # part = head * 2 + value, half = 1024 * HEAD_BLOCKS + 32:
        #   region  = frame + offset + part * half
        #   element = region + (token * HEAD_BLOCKS + block) * 32
        #   scale   = region + HEAD_BLOCKS * 1024 + token
        move = Signal()
        stopped = self.fault.valid
        accept = Signal()
        valid = Signal(4)
        m.d.comb += [
            self.append.ready.eq(self.enable & move & ~stopped),
            accept.eq(self.append.valid & self.append.ready),
        ]

        # Step 0: the block, and its row's frame.
        block = Signal(append_payload())
        part = Signal(9)
        last_block = Signal()
        count = Signal(16)
        bad = Signal(Operand)
        token = self.frame.data.token
        m.d.comb += [
            self.frame.address.eq(Mux(move, self.append.p.row, block.row)),
            part.eq(block.head * 2 + block.value),
            last_block.eq(block.block + 1 == model.head_blocks),
        ]
        with m.If(
            (block.row >= self.rows)
            | (block.head >= model.kv_heads)
            | (block.block >= model.head_blocks)
        ):
            m.d.comb += bad.eq(Operand.APPEND)
        with m.Elif(count == self.target):
            m.d.comb += bad.eq(Operand.APPEND_COUNT)

        # Step 1
        kept = data.StructLayout({"elements": 8 * BLOCK, "scale": 8, "token": 5, "last": 1})
        kept1, kept2, kept3 = (Signal(kept, name=f"kept{i}") for i in (1, 2, 3))
        frame = Signal(ADDRESS_BITS)
        base = Signal(33)
        part_blocks = Signal(13)
        inside = Signal(9)
        # Step 2
        region = Signal(ADDRESS_BITS)
        region_end = Signal(34)
        element_part = Signal(24)
        scale_part = Signal(24)
        # Step 3
        element_address = Signal(ADDRESS_BITS)
        scale_address = Signal(ADDRESS_BITS)

        limit = Signal(range(-(1 << 15), 1 << 32))  # last byte offset at which a half may begin
        m.d.sync += limit.eq(model.kv_page_bytes - ((model.head_blocks << 10) + BLOCK))
        out_of_page = Signal()
        m.d.comb += out_of_page.eq(region_end > limit)

        with m.If(move):
            m.d.sync += valid.eq(
                Cat(
                    accept,
                    valid[0] & (bad == Operand.NONE) & ~stopped,
                    valid[1] & ~stopped,
                    valid[2] & ~out_of_page & ~stopped,
                )
            )
        # (Each step's data under its own valid: a simulator skips what is idle.)
        with m.If(accept):
            m.d.sync += block.eq(self.append.p)
        with m.If(move & valid[0]):
            m.d.sync += [
                kept1.elements.eq(block.elements),
                kept1.scale.eq(block.scale),
                kept1.token.eq(token),
                kept1.last.eq(last_block),
                frame.eq(self.frame.data.address),
                base.eq(block.offset + (part << 5)),
                part_blocks.eq(times(part, model.head_blocks)),
                inside.eq(times(token, model.head_blocks) + block.block),
            ]
        with m.If(move & valid[1]):
            m.d.sync += [
                kept2.eq(kept1),
                region.eq(frame + base),
                region_end.eq(base + (part_blocks << 10)),
                element_part.eq((part_blocks << 10) + (inside << 5)),
                scale_part.eq(((part_blocks + model.head_blocks) << 10) + kept1.token),
            ]
        with m.If(move & valid[2]):
            m.d.sync += [
                element_address.eq(region + element_part),
                scale_address.eq(region + scale_part),
            ]
        with m.If(move & valid[0] & (bad == Operand.NONE) & ~stopped & last_block):
            m.d.sync += count.eq(count + 1)
        with m.If(self.restart):
            m.d.sync += count.eq(0)

        fault = self.fault
        with m.If(~stopped & move):
            with m.If(valid[2] & out_of_page):
                m.d.sync += [fault.valid.eq(1), fault.detail.eq(Operand.PAGE_RANGE)]
            with m.Elif(valid[0] & (bad != Operand.NONE)):
                m.d.sync += [fault.valid.eq(1), fault.detail.eq(bad)]
        m.d.comb += fault.cause.eq(Fault.BAD_OPERAND)

        # Write out: the elements, then at the head's end the scale. Request and data side by side;
        # the FIFO lets the next request go while a port that wants requests first takes the data.
        m.submodules.beats = fifo = StreamFIFO(self.memory.data.payload.shape(), 4)
        connect(m, fifo.o, flipped(self.memory.data))
        request = self.memory.request
        beats = fifo.i
        scale_turn = Signal()
        asked = Signal()  # request of this turn is taken
        given = Signal(range(block_beats + 1))  # beats of this turn that are taken
        outstanding = Signal(range(MAX_OUTSTANDING + 1))
        room = Signal()
        request_done = Signal()
        last_beat = Signal()
        all_given = Signal()
        data_done = Signal()
        turn_done = Signal()
        m.d.comb += [
            room.eq(outstanding != MAX_OUTSTANDING),
            request.valid.eq(valid[3] & ~asked & room),
            request.p.address.eq(
                Mux(scale_turn, scale_address >> beat_bits << beat_bits, element_address)
            ),
            request.p.beats.eq(Mux(scale_turn, 1, block_beats)),
            beats.valid.eq(valid[3] & (asked | room) & ~all_given),
            beats.p.data.eq(
                Mux(
                    scale_turn,
                    kept3.scale.replicate(config.port_bytes),
                    kept3.elements[: config.port_bits],
                )
            ),
            beats.p.strobe.eq(
                Mux(scale_turn, 1 << scale_address[:beat_bits], (1 << config.port_bytes) - 1)
            ),
            all_given.eq(given == Mux(scale_turn, 1, block_beats)),
            last_beat.eq(given == Mux(scale_turn, 0, block_beats - 1)),
            request_done.eq(asked | (request.valid & request.ready)),
            data_done.eq(all_given | (last_beat & beats.valid & beats.ready)),
            turn_done.eq(valid[3] & request_done & data_done),
            move.eq(~valid[3] | (turn_done & (scale_turn | ~kept3.last))),
        ]
        with m.If(request.valid & request.ready):
            m.d.sync += asked.eq(1)
        with m.If(beats.valid & beats.ready):
            m.d.sync += [
                given.eq(given + 1),
                kept3.elements.eq(kept3.elements >> config.port_bits),
            ]
        with m.If(turn_done):
            m.d.sync += [asked.eq(0), given.eq(0), scale_turn.eq(kept3.last & ~scale_turn)]
        with m.If(move & valid[2]):
            m.d.sync += kept3.eq(kept2)
        m.d.sync += outstanding.eq(outstanding + (request.valid & request.ready) - self.memory.done)
        with m.If(self.memory.done):
            m.d.sync += Assert(outstanding != 0)

        m.d.comb += [
            self.quiet.eq(~valid.any() & (outstanding == 0)),
            self.complete.eq(self.quiet & (count == self.target)),
        ]
        return m
