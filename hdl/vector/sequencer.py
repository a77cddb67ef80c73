"""The vector unit's sequencer: instructions to passes, passes to words."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hdl.config import BLOCK, Config
from hdl.interfaces import (
    ROW_BITS,
    activity_signature,
    instruction_signature,
    model_layout,
    semaphore_signature,
    step_layout,
    visit_layout,
)
from hdl.isa import RESULT_TOKEN_BYTES, TABLE, Cause, Fault, Opcode, Unit, instruction_layout
from hdl.vector.credits import Credits
from hdl.vector.decode import COUNT_BITS, Decoder
from hdl.vector.loops import TOKEN_COUNT_BITS, LoopNest
from hdl.vector.program import (
    END,
    PASSES,
    Blocks,
    Loop,
    Place,
    pass_constant,
    pass_layout,
    pass_number,
)
from hdl.vector.slots import ADDRESS_BITS, CONSTANT_BITS, slot_layout
from hdl.vector.timing import Timing

__all__ = ["Sequencer"]


class Sequencer(Component):
    """Takes instructions and visits, and sends words to the datapath.

    Members
    -------
    instruction, semaphore, activity, model, step, visits :
        As the unit's.
    ring_produce, output_produce, weights_release, ring_release, output_release :
        As the unit's.
    slot : Out
        A word for the datapath, ``slot.valid`` where there is one.
    waking : Out(1)
        A pass runs, or begins in the next cycle.
    gather : Out(1), stride : Out
        For the datapath's row addresses.
    block_base, token_base : Out(40)
        For the memory writer.
    append_room, memory_room : In(1)
        Pulses: a place for a block is free again in the append FIFO, in the memory writer.
    memory_idle : In(1)
        The memory writer has nothing to do.
    fault : In(1)
        Stop: nothing more is sent until reset.
    bad_instruction : Out(1), bad_cause : Out
        The instruction can't be executed; held.
    index, offset, value : Out
        Of the instruction that runs: its index, APPEND's operands.
    """

    def __init__(self, config: Config, append_places: int, memory_places: int):
        self._config = config
        self._append_places = append_places
        self._memory_places = memory_places
        super().__init__(
            {
                "instruction": In(instruction_signature()),
                "semaphore": Out(semaphore_signature()),
                "activity": Out(activity_signature()),
                "model": In(model_layout()),
                "step": In(step_layout()),
                "visits": In(stream.Signature(visit_layout(config))),
                "ring_produce": In(1),
                "output_produce": In(1),
                "weights_release": In(1),
                "ring_release": Out(1),
                "output_release": Out(1),
                "slot": Out(slot_layout(config)),
                "waking": Out(1),
                "gather": Out(1),
                "stride": Out(12),
                "block_base": Out(40),
                "token_base": Out(40),
                "append_room": In(1),
                "memory_room": In(1),
                "memory_idle": In(1),
                "fault": In(1),
                "bad_instruction": Out(1),
                "bad_cause": Out(Fault),
                "index": Out(20),
                "offset": Out(32),
                "value": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.nest = self._nest = LoopNest(self._config)
        m.submodules.credits = self._credits = Credits(self._config)
        m.submodules.decoder = self._decoder = Decoder(self._config)
        self._registers()
        self._connect(m)
        self._parameters(m)
        self._control(m)
        return m

    def _registers(self):
        timing = Timing(self._config)
        self._table = [
            # A counter loaded with n in a cycle is 0 n + 1 cycles later; WAIT takes a cycle more.
            pass_constant(name, max(timing.drain(row) - 2, 0), timing.landing(row) - 1)
            for name, row in PASSES.items()
        ]
        self._now = Signal(pass_layout(), reset_less=True)  # the pass that runs
        self._number = Signal(5)  # its number; of the next one between passes
        self._loop = Signal(5)  # pass that begins an item of the instruction
        self._word = Signal(128, reset_less=True)
        self._op = {
            op: data.View(instruction_layout(op), self._word)
            for op in TABLE
            if Unit.VECTOR in TABLE[op].units
        }
        self._rows = Signal(ROW_BITS)
        self._items = Signal(COUNT_BITS)
        self._count = Signal(COUNT_BITS)  # blocks in a row of source and destination
        self._source = Signal(ADDRESS_BITS)
        self._destination = Signal(ADDRESS_BITS)
        self._constant = Signal(CONSTANT_BITS)
        self._columns = Signal(TOKEN_COUNT_BITS)  # of the vocabulary, from this panel on
        self._head = Signal(8)
        self._head_block = Signal(4)
        self._blocks = Signal(12)  # of the pass that runs
        self._visit = Signal(visit_layout(self._config), reset_less=True)
        self._batch = Signal(visit_layout(self._config), reset_less=True)  # waits for FINAL
        self._batch_waits = Signal()
        self._visit_ends = Signal()  # its batch ends with the visit, and has not moved to _batch
        self._buffer = Signal()
        self._to_memory = Signal()
        self._drain = Signal(7)
        self._landing = Signal(7)
        self._turn_cycles = timing.late - timing.address - 1
        self._turn = Signal(range(self._turn_cycles + 1))
        # An ADD may follow the one before it at once, while that one's last words land, if both
        # go through the same blocks in the same order and there are more of them than land.
        self._last_add = Signal(instruction_layout(Opcode.ADD), reset_less=True)
        self._chain_rows = ceil_log2(-(-timing.landing(PASSES["ADD"]) // self._config.block_words))
        self._started = Signal()  # the pass has sent a word
        self._pace = Signal(range(timing.accumulate + 1))
        self._pace_cycles = timing.accumulate
        self._append_room = Signal(range(self._append_places + 1), init=self._append_places)
        self._memory_room = Signal(range(self._memory_places + 1), init=self._memory_places)

    def _connect(self, m):
        """Credits, and the word that goes to the datapath."""
        credits, nest, now, slot = self._credits, self._nest, self._now, self.slot
        m.d.comb += [
            credits.ring_produce.eq(self.ring_produce),
            credits.output_produce.eq(self.output_produce),
            credits.weights_release.eq(self.weights_release),
            self._decoder.word.eq(self._word),
            self._decoder.model.eq(self.model),
            self._decoder.step.eq(self.step),
            self.ring_release.eq(credits.ring_release),
            self.output_release.eq(credits.output_release),
            self.stride.eq(self._count),
            self.block_base.eq(
                Mux(
                    self._op[Opcode.LOGITS].opcode == Opcode.LOGITS.value,
                    self.step.result_address + RESULT_TOKEN_BYTES,
                    self._op[Opcode.STORE].address,
                )
            ),
            self.token_base.eq(self.step.result_address),
            self.offset.eq(self._op[Opcode.APPEND].offset),
            self.value.eq(self._op[Opcode.APPEND].value),
        ]
        batch = now.queries & Mux(now.final, self._batch.parity, self._visit.parity)
        outputs = self._config.panel_ring + nest.block
        panel = Mux(now.second, credits.second, credits.first)
        logits = now.masked  # where it writes memory
        m.d.comb += self._to_memory.eq(now.control.to_memory & (~logits | self.step.store_logits))
        m.d.comb += [
            slot.valid.eq(nest.step),
            slot.control.eq(now.control),
            slot.control.to_memory.eq(self._to_memory),
            slot.row.eq(nest.row),
            slot.block.eq(nest.block),
            slot.word.eq(nest.word),
            slot.first.eq(self._first(now)),
            slot.final.eq(nest.last),
            slot.participants.eq(nest.participants),
            slot.source.eq(nest.source),
            slot.destination.eq(nest.destination),
            slot.constant.eq(nest.constant),
            slot.panel.eq(
                Mux(now.final, Mux(batch, outputs + self._config.head_blocks, outputs), panel)
            ),
            slot.parity.eq(batch),
            slot.buffer.eq(self._buffer),
            slot.slot.eq(self._visit.slot),
            slot.head.eq(self._head),
        ]

    def _first(self, now):
        """The row's reduction starts: page 0 of a batch, panel 0, block 0."""
        attention = Mux(now.queries, self._visit.first, 1)
        logits = Mux(now.masked & ~now.queries, self._items == self._count, 1)
        return attention & logits & self._nest.first_block & (self._head_block == 0)

    def _parameters(self, m):
        """Parameters of the pass for the loop nest."""
        now, p, visit, batch = self._now, self._nest.parameters, self._visit, self._batch
        model = self.model
        strip = Mux(self._items > self._config.head_blocks, self._config.head_blocks, self._items)
        with m.Switch(now.blocks):
            with m.Case(Blocks.ONE):
                m.d.comb += self._blocks.eq(1)
            with m.Case(Blocks.ALL):
                m.d.comb += self._blocks.eq(self._count)
            with m.Case(Blocks.STRIP):
                m.d.comb += self._blocks.eq(strip)
            with m.Case(Blocks.HEAD):
                m.d.comb += self._blocks.eq(model.head_blocks)
        attend = self._op[Opcode.ATTEND]
        m.d.comb += [
            p.rows.eq(
                Mux(now.queries, Mux(now.final, batch.query_rows, visit.query_rows), self._rows)
            ),
            p.blocks.eq(self._blocks),
            p.narrow.eq(now.narrow),
            p.block.eq(self._head_block),
            p.source.eq(self._source),
            p.source_stride.eq(Mux(self.gather, 0, self._count)),
            p.group.eq(Mux(now.queries, model.head_group, 1)),
            p.constant.eq(self._constant + self._head_block + Mux(now.sine, model.head_blocks, 0)),
            p.constant_stride.eq(Mux(now.blocks == Blocks.STRIP, 0, model.head_blocks << 1)),
            p.columns.eq(BLOCK),
        ]
        with m.Switch(now.place):
            with m.Case(Place.BASE):
                m.d.comb += [
                    p.destination.eq(self._destination),
                    p.destination_stride.eq(self._count),
                ]
            with m.Case(Place.WEIGHTS):
                m.d.comb += [
                    p.destination.eq(
                        attend.weights + Mux(self._buffer, self._config.row_capacity, 0)
                    ),
                    p.destination_step.eq(1),
                    p.destination_stride.eq(model.head_group),
                ]
            with m.Case(Place.OUTPUT):
                m.d.comb += [
                    p.destination.eq(attend.output + batch.query_offset),
                    p.destination_step.eq(model.head_blocks),
                    p.destination_stride.eq(model.query_stride),
                ]
        with m.If(now.masked):
            with m.If(now.queries):
                m.d.comb += [
                    p.columns.eq(visit.position - visit.token + 1),
                    p.columns_step.eq(1),
                ]
            with m.Else():
                m.d.comb += p.columns.eq(self._columns.as_signed())

    def _control(self, m):
        """States, counters and dependences."""
        nest, credits, now = self._nest, self._credits, self._now
        running = Signal()
        go, place = Signal(), Signal()
        end = Signal()
        control = now.control
        to_memory = self._to_memory
        m.d.comb += [
            running.eq(~self.fault & ~self.bad_instruction),
            place.eq(
                (~control.to_append | (self._append_room != 0))
                & (~to_memory | (self._memory_room != 0))
                | ~nest.word_start
            ),
            go.eq(place & ~(now.paced & nest.block_start & (self._pace != 0))),
            end.eq(nest.step & nest.last),
        ]

        # Counters of cycles
        for counter in (self._drain, self._landing, self._turn, self._pace):
            with m.If(counter != 0):
                m.d.sync += counter.eq(counter - 1)
        started = self._started
        with m.If(nest.step):
            m.d.sync += [started.eq(1), self._turn.eq(self._turn_cycles)]
            with m.If(nest.block_start):
                m.d.sync += self._pace.eq(self._pace_cycles - 1)
            with m.If(~now.overlap | ~started):
                m.d.sync += self._drain.eq(now.drain)
            with m.If(now.landing > self._landing):
                m.d.sync += self._landing.eq(now.landing)

        # Places of blocks
        claim = nest.step & nest.word_start
        m.d.sync += [
            self._append_room.eq(
                self._append_room + self.append_room - (claim & control.to_append)
            ),
            self._memory_room.eq(self._memory_room + self.memory_room - (claim & to_memory)),
        ]

        with m.If(running), m.FSM():
            with m.State("IDLE"):
                m.d.comb += [
                    self.instruction.ready.eq(1),
                    self.activity.busy.eq(self._landing != 0),
                ]
                m.d.sync += [
                    self._word.eq(self.instruction.payload.word),
                    self.index.eq(self.instruction.payload.index),
                ]
                with m.If(self.instruction.valid):
                    m.next = "DECODE"
            with m.State("DECODE"):
                self._decode(m)
            with m.State("VISIT"):
                m.d.comb += [self.visits.ready.eq(1), self.activity.starved.eq(1)]
                m.d.comb += self.activity.cause.eq(Cause.VISIT)
                m.d.sync += [
                    self._visit.eq(self.visits.payload),
                    self._number.eq(pass_number("SOFTMAX_MAX")),
                ]
                with m.If(self.visits.valid):
                    m.d.sync += self._visit_ends.eq(self.visits.payload.last)
                    m.next = "SETUP"
            with m.State("SETUP"):
                m.d.comb += self.activity.busy.eq(1)
                m.d.sync += started.eq(0)
                with m.Switch(self._number):
                    for number, row in enumerate(self._table):
                        with m.Case(number):
                            m.d.sync += now.eq(row)
                m.next = "WAIT"
            with m.State("WAIT"):
                no_panel = credits.ring < now.panels
                missing = no_panel | (now.release_output & ~credits.outputs.any())
                full = control.attention & (credits.weights == 0)
                dependent = (now.after & (self._drain != 0)) | (now.turn & (self._turn != 0))
                m.d.comb += [
                    nest.load.eq(1),
                    self.activity.starved.eq(missing),
                    self.activity.blocked.eq(~missing & full),
                    self.activity.busy.eq(~missing & ~full),
                    self.activity.cause.eq(
                        Mux(missing, Mux(no_panel, Cause.PANEL, Cause.OUTPUT), Cause.WEIGHTS)
                    ),
                ]
                with m.If(~missing & ~full & ~dependent):
                    m.d.comb += [
                        self.waking.eq(1),
                        credits.take_weights.eq(control.attention),
                    ]
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [
                    self.waking.eq(1),
                    nest.step.eq(go),
                    self.activity.blocked.eq(~place),
                    self.activity.busy.eq(place),
                    self.activity.cause.eq(Mux(control.to_append, Cause.APPEND, Cause.WRITE)),
                ]
                with m.If(end):
                    m.d.comb += [
                        credits.release.eq(now.release),
                        credits.release_outputs.eq(now.release_output),
                    ]
                    self._next_pass(m)
            with m.State("TURN"):
                self._turn_batch(m)
            with m.State("FINISH"):
                landed = self._landing == 0
                away = (self._append_room == self._append_places) & self.memory_idle
                add = self._op[Opcode.ADD]
                many = (self._rows >> self._chain_rows) | (add.panels >> self._chain_rows)
                m.d.sync += self._last_add.eq(self._word)
                m.d.comb += [
                    self.activity.busy.eq(~landed),
                    self.activity.blocked.eq(landed & ~away),
                    self.activity.cause.eq(Mux(self.memory_idle, Cause.APPEND, Cause.WRITE)),
                ]
                with m.If((add.opcode == Opcode.ADD.value) & (add.signal == 0) & many.any()):
                    m.d.comb += self.activity.finished.eq(1)
                    m.next = "IDLE"
                with m.Elif(landed & away):
                    m.d.comb += self.semaphore.signal.eq(self._op[Opcode.ADD].signal)
                    m.d.comb += self.activity.finished.eq(1)
                    m.next = "IDLE"

    def _decode(self, m):
        """DECODE: registers of the instruction, checks, semaphores."""
        job = self._decoder.job
        m.d.sync += [
            self._number.eq(job.first),
            self._loop.eq(job.loop),
            self._items.eq(job.items),
            self._count.eq(job.count),
            self._rows.eq(job.rows),
            self.gather.eq(job.gather),
            self._source.eq(job.source),
            self._destination.eq(job.destination),
            self._constant.eq(job.constant),
            self._columns.eq(self.model.vocabulary),
            self._head.eq(0),
            self._head_block.eq(0),
        ]
        add, last = self._op[Opcode.ADD], self._last_add
        chained = (
            (add.opcode == Opcode.ADD.value)
            & (add.destination == last.destination)
            & (add.panels == last.panels)
        )
        with m.If((self._landing != 0) & ~chained):
            m.d.comb += self.activity.busy.eq(1)
        with m.Elif(job.bad | job.illegal):
            self._reject(m, Mux(job.illegal, Fault.ILLEGAL_INSTRUCTION, Fault.BAD_OPERAND))
        with m.Else():
            ready = self.semaphore.wait_ready
            m.d.comb += [
                self.semaphore.wait_valid.eq(1),
                # The matrix unit takes the semaphores of an ATTEND.
                self.semaphore.wait_mask.eq(Mux(job.attend, 0, self._op[Opcode.ADD]["wait"])),
                self.activity.busy.eq(ready),
                self.activity.starved.eq(~ready),
                self.activity.cause.eq(Cause.SEMAPHORE),
            ]
            with m.If(ready):
                with m.If(job.nothing):
                    m.next = "FINISH"
                with m.Elif(job.attend):
                    m.d.sync += [self._buffer.eq(0), self._batch_waits.eq(0)]
                    m.next = "VISIT"
                with m.Else():
                    m.next = "SETUP"

    def _reject(self, m, cause):
        """The instruction can't be executed."""
        m.d.sync += [self.bad_instruction.eq(1), self.bad_cause.eq(cause)]

    def _next_pass(self, m):
        """At a pass's last word: counters of the instruction, and the pass after it."""
        now = self._now
        left = Signal(COUNT_BITS)
        strip = now.blocks == Blocks.STRIP
        m.d.comb += left.eq(self._items - Mux(strip, self._blocks, 1))
        head_ends = self._head_block == self.model.head_blocks - 1
        with m.If(now.advance):
            m.d.sync += [
                self._source.eq(self._source + self._blocks),
                self._destination.eq(self._destination + self._blocks),
                self._columns.eq(self._columns - BLOCK),
            ]
            with m.If(strip):
                m.d.sync += self._constant.eq(self._constant + self._blocks)
        with m.If(now.sine | (now.loop == Loop.HEAD)):
            m.d.sync += self._head_block.eq(Mux(head_ends, 0, self._head_block + 1))
        with m.If(now.control.to_append):
            m.d.sync += self._head.eq(self._head + 1)

        following = Signal(5)
        m.d.comb += following.eq(now.then)
        with m.If(now.loop == Loop.ITEM):
            m.d.sync += self._items.eq(left)
            with m.If(left != 0):
                m.d.comb += following.eq(self._loop)
        with m.If((now.loop == Loop.HEAD) & ~head_ends):
            m.d.comb += following.eq(self._loop)
        m.d.sync += self._number.eq(following)

        with m.If(now.loop == Loop.TURN):
            with m.If(now.final):
                m.d.sync += self._batch_waits.eq(0)
            with m.Else():
                m.d.sync += self._buffer.eq(~self._buffer)
            m.next = "TURN"
        with m.Elif(following == pass_number(END)):
            # ROPE of heads that are not whole
            with m.If(now.sine & ~head_ends):
                self._reject(m, Fault.BAD_OPERAND)
            m.next = "FINISH"
        with m.Elif(following == self._number):
            m.d.sync += self._started.eq(0)
            m.next = "WAIT"
        with m.Else():
            m.next = "SETUP"

    def _turn_batch(self, m):
        """After a softmax or FINAL: FINAL of the batch that waits, the next visit, or the end."""
        m.d.comb += self.activity.busy.eq(1)
        m.d.sync += self._number.eq(pass_number("FINAL_INVERSE"))
        with m.If(self._batch_waits):
            m.next = "SETUP"
        with m.Elif(self._visit_ends):
            m.d.sync += [
                self._batch.eq(self._visit),
                self._batch_waits.eq(1),
                self._visit_ends.eq(0),
            ]
            with m.If(~self._visit.end):
                m.next = "VISIT"
        with m.Elif(self._visit.end):
            m.next = "FINISH"
        with m.Else():
            m.next = "VISIT"
