"""The loop nest of an ATTEND: segments, KV heads, batches, pages."""

from amaranth import Module, Signal
from amaranth.hdl import Assert
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import (
    POSITION_BITS,
    ROW_BITS,
    model_layout,
    read_port,
    segment_entry,
    step_layout,
)
from hdl.kv.records import PAGE_INDEX_BITS, Operand, visit_record, walk_request

__all__ = ["VisitNest"]


class VisitNest(Component):
    """Make the visits of an ATTEND in the order of ``visit_layout``; sums only, no products.

    Members
    -------
    start
        Pulse; ``offset`` (ATTEND's operand) and ``group_blocks`` (HEAD_GROUP * HEAD_BLOCKS) hold
        until ``busy`` falls.
    page_bytes_of_head
        Bytes of a head's K and V halves; holds too.
    segments
        Segment table.
    walk, records
        For each visit its page to translate and its record (``slot`` 0: assigned later), a cycle
        later; it is taken at once, for the visit was made when there was room.
    busy
        Visits are left to make.
    bad
        Not 0: an :class:`~hdl.kv.records.Operand` error; held until reset, no more visits.

    A visit every third cycle; a batch costs as many cycles as it has rows, and four; a head one, a
    segment two. All of it runs ahead of the pages, as far as the FIFOs behind it reach.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "model": In(model_layout()),
                "step": In(step_layout()),
                "start": In(1),
                "offset": In(32),
                "group_blocks": In(11),
                "page_bytes_of_head": In(16),
                "segments": Out(read_port(6, segment_entry())),
                "walk": Out(stream.Signature(walk_request())),
                "records": Out(stream.Signature(visit_record(config))),
                "busy": Out(1),
                "bad": Out(Operand),
            }
        )

    def elaborate(self, platform):
        m = Module()
        model = self.model
        entry = self.segments.data
        record = Signal.like(self.records.p)
        visit = record.visit

        segment = Signal(ROW_BITS)
        segment_row = Signal(ROW_BITS)
        segment_rows = Signal(ROW_BITS)
        segment_position = Signal(POSITION_BITS)
        segment_query = Signal(20)  # first row of the segment * QUERY_STRIDE

        head = Signal(8)
        head_query = Signal(20)  # first query head of the KV head * HEAD_BLOCKS
        head_offset = Signal(33)
        head_end = Signal(33)

        left = Signal(ROW_BITS)  # rows of the segment after this batch
        row = Signal(ROW_BITS)  # the batch
        rows = Signal(ROW_BITS)
        position = Signal(POSITION_BITS)
        query_rows = Signal(ROW_BITS + 1)
        query = Signal(20)  # row * QUERY_STRIDE
        next_query = Signal(20)

        page = Signal(PAGE_INDEX_BITS)
        last_page = Signal(PAGE_INDEX_BITS)
        first, last = Signal(), Signal()  # page of the batch
        before_last = Signal(PAGE_INDEX_BITS)  # pages from this one to the last
        parity = Signal()

        too_long = Signal()
        final_row = Signal()  # of the batch
        last_segment = Signal()
        last_head = Signal()
        more_rows, more_heads, ends = Signal(), Signal(), Signal()  # behind this batch
        issue, paging, room = Signal(), Signal(), Signal()  # a visit goes; PAGE; it may
        m.d.comb += [
            self.segments.address.eq(segment),
            self.walk.p.index.eq(page),
            visit.first.eq(first),
            visit.last.eq(last),
            visit.parity.eq(parity),
            visit.end.eq(last & ends),
            visit.row.eq(row),
            visit.rows.eq(rows),
            visit.query_rows.eq(query_rows),
            visit.position.eq(position),
            visit.token.eq(page << 5),
            record.offset.eq(head_offset),
        ]

        # (A batch takes longer than this to begin.)
        m.d.sync += [
            last_segment.eq(segment + 1 == self.step.segments),
            last_head.eq(head + 1 == model.kv_heads),
            more_rows.eq(left != 0),
            more_heads.eq(~last_head),
            ends.eq((left == 0) & last_head & last_segment),
        ]
        # Visits, every third cycle at the most: whether there is room, here and in the walk, is a
        # cycle old.
        m.d.sync += [
            room.eq(self.records.ready & self.walk.ready & ~issue & ~self.records.valid),
            self.records.valid.eq(issue),
            self.records.p.eq(record),
        ]
        m.d.comb += [
            issue.eq(paging & room),
            self.walk.valid.eq(issue),
        ]
        with m.If(issue):
            m.d.sync += Assert(self.walk.ready)
        with m.If(self.records.valid):
            m.d.sync += Assert(self.records.ready)
        # The entry stands as long as its segment (the last visit is out when `segment` goes on).
        m.d.sync += [
            segment_row.eq(entry.row),
            segment_rows.eq(entry.rows),
            segment_position.eq(entry.position),
            self.walk.p.table.eq(entry.table),
            self.walk.p.pages.eq(entry.pages),
            self.walk.p.owner.eq(entry.owner),
        ]
        # What many registers wait for, as registers of their own: the states SEGMENT, HEAD, TURN.
        at_segment, at_head, turned = Signal(), Signal(), Signal()
        with m.If(issue):
            m.d.sync += [
                page.eq(page + 1),
                first.eq(0),
                before_last.eq(before_last - 1),
                last.eq(before_last == 1),
                paging.eq(~last),
            ]
        m.d.sync += [turned.eq(issue & last), too_long.eq(head_end > model.kv_page_bytes)]
        with m.If(turned):
            m.d.sync += [
                parity.eq(~parity),
                row.eq(row + rows),
                position.eq(position + rows),
            ]
            with m.If(~more_rows):
                m.d.sync += [head.eq(head + 1), head_query.eq(head_query + self.group_blocks)]
        with m.If(at_segment):
            m.d.sync += [head.eq(0), head_query.eq(0), head_end.eq(self.offset)]
        with m.If(at_head):
            m.d.sync += [
                head_offset.eq(head_end),
                head_end.eq(head_end + self.page_bytes_of_head),
                left.eq(segment_rows),
                row.eq(segment_row),
                position.eq(segment_position),
                next_query.eq(segment_query),
            ]
        with m.FSM() as fsm:
            m.d.sync += [
                at_segment.eq(fsm.ongoing("READ")),
                at_head.eq(at_segment | (turned & ~more_rows & more_heads)),
            ]
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [segment.eq(0), next_query.eq(0), parity.eq(0)]
                with m.If(self.start):
                    m.next = "READ"
            with m.State("READ"):
                m.d.sync += segment_query.eq(next_query)  # segments are contiguous rows
                m.next = "SEGMENT"
            with m.State("SEGMENT"):
                m.next = "HEAD"
            with m.State("HEAD"):
                m.next = "BATCH"
                with m.If(segment_rows == 0):
                    m.d.sync += self.bad.eq(Operand.STEP)
                    m.next = "STUCK"
            with m.State("BATCH"):
                m.d.sync += final_row.eq((left == 1) | (model.batch_rows == 1))
                m.d.sync += [rows.eq(0), query_rows.eq(0), query.eq(next_query)]
                m.next = "COUNT"
            with m.State("COUNT"):
                m.d.sync += [
                    rows.eq(rows + 1),
                    query_rows.eq(query_rows + model.head_group),
                    next_query.eq(next_query + model.query_stride),
                    left.eq(left - 1),
                ]
                m.d.sync += final_row.eq((left == 2) | (rows + 2 == model.batch_rows))
                with m.If(final_row):
                    m.next = "RANGE"
                with m.If(too_long):
                    m.d.sync += self.bad.eq(Operand.PAGE_RANGE)
                    m.next = "STUCK"
                # One too many is not past the sum's width: HEAD_GROUP is a row count at the most.
                with m.Elif(query_rows > self._config.row_capacity):
                    m.d.sync += self.bad.eq(Operand.BATCH)
                    m.next = "STUCK"
            with m.State("RANGE"):
                m.d.sync += [
                    page.eq(0),
                    last_page.eq((position + rows - 1) >> 5),
                    visit.query_offset.eq(query + head_query),
                ]
                m.next = "SPAN"
                with m.If(query_rows > self._config.row_capacity):
                    m.d.sync += self.bad.eq(Operand.BATCH)
                    m.next = "STUCK"
            with m.State("SPAN"):
                m.d.sync += [
                    paging.eq(1),
                    first.eq(1),
                    last.eq(last_page == 0),
                    before_last.eq(last_page),
                ]
                m.next = "PAGE"
            with m.State("PAGE"):
                with m.If(issue & last):
                    m.next = "TURN"
            with m.State("TURN"):
                with m.If(more_rows):
                    m.next = "BATCH"
                with m.Elif(more_heads):
                    m.next = "HEAD"
                with m.Elif(~ends):
                    m.d.sync += segment.eq(segment + 1)
                    m.next = "READ"
                with m.Else():
                    m.next = "IDLE"
            with m.State("STUCK"):
                pass
        return m
