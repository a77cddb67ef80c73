"""The controller: doorbell to done, and every fault in between."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.control.axi_lite import axi4_lite_signature
from hdl.control.counters import Counters
from hdl.control.descriptor import DescriptorReader
from hdl.control.dispatch import QUEUES, Dispatcher
from hdl.control.faults import FaultRecord
from hdl.control.registers import HostRegisters
from hdl.control.semaphores import SemaphoreFile
from hdl.interfaces import (
    ADDRESS_BITS,
    INDEX_BITS,
    READ_WINDOW_BITS,
    ROW_BITS,
    activity_signature,
    fault_signature,
    instruction_signature,
    model_layout,
    read_client,
    read_port,
    row_entry,
    segment_entry,
    semaphore_signature,
    step_layout,
)
from hdl.isa import Cause, Counter, DescriptorError, Fault, ModelRegister, Unit

__all__ = ["FAULT_SOURCES", "Controller"]

FAULT_SOURCES = ("port", *(u.name.lower() for u in QUEUES))
"""Who reports faults beside the controller itself, first served first."""

_QUIET_CYCLES = 8  # all units idle for so long: nothing is on its way between two of them


class Controller(wiring.Component):
    """Runs one step for each doorbell.

    A step: clear counters and semaphores, read the descriptor and dispatch meanwhile (what depends
    on the step only when the descriptor is found good), and after END wait until every unit and the
    memory port are idle. A fault of anyone, the watchdog or the host's abort stops it:
    ``unit_reset`` is held until the memory port has drained, the first fault is kept in the record,
    and the next doorbell starts afresh. A doorbell while busy is ignored.

    The head of the program is read between steps, from the end of one (or from a write of PROGRAM)
    on, so that a doorbell finds it on chip. If that goes wrong, the next step reads it again.

    Members
    -------
    bus : In(axi4_lite_signature)
    irq : Out(1)
        Level: a step has ended, enabled and not acknowledged.
    base, limit : Out(40)
        Window of legal memory addresses.
    window : Out(READ_WINDOW_BITS)
        Beats that may be asked for ahead of memory.
    tape, load, matrix, vector, kv : Out(instruction_signature)
    semaphore_tape, ... : In(semaphore_signature)
    fault_port, fault_tape, ... : In(fault_signature)
    active : In(5), tape_left : In(1), port_idle : In(1)
        A bit for each unit of ``QUEUES`` that works on an instruction; unread tape; port drained.
    progress : In(1)
        A memory beat moved: feeds the watchdog.
    events : In(len(Counter))
        Counter events but those that the controller makes itself (CYCLES, INSTRUCTIONS).
    unit_reset : Out(1), port_abort : Out(1)
        Resets every unit; makes the memory port drop what it has on its way.
    running, dispatched : Out(1), index : Out, activity : Out(activity_signature)
        For the trace: the cycles that are counted; an instruction is handed out, its index; as
        every unit.
    model, step : Out; rows, segments, outputs : In(read_port)
    descriptor, program : Out(read_client)
    """

    def __init__(self, config: Config):
        self._config = config
        names = [u.name.lower() for u in QUEUES]
        super().__init__(
            {
                "bus": In(axi4_lite_signature()),
                "irq": Out(1),
                "base": Out(ADDRESS_BITS),
                "limit": Out(ADDRESS_BITS),
                "window": Out(READ_WINDOW_BITS),
                **{n: Out(instruction_signature()) for n in names},
                **{f"semaphore_{n}": In(semaphore_signature()) for n in names},
                **{f"fault_{n}": In(fault_signature()) for n in FAULT_SOURCES},
                "active": In(len(QUEUES)),
                "tape_left": In(1),
                "port_idle": In(1),
                "progress": In(1),
                "events": In(len(Counter)),
                "unit_reset": Out(1, init=1),
                "port_abort": Out(1),
                "running": Out(1),
                "faulted": Out(1),
                "dispatched": Out(1),
                "index": Out(INDEX_BITS),
                "activity": Out(activity_signature()),
                "model": Out(model_layout()),
                "step": Out(step_layout()),
                "rows": In(read_port(6, row_entry())),
                "segments": In(read_port(6, segment_entry())),
                "outputs": In(read_port(6, ROW_BITS)),
                "descriptor": Out(read_client(config)),
                "program": Out(read_client(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        m.submodules.registers = registers = HostRegisters(c)
        m.submodules.counters = counters = Counters()
        reset = self.unit_reset
        m.submodules.descriptor = descriptor = ResetInserter(reset)(DescriptorReader(c))
        fetch, forget = Signal(), Signal()  # the head of the program: read it; drop it
        m.submodules.dispatch = dispatch = ResetInserter(forget)(Dispatcher(c))
        m.submodules.semaphores = semaphores = SemaphoreFile(len(QUEUES))

        for i, unit in enumerate(QUEUES):
            name = unit.name.lower()
            connect(m, getattr(dispatch, name), flipped(getattr(self, name)))
            # The unit's side is an output of the unit, an input here: hand it through.
            connect(m, flipped(getattr(self, f"semaphore_{name}")), getattr(semaphores, f"unit{i}"))
        for name in ("rows", "segments", "outputs"):
            connect(m, flipped(getattr(self, name)), getattr(descriptor, name))
        connect(m, flipped(self.bus), registers.bus)
        connect(m, flipped(self.descriptor), descriptor.memory)
        connect(m, flipped(self.program), dispatch.memory)
        m.d.comb += [
            self.base.eq(registers.base),
            self.limit.eq(registers.limit),
            self.window.eq(registers.window),
            self.model.eq(dispatch.model),
            self.step.eq(descriptor.step),
            descriptor.address.eq(registers.descriptor),
            dispatch.program.eq(registers.program),
            dispatch.fetch.eq(fetch),
            dispatch.counted.eq(descriptor.counted),
            dispatch.tables.eq(descriptor.good),
            registers.ahead.eq(dispatch.ahead & ~registers.busy),
            registers.counter_data.eq(counters.data),
            registers.counters_settled.eq(counters.settled),
            counters.index.eq(registers.counter_index),
        ]

        rung, running, quiet = Signal(), Signal(), Signal()
        was_running = Signal()  # a cycle ago; these cycles are counted
        m.d.sync += [was_running.eq(running), counters.clear.eq(0)]
        self._stop = stop = Signal()  # the host wants an end of it
        with m.If(~running):
            m.d.sync += stop.eq(0)
        with m.Elif(registers.abort):
            m.d.sync += stop.eq(1)
        happened = Signal.like(self.events)  # the counters' events, a cycle on their way
        watch = Signal(32)  # cycles without progress
        begin = Signal()  # the cycle of START
        m.d.sync += [begin.eq(0), semaphores.clear.eq(0)]
        m.d.comb += [
            descriptor.start.eq(begin),
            dispatch.start.eq(begin),
            counters.events.eq(happened),
        ]
        m.d.sync += [
            happened.eq(self.events),
            happened[Counter.CYCLES.value].eq(1),
            happened[Counter.INSTRUCTIONS.value].eq(dispatch.dispatched),
            counters.enable.eq(was_running),
        ]

        quiet_cycles = Signal(range(_QUIET_CYCLES + 1))
        progress, resting = Signal(), Signal()  # a cycle ago
        active, tape_left = Signal(len(QUEUES)), Signal()
        port_idle, port_fault = Signal(), Signal()
        m.d.sync += [
            port_idle.eq(self.port_idle),
            port_fault.eq(self.fault_port.valid),
            progress.eq(self.progress | dispatch.dispatched),
            active.eq(self.active),
            tape_left.eq(self.tape_left),
            resting.eq(dispatch.ended & ~active.any() & port_idle),
        ]
        m.d.comb += quiet.eq(quiet_cycles == _QUIET_CYCLES)
        unread = quiet & tape_left
        record = self._fault_record(m, registers, descriptor, dispatch, semaphores, watch, unread)
        m.d.sync += record.clear.eq(0)
        with m.If(registers.acknowledge):
            m.d.sync += self.irq.eq(0)
        with m.If(progress | ~was_running):
            m.d.sync += watch.eq(0)
        with m.Else():
            m.d.sync += watch.eq(watch + 1)

        def finish():
            m.d.sync += [forget.eq(1), reset.eq(1)]  # what was read past END
            m.d.sync += [registers.done.eq(1), self.irq.eq(registers.interrupt_enable)]
            m.next = "IDLE"

        def drop():
            m.d.sync += [forget.eq(1), self.port_abort.eq(1)]
            m.next = "FORGET"

        def ring():
            m.d.sync += [counters.clear.eq(1), rung.eq(1), registers.done.eq(0), self.irq.eq(0)]

        # Between steps the units are in reset, but the head of the program is read already. It is
        # not read before the host has said where a program is.
        known, fetched = Signal(), Signal()
        m.d.sync += fetch.eq(0)
        with m.If(forget):
            m.d.sync += fetched.eq(0)
        with m.Elif(fetch):
            m.d.sync += fetched.eq(1)
        with m.FSM() as fsm:
            m.d.comb += [
                running.eq(rung | ~(fsm.ongoing("IDLE") | fsm.ongoing("FORGET"))),
                registers.busy.eq(running),
                record.enable.eq(running),
            ]
            with m.State("IDLE"):
                m.d.sync += [quiet_cycles.eq(0), forget.eq(0)]  # every step starts from reset
                with m.If(registers.moved):
                    m.d.sync += known.eq(1)
                    drop()
                with m.Elif(rung & port_fault):  # reading ahead; now it counts
                    drop()
                with m.Else():
                    m.d.sync += fetch.eq(~fetched & ~fetch & (known | rung))
                    with m.If(rung):
                        m.d.sync += [semaphores.clear.eq(1), record.clear.eq(1)]
                        m.d.sync += [rung.eq(0), begin.eq(1), reset.eq(0)]
                        m.next = "START"
                with m.If(registers.doorbell):
                    ring()
            with m.State("FORGET"):
                with m.If(port_idle & ~registers.moved):
                    m.d.sync += [forget.eq(0), self.port_abort.eq(0)]
                    m.next = "IDLE"
                with m.If(registers.doorbell):
                    ring()
            with m.State("START"):
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(resting):
                    with m.If(~quiet):
                        m.d.sync += quiet_cycles.eq(quiet_cycles + 1)
                with m.Else():
                    m.d.sync += quiet_cycles.eq(0)
                with m.If(record.found):
                    m.d.sync += [reset.eq(1), forget.eq(1), self.port_abort.eq(1)]
                    m.next = "ABORT"
                with m.Elif(quiet & ~tape_left & ~record.noticed):
                    finish()
            with m.State("ABORT"):
                with m.If(port_idle):
                    m.d.sync += self.port_abort.eq(0)
                    finish()

        activity = self.activity
        m.d.comb += [
            self.running.eq(was_running),
            self.faulted.eq(registers.faulted),
            self.dispatched.eq(dispatch.dispatched),
            self.index.eq(dispatch.index),
        ]
        with m.If(fsm.ongoing("RUN")):
            for name in activity_signature().members:
                m.d.comb += getattr(activity, name).eq(getattr(dispatch.activity, name))
        with m.Elif(fsm.ongoing("START")):
            m.d.comb += [activity.starved.eq(1), activity.cause.eq(Cause.PIPELINE)]
        with m.Elif(was_running):
            m.d.comb += [activity.blocked.eq(1), activity.cause.eq(Cause.DRAIN)]
        return m

    def _fault_record(self, m, registers, descriptor, dispatch, semaphores, watch, unread):
        """Collects every reason to stop; returns the record."""
        model, written = self.model, dispatch.written
        # Comparisons stand in registers; what is a pulse is kept for the record.
        no_token, no_position, idle_long, lost = Signal(), Signal(), Signal(), Signal()
        broken = Signal(DescriptorError)
        m.d.sync += [
            no_token.eq(
                descriptor.good
                & written[ModelRegister.VOCABULARY.value]
                & (descriptor.last_token >= model.vocabulary)
            ),
            no_position.eq(
                descriptor.good
                & written[ModelRegister.CONTEXT.value]
                & (descriptor.last_position >= model.context)
            ),
            idle_long.eq((watch >= registers.watchdog) & (registers.watchdog != 0)),
            lost.eq(semaphores.overflow),
        ]
        with m.If(self.unit_reset):
            m.d.sync += [broken.eq(DescriptorError.NONE), no_token.eq(0), no_position.eq(0)]
        with m.Elif(descriptor.error != DescriptorError.NONE):
            m.d.sync += broken.eq(descriptor.error)
        own = [  # condition, cause, detail: the controller's own reasons
            (broken != DescriptorError.NONE, Fault.BAD_DESCRIPTOR, broken),
            (no_token, Fault.BAD_DESCRIPTOR, DescriptorError.TOKEN),
            (no_position, Fault.BAD_DESCRIPTOR, DescriptorError.POSITION),
            (dispatch.fault != Fault.NONE, dispatch.fault, 0),
            (lost, Fault.SEMAPHORE, 0),
            (unread, Fault.TAPE_LEFT, 0),
            (self._stop, Fault.WATCHDOG, 1),
            (idle_long, Fault.WATCHDOG, 0),
        ]
        units = [Unit.CONTROL if n == "port" else Unit[n.upper()] for n in FAULT_SOURCES]
        m.submodules.record = record = FaultRecord((*units, *[Unit.CONTROL] * len(own)))
        for i, name in enumerate(FAULT_SOURCES):
            connect(m, flipped(getattr(self, f"fault_{name}")), getattr(record, f"source{i}"))
        for i, (condition, cause, detail) in enumerate(own, len(FAULT_SOURCES)):
            source = getattr(record, f"source{i}")
            m.d.comb += [
                source.valid.eq(condition),
                source.cause.eq(cause),
                source.detail.eq(detail),
                source.index.eq(dispatch.index),
            ]
        m.d.comb += [
            registers.faulted.eq(record.found & registers.done),
            registers.cause.eq(record.cause),
            registers.detail.eq(record.detail),
            registers.unit.eq(record.unit),
            registers.index.eq(record.index),
            registers.address.eq(record.address),
        ]
        return record
