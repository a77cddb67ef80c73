"""PREPARE: where every row of the step is appended."""

from amaranth import Module, Mux, Signal
from amaranth.hdl import Assert
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import bits_for

from hdl.config import PAGE_TOKENS, Config
from hdl.interfaces import ADDRESS_BITS, ROW_BITS, read_port, segment_entry, step_layout
from hdl.kv.records import fill_record, frame_layout, walk_request
from hdl.streams import StreamFIFO

__all__ = ["RowFrames"]


class RowFrames(Component):
    """One walk a (segment, page that gets rows); the frame table keeps the outcome by row.

    Members
    -------
    start, done
        Pulses. ``done`` comes with the last row's entry written.
    segments
        Segment table.
    walk, pages
        To and from :class:`~hdl.kv.walk.PageWalk`, while a PREPARE runs.
    frame
        Read port of the table: address = row.
    empty_segment
        Pulse: a segment without rows; PREPARE stays unfinished.

    A segment costs 3 cycles, the first one more, a page 2; to fill, a page costs 2, a row 1;
    segments run ahead of the fill.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "step": In(step_layout()),
                "start": In(1),
                "done": Out(1),
                "segments": Out(read_port(6, segment_entry())),
                "walk": Out(stream.Signature(walk_request())),
                "pages": In(stream.Signature(ADDRESS_BITS)),
                "frame": In(read_port(bits_for(config.row_capacity - 1), frame_layout())),
                "empty_segment": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = 4 * self._config.page_slots - 1
        m.submodules.fills = fills = StreamFIFO(fill_record(), depth)
        m.submodules.table = table = Memory(
            shape=frame_layout(),
            depth=self._config.row_capacity,
            init=[],
            attrs={"no_rw_check": 1},  # read when it is whole
        )
        lookup = table.read_port()
        store = table.write_port()
        m.d.comb += [lookup.addr.eq(self.frame.address), self.frame.data.eq(lookup.data)]

        # Ask: the pages of a segment, first to last, with the rows each gets. The table shows the
        # next segment as soon as one is taken: before anything is added to a word of it, it is
        # in a register.
        segment = Signal(ROW_BITS)  # the next one
        row = Signal(ROW_BITS)
        left = Signal(ROW_BITS)
        token = Signal(5)
        here = Signal(ROW_BITS)
        last_segment = Signal()
        entry = self.segments.data
        first_row, rows, position = (
            Signal.like(field, name=name)
            for name, field in (
                ("first_row", entry.row),
                ("rows", entry.rows),
                ("position", entry.position),
            )
        )
        m.d.sync += [first_row.eq(entry.row), rows.eq(entry.rows), position.eq(entry.position)]
        walk = self.walk
        fill_in = fills.i
        issue = Signal()
        last_page = Signal()  # of the segment
        m.d.sync += self.empty_segment.eq(0)
        m.d.sync += last_segment.eq(segment == self.step.segments)
        m.d.comb += [
            self.segments.address.eq(segment),
            fill_in.p.row.eq(row),
            fill_in.p.rows.eq(here),
            fill_in.p.token.eq(token),
            fill_in.p.end.eq(last_segment & last_page),
        ]
        free = Signal(range(PAGE_TOKENS + 1))  # places in the page from `token` on
        m.d.sync += [
            here.eq(Mux(left < free, left, free)),
            last_page.eq(left <= free),
        ]
        # A page, every other cycle at the most: whether there is room for it, here and in the walk,
        # is a cycle old. The states TAKE and PAGE as registers of their own.
        at_take, at_page, room = Signal(), Signal(), Signal()
        m.d.sync += room.eq(fill_in.ready & walk.ready & ~issue)
        m.d.comb += [
            issue.eq(at_page & room),
            walk.valid.eq(issue),
            fill_in.valid.eq(issue),
        ]
        with m.If(issue):
            m.d.sync += [
                row.eq(row + here),
                left.eq(left - here),
                token.eq(0),
                free.eq(PAGE_TOKENS),
                walk.p.index.eq(walk.p.index + 1),
            ]
        with m.If(at_take):
            m.d.sync += [
                segment.eq(segment + 1),
                walk.p.table.eq(entry.table),
                walk.p.pages.eq(entry.pages),
                walk.p.owner.eq(entry.owner),
                row.eq(first_row),
                left.eq(rows),
                token.eq(position[:5]),
                free.eq(PAGE_TOKENS - position[:5]),
                walk.p.index.eq(position >> 5),
            ]
        with m.If(issue):
            m.d.sync += Assert(walk.ready)
        with m.FSM() as fsm:
            m.d.sync += [
                at_take.eq(fsm.ongoing("READ")),
                at_page.eq(
                    (fsm.ongoing("ROWS") & (left != 0)) | fsm.ongoing("NEXT") | (at_page & ~issue)
                ),
            ]
            with m.State("IDLE"):
                m.d.sync += segment.eq(0)
                with m.If(self.start):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "READ"
            with m.State("READ"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.next = "ROWS"
            with m.State("ROWS"):
                m.next = "PAGE"
                with m.If(left == 0):
                    m.d.sync += self.empty_segment.eq(1)
                    m.next = "STUCK"
            with m.State("NEXT"):
                m.next = "PAGE"
            with m.State("PAGE"):
                with m.If(issue):
                    m.next = "NEXT"
                    with m.If(last_page):
                        with m.If(last_segment):
                            m.next = "IDLE"
                        with m.Else():
                            m.next = "READ"
            with m.State("STUCK"):
                pass

        # Fill: rows of the page whose address is here.
        fill = fills.o
        begin, filling = Signal(), Signal()
        rows_left = Signal(ROW_BITS)
        end = Signal()
        m.d.comb += [
            self.pages.ready.eq(begin),
            fill.ready.eq(begin),
            store.en.eq(filling),
            self.done.eq(filling & (rows_left == 1) & end),
        ]
        m.d.sync += begin.eq(self.pages.valid & fill.valid & ~filling & ~begin)
        with m.If(filling):
            m.d.sync += [
                store.addr.eq(store.addr + 1),
                store.data.token.eq(store.data.token + 1),
                rows_left.eq(rows_left - 1),
                filling.eq(rows_left != 1),
            ]
        with m.Else():
            m.d.sync += [
                filling.eq(begin),
                store.addr.eq(fill.p.row),
                store.data.address.eq(self.pages.payload),
                store.data.token.eq(fill.p.token),
                rows_left.eq(fill.p.rows),
                end.eq(fill.p.end),
            ]
        return m
