"""Every rule of the chip model fires for the sequence that breaks it, and for no legal one."""

import dataclasses

import pytest
from amaranth.sim import Simulator

from hdl.sdram import AUTO_OR_ALL, Command, SdramTiming
from sim.board import SdramRules

TIMING = SdramTiming(
    powerup_ns=50,
    init_refreshes=2,
    refresh_ns=64e3,
    refreshes=8,
    postponed=1,
    row_bits=4,
    column_bits=5,
    tras_max_ns=30e3,
)
T = TIMING
ALL = 1 << AUTO_OR_ALL
NOP, ACTIVATE, READ, WRITE = Command.NOP, Command.ACTIVATE, Command.READ, Command.WRITE
PRECHARGE, REFRESH, MODE, STOP = (
    Command.PRECHARGE,
    Command.REFRESH,
    Command.MODE,
    Command.STOP,
)


def wait(cycles):
    return [(NOP, {})] * cycles


def do(command, **pads):
    return [(command, pads)]


def activate(bank=0, row=3, after=T.trcd - 1):
    return do(ACTIVATE, ba=bank, a=row) + wait(after)


def write(bank=0, after=0, **pads):
    """Both halves driven."""
    return do(WRITE, ba=bank, dq_oe=1, **pads) + do(NOP, dq_oe=1) + wait(after)


def read(bank=0, after=1, **pads):
    return do(READ, ba=bank, **pads) + wait(after)


POWER = [(NOP, {"cke": 0, "dqm": 3})] + [(NOP, {"dqm": 3})] * (T.powerup - 1)
CLOSE = do(PRECHARGE, a=ALL, dqm=3) + wait(T.trp - 1)
ONE = do(REFRESH) + wait(T.trfc - 1)
START = POWER + CLOSE + ONE * 2 + do(MODE, a=T.mode) + wait(T.tmrd_clocks - 1)

SHORT = activate(after=T.tras - 1) + do(PRECHARGE) + wait(T.trp - 1)

LEGAL = {
    "a row for as short as may be": START + SHORT + ONE + SHORT,
    "read, close, open another": START
    + activate()
    + read(after=1)
    + do(PRECHARGE)
    + wait(T.trc)
    + activate(row=4)
    + read(),
    "banks one after the other": START
    + activate(0, after=T.trrd_clocks - 1)
    + activate(1)
    + read(0)
    + read(1)
    + wait(5),
    "write, close": START + activate() + write(after=T.twr_clocks - 1) + do(PRECHARGE),
    "write after read": START + activate() + read(after=T.cas_latency + 2) + write(),
    "read after write": START + activate() + write() + read(),
    "refreshes": START + (wait(T.refresh_interval - T.trfc) + ONE) * 4,
}

ILLEGAL = {
    "power-up time": POWER[:-2] + CLOSE,
    "start-up: the first is a precharge": POWER + ONE,
    "start-up: DQM": POWER[:-1] + wait(1) + CLOSE,
    "start-up: too few refreshes": POWER + CLOSE + ONE + do(MODE, a=T.mode),
    "without CKE": POWER + do(PRECHARGE, a=ALL, cke=0, dqm=3),
    "CKE fell": START + do(NOP, cke=0),
    "mode register: ": POWER + CLOSE + ONE * 2 + do(MODE, a=T.mode ^ 0x10),
    "mode register set with a bank open": START + activate(after=9) + do(MODE, a=T.mode),
    "before the mode register": POWER + CLOSE + ONE * 2 + activate(),
    "tMRD": START[: -(T.tmrd_clocks - 1)] + activate(),
    "tRFC": START + ONE[:-1] + activate(),
    "tRCD": START + activate(after=T.trcd - 2) + read(),
    "tRAS: precharge too soon": START + activate(after=T.tras - 2) + do(PRECHARGE),
    "tRP: activate": START + activate(after=8) + do(PRECHARGE) + wait(T.trp - 2) + activate(),
    "tRP: refresh": START + activate(after=8) + do(PRECHARGE) + wait(T.trp - 2) + ONE,
    "tRC: activate": START + SHORT + activate(),
    "tRC: refresh": START + SHORT + ONE,
    "tRRD": START + activate(0, after=T.trrd_clocks - 2) + activate(1),
    "tWR": START + activate() + write(after=T.twr_clocks - 2) + do(PRECHARGE),
    "without an open row": START + read(),
    "bank that is open": START + activate(after=T.trc) + activate(row=5),
    "refresh with an open bank": START + activate(after=T.trc) + ONE,
    "burst stop": START + do(STOP),
    "a precharge cuts": START + activate(after=9) + read(after=0) + do(PRECHARGE, a=ALL),
    "a read or write cuts": START + activate() + read(after=0) + read(),
    "auto precharge": START + activate() + read(a=ALL),
    "two drivers": START + activate() + read(after=T.cas_latency) + write(),
    "the cycle after the chip": START + activate() + read(after=T.cas_latency + 1) + write(),
    "write data is not driven": START + activate() + do(WRITE, dq_oe=1) + wait(2),
    "too many are late": START + wait(T.refresh_interval * (T.postponed + 4)),
    "open for too long": START
    + activate()
    + (wait(T.refresh_interval) + read()) * (T.postponed + 2)
    + wait(1000),
}


CHIPS = {  # where another rule would come first
    "open for too long": {"tras_max_ns": 15e3, "postponed": 8},
    "tRC: activate": {"trc_ns": 95},
    "tRC: refresh": {"trc_ns": 95},
}


def play(script, timing=TIMING):
    """Cycles of (command, pads); raises AssertionError with the rule."""
    rules = SdramRules(timing)

    async def pads(ctx):
        for command, given in script:
            levels = {"cke": 1, "cs_n": 0, "dqm": 0, "dq_oe": 0, "ba": 0, "a": 0, **given}
            bits = command.value
            levels |= {"we_n": bits & 1, "cas_n": bits >> 1 & 1, "ras_n": bits >> 2}
            for name, value in levels.items():
                ctx.set(getattr(rules, name), value)
            await ctx.tick()
        await ctx.tick()

    simulator = Simulator(rules)
    simulator.add_clock(1e-8)
    simulator.add_testbench(pads)
    simulator.run()


@pytest.mark.parametrize("name", LEGAL)
def test_legal(name):
    play(LEGAL[name])


@pytest.mark.parametrize("rule", ILLEGAL)
def test_illegal(rule):
    timing = dataclasses.replace(TIMING, **CHIPS.get(rule, {}))
    with pytest.raises(AssertionError, match=f"SDRAM rule broken.*{rule}"):
        play(ILLEGAL[rule], timing)
