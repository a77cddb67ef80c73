"""Instruction fetch, decode and dispatch to the units' queues."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.control.words import WordReader
from hdl.interfaces import (
    INDEX_BITS,
    activity_signature,
    instruction_signature,
    model_layout,
    read_client,
)
from hdl.isa import (
    INSTRUCTION_BITS,
    TABLE,
    Cause,
    Fault,
    LoadSource,
    ModelRegister,
    Opcode,
    RowSelect,
    Unit,
    instruction_layout,
)

__all__ = ["QUEUES", "READ_AHEAD_WORDS", "Dispatcher"]

QUEUES = (Unit.TAPE, Unit.LOAD, Unit.MATRIX, Unit.VECTOR, Unit.KV)
"""Units with an instruction queue."""

READ_AHEAD_WORDS = 16
"""Instructions fetched ahead; two bursts."""


class Dispatcher(wiring.Component):
    """Fetches a straight-line program, executes SET, and hands the rest to the queues.

    One instruction a cycle while the queues have room. An instruction for several units goes to
    all of them in the same cycle. SET, TAPE and LOAD of constants are the same in every step: they
    go out at once. What is done on chip to all rows waits for their number (``counted``), all else
    for the whole descriptor (``tables``): a bad one has changed nothing in memory.
    Stops at END (``ended``) or at a fault until reset.

    Members
    -------
    fetch : In(1), program : In(40)
        Pulse with the program's byte address: begin to read, ``READ_AHEAD_WORDS`` ahead.
    ahead : Out(1)
        The next word is here.
    start : In(1)
        Pulse: begin to dispatch, with ``fetch`` or later.
    counted, tables : In(1)
        Levels: the step's header is good; its tables are, too.
    tape, load, matrix, vector, kv : Out(instruction_signature)
    model : Out(model_layout)
    written : Out(len(ModelRegister))
        The registers of ``model`` that this program has set, in a bit each.
    ended : Out(1)
        END has been reached and the queues are empty.
    dispatched : Out(1)
        An instruction was executed or queued (pulse).
    fault : Out(Fault), index : Out
        NONE or ILLEGAL_INSTRUCTION, held; ``index`` of the instruction at the head.
    activity : Out(activity_signature)
        Busy where ``dispatched``, starved of program words, else blocked: by a full queue, by a
        descriptor that is not read, after END.
    memory : Out(read_client)
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "fetch": In(1),
                "program": In(40),
                "ahead": Out(1),
                "start": In(1),
                "counted": In(1),
                "tables": In(1),
                **{u.name.lower(): Out(instruction_signature()) for u in QUEUES},
                "model": Out(model_layout()),
                "written": Out(len(ModelRegister)),
                "ended": Out(1),
                "dispatched": Out(1),
                "fault": Out(Fault),
                "index": Out(INDEX_BITS),
                "activity": Out(activity_signature()),
                "memory": Out(read_client(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        ahead = READ_AHEAD_WORDS * INSTRUCTION_BITS // c.port_bits
        m.submodules.reader = reader = WordReader(
            c, INSTRUCTION_BITS, depth=ahead, burst=ahead // 2
        )
        connect(m, flipped(self.memory), reader.memory)
        m.d.comb += [
            reader.start.eq(self.fetch),
            reader.address.eq(self.program),
            reader.count.eq((1 << 24) - 1),  # more than any program: END stops it
        ]

        queues = {}
        for unit in QUEUES:
            name = unit.name.lower()
            port = getattr(self, name)
            queue = SyncFIFOBuffered(
                width=INSTRUCTION_BITS + INDEX_BITS, depth=self._config.queue_depth
            )
            m.submodules[f"{name}_queue"] = queues[unit] = queue
            m.d.comb += [
                queue.w_data.eq(Cat(reader.words.payload, self.index)),
                Cat(port.payload.word, port.payload.index).eq(queue.r_data),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]

        words = reader.words
        m.d.comb += self.ahead.eq(words.valid)
        running = Signal()
        with m.If(self.start):
            m.d.sync += [running.eq(1), self.index.eq(0)]
        done = Signal()
        empty = Cat(~queue.r_rdy & (queue.level == 0) for queue in queues.values()).all()
        m.d.comb += self.ended.eq(done & empty)

        illegal, full = Signal(), Signal()
        with m.If(running & words.valid & ~done & (self.fault == Fault.NONE)):
            with m.Switch(words.payload[:8]):
                for opcode, definition in TABLE.items():
                    layout = instruction_layout(opcode)
                    view = layout(words.payload)
                    with m.Case(opcode.value):
                        if "reserved" in dict(layout):
                            m.d.comb += illegal.eq(view.reserved != 0)
                        if opcode is Opcode.END:
                            m.d.comb += words.ready.eq(self.tables)
                            m.d.sync += done.eq(self.tables & ~illegal)
                        elif opcode is Opcode.SET:
                            m.d.comb += words.ready.eq(1)
                            self._set(m, view, illegal)
                        else:
                            go = Cat(queues[unit].w_rdy for unit in definition.units).all()
                            m.d.comb += full.eq(~go)
                            if opcode is Opcode.LOAD:
                                go &= self.tables | (view.source == LoadSource.CONSTANT)
                            elif opcode is Opcode.ADD:
                                go &= self.counted
                            elif opcode in (Opcode.MATMUL, Opcode.NORM, Opcode.QUANTISE):
                                go &= self.tables | (self.counted & (view.rows == RowSelect.ALL))
                            elif opcode is not Opcode.TAPE:
                                go &= self.tables
                            m.d.comb += words.ready.eq(go)
                            for unit in definition.units:
                                m.d.comb += queues[unit].w_en.eq(go & ~illegal)
                with m.Default():
                    m.d.comb += [illegal.eq(1), words.ready.eq(1)]
            with m.If(illegal):
                m.d.sync += self.fault.eq(Fault.ILLEGAL_INSTRUCTION)
            with m.Elif(words.ready):
                m.d.comb += self.dispatched.eq(1)
                m.d.sync += self.index.eq(self.index + 1)
                with m.If(self.index.all()):
                    m.d.sync += self.fault.eq(Fault.ILLEGAL_INSTRUCTION)

        activity, waits = self.activity, Signal()
        m.d.comb += [
            waits.eq(running & ~done & ~words.valid),
            activity.busy.eq(self.dispatched),
            activity.starved.eq(waits),
            activity.blocked.eq(running & ~waits & ~self.dispatched),
            activity.finished.eq(self.dispatched & (words.payload[:8] != Opcode.END)),
        ]
        with m.If(done):
            m.d.comb += activity.cause.eq(Cause.DRAIN)
        with m.Elif(waits):
            m.d.comb += activity.cause.eq(Cause.PROGRAM)
        with m.Else():
            m.d.comb += activity.cause.eq(Mux(full, Cause.QUEUE, Cause.DESCRIPTOR))
        return m

    def _set(self, m, view, illegal) -> None:
        """SET: one register of ``model``."""
        with m.Switch(view.register):
            for register in ModelRegister:
                target = getattr(self.model, register.name.lower())
                with m.Case(register.value):
                    m.d.sync += [target.eq(view.value), self.written[register.value].eq(1)]
            with m.Default():
                m.d.comb += illegal.eq(1)
