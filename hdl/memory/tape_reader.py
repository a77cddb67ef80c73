"""Streams the weight tape from memory to the array, as far ahead as its FIFOs allow."""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from hdl.config import Config
from hdl.interfaces import (
    activity_signature,
    fault_signature,
    instruction_signature,
    read_client,
    semaphore_signature,
)
from hdl.isa import Cause, Fault, Opcode, instruction_layout
from hdl.streams import SkidBuffer

__all__ = ["TapeReader"]

INSTRUCTIONS = 4


class TapeReader(wiring.Component):
    """Executes TAPE: block tiles of scales and elements, split at the input into two FIFOs.

    Works in whole block tiles: it asks for beats only where both FIFOs have room for their tiles,
    so it never has to refuse a beat. Requests have ``config.burst_beats`` beats, aligned to that
    size where it is a power of two, so a burst does not cross 4 KiB. The next instruction is asked
    for while beats of up to 4 earlier ones are still to come: no gap between instructions.

    Members
    -------
    instruction, semaphore, fault, activity
        As every unit. ``signal`` is given when the instruction's last beat has come from memory.
        Faults: ILLEGAL_INSTRUCTION, BAD_OPERAND (no block tiles), BAD_ADDRESS (not aligned).
        Activity: busy when a beat comes, starved when beats asked for do not, blocked when it may
        not ask (FIFOs full, or a semaphore).
    memory : Out(read_client(config))
    tape_elements : Out(stream(port_bits))
        Elements of all tiles in order, a beat a cycle.
    tape_scales : Out(stream(8 * cols))
        Scales, a word a block tile, valid no later than the tile's elements. May be taken before or
        after them.
    left : Out(1)
        Something is still to be read or taken (two cycles ago).

    Latency: from instruction taken to the first request 4 cycles, from one request to the next 4;
    from a beat to its stream 5.

    Raises ``ValueError`` if ``config.tape_beats`` does not hold the elements of two block tiles.
    """

    def __init__(self, config: Config):
        self.config = config
        self.element_beats = config.passes * config.tile_beats  # of a block tile
        self.tiles = config.tape_beats // self.element_beats
        if self.tiles < 2:
            raise ValueError(
                f"config {config.name!r}: tape_beats={config.tape_beats} must hold two block "
                f"tiles: choose {2 * self.element_beats} or more"
            )
        super().__init__(
            {
                "instruction": In(instruction_signature()),
                "semaphore": Out(semaphore_signature()),
                "fault": Out(fault_signature()),
                "activity": Out(activity_signature()),
                "memory": Out(read_client(config)),
                "tape_elements": Out(stream.Signature(config.port_bits)),
                "tape_scales": Out(stream.Signature(8 * config.cols)),
                "left": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        period = config.block_tile_beats
        window = self.tiles * period
        shift = ceil_log2(config.port_bytes)
        layout = instruction_layout(Opcode.TAPE)

        # Issue: instructions into requests ---------------------------------------------------
        word = Signal(layout)
        index = Signal.like(self.instruction.payload.index)
        address = Signal.like(word.address)
        beats = Signal(32 + ceil_log2(period + 1))  # of the instruction, not yet asked
        allowance = Signal(range(window + 1), init=window)  # beats that may be asked
        size = Signal(range(config.burst_beats + 1))  # of the next request
        asked, asked_last = Signal.like(size), Signal()  # of the one that is asked for
        room, reserve, asking = Signal(), Signal(), Signal()
        request = self.memory.request
        # Beats come from afar: they go through two registers.
        arriving, arrived_beat = Signal(), Signal(config.port_bits, reset_less=True)
        beat, payload = Signal(), Signal(config.port_bits, reset_less=True)
        m.d.sync += [
            arriving.eq(self.memory.data.valid),
            arrived_beat.eq(self.memory.data.payload),
            beat.eq(arriving),
            payload.eq(arrived_beat),
        ]

        receipt = data.StructLayout({"tiles": 32, "signal": word.signal.shape()})
        m.submodules.receipts = receipts = SyncFIFO(width=receipt.size, depth=INSTRUCTIONS)

        def fail(cause):
            m.d.sync += [self.fault.valid.eq(1), self.fault.cause.eq(cause)]
            m.next = "FAULT"

        with m.If(~self.fault.valid):
            m.d.sync += [self.fault.address.eq(word.address), self.fault.index.eq(index)]

        # A request in steps: its size, whether there is room (of a cycle ago), and out. Sizes lead
        # up to the next multiple of a burst where that is a power of two: from there on bursts are
        # aligned. `address` and `beats` go on while it is asked for, whenever it is taken.
        most = Const(config.burst_beats)
        if config.burst_beats & (config.burst_beats - 1) == 0:
            most = config.burst_beats - address[shift : shift + ceil_log2(config.burst_beats)]
        few = ~beats[len(size) :].any()  # beats that a burst may have
        low = beats[: len(size)]
        last = Signal()  # request of the instruction
        incoming = layout(self.instruction.payload.word)
        illegal, empty, odd = Signal(), Signal(), Signal()
        m.d.sync += [
            size.eq(Mux(few & (low < most), low, most)),
            last.eq(few & (low <= most)),
            room.eq(allowance >= size),
            reserve.eq(0),
        ]
        m.d.comb += [
            request.payload.beats.eq(asked),
            receipts.w_data.eq(Cat(word.block_tiles, word.signal)),
            self.semaphore.wait_mask.eq(word.wait),
        ]
        with m.If(reserve):
            m.d.sync += [address.eq(address + (asked << shift)), beats.eq(beats - asked)]
        idle, waits_for_room = Signal(), Signal()
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += [idle.eq(1), self.instruction.ready.eq(1)]
                m.d.sync += [
                    word.eq(incoming),
                    index.eq(self.instruction.payload.index),
                    address.eq(incoming.address),
                    # A block tile is 33 * row_beats beats.
                    beats.eq(
                        ((incoming.block_tiles << 5) + incoming.block_tiles) * config.row_beats
                    ),
                    illegal.eq(incoming.opcode != Opcode.TAPE),
                    empty.eq(incoming.block_tiles == 0),
                    odd.eq(incoming.address[:shift].any()),
                ]
                with m.If(self.instruction.valid):
                    m.next = "WAIT"
            with m.State("WAIT"):
                # (After a fault nobody minds a semaphore that was taken.)
                m.d.comb += self.semaphore.wait_valid.eq(receipts.w_rdy)
                with m.If(illegal):
                    fail(Fault.ILLEGAL_INSTRUCTION)
                with m.Elif(empty):
                    fail(Fault.BAD_OPERAND)
                with m.Elif(odd):
                    fail(Fault.BAD_ADDRESS)
                with m.Elif(receipts.w_rdy & self.semaphore.wait_ready):
                    m.d.comb += receipts.w_en.eq(1)
                    m.next = "FIT"
            with m.State("SIZE"):
                m.next = "FIT"
            with m.State("FIT"):
                m.next = "ROOM"
            with m.State("ROOM"):
                m.d.comb += waits_for_room.eq(1)
                m.d.sync += [
                    request.payload.address.eq(address),
                    asked.eq(size),
                    asked_last.eq(last),
                ]
                with m.If(room):
                    m.d.sync += [request.valid.eq(1), reserve.eq(1)]
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += asking.eq(request.ready)
                with m.If(request.ready):
                    m.d.sync += request.valid.eq(0)
                    with m.If(asked_last):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "SIZE"
            with m.State("FAULT"):
                pass

        # Input: beats into the two FIFOs -----------------------------------------------------
        m.submodules.elements = elements = SyncFIFOBuffered(
            width=config.port_bits, depth=config.tape_beats
        )
        m.submodules.scales = scales = SyncFIFOBuffered(width=8 * config.cols, depth=self.tiles)
        place = Signal(range(period))
        following_place = Signal.like(place)
        # The next beat: a scale, a row of scales' last, a block tile's last
        is_scale, row_end = Signal(init=1), Signal(init=config.row_beats == 1)
        at_end, tile_end = Signal(), Signal()
        row = Signal(8 * config.cols)  # scales so far, the newest beat highest
        m.d.comb += [
            following_place.eq(Mux(at_end, 0, place + 1)),
            tile_end.eq(beat & at_end),
            elements.w_data.eq(payload),
            elements.w_en.eq(beat & ~is_scale),
            scales.w_data.eq(Cat(row, payload)[config.port_bits :]),
            scales.w_en.eq(beat & row_end),
        ]
        with m.If(beat):
            m.d.sync += [
                Assert(elements.w_rdy | is_scale, "tape element FIFO overflow"),
                Assert(scales.w_rdy | ~scales.w_en, "tape scale FIFO overflow"),
                place.eq(following_place),
                is_scale.eq(following_place < config.row_beats),
                row_end.eq(following_place == config.row_beats - 1),
                at_end.eq(following_place == period - 1),
            ]
            with m.If(is_scale):
                m.d.sync += row.eq(scales.w_data)

        # The oldest instruction is complete with its last tile. (Compared while the tile comes:
        # that takes longer than the four cycles this does.)
        arrived, following = Signal(32), Signal(32)
        complete, finish = Signal(), Signal()
        oldest = data.View(receipt, receipts.r_data)
        m.d.sync += [
            following.eq(arrived + 1),
            complete.eq(following == oldest.tiles),
            finish.eq(tile_end & complete),
        ]
        with m.If(tile_end):
            m.d.sync += arrived.eq(Mux(complete, 0, following))
        m.d.comb += receipts.r_en.eq(finish)
        with m.If(finish):
            m.d.comb += self.semaphore.signal.eq(oldest.signal)

        # Output ----------------------------------------------------------------------------
        # The array is far from the FIFOs: a register slice on the way
        m.submodules.elements_out = elements_out = SkidBuffer(config.port_bits)
        m.submodules.scales_out = scales_out = SkidBuffer(8 * config.cols)
        connect(m, elements.r_stream, elements_out.i)
        connect(m, scales.r_stream, scales_out.i)
        connect(m, elements_out.o, flipped(self.tape_elements))
        connect(m, scales_out.o, flipped(self.tape_scales))
        element_taken, scale_taken = Signal(), Signal()
        m.d.comb += [
            element_taken.eq(elements.r_rdy & elements.r_en),
            scale_taken.eq(scales.r_rdy & scales.r_en),
        ]

        # Allowance: a tile's beats come back when its elements and its scales are taken --------
        eaten = Signal(range(self.element_beats))  # element beats taken of the present tile
        elements_done, release, released = Signal(), Signal(), Signal()
        ahead = Signal(range(-self.tiles, self.tiles + 1))  # tiles of elements less words of scales
        m.d.comb += elements_done.eq(element_taken & (eaten == self.element_beats - 1))
        with m.If(element_taken):
            m.d.sync += eaten.eq(Mux(elements_done, 0, eaten + 1))
        with m.If(elements_done & scale_taken):
            m.d.comb += release.eq(1)
        with m.Elif(elements_done):
            m.d.comb += release.eq(ahead < 0)
            m.d.sync += ahead.eq(ahead + 1)
        with m.Elif(scale_taken):
            m.d.comb += release.eq(ahead > 0)
            m.d.sync += ahead.eq(ahead - 1)
        m.d.sync += [
            released.eq(release),
            allowance.eq(allowance + Mux(released, period, 0) - Mux(reserve, asked, 0)),
        ]
        with m.If(reserve):
            m.d.sync += Assert(allowance >= asked)

        # Status ----------------------------------------------------------------------------
        outstanding = Signal(range(window + 1))
        active, waits = Signal(), Signal()
        owed = Signal()  # outstanding is not 0
        m.d.sync += [
            outstanding.eq(outstanding + Mux(asking, asked, 0) - beat),
            owed.eq(asking | (outstanding > 1) | (owed & ~beat)),
        ]
        m.d.comb += [
            active.eq(~idle | owed),
            waits.eq(owed | request.valid),
            self.activity.busy.eq(active & beat),
            self.activity.starved.eq(active & ~beat & waits),
            self.activity.blocked.eq(active & ~beat & ~waits & ~fsm.ongoing("FAULT")),
            self.activity.finished.eq(receipts.r_en),
        ]
        reading, waiting = Signal(), Signal()
        m.d.sync += [
            reading.eq(active),
            waiting.eq(
                (elements.level != 0) | scales.r_rdy | elements_out.o.valid | scales_out.o.valid
            ),
            self.left.eq(reading | waiting),
        ]
        with m.If(waits):
            m.d.comb += self.activity.cause.eq(Mux(owed, Cause.MEMORY, Cause.PORT))
        with m.Elif(waits_for_room):
            m.d.comb += self.activity.cause.eq(Cause.FIFO)
        with m.Else():
            granted = ~self.semaphore.wait_valid | self.semaphore.wait_ready
            m.d.comb += self.activity.cause.eq(Mux(granted, Cause.PIPELINE, Cause.SEMAPHORE))
        return m
