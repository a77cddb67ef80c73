"""Instruction fetch, decode and dispatch to the units' queues."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
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
        Levels: the step's header is good; its tables are, too. Seen a cycle later.
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

        # Decode: what the word asks for, into a register and a FIFO of two words, so that nothing
        # that takes a word reaches back to where it comes from.
        decoded_layout = data.StructLayout(
            {
                "word": INSTRUCTION_BITS,
                "units": len(QUEUES),
                "counted": 1,  # waits for the number of rows
                "tables": 1,  # waits for the whole descriptor
                "set": 1,
                "end": 1,
                "reserved": 8,  # of bits that must be zero: every eighth, is one set
                "unknown": 1,  # opcode or register
            }
        )
        words, head = reader.words, Signal(decoded_layout)
        now, decoded, decoded_valid = Signal(decoded_layout), Signal(decoded_layout), Signal()
        have, take, illegal = Signal(), Signal(), Signal()  # of the word in `head`
        free = Signal()  # it is there and nothing but `running` holds it up
        m.submodules.decoded = fifo = SyncFIFO(width=decoded_layout.size, depth=2)
        self._decode(m, words.payload, now)
        with m.If(words.ready):
            m.d.sync += [decoded.eq(now), decoded_valid.eq(words.valid)]
        m.d.comb += [
            fifo.w_data.eq(decoded),
            fifo.w_en.eq(decoded_valid),
            words.ready.eq(fifo.w_rdy | ~decoded_valid),
            self.ahead.eq(have),
            fifo.r_en.eq(~have | take),
        ]
        from_fifo = data.View(decoded_layout, fifo.r_data)
        # What is illegal stops the step without waiting for anything.
        wrong = from_fifo.reserved.any() | from_fifo.unknown
        with m.If(fifo.r_en):
            m.d.sync += [
                have.eq(fifo.r_rdy),
                head.eq(from_fifo),
                head.counted.eq(from_fifo.counted & ~wrong),
                head.tables.eq(from_fifo.tables & ~wrong),
                head.units.eq(from_fifo.units & ~wrong.replicate(len(QUEUES))),
                illegal.eq(wrong),
            ]

        # Places more than there are instructions in a queue: its `space` is old, `free` older.
        sent, sent_to = Signal(INSTRUCTION_BITS + INDEX_BITS), Signal(len(QUEUES))
        queues = {}
        depth = self._config.queue_depth + 3
        space, empty = Signal(len(QUEUES)), Signal(len(QUEUES), init=-1)
        go = Signal()
        for number, unit in enumerate(QUEUES):
            name = unit.name.lower()
            port = getattr(self, name)
            queue = SyncFIFOBuffered(width=INSTRUCTION_BITS + INDEX_BITS, depth=depth)
            m.submodules[f"{name}_queue"] = queues[unit] = queue
            m.d.comb += [
                queue.w_data.eq(sent),
                queue.w_en.eq(sent_to[number]),
                Cat(port.payload.word, port.payload.index).eq(queue.r_data),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
            m.d.sync += [
                space[number].eq(queue.level <= depth - 4),
                empty[number].eq(~queue.r_rdy & (queue.level == 0) & ~queue.w_en),
            ]

        running, done = Signal(), Signal()  # it takes words; END was taken
        with m.If(self.start):
            m.d.sync += [running.eq(1), self.index.eq(0)]
        m.d.comb += self.ended.eq(done & empty.all())

        def full(word):
            return (word.units & ~space).any()

        def may_go(word):
            ready = (~word.counted | self.counted) & (~word.tables | self.tables)
            return ready & ~full(word)

        m.d.sync += free.eq(
            Mux(
                fifo.r_en,
                fifo.r_rdy & (wrong | may_go(from_fifo)),
                have & may_go(head),
            )
        )
        m.d.comb += [
            take.eq(running & free),
            go.eq(take & ~illegal),
            self.dispatched.eq(go),
        ]
        m.d.sync += sent_to.eq(head.units & go.replicate(len(QUEUES)))
        with m.If(go):
            m.d.sync += [self.index.eq(self.index + 1), sent.eq(Cat(head.word, self.index))]
            with m.If(head.end):
                m.d.sync += [done.eq(1), running.eq(0)]
        with m.If(take & (illegal | self.index.all())):
            m.d.sync += [self.fault.eq(Fault.ILLEGAL_INSTRUCTION), running.eq(0)]

        # SET, two cycles later: no unit can have seen a later instruction.
        setting = Signal()
        view = instruction_layout(Opcode.SET)
        chosen, value = Signal(view["register"].shape), Signal(view["value"].shape)
        m.d.sync += setting.eq(go & head.set)
        with m.If(have):
            m.d.sync += [chosen.eq(view(head.word).register), value.eq(view(head.word).value)]
        set_value = Signal.like(value)
        m.d.sync += set_value.eq(value)
        for register in ModelRegister:
            this = Signal(name=f"set_{register.name.lower()}")
            m.d.sync += this.eq(setting & (chosen == register.value))
            with m.If(this):
                target = getattr(self.model, register.name.lower())
                m.d.sync += [target.eq(set_value), self.written[register.value].eq(1)]

        activity, waits = self.activity, Signal()
        begun = running | done | (self.fault != Fault.NONE)
        m.d.comb += [
            waits.eq(running & ~have),
            activity.busy.eq(self.dispatched),
            activity.starved.eq(waits),
            activity.blocked.eq(begun & ~waits & ~self.dispatched),
            activity.finished.eq(self.dispatched & ~head.end),
        ]
        with m.If(done):
            m.d.comb += activity.cause.eq(Cause.DRAIN)
        with m.Elif(waits):
            m.d.comb += activity.cause.eq(Cause.PROGRAM)
        with m.Else():
            m.d.comb += activity.cause.eq(Mux(full(head), Cause.QUEUE, Cause.DESCRIPTOR))
        return m

    def _decode(self, m, word, decoded) -> None:
        """What ``word`` is and waits for."""
        m.d.comb += decoded.word.eq(word)
        with m.Switch(word[:8]):
            for opcode, definition in TABLE.items():
                layout = instruction_layout(opcode)
                view = layout(word)
                with m.Case(opcode.value):
                    if "reserved" in dict(layout):
                        m.d.comb += decoded.reserved.eq(
                            Cat(
                                view.reserved[i::8].any() for i in range(min(8, len(view.reserved)))
                            )
                        )
                    if opcode is Opcode.END:
                        m.d.comb += [decoded.end.eq(1), decoded.tables.eq(1)]
                        continue
                    if opcode is Opcode.SET:
                        m.d.comb += decoded.set.eq(1)
                        with m.Switch(view.register):
                            for register in ModelRegister:
                                with m.Case(register.value):
                                    pass
                            with m.Default():
                                m.d.comb += decoded.unknown.eq(1)
                        continue
                    m.d.comb += decoded.units.eq(
                        sum(1 << QUEUES.index(unit) for unit in definition.units)
                    )
                    if opcode is Opcode.LOAD:
                        m.d.comb += decoded.tables.eq(view.source != LoadSource.CONSTANT)
                    elif opcode is Opcode.ADD:
                        m.d.comb += decoded.counted.eq(1)
                    elif opcode in (Opcode.MATMUL, Opcode.NORM, Opcode.QUANTISE):
                        m.d.comb += [
                            decoded.counted.eq(1),
                            decoded.tables.eq(view.rows != RowSelect.ALL),
                        ]
                    elif opcode is not Opcode.TAPE:
                        m.d.comb += decoded.tables.eq(1)
            with m.Default():
                m.d.comb += decoded.unknown.eq(1)
