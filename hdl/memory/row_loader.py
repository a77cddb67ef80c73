"""Copies FP32 rows from memory into row memory and constant memory."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hdl.config import BLOCK, Config
from hdl.interfaces import (
    activity_signature,
    fault_signature,
    instruction_signature,
    read_client,
    read_port,
    row_entry,
    semaphore_signature,
    step_layout,
)
from hdl.isa import Cause, Fault, LoadSource, Opcode, Target, instruction_layout
from hdl.memory.memories import constant_address_bits, row_address_bits
from hdl.replica import ATTRIBUTE
from hdl.streams import StreamFIFO

__all__ = ["RowLoader"]

BLOCK_BYTES = 4 * BLOCK
INSTRUCTIONS = 2


class RowLoader(wiring.Component):
    """Executes LOAD: a row of ``blocks`` x 128 bytes for each row of the step (one for CONSTANT).

    Row r comes from ``address`` + index(r) * ``blocks`` * 128 and goes to block ``destination`` +
    r * ``blocks`` of the target. Requests run ahead of the data into a FIFO of two bursts, which is
    reserved before it is asked for; while the last data of one instruction is written, the next
    may already ask.

    Members
    -------
    instruction, semaphore, fault, activity
        As every unit. ``signal`` is given when the last word is written. Faults:
        ILLEGAL_INSTRUCTION, BAD_OPERAND (no blocks, or past the target memory), BAD_ADDRESS (not
        aligned, or past 40 bits). Activity: busy when a beat comes, a word goes or an address is
        computed, starved when it waits for beats, blocked when the target does not take a word or
        a semaphore is missing.
    step : In(step_layout())
        ``rows`` is used.
    rows : Out(read_port(6, row_entry()))
        Row table.
    memory : Out(read_client(config))
    row_write, constant_write : Out(stream({address, data}))
        Words for the memories; ``address`` in words.

    Throughput: a beat a cycle. Latency: 6 cycles from instruction to its check, 7 more a row to its
    first request (hidden behind the data of the row before), and half a cycle for each bit of
    ``blocks`` in both.
    """

    def __init__(self, config: Config):
        self.config = config
        row, constant = row_address_bits(config), constant_address_bits(config)
        super().__init__(
            {
                "instruction": In(instruction_signature()),
                "semaphore": Out(semaphore_signature()),
                "fault": Out(fault_signature()),
                "activity": Out(activity_signature()),
                "step": In(step_layout()),
                "rows": Out(read_port(6, row_entry())),
                "memory": Out(read_client(config)),
                "row_write": Out(
                    stream.Signature(data.StructLayout({"address": row, "data": config.word_bits}))
                ),
                "constant_write": Out(
                    stream.Signature(
                        data.StructLayout({"address": constant, "data": config.word_bits})
                    )
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        shift = ceil_log2(config.port_bytes)
        block_shift = ceil_log2(BLOCK_BYTES)
        word_beats = 4 * config.lanes // config.port_bytes
        depth_beats = 2 * config.burst_beats  # of the FIFO
        layout = instruction_layout(Opcode.LOAD)

        # Issue: instructions into requests ---------------------------------------------------
        word = Signal(layout)
        index = Signal.like(self.instruction.payload.index)
        number = Signal.like(self.step.rows)  # rows to copy
        row = Signal.like(self.step.rows)
        product = Signal(20 + 16)
        shifted = Signal.like(product)  # factor, shifted with the bits of `blocks` that are done
        multiplier = Signal.like(word.blocks)  # the bits that are not
        multiplied = Signal()
        address = Signal(44)
        beats_bits = 16 + ceil_log2(BLOCK_BYTES) - shift
        row_beats, beats = Signal(beats_bits), Signal(beats_bits)  # of a row; still to ask
        room = Signal(range(depth_beats + 1), init=depth_beats)
        size = Signal(range(config.burst_beats + 1))  # of the next request
        last = Signal()  # it is the row's last
        fits, reserve, asking, asked_last = Signal(), Signal(), Signal(), Signal()
        request = self.memory.request
        # Beats come from afar: they are registered first.
        beat, payload = Signal(), Signal(config.port_bits, reset_less=True)
        m.d.sync += [beat.eq(self.memory.data.valid), payload.eq(self.memory.data.payload)]

        job_layout = data.StructLayout(
            {
                "signal": word.signal.shape(),
                "target": 1,
                "destination": word.destination.shape(),
                "blocks": word.blocks.shape(),
                "rows": number.shape(),
            }
        )
        m.submodules.jobs = jobs = SyncFIFO(width=job_layout.size, depth=INSTRUCTIONS)
        job = Signal(job_layout)
        m.d.comb += [
            job.signal.eq(word.signal),
            job.target.eq(word.target),
            job.destination.eq(word.destination),
            job.blocks.eq(word.blocks),
            job.rows.eq(number),
            jobs.w_data.eq(job),
        ]

        def fail(cause):
            m.d.sync += [self.fault.valid.eq(1), self.fault.cause.eq(cause)]
            m.next = "FAULT"

        with m.If(~self.fault.valid):
            m.d.sync += [self.fault.address.eq(address), self.fault.index.eq(index)]

        end = Signal(range(1 << 37))  # one past the last block written
        is_constants = word.target == Target.CONSTANTS
        incoming = layout(self.instruction.payload.word)
        illegal, empty, outside, beyond = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            request.payload.address.eq(address),
            self.semaphore.wait_mask.eq(word.wait),
            self.rows.address.eq(row),
        ]
        m.d.sync += [
            size.eq(Mux(beats < config.burst_beats, beats, config.burst_beats)),
            last.eq(beats <= config.burst_beats),
            end.eq(word.destination + product),
            outside.eq(end > Mux(is_constants, config.constant_blocks, config.row_blocks)),
            empty.eq((word.blocks == 0) | (number == 0)),
            beyond.eq(address[40:].any()),
            fits.eq(room >= size),
            reserve.eq(0),
        ]

        def multiply(factor):
            """Begin ``product = factor * blocks``."""
            m.d.sync += [product.eq(0), shifted.eq(factor), multiplier.eq(word.blocks)]

        # Two bits a cycle: rows are short, and the array wants the FPGA's multipliers.
        m.d.comb += multiplied.eq(multiplier == 0)
        with m.If(~multiplied):
            ones = shifted & multiplier[0].replicate(len(shifted))
            twos = (shifted << 1)[: len(shifted)] & multiplier[1].replicate(len(shifted))
            m.d.sync += [
                product.eq(product + ones + twos),
                shifted.eq(shifted << 2),
                multiplier.eq(multiplier >> 2),
            ]
        computing, waiting = Signal(), Signal()
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.instruction.ready.eq(1)
                m.d.sync += row.eq(0)
                with m.If(self.instruction.valid):
                    m.d.sync += [
                        word.eq(incoming),
                        index.eq(self.instruction.payload.index),
                        illegal.eq(incoming.opcode != Opcode.LOAD),
                    ]
                    m.next = "WAIT"
            with m.State("WAIT"):
                rows = Mux(word.source == LoadSource.CONSTANT, 1, self.step.rows)
                m.d.sync += [
                    address.eq(word.address),
                    row_beats.eq(word.blocks << (block_shift - shift)),
                    number.eq(rows),
                ]
                multiply(rows)
                m.d.comb += self.semaphore.wait_valid.eq(jobs.w_rdy)
                with m.If(illegal):  # (nobody minds a semaphore that was taken)
                    fail(Fault.ILLEGAL_INSTRUCTION)
                with m.Elif(jobs.w_rdy):
                    m.d.comb += waiting.eq(1)
                    with m.If(self.semaphore.wait_ready):
                        m.next = "SIZE"
            with m.State("SIZE"):
                with m.If(multiplied):
                    m.next = "SUM"
            with m.State("SUM"):
                m.next = "LIMIT"
            with m.State("LIMIT"):
                m.next = "CHECK"
            with m.State("CHECK"):
                with m.If(empty | outside):
                    fail(Fault.BAD_OPERAND)
                with m.Elif(word.address[:shift].any()):
                    fail(Fault.BAD_ADDRESS)
                with m.Else():
                    m.d.comb += jobs.w_en.eq(1)
                    m.next = "LOOKUP"
            with m.State("LOOKUP"):
                m.d.comb += computing.eq(1)
                m.next = "INDEX"
            with m.State("INDEX"):
                m.d.comb += computing.eq(1)
                with m.Switch(word.source):
                    with m.Case(LoadSource.CONSTANT):
                        multiply(0)
                    with m.Case(LoadSource.TOKEN):
                        multiply(self.rows.data.token)
                    with m.Case(LoadSource.POSITION):
                        multiply(self.rows.data.position)
                    with m.Case(LoadSource.ROW):
                        multiply(row)
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.comb += computing.eq(1)
                with m.If(multiplied):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += computing.eq(1)
                m.d.sync += [
                    address.eq(word.address + (product << block_shift)),
                    beats.eq(row_beats),
                    row.eq(row + 1),
                ]
                m.next = "FIRST"
            with m.State("FIRST"):  # size
                m.d.comb += computing.eq(1)
                m.next = "FIT"
            with m.State("NEXT"):
                m.next = "FIT"
            with m.State("FIT"):
                m.next = "ROOM"
            with m.State("ROOM"):
                m.d.sync += [request.payload.beats.eq(size), asked_last.eq(last)]
                with m.If(beyond):
                    fail(Fault.BAD_ADDRESS)
                with m.Elif(fits):
                    m.d.sync += [request.valid.eq(1), reserve.eq(1)]
                    m.next = "ASK"
            with m.State("ASK"):
                asked = request.payload.beats
                m.d.comb += asking.eq(request.ready)
                with m.If(request.ready):
                    m.d.sync += [
                        request.valid.eq(0),
                        address.eq(address + (asked << shift)),
                        beats.eq(beats - asked),
                    ]
                    with m.If(~asked_last):
                        m.next = "NEXT"
                    with m.Elif(row == number):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "LOOKUP"
            with m.State("FAULT"):
                pass

        # Input: beats into words -------------------------------------------------------------
        m.submodules.words = words = StreamFIFO(
            config.word_bits, depth_beats // word_beats, block_memory=True
        )
        part = Signal(range(max(word_beats, 2)))
        whole = Signal(init=word_beats == 1)  # with the next beat
        gather = Signal(attrs={ATTRIBUTE: 1})  # `beat`, for the wide register
        partial = Signal(config.word_bits)  # the newest beat highest
        following_part = Mux(whole, 0, part + 1)
        m.d.sync += gather.eq(self.memory.data.valid)
        m.d.comb += [
            words.i.payload.eq(Cat(partial, payload)[config.port_bits :]),
            words.i.valid.eq(beat & whole),
        ]
        with m.If(gather):
            m.d.sync += partial.eq(words.i.payload)
        with m.If(beat):
            m.d.sync += [
                Assert(words.i.ready | ~whole, "row FIFO overflow"),
                part.eq(following_part),
                whole.eq(following_part == word_beats - 1),
            ]

        # Output: words to the memories -------------------------------------------------------
        work = data.View(job_layout, jobs.r_data)
        running = Signal()
        target = Signal(Target)
        place = Signal(range(max(config.row_blocks, config.constant_blocks) * config.block_words))
        word_of_row = Signal(16 + ceil_log2(config.block_words))
        rows_left = Signal.like(number)
        last_word, last_row = Signal(), Signal()  # of the row, of the instruction
        taken, finish, finished = Signal(), Signal(), Signal()  # the last: a cycle late
        for which, port in (
            (Target.ROWS, self.row_write),
            (Target.CONSTANTS, self.constant_write),
        ):
            m.d.comb += [
                port.payload.address.eq(place),
                port.payload.data.eq(words.o.payload),
                port.valid.eq(running & words.o.valid & (target == which)),
            ]
        m.d.comb += [
            words.o.ready.eq(
                running
                & Mux(target == Target.CONSTANTS, self.constant_write.ready, self.row_write.ready)
            ),
            taken.eq(words.o.valid & words.o.ready),
            finish.eq(taken & last_word & last_row),
        ]
        words_of_row = work.blocks << ceil_log2(config.block_words)
        with m.If(taken):
            m.d.sync += [
                place.eq(place + 1),
                word_of_row.eq(word_of_row - 1),
                last_word.eq(word_of_row == 2),
            ]
            with m.If(last_word):
                m.d.sync += [
                    word_of_row.eq(words_of_row),
                    last_word.eq(words_of_row == 1),
                    rows_left.eq(rows_left - 1),
                    last_row.eq(rows_left == 2),
                ]
        m.d.sync += finished.eq(finish)
        m.d.comb += jobs.r_en.eq(finished)
        with m.If(finished):
            m.d.comb += self.semaphore.signal.eq(work.signal)
        with m.If(finish):
            m.d.sync += running.eq(0)
        with m.Elif(~running & ~finished & jobs.r_rdy):
            m.d.sync += [
                running.eq(1),
                target.eq(work.target),
                place.eq(work.destination << ceil_log2(config.block_words)),
                word_of_row.eq(words_of_row),
                last_word.eq(words_of_row == 1),
                rows_left.eq(work.rows),
                last_row.eq(work.rows == 1),
            ]

        # Room and status -------------------------------------------------------------------
        outstanding = Signal(range(depth_beats + 1))
        owed = Signal()  # it is not 0
        freed = Signal()
        m.d.sync += [
            freed.eq(taken),
            room.eq(room + Mux(freed, word_beats, 0) - Mux(reserve, request.payload.beats, 0)),
            outstanding.eq(outstanding + Mux(asking, request.payload.beats, 0) - beat),
            owed.eq(asking | (outstanding > 1) | (owed & ~beat)),
        ]
        active, busy, blocked = Signal(), Signal(), Signal()
        m.d.comb += [
            active.eq(~(fsm.ongoing("IDLE") | fsm.ongoing("FAULT")) | jobs.r_rdy),
            busy.eq(beat | taken),
            blocked.eq((running & words.o.valid & ~taken) | (waiting & ~jobs.r_rdy)),
            self.activity.busy.eq(active & (busy | (~blocked & computing & ~owed))),
            self.activity.blocked.eq(active & ~busy & blocked),
            self.activity.starved.eq(active & ~self.activity.busy & ~self.activity.blocked),
            self.activity.finished.eq(finished),
            self.activity.cause.eq(Cause.PIPELINE),
        ]
        with m.If(self.activity.blocked):
            with m.If(~waiting | jobs.r_rdy):
                m.d.comb += self.activity.cause.eq(Cause.WRITE)
            with m.Elif(~self.semaphore.wait_ready):
                m.d.comb += self.activity.cause.eq(Cause.SEMAPHORE)
        with m.Elif(owed):
            m.d.comb += self.activity.cause.eq(Cause.MEMORY)
        with m.Elif(request.valid):
            m.d.comb += self.activity.cause.eq(Cause.PORT)
        return m
