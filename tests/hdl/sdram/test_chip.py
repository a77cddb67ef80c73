# amaranth: UnusedElaboratable=no
"""The chip model by itself: latency, byte masks, storage, where a byte lives."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.config import PRESETS
from hdl.sdram import AUTO_OR_ALL, Command, SdramPort, SdramTiming, cell_address
from hdl.sdram.pins import bank_hash
from hdl.sdram.scheduler import SdramScheduler
from sim.board import SdramChip

TIMING = SdramTiming(powerup_ns=30, init_refreshes=1, row_bits=3, column_bits=4)


@pytest.mark.parametrize("latency", [2, 3])
def test_masks_and_latency(latency):
    """Masked bytes are neither written nor shown; data stands CAS latency after READ."""
    timing = dataclasses.replace(TIMING, cas_latency=latency)
    chip = SdramChip(timing)
    seen = []

    async def pads(ctx):
        async def do(command, cycles=1, **levels):
            bits = command.value
            given = {"ba": 0, "a": 0, "dqm": 0, "dq_oe": 0, "dq_o": 0, **levels}
            given |= {"we_n": bits & 1, "cas_n": bits >> 1 & 1, "ras_n": bits >> 2}
            for name, value in {**given, "cke": 1, "cs_n": 0}.items():
                ctx.set(getattr(chip.pins, name), value)
            seen.append(ctx.get(chip.pins.dq_i))
            await ctx.tick()
            if cycles > 1:
                await do(Command.NOP, cycles - 1)

        for _ in range(5):
            await do(Command.NOP, dqm=3)
        await do(Command.PRECHARGE, 4, a=1 << AUTO_OR_ALL, dqm=3)
        await do(Command.REFRESH, 8)
        await do(Command.MODE, 3, a=timing.mode)
        await do(Command.ACTIVATE, 4, ba=2, a=5)
        await do(Command.WRITE, ba=2, a=6, dq_oe=1, dq_o=0x1122)
        await do(Command.NOP, dq_oe=1, dq_o=0x3344)
        await do(Command.WRITE, ba=2, a=6, dq_oe=1, dq_o=0x5566, dqm=0b01)
        await do(Command.NOP, dq_oe=1, dq_o=0x7788, dqm=0b10)
        seen.clear()
        await do(Command.READ, 8, ba=2, a=6)
        assert seen[latency : latency + 2] == [0x5522, 0x3388]
        seen.clear()
        # The mask of a cycle covers what stands two cycles later.
        await do(Command.READ, ba=2, a=6, dqm=0b11 if latency == 2 else 0)
        await do(Command.NOP, 7, dqm=0b10 if latency == 2 else 0b11)
        first, second = seen[latency : latency + 2]
        assert first != 0x5522
        if latency == 2:
            assert second & 0xFF == 0x88
            assert second != 0x3388
        else:
            assert second == 0x3388

    simulator = Simulator(chip)
    simulator.add_clock(1e-8)
    simulator.add_testbench(pads)
    simulator.run()


def test_rows_follow_in_other_banks():
    """Where a stream goes on in the next row it goes on in another bank; no byte shares a cell."""
    timing = SdramTiming()
    starts = np.arange(0, timing.size_bytes, 2 << timing.column_bits)
    cells = cell_address(starts, timing)
    assert len(np.unique(cells)) == len(cells)
    assert np.array_equal(cell_address(cells, timing), starts)
    banks = cells >> 10 & 3
    assert np.all(banks[1:] != banks[:-1])
    assert [int(cell_address(int(a), timing)) for a in starts[:99]] == cells[:99].tolist()
    rows = np.arange(1 << 13)
    assert set((bank_hash(rows[1:]) ^ bank_hash(rows[:-1])).tolist()) == {1, 2}


def test_interval_keeps_8192_in_64_ms():
    """Even when the first of them is early and the last as late as the rules allow."""
    for clock_hz in (50e6, 100e6, 133e6):
        timing = SdramTiming(clock_hz=clock_hz)
        late = timing.postponed + 2
        assert (8192 + late) * timing.refresh_interval <= 64e-3 * clock_hz
    assert SdramTiming().refresh_interval == 780
    assert SdramTiming().size_bytes == 32 << 20


def test_bad_parameters():
    with pytest.raises(ValueError, match="cas_latency=4: choose 2 or 3"):
        SdramTiming(cas_latency=4)
    with pytest.raises(ValueError, match=r"clock_hz=.*choose a faster clock"):
        SdramTiming(clock_hz=2e6)
    with pytest.raises(ValueError, match=r"tRAS, tRC, tWR.*choose a slower clock"):
        SdramScheduler(SdramTiming(trc_ns=200))
    with pytest.raises(ValueError, match="read_beats=100, choose a power of two"):
        SdramPort(PRESETS["tiny"], read_beats=100)
    with pytest.raises(ValueError, match="port_bytes=64"):
        SdramPort(dataclasses.replace(PRESETS["edge"], port_bytes=64, lanes=16, rows=32))
