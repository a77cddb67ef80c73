"""Segments to SDRAM commands: rows opened ahead, refresh, start-up."""

from math import ceil

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.sdram.pins import AUTO_OR_ALL, BANKS, Command
from hdl.sdram.segment import segment, tag
from hdl.sdram.timing import SdramTiming

__all__ = ["SdramScheduler"]


def pairs(cycles: int) -> int:
    """Pairs of cycles that last at least ``cycles``."""
    return ceil(cycles / 2)


def gap(cycles: int) -> int:
    """What the timer starts from for the next command to come after at least ``cycles``."""
    return max(pairs(cycles), 1) - 1


class SdramScheduler(wiring.Component):
    """Turns segments into commands, one 32-bit word every two cycles.

    Cycles come in pairs. The first of a pair belongs to READ and WRITE (bursts of two columns, one
    word), the second to everything else, so that rows of other banks are closed and
    opened while words stream. Two segments are in hand: the one that streams, and the next,
    whose row is made ready meanwhile. Rows stay open until another row of their bank is wanted, or
    for a refresh. A stream that goes on in an open row, or in another bank, loses no cycle; another
    row of the bank that streams costs 8 cycles at 100 MHz, a write after a read 4.

    Refreshes are owed, one every ``refresh_interval``. They are paid when there is nothing else to
    do, or, ``postponed`` of them having gathered, all at once: rows are closed and opened once
    for the lot. With the defaults that takes 1.3 % of the time and stops traffic for 0.8 us.

    tRAS, tRC and tRRD need no counters: a row that was opened is read or written before its
    bank is closed, and ``recovery`` holds for what is left of them. The rules of
    ``sim.board.SdramRules`` check all of it, and a proof does for small counters.

    Members
    -------
    segments : In(stream(segment(timing)))
    command : Out(Command), bank : Out(2), address : Out(13)
        One cycle after the decision; NOP between commands.
    read, write : Out(1)
        Pulse in the cycle of the decision: a word will be read, written.
    tag : Out(tag())
        With ``read`` and ``write``; ``last`` with the last word of a burst only.
    phase : Out(1)
        Low in the cycle in which ``read`` and ``write`` may come.
    ready : Out(1)
        Initialisation is over.
    """

    def __init__(self, timing: SdramTiming):
        self.timing = timing
        # Last READ or WRITE to a precharge of its bank: two words written, or read out, and tRAS.
        self._recovery = max(1 + timing.twr_clocks, 2, timing.tras - timing.trcd)
        if self._recovery > 5 or timing.trc > timing.trcd + self._recovery + timing.trp:
            raise ValueError(
                f"SDRAM timing: {timing.clock_hz / 1e6:g} MHz asks for more counters than there "
                "are (tRAS, tRC, tWR); choose a slower clock"
            )
        if (timing.postponed + 3) * timing.refresh_interval > timing.tras_max:
            raise ValueError(
                f"SDRAM timing: postponed={timing.postponed} refreshes leave a row open for over "
                f"{timing.tras_max} cycles; choose fewer"
            )
        super().__init__(
            {
                "segments": In(stream.Signature(segment(timing))),
                "command": Out(Command, init=Command.NOP),
                "bank": Out(2),
                "address": Out(13),
                "read": Out(1),
                "write": Out(1),
                "tag": Out(tag()),
                "phase": Out(1),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        timing = self.timing
        phase = self.phase
        m.d.sync += phase.eq(~phase)

        # Refreshes owed; before the start, the time to wait.
        interval = timing.refresh_interval
        starting, tick = Signal(init=1), Signal()
        clock = Signal(range(interval), init=interval - 1)
        wait = Signal(range(pairs(timing.powerup) + 2), init=pairs(timing.powerup))
        owed = Signal(range(timing.postponed + 4), init=timing.init_refreshes)
        due, refresh = Signal(), Signal()
        m.d.sync += [
            clock.eq(Mux(tick, interval - 1, clock - 1)),
            tick.eq(clock == 1),
            owed.eq(owed + tick - refresh),
            due.eq(owed >= timing.postponed),
        ]

        # The segment that streams.
        now = Signal(segment(timing))
        busy = Signal()
        columns, recent = Signal(), Signal(range(4))
        turn = Signal(range(pairs(timing.cas_latency + 3)))
        m.d.comb += [
            columns.eq(~phase & busy & (~now.write | (turn == 0))),
            self.read.eq(columns & ~now.write),
            self.write.eq(columns & now.write),
            self.tag.eq(now.tag),
            self.tag.last.eq(now.tag.last & (now.count == 0)),
        ]
        with m.If(columns):
            m.d.sync += [
                now.word.eq(now.word + 1),
                now.count.eq(now.count - 1),
                busy.eq(now.count != 0),
                recent.eq(pairs(self._recovery - 1)),
            ]
        with m.Elif(phase & (recent != 0)):
            m.d.sync += recent.eq(recent - 1)
        # A word read leaves the chip's drivers one cycle before ours come on.
        with m.If(self.read):
            m.d.sync += turn.eq(pairs(timing.cas_latency + 3) - 1)
        with m.Elif(~phase & (turn != 0)):
            m.d.sync += turn.eq(turn - 1)

        # Commands; `slot` is when one of the second kind may come.
        timer = Signal(range(max(pairs(timing.trfc), pairs(timing.trp), 4)))
        slot = Signal()
        m.d.comb += slot.eq(phase & (timer == 0))
        with m.If(phase & (timer != 0)):
            m.d.sync += timer.eq(timer - 1)
        next_ = Signal(segment(timing))
        row = Signal(Command, init=Command.NOP)
        every = Signal()
        m.d.comb += row.eq(Command.NOP)
        m.d.sync += [
            self.command.eq(Mux(phase, row, Mux(columns, Cat(~now.write, 0, 1), Command.NOP))),
            self.bank.eq(Mux(phase, next_.bank, now.bank)),
            self.address.eq(Cat(C(0, 1), now.word)),
        ]
        with m.If(phase):
            m.d.sync += self.address.eq(next_.row)
            with m.If(row.as_value() == Command.PRECHARGE):
                m.d.sync += self.address.eq(every << AUTO_OR_ALL)
            with m.If(row.as_value() == Command.MODE):
                m.d.sync += [self.address.eq(timing.mode), self.bank.eq(0)]

        opened = Signal(BANKS)
        rows = Array(
            Signal(timing.row_bits, name=f"row_{b}", reset_less=True) for b in range(BANKS)
        )
        was_open, was_row = Signal(), Signal(timing.row_bits)
        m.d.sync += [was_open.eq(opened.bit_select(next_.bank, 1)), was_row.eq(rows[next_.bank])]
        with m.FSM():
            with m.State("POWER"):
                with m.If(phase):
                    m.d.sync += wait.eq(wait - 1)
                with m.If(slot & (wait == 0)):
                    m.next = "ALL"
                m.d.sync += owed.eq(timing.init_refreshes)
            with m.State("IDLE"):
                with m.If(due | ((owed != 0) & ~self.segments.valid & ~busy)):
                    m.next = "ALL"
                with m.Else():
                    m.d.comb += self.segments.ready.eq(1)
                    m.d.sync += next_.eq(self.segments.payload)
                    with m.If(self.segments.valid):
                        m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.next = "OPEN"
                with m.If(was_open):
                    m.next = "CLOSE"
                    with m.If(was_row == next_.row):
                        m.next = "GIVE"
            with m.State("CLOSE"):
                mine = (now.bank == next_.bank) & (busy | (recent != 0))
                with m.If(slot & ~mine):
                    m.d.comb += row.eq(Command.PRECHARGE)
                    m.d.sync += timer.eq(gap(timing.trp))
                    m.next = "OPEN"
            with m.State("OPEN"):
                with m.If(slot):
                    m.d.comb += row.eq(Command.ACTIVATE)
                    m.d.sync += [
                        timer.eq(gap(timing.trcd - 1)),
                        opened.bit_select(next_.bank, 1).eq(1),
                        rows[next_.bank].eq(next_.row),
                    ]
                    m.next = "GIVE"
            with m.State("GIVE"):
                with m.If(slot & ~busy):
                    m.d.sync += [now.eq(next_), busy.eq(1)]
                    m.next = "IDLE"
            with m.State("ALL"):
                with m.If(slot & ~busy & (recent == 0)):
                    m.d.comb += [row.eq(Command.PRECHARGE), every.eq(1)]
                    m.d.sync += [timer.eq(gap(timing.trp)), opened.eq(0)]
                    m.next = "REFRESH"
            with m.State("REFRESH"):
                with m.If(slot):
                    with m.If(owed != 0):
                        m.d.comb += [row.eq(Command.REFRESH), refresh.eq(1)]
                        m.d.sync += timer.eq(gap(timing.trfc))
                    with m.Elif(starting):
                        m.d.comb += row.eq(Command.MODE)
                        m.d.sync += [timer.eq(gap(timing.tmrd_clocks)), starting.eq(0)]
                    with m.Else():
                        m.next = "IDLE"
        m.d.comb += self.ready.eq(~starting)
        return m
