"""Writing new keys and values into their pages."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Assert
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
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
from hdl.kv.records import Operand, fault_report, frame_layout, log2_exact, times
from hdl.replica import ATTRIBUTE
from hdl.streams import StreamFIFO

__all__ = ["AppendWriter"]

MAX_OUTSTANDING = 15
"""Writes without a response."""

BLOCKS = 8
"""Blocks taken and not written out."""


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
        Pulse: a new layer, nothing appended; ``target`` is taken.
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

    Throughput: 32 / port_bytes cycles a block, one more at the end of a head. Latency: 9 cycles to
    the write request; ``quiet`` and ``complete`` come a cycle late.
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

        # An address pipeline, one adder a step, that never stops: a block is taken when the FIFOs
        # behind it have room for it. (Whether they have is a cycle old, but for what was taken.)
        stopped = self.fault.valid
        ready, accept = Signal(), Signal()
        valid = Signal(5)
        inside = Signal(range(BLOCKS + 1))  # blocks that are taken and not written out
        left_behind = Signal()
        m.d.sync += [
            inside.eq(inside + accept - left_behind),
            ready.eq(self.enable & ~stopped & (inside < Mux(accept, BLOCKS - 1, BLOCKS))),
        ]
        m.d.comb += [
            self.append.ready.eq(ready),
            accept.eq(self.append.valid & ready),
        ]

        # Its elements and scale wait for the addresses. What is offered is copied, taken or not:
        # one decision for so many registers would be late.
        content = data.StructLayout({"elements": 8 * BLOCK, "scale": 8})
        place = data.StructLayout({"element": ADDRESS_BITS, "scale": ADDRESS_BITS, "last": 1})
        block = Signal(append_payload(), reset_less=True)
        m.d.sync += block.eq(self.append.p)
        m.submodules.contents = contents = Memory(shape=content, depth=BLOCKS, init=[])
        kept, restored = contents.write_port(), contents.read_port(domain="comb")
        m.submodules.places = places = StreamFIFO(place, BLOCKS)
        m.d.comb += [
            kept.en.eq(valid[0]),
            kept.data.elements.eq(block.elements.as_value()),
            kept.data.scale.eq(block.scale),
        ]
        with m.If(valid[0]):
            m.d.sync += kept.addr.eq(kept.addr + 1)

        # Step 0: the block, and its row's frame.
        part = Signal(9)
        last_block = Signal()
        left = Signal(16)  # head-rows of the layer still to come
        none_left = Signal(init=1)  # it is 0
        wrong, wrong1 = Signal(), Signal()
        token = self.frame.data.token
        m.d.comb += [
            self.frame.address.eq(self.append.p.row),
            part.eq(Cat(block.value, block.head)),
            last_block.eq(block.block + 1 == model.head_blocks),
        ]
        m.d.comb += wrong.eq(
            (block.row >= self.rows)
            | (block.head >= model.kv_heads)
            | (block.block >= model.head_blocks)
        )

        # Step 1: products with HEAD_BLOCKS, as two terms of two of its bits
        token1, last1 = Signal(5), Signal()
        frame1 = Signal(ADDRESS_BITS)
        base1 = Signal(33)
        low, high = model.head_blocks[:2], model.head_blocks[2:]
        part_low, part_high = Signal(11), Signal(11)
        token_low, token_high = Signal(7), Signal(7)
        block1 = Signal(4)
        # Step 2
        token2, last2 = Signal(5), Signal()
        frame = Signal(ADDRESS_BITS)
        base = Signal(33)
        part_blocks = Signal(13)
        token_blocks, block2 = Signal(9), Signal(4)
        # Step 3
        last3 = Signal()
        region = Signal(ADDRESS_BITS)
        region_end = Signal(34)
        element_part = Signal(24)
        scale_part = Signal(24)
        # Step 4
        last4, inside_page = Signal(), Signal()
        element_address = Signal(ADDRESS_BITS)
        scale_address = Signal(ADDRESS_BITS)

        limit = Signal(range(-(1 << 15), 1 << 32))  # last byte offset at which a half may begin
        past_page = Signal()
        m.d.comb += past_page.eq(valid[4] & ~inside_page)
        m.d.sync += limit.eq(model.kv_page_bytes - ((model.head_blocks << 10) + BLOCK))
        m.d.sync += valid.eq(
            Cat(
                accept,
                valid[0] & ~stopped,
                valid[1] & ~wrong1 & ~none_left & ~stopped,
                valid[2] & ~stopped,
                valid[3] & ~past_page & ~stopped,
            )
        )
        # (Each step's data under its own valid: a simulator skips what is idle.)
        with m.If(valid[0]):
            m.d.sync += [
                wrong1.eq(wrong),
                token1.eq(token),
                last1.eq(last_block),
                frame1.eq(self.frame.data.address),
                base1.eq(block.offset + (part << 5)),
                part_low.eq(times(part, low)),
                part_high.eq(times(part, high)),
                token_low.eq(times(token, low)),
                token_high.eq(times(token, high)),
                block1.eq(block.block),
            ]
        with m.If(valid[1]):
            m.d.sync += [
                token2.eq(token1),
                last2.eq(last1),
                frame.eq(frame1),
                base.eq(base1),
                part_blocks.eq(part_low + (part_high << 2)),
                token_blocks.eq(token_low + (token_high << 2)),
                block2.eq(block1),
            ]
        with m.If(valid[2]):
            m.d.sync += [
                last3.eq(last2),
                region.eq(frame + base),
                region_end.eq(base + (part_blocks << 10)),
                element_part.eq(((part_blocks << 5) + token_blocks + block2) << 5),
                scale_part.eq(((part_blocks + model.head_blocks) << 10) + token2),
            ]
        with m.If(valid[3]):
            m.d.sync += [
                last4.eq(last3),
                inside_page.eq(region_end <= limit),
                element_address.eq(region + element_part),
                scale_address.eq(region + scale_part),
            ]
        m.d.comb += [
            places.i.valid.eq(valid[4] & inside_page),
            places.i.p.element.eq(element_address),
            places.i.p.scale.eq(scale_address),
            places.i.p.last.eq(last4),
        ]
        with m.If(valid[1] & last1):
            m.d.sync += [left.eq(left - 1), none_left.eq(left == 1)]
        with m.If(self.restart):
            m.d.sync += [left.eq(self.target), none_left.eq(self.target == 0)]

        fault = self.fault
        with m.If(~stopped):
            with m.If(past_page):
                m.d.sync += [fault.valid.eq(1), fault.detail.eq(Operand.PAGE_RANGE)]
            with m.Elif(valid[1] & (wrong1 | none_left)):
                m.d.sync += [
                    fault.valid.eq(1),
                    fault.detail.eq(Mux(wrong1, Operand.APPEND, Operand.APPEND_COUNT)),
                ]
        m.d.comb += fault.cause.eq(Fault.BAD_OPERAND)

        # Write out: the elements, then at the head's end the scale, a request with its first beat;
        # a block follows the one before without a gap.
        m.submodules.requests = requests = StreamFIFO(self.memory.request.payload.shape(), 6)
        m.submodules.beats = beats = StreamFIFO(self.memory.data.payload.shape(), 6)
        connect(m, requests.o, flipped(self.memory.request))
        connect(m, beats.o, flipped(self.memory.data))
        writing = Signal()
        scale_turn, last_block_here = Signal(), Signal()
        # The next beat: its turn's first, its turn's last, the block's last
        asks, ends, final = Signal(), Signal(), Signal()
        elements, scale = restored.data.elements, restored.data.scale
        where, scale_where = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        given = Signal(range(block_beats))  # beats of this turn before this one
        outstanding = Signal(range(MAX_OUTSTANDING + 1))
        room = Signal()  # a cycle old, and what is on its way is not counted: four places
        go, done = Signal(), Signal()
        m.d.comb += [
            go.eq(writing & room),
            done.eq(go & final),
            places.o.ready.eq(~writing | done),
            left_behind.eq(done),
        ]
        # A beat goes a cycle behind its request: first two of them are chosen, then one.
        pair_beats = min(2, block_beats)
        pair = elements.word_select(given >> 1, pair_beats * config.port_bits)
        chosen = Signal(pair_beats * config.port_bits, reset_less=True)
        chosen_scale = Signal.like(scale, reset_less=True)
        chosen_valid, odd = Signal(), Signal()
        is_scale = Signal(attrs={ATTRIBUTE: 1})  # (else the same register as a bit of the request)
        lane = Signal(range(config.port_bytes))
        m.d.sync += [
            requests.i.valid.eq(go & asks),
            requests.i.p.address.eq(Mux(scale_turn, scale_where >> beat_bits << beat_bits, where)),
            requests.i.p.beats.eq(Mux(scale_turn, 1, block_beats)),
            chosen_valid.eq(go),
            chosen.eq(pair),
            chosen_scale.eq(scale),
            is_scale.eq(scale_turn),
            odd.eq(given[:1].any()),
            lane.eq(scale_where[:beat_bits]),
            beats.i.valid.eq(chosen_valid),
            beats.i.p.data.eq(
                Mux(
                    is_scale,
                    chosen_scale.replicate(config.port_bytes),
                    chosen.word_select(odd, config.port_bits),
                )
            ),
            beats.i.p.strobe.eq(Mux(is_scale, 1 << lane, (1 << config.port_bytes) - 1)),
        ]
        with m.If(go):
            m.d.sync += [
                given.eq(given + 1),
                asks.eq(ends),
                scale_turn.eq(ends),
                ends.eq(ends | (given == block_beats - 2)),
                final.eq(ends | ((given == block_beats - 2) & ~last_block_here)),
            ]
        with m.If(done):
            m.d.sync += restored.addr.eq(restored.addr + 1)
        with m.If(~writing | done):
            m.d.sync += [
                writing.eq(places.o.valid),
                where.eq(places.o.p.element),
                scale_where.eq(places.o.p.scale),
                last_block_here.eq(places.o.p.last),
                given.eq(0),
                asks.eq(1),
                scale_turn.eq(0),
                ends.eq(block_beats == 1),
                final.eq((block_beats == 1) & ~places.o.p.last),
            ]
        m.d.sync += [
            outstanding.eq(outstanding + requests.i.valid - self.memory.done),
            room.eq(
                (beats.level <= 2) & (requests.level <= 2) & (outstanding < MAX_OUTSTANDING - 2)
            ),
        ]
        with m.If(beats.i.valid):
            m.d.sync += Assert(beats.i.ready)
        with m.If(requests.i.valid):
            m.d.sync += Assert(requests.i.ready)
        with m.If(self.memory.done):
            m.d.sync += Assert(outstanding != 0)

        nothing, all_here = Signal(), Signal()
        m.d.sync += [
            nothing.eq((inside == 0) & ~accept & ~requests.i.valid & (outstanding == 0)),
            all_here.eq(left == 0),
        ]
        m.d.comb += [
            self.quiet.eq(nothing),
            self.complete.eq(nothing & all_here),
        ]
        return m
