"""Fetching pages into slots, in the order of the visits."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Assert
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import PAGE_TOKENS, Config
from hdl.interfaces import ADDRESS_BITS, model_layout, read_client, visit_layout
from hdl.kv.records import log2_exact, visit_record
from hdl.kv.slots import slot_write
from hdl.streams import StreamFIFO

__all__ = ["PageFetch"]

REQUEST_BEATS = 256
"""Longest request of a read client."""


class PageFetch(Component):
    """Read the head of a page (K half, V half) for every visit; pass the visit on when it is here.

    Pages are requested while a slot is free, up to ``page_slots`` ahead, so that the beats of one
    follow those of the one before without a gap.

    Members
    -------
    records, frames
        Visits and the addresses of their pages, in step; both transfer in the same cycle.
    open
        Pages may be requested (all appends of the layer are in memory).
    memory
        Reads of up to 256 beats.
    write
        To :class:`~hdl.kv.slots.PageSlots`; three cycles after the beat at the most.
    visits
        Visits whose slot is filled, readable from this cycle.
    slot_release
        Pulse: the oldest slot in use is free.
    expecting
        Requested beats are on their way, or a request waits to be taken.
    full
        No slot is free.
    idle
        Nothing inside (slots may still be in use).
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "model": In(model_layout()),
                "records": In(stream.Signature(visit_record(config))),
                "frames": In(stream.Signature(ADDRESS_BITS)),
                "open": In(1),
                "memory": Out(read_client(config)),
                "write": Out(slot_write(config)),
                "visits": Out(stream.Signature(visit_layout(config))),
                "slot_release": In(1),
                "expecting": Out(1),
                "full": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        slots = config.page_slots
        port_bytes = config.port_bytes
        element_shift = log2_exact(1024 // port_bytes)
        scale_beats = PAGE_TOKENS // port_bytes
        beat_bits = 4 + element_shift + 2  # of a page: 2 * (HEAD_BLOCKS << element_shift) + scales
        before_last = Signal(4 + element_shift)  # beat of the elements of a half: last but one
        page_beats = Signal(beat_bits)
        m.d.sync += [
            before_last.eq((self.model.head_blocks << element_shift) - 2),
            page_beats.eq((self.model.head_blocks << (element_shift + 1)) + (2 * scale_beats)),
        ]

        # Slots: taken when a page's first request is prepared, free again by slot_release.
        free = Signal(range(slots + 1), init=slots)
        slot = Signal(range(slots))
        take = Signal()
        m.d.sync += free.eq(free + self.slot_release - take)
        m.d.comb += self.full.eq(free == 0)
        with m.If(self.slot_release):
            m.d.sync += Assert(free != slots)

        # Ask for pages.
        m.submodules.coming = coming = StreamFIFO(visit_layout(config), slots)
        request = self.memory.request
        base, offset = Signal(ADDRESS_BITS), Signal(32)
        left = Signal(beat_bits)
        last = Signal()
        m.d.comb += [
            last.eq(left <= REQUEST_BEATS),
            request.p.beats.eq(Mux(last, left, REQUEST_BEATS)),
            coming.i.payload.eq(self.records.p.visit),
            coming.i.p.slot.eq(slot),
            coming.i.valid.eq(take),
        ]
        # In steps, one register each: what a page needs is there (`take`), its request's address is
        # a sum (`summing`), the requests (`request.valid`).
        summing = Signal()
        m.d.comb += [self.records.ready.eq(take), self.frames.ready.eq(take)]
        m.d.sync += [
            take.eq(
                self.open
                & self.records.valid
                & self.frames.valid
                & coming.i.ready
                & ~self.full
                & ~(take | summing | request.valid)
            ),
            summing.eq(take),
        ]
        with m.If(take):
            m.d.sync += [
                base.eq(self.frames.payload),
                offset.eq(self.records.p.offset),
                left.eq(page_beats),
                slot.eq(slot + 1),
            ]
        with m.If(summing):
            m.d.sync += [request.p.address.eq(base + offset), request.valid.eq(1)]
        with m.Elif(request.valid & request.ready):
            m.d.sync += [
                request.p.address.eq(request.p.address + REQUEST_BEATS * port_bytes),
                left.eq(left - REQUEST_BEATS),
                request.valid.eq(~last),
            ]

        # Take the beats: K elements, K scales, V elements, V scales.
        # They come from afar: they are registered first.
        beat, payload = Signal(), Signal(config.port_bits, reset_less=True)
        m.d.sync += [beat.eq(self.memory.data.valid), payload.eq(self.memory.data.payload)]
        scales = Signal()
        value = Signal()
        fill_slot = Signal(range(slots))
        count = Signal(range(max(config.slot_beats, 2)))
        at_last = Signal()  # the next beat is its part's last
        part_end = Signal()
        page_end = Signal()
        m.d.comb += [
            part_end.eq(beat & at_last),
            page_end.eq(part_end & scales & value),
        ]
        m.d.sync += self.write.elements.eq(beat & ~scales)
        lanes = [count[: (scale_beats - 1).bit_length()] == i for i in range(scale_beats)]
        for enables, half in ((self.write.key_scales, ~value), (self.write.value_scales, value)):
            m.d.sync += enables.eq(Cat(lanes) & (beat & scales & half).replicate(scale_beats))
        with m.If(beat):
            m.d.sync += [
                self.write.value.eq(value),
                self.write.slot.eq(fill_slot),
                self.write.beat.eq(count),
                self.write.data.eq(payload),
                count.eq(count + 1),
                at_last.eq(count == Mux(scales, max(scale_beats - 2, 0), before_last)),
            ]
        with m.If(part_end):
            m.d.sync += at_last.eq(~scales & (scale_beats == 1))
            m.d.sync += [count.eq(0), scales.eq(~scales), value.eq(value ^ scales)]
        with m.If(page_end):
            m.d.sync += fill_slot.eq(fill_slot + 1)

        # Pages on their way, and pages that are here but whose visit is not passed on.
        expected = Signal(range(slots + 1))
        written = Signal()
        here = Signal(range(slots + 1))
        sent = Signal()
        m.d.sync += [
            expected.eq(expected + take - written),  # a cycle late
            written.eq(page_end),
            here.eq(here + written - sent),
        ]
        m.d.comb += [
            self.visits.payload.eq(coming.o.payload),
            self.visits.valid.eq(here != 0),
            coming.o.ready.eq(self.visits.ready & (here != 0)),
            sent.eq(self.visits.valid & self.visits.ready),
            self.expecting.eq(expected != 0),
            self.idle.eq(~(take | summing | request.valid) & ~coming.o.valid),
        ]
        with m.If(beat):
            m.d.sync += Assert(expected != 0)
        with m.If(self.visits.valid):
            m.d.sync += Assert(coming.o.valid)
        return m
