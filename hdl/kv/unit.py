"""The KV cache: pages of quantised keys and values, found, written and streamed."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.utils import bits_for

from hdl.config import PAGE_TOKENS, Config
from hdl.interfaces import (
    INDEX_BITS,
    activity_signature,
    append_payload,
    fault_signature,
    instruction_signature,
    model_layout,
    read_client,
    read_port,
    segment_entry,
    semaphore_signature,
    step_layout,
    visit_layout,
    write_client,
)
from hdl.isa import Cause, Fault, Opcode, instruction_layout
from hdl.kv.append import AppendWriter
from hdl.kv.fetch import PageFetch
from hdl.kv.frames import RowFrames
from hdl.kv.on_chip import OnChipPages
from hdl.kv.operands import LayerTotals, OperandCheck
from hdl.kv.records import Operand, visit_record
from hdl.kv.slots import PageSlots
from hdl.kv.visits import VisitNest
from hdl.kv.walk import PageWalk
from hdl.streams import StreamFIFO

__all__ = ["KVCache", "KVUnit"]


class KVUnit(Component):
    """PREPARE and ATTEND, and the appends of the vector unit.

    PREPARE translates the page of every row of the step, after its semaphores; it gives its
    signals when all are in the frame table. ATTEND fetches the page of every visit and sends the
    visit to matrix and vector unit; it neither waits nor signals. Appended blocks are taken
    whenever a PREPARE is complete; pages are read once 2 * KV_HEADS * rows head-rows were appended
    since the last ATTEND (or PREPARE) and all their writes are done. A fault stops the unit.

    With ``config.kv_on_chip_bytes`` the pages are in an on-chip memory; ``pages`` and ``memory``
    stay silent then, page and owner tables are still read from memory.

    Members (directions as in docs/spec.md section 4)
    -------
    instruction, semaphore, fault, activity, model, step
        As every unit. Fault details: :class:`~hdl.kv.walk.PageWalk`,
        :class:`~hdl.kv.records.Operand`. ``index`` is that of the last instruction taken.
    segments
        Segment table.
    walk, pages
        Reads of page and owner tables (single beats), and of pages.
    memory, append
        Writes of new keys and values, and where they come from.
    matrix_visits, vector_visits
        Every visit goes to both.
    page_elements, key_scales, value_scales
        Read ports of the page slots.
    slot_release
        Pulse of the matrix unit: the oldest slot in use is free.
    """

    def __init__(self, config: Config):
        self._config = config
        slot_address = 3 + 1 + bits_for(config.slot_beats - 1)
        super().__init__(
            {
                "instruction": In(instruction_signature()),
                "semaphore": Out(semaphore_signature()),
                "fault": Out(fault_signature()),
                "activity": Out(activity_signature()),
                "model": In(model_layout()),
                "step": In(step_layout()),
                "segments": Out(read_port(6, segment_entry())),
                "walk": Out(read_client(config)),
                "pages": Out(read_client(config)),
                "memory": Out(write_client(config)),
                "append": In(stream.Signature(append_payload())),
                "matrix_visits": Out(stream.Signature(visit_layout(config))),
                "vector_visits": Out(stream.Signature(visit_layout(config))),
                "page_elements": In(read_port(slot_address, config.port_bits)),
                "key_scales": In(read_port(3, 8 * PAGE_TOKENS)),
                "value_scales": In(read_port(3, 8 * PAGE_TOKENS)),
                "slot_release": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.check = check = OperandCheck(config)
        m.submodules.totals = totals = LayerTotals(config)
        m.submodules.page_walk = walk = PageWalk(config)
        m.submodules.frames = frames = RowFrames(config)
        m.submodules.append_writer = writer = AppendWriter(config)
        m.submodules.nest = nest = VisitNest(config)
        m.submodules.records = records = StreamFIFO(
            visit_record(config), 4 * config.page_slots, block_memory=True
        )
        m.submodules.fetch = fetch = PageFetch(config)
        m.submodules.slots = slots = PageSlots(config)
        for part in (check, totals, walk, writer, nest, fetch):
            m.d.comb += part.model.eq(self.model)
        for part in (check, totals, frames, nest):
            m.d.comb += part.step.eq(self.step)

        # Instructions.
        attend = instruction_layout(Opcode.ATTEND)
        word = Signal(attend)
        index = Signal(INDEX_BITS)
        incoming = self.instruction.p
        prepared = Signal()
        preparing = Signal()
        over = Signal()  # it is done: a cycle old
        totalled = Signal()  # the totals are: likewise
        open_ = Signal()  # this ATTEND's layer is in memory
        bad = Signal(Operand)
        illegal = Signal()
        stopped = Signal()
        m.d.comb += [
            stopped.eq(self.fault.valid),
            check.offset.eq(Mux(word.opcode == Opcode.ATTEND, word.offset, 0)),
            self.semaphore.wait_mask.eq(word.wait),
        ]
        m.d.sync += [writer.restart.eq(0), totals.start.eq(0)]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.instruction.ready.eq(~stopped)
                with m.If(self.instruction.valid & ~stopped):
                    m.d.sync += [word.eq(incoming.word), index.eq(incoming.index)]
                    m.next = "DECODE"
            with m.State("DECODE"):
                with m.If(word.opcode == Opcode.PREPARE):
                    m.d.sync += prepared.eq(0)
                    m.next = "WAIT"
                with m.Elif((word.opcode == Opcode.ATTEND) & prepared):
                    m.next = "CHECK"
                with m.Else():
                    m.d.comb += illegal.eq(1)
                    m.next = "STOPPED"
            with m.State("WAIT"):
                m.d.comb += self.semaphore.wait_valid.eq(1)
                with m.If(self.semaphore.wait_ready):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += bad.eq(check.bad)
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += walk.forget.eq(1)
                with m.If(bad != Operand.NONE):
                    m.next = "STOPPED"
                with m.Elif(word.opcode == Opcode.PREPARE):
                    m.d.comb += frames.start.eq(1)
                    m.d.sync += [totals.start.eq(1), preparing.eq(1)]
                    m.next = "PREPARE"
                with m.Else():
                    m.d.comb += nest.start.eq(1)
                    m.d.sync += open_.eq(0)
                    m.next = "ATTEND"
            with m.State("PREPARE"):
                with m.If(frames.done):
                    m.d.sync += preparing.eq(0)
                    m.next = "TOTALS"
            with m.State("TOTALS"):
                m.d.sync += totalled.eq(~totals.busy & ~totalled)
                with m.If(totalled):
                    m.d.comb += self.semaphore.signal.eq(word.signal)
                    m.d.comb += self.activity.finished.eq(1)
                    m.d.sync += [prepared.eq(1), writer.restart.eq(1)]
                    m.next = "IDLE"
            with m.State("ATTEND"):
                with m.If(writer.complete & ~open_):
                    m.d.sync += [open_.eq(1), writer.restart.eq(1)]
                m.d.sync += over.eq(
                    open_ & ~nest.busy & walk.idle & ~records.o.valid & fetch.idle & ~over
                )
                with m.If(over):
                    m.d.comb += self.activity.finished.eq(1)
                    m.next = "IDLE"
            with m.State("STOPPED"):
                pass

        # Translation serves PREPARE or ATTEND.
        m.d.comb += [
            self.segments.address.eq(
                Mux(preparing, frames.segments.address, nest.segments.address)
            ),
            frames.segments.data.eq(self.segments.data),
            nest.segments.data.eq(self.segments.data),
            walk.request.p.eq(Mux(preparing, frames.walk.p, nest.walk.p)),
            walk.request.valid.eq(Mux(preparing, frames.walk.valid, nest.walk.valid)),
            frames.walk.ready.eq(walk.request.ready & preparing),
            nest.walk.ready.eq(walk.request.ready & ~preparing),
            frames.pages.payload.eq(walk.pages.payload),
            frames.pages.valid.eq(walk.pages.valid & preparing),
            fetch.frames.payload.eq(walk.pages.payload),
            fetch.frames.valid.eq(walk.pages.valid & ~preparing),
            walk.pages.ready.eq(Mux(preparing, frames.pages.ready, fetch.frames.ready)),
        ]
        connect(m, walk.memory, flipped(self.walk))

        # Appends.
        connect(m, flipped(self.append), writer.append)
        connect(m, writer.frame, frames.frame)
        m.d.comb += [
            writer.enable.eq(prepared & ~stopped),
            writer.rows.eq(self.step.rows),
            writer.target.eq(totals.head_rows),
        ]

        # Pages of the visits.
        m.d.comb += [
            nest.offset.eq(word.offset),
            nest.group_blocks.eq(totals.group_blocks),
            nest.page_bytes_of_head.eq(totals.page_bytes_of_head),
            fetch.open.eq(open_),
            fetch.slot_release.eq(self.slot_release),
            slots.write.eq(fetch.write),
        ]
        connect(m, nest.records, records.i)
        connect(m, records.o, fetch.records)
        connect(m, flipped(self.page_elements), slots.page_elements)
        connect(m, flipped(self.key_scales), slots.key_scales)
        connect(m, flipped(self.value_scales), slots.value_scales)
        reports = [walk.fault, writer.fault]
        if config.kv_on_chip_bytes:
            m.submodules.on_chip = on_chip = OnChipPages(config)
            m.d.comb += on_chip.model.eq(self.model)
            connect(m, fetch.memory, on_chip.pages)
            connect(m, writer.memory, on_chip.writes)
            reports.append(on_chip.fault)
        else:
            connect(m, fetch.memory, flipped(self.pages))
            connect(m, writer.memory, flipped(self.memory))

        # A visit goes to both, each when it likes.
        both = (self.matrix_visits, self.vector_visits)
        taken = Signal(2)
        passed = Signal(2)
        for i, out in enumerate(both):
            m.d.comb += [
                out.payload.eq(fetch.visits.payload),
                out.valid.eq(fetch.visits.valid & ~taken[i]),
                passed[i].eq(taken[i] | out.ready),
            ]
        m.d.comb += fetch.visits.ready.eq(passed.all())
        with m.If(fetch.visits.valid):
            m.d.sync += taken.eq(Mux(passed.all(), 0, passed))

        self._faults(m, bad, illegal, nest.bad, frames.empty_segment, reports, index)

        # Activity. `waiting`: memory owes an answer.
        busy, waiting, blocked = Signal(), Signal(), Signal()
        beat = Signal()
        active = Signal()
        owed = walk.waiting | fetch.expecting | ~writer.quiet
        visit_stalls = fetch.visits.valid & ~fetch.visits.ready
        if config.kv_on_chip_bytes:
            beat_of_page = on_chip.pages.data.valid
        else:
            beat_of_page = self.pages.data.valid
        m.d.sync += beat.eq(beat_of_page | self.walk.data.valid)
        m.d.comb += [
            active.eq((~fsm.ongoing("IDLE") & ~fsm.ongoing("STOPPED")) | ~writer.quiet),
            waiting.eq(owed & ~beat),
            blocked.eq(
                ~beat
                & ~owed
                & (
                    fsm.ongoing("WAIT")
                    | (fsm.ongoing("ATTEND") & (~open_ | visit_stalls | fetch.full))
                )
            ),
            busy.eq(~waiting & ~blocked),
            self.activity.busy.eq(active & busy),
            self.activity.starved.eq(active & waiting),
            self.activity.blocked.eq(active & blocked),
        ]
        cause = self.activity.cause
        with m.If(waiting):
            m.d.comb += cause.eq(Mux(walk.waiting, Cause.WALK, Cause.WRITE))
            with m.If(fetch.expecting):
                m.d.comb += cause.eq(Cause.MEMORY)
        with m.Elif(fsm.ongoing("WAIT")):
            m.d.comb += cause.eq(Mux(self.semaphore.wait_ready, Cause.PIPELINE, Cause.SEMAPHORE))
        with m.Elif(~open_):
            m.d.comb += cause.eq(Cause.APPEND)
        with m.Else():
            m.d.comb += cause.eq(Mux(visit_stalls, Cause.VISIT, Cause.SLOT))
        return m

    def _faults(self, m, bad, illegal, nest_bad, empty_segment, reports, index):
        """The first fault found is held. Told a cycle late; its details stand."""
        fault = self.fault

        def late(flag):
            seen = Signal()
            m.d.sync += seen.eq(flag)
            return seen

        with m.If(~fault.valid):
            m.d.sync += [fault.index.eq(index), fault.address.eq(0)]
            with m.If(late(illegal)):
                m.d.sync += [fault.valid.eq(1), fault.cause.eq(Fault.ILLEGAL_INSTRUCTION)]
            for report in reports:
                with m.If(late(report.valid)):
                    m.d.sync += [
                        fault.valid.eq(1),
                        fault.cause.eq(report.cause),
                        fault.detail.eq(report.detail),
                        fault.address.eq(report.address),
                    ]
            for operand in (bad, nest_bad):
                with m.If(late(operand != Operand.NONE)):
                    m.d.sync += [
                        fault.valid.eq(1),
                        fault.cause.eq(Fault.BAD_OPERAND),
                        fault.detail.eq(operand),
                    ]
            with m.If(late(empty_segment)):
                m.d.sync += [
                    fault.valid.eq(1),
                    fault.cause.eq(Fault.BAD_OPERAND),
                    fault.detail.eq(Operand.STEP),
                ]


KVCache = KVUnit
