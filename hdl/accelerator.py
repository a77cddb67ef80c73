"""The whole chip: wiring only."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.control.axi_lite import axi4_lite_signature
from hdl.control.controller import Controller
from hdl.control.dispatch import QUEUES
from hdl.isa import Cause, Counter, Unit
from hdl.kv import KVUnit
from hdl.matrix import MatrixUnit
from hdl.memory import (
    ActivationMemory,
    ConstantMemory,
    MemoryPort,
    RowLoader,
    RowMemory,
    TapeReader,
)
from hdl.memory.axi import axi4_signature
from hdl.replica import replica
from hdl.trace import BEATS, State, trace_signature
from hdl.vector import VectorUnit

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """A Serrano chip.

    Members
    -------
    s_axil : In(axi4_lite_signature)
        Host registers (``hdl.isa.HostRegister``).
    m_axi : Out(axi4_signature)
        Memory.
    irq : Out(1)
        A step has ended.
    running, faulted : Out(1)
        A step runs; the last step ended with a fault. For status lights.
    trace : Out(trace_signature), with the parameter ``trace``
        What every unit does in each cycle (``hdl.trace``).
    """

    def __init__(self, config: Config, *, trace: bool = False):
        self.config = config
        self._trace = trace
        super().__init__(
            {
                "s_axil": In(axi4_lite_signature()),
                "m_axi": Out(axi4_signature(config)),
                "irq": Out(1),
                "running": Out(1),
                "faulted": Out(1),
                **({"trace": Out(trace_signature())} if trace else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.control = control = Controller(c)
        m.submodules.port = port = MemoryPort(c)
        tape, load, kv = TapeReader(c), RowLoader(c), KVUnit(c)
        matrix, vector = MatrixUnit(c), VectorUnit(c)
        rows, constants, activations = RowMemory(c), ConstantMemory(c), ActivationMemory(c)
        units: dict[str, Any] = {"tape": tape, "load": load, "kv": kv}
        units |= {"matrix": matrix, "vector": vector}
        for name, u in units.items():
            reset = replica(m, control.unit_reset, f"{name}_reset", init=1)
            m.submodules[name] = ResetInserter(reset)(u)
        m.submodules.rows = rows
        m.submodules.constants = constants
        m.submodules.activations = activations

        connect(m, flipped(self.s_axil), control.bus)
        connect(m, port.axi, flipped(self.m_axi))
        m.d.comb += [
            self.irq.eq(control.irq),
            self.running.eq(control.running),
            self.faulted.eq(control.faulted),
        ]

        # Instructions, semaphores, faults
        for name, u in units.items():
            connect(m, getattr(control, name), u.instruction)
            connect(m, u.semaphore, getattr(control, f"semaphore_{name}"))
            connect(m, u.fault, getattr(control, f"fault_{name}"))
            if hasattr(u, "model"):
                m.d.comb += u.model.eq(control.model)
            if hasattr(u, "step"):
                m.d.comb += u.step.eq(control.step)
        connect(m, port.fault, control.fault_port)
        connect(m, load.rows, control.rows)
        connect(m, kv.segments, control.segments)
        connect(m, vector.outputs, control.outputs)
        m.d.comb += [
            port.base.eq(control.base),
            port.limit.eq(control.limit),
            port.window.eq(control.window),
            port.abort.eq(control.port_abort),
            control.port_idle.eq(port.idle),
            control.tape_left.eq(tape.left),
        ]

        # Memory port
        connect(m, control.descriptor, port.descriptor)
        connect(m, control.program, port.program)
        connect(m, kv.walk, port.walk)
        connect(m, load.memory, port.load)
        connect(m, kv.pages, port.pages)
        connect(m, tape.memory, port.tape)
        connect(m, kv.memory, port.kv)
        connect(m, vector.memory, port.rows)

        # Tape and pages to the array
        connect(m, tape.tape_elements, matrix.tape_elements)
        connect(m, tape.tape_scales, matrix.tape_scales)
        connect(m, kv.matrix_visits, matrix.visits)
        connect(m, kv.vector_visits, vector.visits)
        connect(m, matrix.page_elements, kv.page_elements)
        connect(m, matrix.key_scales, kv.key_scales)
        connect(m, vector.value_scales, kv.value_scales)
        connect(m, vector.append, kv.append)
        m.d.comb += kv.slot_release.eq(matrix.slot_release)

        # Matrix and vector unit: panels and credits
        connect(m, vector.panel_read, matrix.panel_read)
        for name in ("ring_produce", "output_produce", "weights_release"):
            m.d.comb += getattr(vector, name).eq(getattr(matrix, name))
        for name in ("ring_release", "output_release", "weights_produce"):
            m.d.comb += getattr(matrix, name).eq(getattr(vector, name))

        # On-chip memories
        connect(m, matrix.activations, activations.read)
        connect(m, vector.activation_write, activations.write)
        connect(m, vector.row_read, rows.read)
        connect(m, vector.row_write, rows.write)
        connect(m, load.row_write, rows.load)
        connect(m, vector.constant_read, constants.read)
        connect(m, load.constant_write, constants.load)

        # Activity and counters
        events = control.events
        for name, u in units.items():
            activity = u.activity
            for state in ("busy", "starved", "blocked"):
                counter = Counter[f"{name}_{state}".upper()]
                m.d.comb += events[counter.value].eq(getattr(activity, state))
        m.d.comb += control.active.eq(
            Cat(
                units[q.name.lower()].activity.busy
                | units[q.name.lower()].activity.starved
                | units[q.name.lower()].activity.blocked
                for q in QUEUES
            )
        )
        beats = {
            Counter.READ_TAPE_BEATS: port.tape_beat,
            Counter.READ_KV_BEATS: port.pages_beat,
            Counter.READ_PROGRAM_BEATS: port.descriptor_beat | port.program_beat,
            Counter.READ_ROW_BEATS: port.load_beat,
            Counter.READ_WALK_BEATS: port.walk_beat,
            Counter.WRITE_KV_BEATS: port.kv_beat,
            Counter.WRITE_ROW_BEATS: port.rows_beat,
        }
        for counter, pulse in beats.items():
            m.d.comb += events[counter.value].eq(pulse)
        reads = [pulse for counter, pulse in beats.items() if counter.name.startswith("READ")]
        m.d.comb += [
            events[Counter.PORT_BUSY.value].eq(Cat(*reads).any()),
            events[Counter.FEED_ROWS.value].eq(matrix.fed),
            events[Counter.ARRAY_FIRST.value].eq(matrix.fed),
            events[Counter.ARRAY_LAST.value].eq(matrix.fed),
            control.progress.eq(Cat(*beats.values()).any()),
        ]
        if self._trace:
            m.d.comb += self.trace.word.running.eq(control.running)
            for bit, counter in enumerate(BEATS.values()):
                m.d.comb += self.trace.word.beats[bit].eq(events[counter.value])
            self._trace_unit(m, Unit.CONTROL, control.activity, control.dispatched, control.index)
            for name, u in units.items():
                stream = u.instruction
                taken = stream.valid & stream.ready
                self._trace_unit(m, Unit[name.upper()], u.activity, taken, stream.p.index)
        return m

    def _trace_unit(self, m, unit: Unit, activity, taken, index):
        """A unit's part of the trace."""
        word = self.trace.word.units[unit.value]
        stalled = activity.starved | activity.blocked
        m.d.comb += [
            word.cause.eq(Mux(stalled, activity.cause, Cause.NONE)),
            word.taken.eq(taken),
            word.finished.eq(activity.finished),
            self.trace.index[unit.value].eq(index),
        ]
        for state in (State.BUSY, State.STARVED, State.BLOCKED):
            with m.If(getattr(activity, state.name.lower())):
                m.d.comb += word.state.eq(state)
