"""What an SDRAM chip forbids, as assertions on its pads."""

from amaranth.hdl import Array, Assert, C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.sdram import AUTO_OR_ALL, BANKS, Command, SdramTiming

__all__ = ["PADS", "SdramRules", "access"]

PADS = {
    "cke": 1,
    "cs_n": 1,
    "ras_n": 1,
    "cas_n": 1,
    "we_n": 1,
    "ba": 2,
    "a": 13,
    "dqm": 2,
    "dq_oe": 1,
}
"""Pads that the rules look at, and their bits."""


def access(timing: SdramTiming) -> data.StructLayout:
    """One column read or written."""
    return data.StructLayout(
        {"write": 1, "bank": 2, "row": timing.row_bits, "column": timing.column_bits}
    )


class SdramRules(wiring.Component):
    """Checks an SDRAM's pads cycle by cycle; a violation is an ``Assert`` with the rule's name.

    Sampled on the controller's clock: what is on the pads in a cycle is what the chip takes at the
    end of it. One source of rules: :class:`~sim.board.SdramChip` adds storage to it for
    simulation, and ``tests/hdl/sdram`` proves them of the controller.

    Rules: start-up (time, precharge of all banks, refreshes, mode register, DQM high before), tRCD,
    tRP, tRAS, tRC, tRRD, tRFC, tMRD, tWR, longest tRAS, columns of open banks only, no activate of
    an open bank, no refresh or mode register set with a bank open, bursts not cut, no auto
    precharge, one driver on DQ and a cycle between the chip and the controller, DQ driven
    for writes, and refreshes: never more than ``postponed + 2`` late, where one is due every
    ``timing.refresh_interval`` cycles. That is stricter than 8192 in any 64 ms: a window of 64 ms
    holds at least 8192 + ``postponed`` + 2 intervals, and early refreshes count for nothing.

    Parameters
    ----------
    timing
        Of the chip.
    longest
        Check the longest tRAS too (four long counters, which proofs do without).

    Members
    -------
    as PADS : In
    valid : Out(1), access : Out(access(timing))
        A column is read or written in this cycle.
    drives : Out(1)
        The chip drives DQ in this cycle.
    """

    def __init__(self, timing: SdramTiming, *, longest: bool = True):
        self.timing, self._longest = timing, longest
        super().__init__(
            {
                **{name: In(width) for name, width in PADS.items()},
                "valid": Out(1),
                "access": Out(access(timing)),
                "drives": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        timing = self.timing

        def rule(condition, text: str):
            return Assert(condition, f"SDRAM rule broken: {text}")

        def waits(cycles: int, name: str) -> tuple[Signal, Signal]:
            """A counter that is 0 when ``cycles`` have gone by since its start, and the start."""
            start = Signal(name=f"{name}_start")
            counter = Signal(range(max(cycles, 2)), name=name)
            with m.If(start):
                m.d.sync += counter.eq(cycles - 1)
            with m.Elif(counter != 0):
                m.d.sync += counter.eq(counter - 1)
            return counter, start

        def bank_waits(cycles: int, name: str):
            pairs = [waits(cycles, f"{name}_{b}") for b in range(BANKS)]
            return Array(c for c, _ in pairs), Array(s for _, s in pairs), pairs

        command, was_cke = Signal(Command), Signal()
        m.d.comb += command.eq(Command.NOP)
        with m.If(~self.cs_n):
            m.d.comb += command.eq(Cat(self.we_n, self.cas_n, self.ras_n))
        m.d.sync += was_cke.eq(self.cke)
        is_ = {c: Signal(name=f"is_{c.name.lower()}") for c in Command}
        for c, signal in is_.items():
            m.d.comb += signal.eq(command == c)
        bank = self.ba
        all_banks = self.a[AUTO_OR_ALL]

        opened = Array(Signal(name=f"open_{b}") for b in range(BANKS))
        rows = Array(Signal(timing.row_bits, name=f"row_{b}") for b in range(BANKS))
        trcd, trcd_start, _ = bank_waits(timing.trcd, "trcd")
        tras, tras_start, _ = bank_waits(timing.tras, "tras")
        trc, trc_start, _ = bank_waits(timing.trc, "trc")
        trp, trp_start, trp_pairs = bank_waits(timing.trp, "trp")
        # From the last data written: the burst's second column is a cycle after WRITE.
        twr, twr_start, _ = bank_waits(timing.twr_clocks + 1, "twr")
        trrd, trrd_start = waits(timing.trrd_clocks, "trrd")
        trfc, trfc_start = waits(timing.trfc, "trfc")
        tmrd, tmrd_start = waits(timing.tmrd_clocks, "tmrd")
        any_open = Cat(*opened).any()
        precharged = ~any_open & ~Cat(*(c != 0 for c, _ in trp_pairs)).any()

        # Start-up.
        power = Signal(range(timing.powerup + 1), init=timing.powerup)
        closed, configured = Signal(), Signal()
        refreshes = Signal(range(timing.init_refreshes + 1))
        with m.If(power != 0):
            m.d.sync += power.eq(power - 1)
        with m.If(~is_[Command.NOP]):
            m.d.sync += [
                rule(self.cke & was_cke, "command without CKE"),
                rule(power == 0, "command in the power-up time"),
                rule(~is_[Command.STOP], "burst stop is not used"),
                rule(trfc == 0, "tRFC: command too soon after a refresh"),
                rule(tmrd == 0, "tMRD: command too soon after the mode register was set"),
                rule(closed | is_[Command.PRECHARGE], "start-up: the first is a precharge"),
            ]
        with m.If(was_cke):
            m.d.sync += rule(self.cke, "CKE fell: power-down is not used")
        with m.If(~closed):
            m.d.sync += rule(self.dqm == 0b11, "start-up: DQM is high before the precharge")

        # Rows.
        column = is_[Command.READ] | is_[Command.WRITE]
        bursting = Signal()  # the second column of a burst
        for b in range(BANKS):
            hit = is_[Command.PRECHARGE] & (all_banks | (bank == b))
            with m.If(hit):
                m.d.sync += opened[b].eq(0)
                with m.If(opened[b]):
                    m.d.comb += trp_start[b].eq(1)
                    m.d.sync += [
                        rule(tras[b] == 0, "tRAS: precharge too soon after activate"),
                        rule(twr[b] == 0, "tWR: precharge too soon after write data"),
                        rule(
                            ~(bursting & (self.access.bank == b)), "a precharge cuts a burst short"
                        ),
                    ]
        with m.If(is_[Command.PRECHARGE] & all_banks):
            m.d.sync += closed.eq(1)
        with m.If(is_[Command.ACTIVATE]):
            m.d.comb += [
                trcd_start[bank].eq(1),
                tras_start[bank].eq(1),
                trc_start[bank].eq(1),
                trrd_start.eq(1),
            ]
            m.d.sync += [
                opened[bank].eq(1),
                rows[bank].eq(self.a),
                rule(configured, "activate before the mode register is set"),
                rule(~opened[bank], "activate of a bank that is open"),
                rule(trp[bank] == 0, "tRP: activate too soon after precharge"),
                rule(trc[bank] == 0, "tRC: activate too soon after activate of the bank"),
                rule(trrd == 0, "tRRD: activate too soon after activate of another bank"),
            ]
        with m.If(is_[Command.REFRESH]):
            m.d.comb += trfc_start.eq(1)
            m.d.sync += [
                refreshes.eq(Mux(refreshes == timing.init_refreshes, refreshes, refreshes + 1)),
                rule(~any_open, "refresh with an open bank"),
                rule(any_open | precharged, "tRP: refresh too soon after precharge"),
                rule(~Cat(*(trc[b] != 0 for b in range(BANKS))).any(), "tRC: refresh too soon"),
            ]
        with m.If(is_[Command.MODE]):
            m.d.comb += tmrd_start.eq(1)
            m.d.sync += [
                configured.eq(1),
                rule(precharged, "mode register set with a bank open or within tRP"),
                rule(refreshes == timing.init_refreshes, "start-up: too few refreshes"),
                rule(
                    (self.a == timing.mode) & (self.ba == 0),
                    "mode register: bursts of 2 in order, and the CAS latency it was built for",
                ),
            ]

        # Columns: two a burst, the second with the lowest address bit inverted.
        second = Signal(access(timing))
        m.d.sync += bursting.eq(column)
        with m.If(column):
            m.d.comb += [
                self.access.write.eq(is_[Command.WRITE]),
                self.access.bank.eq(bank),
                self.access.row.eq(rows[bank]),
                self.access.column.eq(self.a),
            ]
            m.d.sync += [
                second.eq(self.access),
                second.column.eq(self.access.column ^ 1),
                rule(opened[bank], "read or write in a bank without an open row"),
                rule(trcd[bank] == 0, "tRCD: read or write too soon after activate"),
                rule(~bursting, "a read or write cuts a burst short"),
                rule(~all_banks, "auto precharge is not used"),
            ]
            with m.If(is_[Command.WRITE]):
                m.d.comb += twr_start[bank].eq(1)
        with m.Else():
            m.d.comb += self.access.eq(second)
        m.d.comb += self.valid.eq(column | bursting)

        # DQ: the chip drives it a CAS latency after each column read.
        reading = Signal(timing.cas_latency)
        m.d.sync += [
            reading.eq(Cat(self.valid & ~self.access.write, reading)),
            rule(~(self.dq_oe & self.drives), "two drivers on DQ"),
            rule(
                ~(self.dq_oe & just_drove(m, self.drives)),
                "DQ driven in the cycle after the chip drove it",
            ),
            rule(self.dq_oe | ~(self.valid & self.access.write), "write data is not driven"),
        ]
        m.d.comb += self.drives.eq(reading[-1])

        # Refreshes late.
        late_limit = timing.postponed + 2
        clock = Signal(range(timing.refresh_interval), init=timing.refresh_interval - 1)
        late = Signal(range(late_limit + 2))
        tick = Signal()
        m.d.comb += tick.eq(configured & (clock == 0))
        m.d.sync += clock.eq(Mux(clock == 0, timing.refresh_interval - 1, clock - 1))
        with m.If(tick & ~is_[Command.REFRESH]):
            m.d.sync += [
                late.eq(late + 1),
                rule(late != late_limit, "refresh: too many are late"),
            ]
        with m.Elif(~tick & is_[Command.REFRESH] & (late != 0)):
            m.d.sync += late.eq(late - 1)
        if self._longest:
            for b in range(BANKS):
                age = Signal(range(timing.tras_max + 2), name=f"age_{b}")
                m.d.sync += age.eq(Mux(opened[b], age + 1, C(0, 1)))
                with m.If(opened[b]):
                    m.d.sync += rule(age <= timing.tras_max, "tRAS: a row is open for too long")
        return m


def just_drove(m: Module, drives: Signal) -> Signal:
    """Whether the chip drove DQ in the cycle before."""
    before = Signal(name="drove")
    m.d.sync += before.eq(drives)
    return before
