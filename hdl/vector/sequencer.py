"""The vector unit's sequencer: instructions to passes, passes to words."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hdl.config import BLOCK, Config
from hdl.interfaces import (
    activity_signature,
    instruction_signature,
    model_layout,
    semaphore_signature,
    step_layout,
    visit_layout,
)
from hdl.isa import (
    RESULT_TOKEN_BYTES,
    SEMAPHORES,
    TABLE,
    Cause,
    Fault,
    Opcode,
    Unit,
    instruction_layout,
)
from hdl.vector.credits import Credits
from hdl.vector.decode import Decoder
from hdl.vector.dependences import Dependences
from hdl.vector.loops import TOKEN_COUNT_BITS, LoopNest
from hdl.vector.parameters import PassParameters, progress_layout
from hdl.vector.program import (
    END,
    PASSES,
    Blocks,
    Loop,
    pass_constant,
    pass_layout,
    pass_number,
)
from hdl.vector.slots import slot_layout
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
    stride : Out
        For the datapath's row addresses, in the cycle after the slot.
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
        m.submodules.dependences = self._dependences = Dependences(
            self._config, self._append_places, self._memory_places
        )
        # Whether the instruction that comes can be executed; a cycle later, what it says
        m.submodules.verdicts = self._verdicts = Decoder(self._config)
        m.submodules.decoder = self._decoder = Decoder(self._config)
        m.submodules.parameters = self._parameters = PassParameters(self._config)
        self._registers()
        self._connect(m)
        self._control(m)
        return m

    def _registers(self):
        timing = Timing(self._config)
        self._table = [
            # A counter loaded with n in a cycle is 0 n + 1 cycles later; WAIT takes a cycle more,
            # and that something lands is known a cycle before.
            pass_constant(name, max(timing.drain(row) - 2, 0), timing.landing(row) - 2)
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
        self._progress = Signal(progress_layout())
        self._verdict = {name: Signal(name=name) for name in ("illegal", "nothing", "attend")}
        self._wrong = Signal()  # illegal or bad
        self._visit = Signal(visit_layout(self._config), reset_less=True)
        self._batch = Signal(visit_layout(self._config), reset_less=True)  # waits for FINAL
        self._batch_waits = Signal()
        self._span = Signal(signed(TOKEN_COUNT_BITS), reset_less=True)  # of the visit
        self._visit_ends = Signal()  # its batch ends with the visit, and has not moved to _batch
        self._to_memory = Signal()
        # An ADD may follow the one before it at once, while that one's last words land, if both
        # go through the same blocks in the same order and there are more of them than land.
        self._last_add = Signal(instruction_layout(Opcode.ADD), reset_less=True)
        self._chained = Signal()  # the instruction does so
        # Looked ahead
        self._strip, self._head_ends, self._starts = Signal(), Signal(), Signal()
        self._same, self._ends = Signal(), Signal()
        # Items left: one; no more than a strip has
        self._one_left, self._strip_left = Signal(), Signal()
        self._then = Signal.like(self._number)
        self._chains = Signal()
        self._finishing = Signal()  # the state is FINISH
        self._mask = Signal(SEMAPHORES, reset_less=True)  # that the instruction waits for
        self._chain_rows = ceil_log2(-(-timing.landing(PASSES["ADD"]) // self._config.block_words))

    def _connect(self, m):
        """Credits, and the word that goes to the datapath."""
        credits, nest, now, slot = self._credits, self._nest, self._now, self.slot
        parameters, dependences = self._parameters, self._dependences
        m.d.comb += [
            credits.ring_produce.eq(self.ring_produce),
            credits.output_produce.eq(self.output_produce),
            credits.weights_release.eq(self.weights_release),
            self._verdicts.word.eq(self.instruction.payload.word),
            self._decoder.word.eq(self._word),
            self.semaphore.wait_mask.eq(self._mask),
            dependences.now.eq(now),
            dependences.step.eq(nest.step),
            dependences.block_start.eq(nest.block_start),
            dependences.word_start.eq(nest.word_start),
            dependences.block_starts.eq(nest.block_starts),
            dependences.word_starts.eq(nest.word_starts),
            dependences.to_memory.eq(self._to_memory),
            dependences.append_room.eq(self.append_room),
            dependences.memory_room.eq(self.memory_room),
            parameters.now.eq(now),
            parameters.word.eq(self._word),
            parameters.progress.eq(self._progress),
            parameters.visit.eq(self._visit),
            parameters.batch.eq(self._batch),
            parameters.span.eq(self._span),
            parameters.model.eq(self.model),
            nest.parameters.eq(parameters.parameters),
            self.ring_release.eq(credits.ring_release),
            self.output_release.eq(credits.output_release),
            self.token_base.eq(self.step.result_address),
            self.offset.eq(self._op[Opcode.APPEND].offset),
            self.value.eq(self._op[Opcode.APPEND].value),
        ]
        # They stand long before the instruction's first word is where they are needed.
        result_base = Signal(40, reset_less=True)
        logits_run = Signal(reset_less=True)
        m.d.sync += [
            self.stride.eq(Mux(self._progress.gather, self._progress.count, 0)),
            result_base.eq(self.step.result_address + RESULT_TOKEN_BYTES),
            logits_run.eq(self._op[Opcode.LOGITS].opcode == Opcode.LOGITS.value),
            self.block_base.eq(Mux(logits_run, result_base, self._op[Opcode.STORE].address)),
        ]
        for decoder in (self._verdicts, self._decoder):
            m.d.comb += [decoder.model.eq(self.model), decoder.step.eq(self.step)]
        batch = now.queries & Mux(now.final, self._batch.parity, self._visit.parity)
        outputs = self._config.panel_ring + nest.block
        panel = Mux(now.second, credits.second, credits.first)
        logits = now.masked  # where it writes memory
        # The visit is there a cycle before the state WAIT of its first pass.
        span = (self._visit.position - self._visit.token + 1)[:TOKEN_COUNT_BITS].as_signed()
        m.d.comb += self._to_memory.eq(now.control.to_memory & (~logits | self.step.store_logits))
        m.d.sync += [slot.valid.eq(nest.step), self._span.eq(span)]
        m.d.comb += [
            slot.participants.eq(nest.participants),
            slot.source.eq(nest.source),
            slot.destination.eq(nest.destination),
            slot.constant.eq(nest.constant),
        ]
        m.d.sync += [
            slot.control.eq(now.control),
            slot.control.to_memory.eq(self._to_memory),
            slot.row.eq(nest.row),
            slot.block.eq(nest.block),
            slot.word.eq(nest.word),
            slot.first.eq(self._starts & nest.first_block),
            slot.final.eq(nest.last),
            slot.panel.eq(
                Mux(now.final, Mux(batch, outputs + self._config.head_blocks, outputs), panel)
            ),
            slot.parity.eq(batch),
            slot.buffer.eq(self._progress.buffer),
            slot.slot.eq(self._visit.slot),
            slot.head.eq(self._progress.head),
        ]

    def _control(self, m):
        """States, counters and dependences."""
        nest, credits, now = self._nest, self._credits, self._now
        # Registers that say the same as the state: in WAIT, in RUN; and that a word is sent.
        running, waits, runs = Signal(init=1), Signal(), Signal()
        step, start, end, runs_on = Signal(), Signal(), Signal(), Signal()
        begun, ended = Signal(), Signal()  # first cycle of RUN, cycle after the last word
        control = now.control
        dependences = self._dependences
        self._waits = waits
        self._look_ahead(m)
        stopped = self.fault | self.bad_instruction
        place, landed = dependences.place, dependences.landed
        m.d.comb += [
            nest.load.eq(waits),
            nest.step.eq(step),
            end.eq(step & nest.last),
            runs_on.eq((start | (runs & ~end)) & ~stopped),
        ]
        m.d.sync += [
            running.eq(~stopped),
            runs.eq(runs_on),
            step.eq(runs_on & dependences.go),
            begun.eq(start),
            ended.eq(end),
        ]

        # FINISH, after at least a cycle there: the last cycle; everything has landed, but not all
        # of it has gone on to the KV unit or to memory.
        leaves, held_up, leaving = Signal(), Signal(), Signal()
        away = dependences.appended & self.memory_idle
        lands = self._finishing & ~self._chains & ~leaves & ~stopped & dependences.lands
        signals = self._op[Opcode.ADD].signal
        m.d.comb += leaving.eq(lands & away)
        m.d.sync += [
            leaves.eq(leaving),
            held_up.eq(lands & ~away),
            self.semaphore.signal.eq(signals & leaving.replicate(len(signals))),
        ]

        with m.If(running), m.FSM():
            with m.State("IDLE"):
                m.d.comb += [
                    self.instruction.ready.eq(1),
                    self.activity.busy.eq(~landed),
                ]
                m.d.sync += [
                    self._word.eq(self.instruction.payload.word),
                    self.index.eq(self.instruction.payload.index),
                ]
                self._decode(m)
                with m.If(self.instruction.valid):
                    m.next = "DECODE"
            with m.State("DECODE"):
                self._take_operands(m)
                self._begin(m)
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
                m.d.comb += dependences.begin.eq(1)
                with m.Switch(self._number):
                    for number, row in enumerate(self._table):
                        with m.Case(number):
                            m.d.sync += now.eq(row)
                m.d.sync += [
                    waits.eq(1),
                    self._one_left.eq(self._progress.items == 1),
                    self._strip_left.eq(self._progress.items <= self._config.head_blocks),
                ]
                m.next = "WAIT"
            with m.State("WAIT"):
                no_panel = credits.ring < now.panels
                missing = no_panel | (now.release_output & ~credits.outputs.any())
                full = control.attention & (credits.weights == 0)
                m.d.comb += [
                    self.activity.starved.eq(missing),
                    self.activity.blocked.eq(~missing & full),
                    self.activity.busy.eq(~missing & ~full),
                    self.activity.cause.eq(
                        Mux(missing, Mux(no_panel, Cause.PANEL, Cause.OUTPUT), Cause.WEIGHTS)
                    ),
                ]
                with m.If(~missing & ~full & ~dependences.wait_pass):
                    m.d.comb += [
                        self.waking.eq(1),
                        credits.take_weights.eq(control.attention),
                    ]
                    m.d.comb += start.eq(1)
                    m.d.sync += waits.eq(0)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [
                    self.waking.eq(1),
                    self.activity.blocked.eq(~place),
                    self.activity.busy.eq(place),
                    self.activity.cause.eq(Mux(control.to_append, Cause.APPEND, Cause.WRITE)),
                ]
                with m.If(end):
                    self._next_pass(m)
            with m.State("TURN"):
                self._turn_batch(m)
            with m.State("FINISH"):
                m.d.sync += self._last_add.eq(self._word)
                m.d.comb += [
                    self.activity.busy.eq(~leaves & ~held_up),
                    self.activity.blocked.eq(held_up),
                    self.activity.cause.eq(Mux(self.memory_idle, Cause.APPEND, Cause.WRITE)),
                ]
                with m.If(self._chains | leaves):
                    m.d.comb += self.activity.finished.eq(1)
                    m.d.sync += self._finishing.eq(0)
                    m.next = "IDLE"
        with m.If(end):
            m.d.comb += [
                credits.release.eq(now.release),
                credits.release_outputs.eq(now.release_output),
            ]
        with m.If(begun):
            self._advance(m)
        # These two go with the words; `now` is of the same pass a cycle after the last one.
        progress = self._progress
        with m.If(ended):
            with m.If(control.to_append):
                m.d.sync += progress.head.eq(progress.head + 1)
            with m.If((now.loop == Loop.TURN) & ~now.final):
                m.d.sync += progress.buffer.eq(~progress.buffer)

    def _decode(self, m):
        """IDLE: whether the instruction can be executed, and when."""
        job = self._verdicts.job
        add, last = data.View(self._last_add.shape(), self._verdicts.word), self._last_add
        m.d.sync += [
            *(verdict.eq(job[name]) for name, verdict in self._verdict.items()),
            self._wrong.eq(job.bad | job.illegal),
            # The matrix unit takes the semaphores of an ATTEND.
            self._mask.eq(Mux(job.attend, 0, add["wait"])),
            self._chained.eq(
                (add.opcode == Opcode.ADD.value)
                & (add.destination == last.destination)
                & (add.panels == last.panels)
            ),
        ]

    def _take_operands(self, m):
        """DECODE: counters of the instruction."""
        job, progress = self._decoder.job, self._progress
        m.d.sync += [
            self._number.eq(job.first),
            self._loop.eq(job.loop),
            progress.items.eq(job.items),
            progress.count.eq(job.count),
            progress.rows.eq(job.rows),
            progress.gather.eq(job.gather),
            progress.source.eq(job.source),
            progress.destination.eq(job.destination),
            progress.constant.eq(job.constant),
            progress.columns.eq(self.model.vocabulary),
            progress.head.eq(0),
            progress.head_block.eq(0),
        ]

    def _begin(self, m):
        """DECODE: checks, semaphores."""
        verdict, ready = self._verdict, self.semaphore.wait_ready
        may = self._dependences.landed | self._chained
        m.d.comb += [
            self.activity.busy.eq(~may | ready),
            self.activity.starved.eq(may & ~ready),
            self.activity.cause.eq(Cause.SEMAPHORE),
        ]
        with m.If(~may):
            pass
        with m.Elif(self._wrong):
            self._reject(m, Mux(verdict["illegal"], Fault.ILLEGAL_INSTRUCTION, Fault.BAD_OPERAND))
        with m.Else():
            m.d.comb += self.semaphore.wait_valid.eq(1)
            with m.If(ready):
                with m.If(verdict["nothing"]):
                    self._finish(m)
                with m.Elif(verdict["attend"]):
                    m.d.sync += [self._progress.buffer.eq(0), self._batch_waits.eq(0)]
                    m.next = "VISIT"
                with m.Else():
                    m.next = "SETUP"

    def _finish(self, m):
        """To the state FINISH."""
        m.d.sync += self._finishing.eq(1)
        m.next = "FINISH"

    def _reject(self, m, cause):
        """The instruction can't be executed."""
        m.d.sync += [self.bad_instruction.eq(1), self.bad_cause.eq(cause)]

    def _look_ahead(self, m):
        """What the end of the pass depends on: stands in RUN, as WAIT is at least a cycle.

        In RUN the counters are the next pass's already (:meth:`_advance`).
        """
        now, progress = self._now, self._progress
        strip = now.blocks == Blocks.STRIP
        last_item = Mux(strip, self._strip_left, self._one_left)
        head_ends, again = Signal(), Signal()
        last_head_block = Signal.like(progress.head_block)  # long before it is asked for
        m.d.sync += last_head_block.eq(self.model.head_blocks - 1)
        m.d.comb += [
            head_ends.eq(progress.head_block == last_head_block),
            again.eq(
                ((now.loop == Loop.ITEM) & ~last_item) | ((now.loop == Loop.HEAD) & ~head_ends)
            ),
        ]
        # The row's reduction starts at the pass's first block: page 0 of a batch, panel 0, block 0
        attention = Mux(now.queries, self._visit.first, 1)
        logits = Mux(now.masked & ~now.queries, progress.items == progress.count, 1)
        add = self._op[Opcode.ADD]
        many = (progress.rows >> self._chain_rows) | (add.panels >> self._chain_rows)
        with m.If(self._waits):
            m.d.sync += [
                self._strip.eq(strip),
                self._head_ends.eq(head_ends),
                self._then.eq(Mux(again, self._loop, now.then)),
                self._same.eq(Mux(again, self._loop, now.then) == self._number),
                self._ends.eq(~again & (now.then == pass_number(END))),
                self._starts.eq(attention & logits & (progress.head_block == 0)),
            ]
        # FINISH: the next ADD may follow at once
        chains = (add.opcode == Opcode.ADD.value) & (add.signal == 0) & many.any()
        m.d.sync += self._chains.eq(chains)

    def _next_pass(self, m):
        """RUN, at a pass's last word: the pass after it."""
        now = self._now
        m.d.sync += self._number.eq(self._then)
        with m.If(now.loop == Loop.TURN):
            m.next = "TURN"
        with m.Elif(self._ends):
            # ROPE of heads that are not whole
            with m.If(now.sine & ~self._head_ends):
                self._reject(m, Fault.BAD_OPERAND)
            self._finish(m)
        with m.Elif(self._same):
            m.d.comb += self._dependences.begin.eq(1)
            m.d.sync += self._waits.eq(1)
            m.next = "WAIT"
        with m.Else():
            m.next = "SETUP"

    def _advance(self, m):
        """At a pass's first cycle: counters of the instruction, as the next pass needs them.

        The nest has its parameters, and it is long before the next pass asks: nothing hangs on the
        last word.
        """
        now, progress, blocks = self._now, self._progress, self._nest.blocks
        strip, head_ends = self._strip, self._head_ends
        with m.If(now.advance):
            m.d.sync += [
                progress.source.eq(progress.source + blocks),
                progress.destination.eq(progress.destination + blocks),
                progress.columns.eq(progress.columns - BLOCK),
            ]
            with m.If(strip):
                m.d.sync += progress.constant.eq(progress.constant + blocks)
        with m.If(now.sine | (now.loop == Loop.HEAD)):
            m.d.sync += progress.head_block.eq(Mux(head_ends, 0, progress.head_block + 1))
        with m.If(now.loop == Loop.ITEM):  # means nothing after the last one
            most = self._config.head_blocks
            m.d.sync += [
                progress.items.eq(progress.items - Mux(strip, most, 1)),
                self._one_left.eq(progress.items == 2),
                self._strip_left.eq(progress.items <= 2 * most),
            ]
        with m.If((now.loop == Loop.TURN) & now.final):
            m.d.sync += self._batch_waits.eq(0)

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
            self._finish(m)
        with m.Else():
            m.next = "VISIT"
