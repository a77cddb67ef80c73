"""DRAM timing: exact cycles of single rules, every command against the datasheet, data and order.

Three independent looks at `dram.h`: cycle counts written down by hand for one rule each; a model of
reads in Python, compared beat by beat; and a checker that reads the command log and knows nothing
but the timing table.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compiler.errors import UserError
from sim.verilated.dram import DRAM_KINDS, DramTiming, dram_timing
from sim.verilated.library import MemoryTiming
from sim.verilated.probe import Burst, ProbeResult, probe, sustained

PORT = 16
DDR4 = dram_timing("ddr4", PORT)
LPDDR4 = dram_timing("lpddr4", PORT)
LATENCY = 60
# One column, the same bank, the next row of it.
COLUMN = DDR4.burst_beats * PORT
NEXT_ROW = DDR4.banks * DDR4.row_beats * PORT
ACTIVATE, PRECHARGE, READ, WRITE, PRECHARGE_ALL, REFRESH = range(6)


def run(*bursts: Burst, dram: DramTiming = DDR4, latency: int = LATENCY, **more) -> ProbeResult:
    timing = MemoryTiming(latency, outstanding_reads=64, dram=dram)
    return probe(timing, PORT, bursts, log=True, **more)


# --- One rule each, counted by hand ---------------------------------------------------------------


@pytest.mark.parametrize("dram", [DDR4, LPDDR4], ids=str)
@pytest.mark.parametrize("latency", [40, 60, 200])
def test_latency_of_a_miss_a_hit_and_a_conflict(dram: DramTiming, latency: int) -> None:
    next_row = dram.banks * dram.row_beats * PORT
    found = run(
        Burst(0, 4),
        Burst(dram.groups * COLUMN, 4, cycle=800),  # same row
        Burst(next_row, 4, cycle=1600),  # same bank, another row
        Burst(0, 1, cycle=2400),
        dram=dram,
        latency=latency,
    )
    first = found.beat_cycles[[0, 4, 8, 12]] - found.accepted
    miss, hit, conflict = latency + dram.rcd, latency, latency + dram.rp + dram.rcd
    assert first.tolist() == [miss, hit, conflict, conflict]
    assert found.beat_cycles[:4].tolist() == [miss, miss + 1, miss + 2, miss + 3]
    stats = found.stats
    assert (stats.row_misses, stats.row_hits, stats.row_conflicts) == (1, 1, 2)


def test_a_burst_that_starts_inside_a_column_waits_for_its_beat() -> None:
    found = run(Burst(2 * PORT, 4))
    assert found.beat_cycles[0] == LATENCY + DDR4.rcd + 2
    # The second column is in a row of another group, which opens behind the first.
    assert found.stats.row_misses == 2
    assert np.diff(found.beat_cycles).tolist() == [1, 1, 1]


def test_the_read_buffer_holds_back_the_dram() -> None:
    """A chip that takes a beat every fourth cycle: no column is read before it has room."""
    dram = replace(DDR4, read_buffer_beats=8)
    found = run(*[Burst(i * 1024, 64) for i in range(4)], dram=dram, ready_every=4)
    assert found.data.shape[0] == 256
    for i, cycle in enumerate(c for c, kind, _, _ in found.commands if kind == READ):
        # One beat more stands on the port.
        assert 4 * (i + 1) - (found.beat_cycles < cycle).sum() <= 8 + 1
    assert found.beat_cycles[-1] - found.beat_cycles[0] == 255 * 4


def test_a_row_stays_open_for_ras() -> None:
    """Two rows of one bank at once: ACTIVATE, tRAS, tRP, tRCD; the read of the first fits in."""
    found = run(Burst(0, 4), Burst(NEXT_ROW, 4))
    assert DDR4.rcd + DDR4.rtp < DDR4.ras
    start = found.accepted[0] + LATENCY + DDR4.rcd
    assert found.beat_cycles[0] == start
    assert found.beat_cycles[4] == start + DDR4.ras + DDR4.rp


def test_rows_of_other_banks_open_behind_the_data() -> None:
    """Sixteen rows, four columns of each: all open in time."""
    per_row = DDR4.row_beats * DDR4.groups * PORT
    bursts = [Burst(i % 4 * COLUMN + i // 16 * per_row + i % 16 // 4 * 4 * COLUMN, 4)
              for i in range(64)]  # fmt: skip
    found = run(*bursts)
    assert found.beat_cycles[0] == found.accepted[0] + LATENCY + DDR4.rcd
    assert np.diff(found.beat_cycles).tolist() == [1] * 255
    assert found.stats.row_misses == 16


def test_columns_of_one_group_wait_for_ccd_long() -> None:
    found = run(*[Burst(i * DDR4.groups * COLUMN, 4) for i in range(20)])
    assert (np.diff(found.beat_cycles[::4]) == DDR4.ccd_long).all()
    found = run(*[Burst(i * COLUMN, 4) for i in range(20)], dram=LPDDR4)
    assert np.diff(found.beat_cycles).tolist() == [1] * 79


def test_faw_holds_the_fifth_row() -> None:
    """Groups are alternated, so tRRD_S rules; the fifth ACTIVATE waits for tFAW."""
    slow = replace(DDR4, faw=100, lookahead=64)
    per_bank = DDR4.row_beats * DDR4.groups * PORT
    found = run(*[Burst(i // 4 * per_bank + i % 4 * COLUMN, 4) for i in range(8)], dram=slow)
    acts = [c for c, kind, _, _ in found.commands if kind == ACTIVATE]
    assert np.diff(acts).tolist() == [4, 4, 4, 100 - 12, 4, 4, 4]


def test_refresh() -> None:
    """The first column of a row after a refresh comes tRP + tRFC + tRCD behind its last before."""
    dram = replace(DDR4, refi=2000)
    bursts = [Burst(i * 1024, 64) for i in range(100)]
    found = run(*bursts, dram=dram)
    refreshes = [c for c, kind, _, _ in found.commands if kind == REFRESH]
    closings = [c for c, kind, _, _ in found.commands if kind == PRECHARGE_ALL]
    assert len(refreshes) == found.stats.refreshes == 3
    assert [r - c for r, c in zip(refreshes, closings, strict=True)] == [DDR4.rp] * 3
    # A row that was opened just before stays open for tRAS.
    assert all(2000 * (i + 1) <= c <= 2000 * (i + 1) + DDR4.ras for i, c in enumerate(closings))
    # The stream stops from the last read before to the first one whose row is open again.
    reads = np.array([c for c, kind, _, _ in found.commands if kind == READ])
    for closing in closings:
        before, behind = reads[reads < closing][-1], reads[reads > closing][0]
        assert behind == closing + DDR4.rp + DDR4.rfc + DDR4.rcd
        assert closing - before <= DDR4.ras + DDR4.burst_beats


def test_a_refresh_waits_for_banks_that_are_closing() -> None:
    dram = replace(DDR4, refi=2000)
    late = Burst(NEXT_ROW, 4, cycle=1999 - (LATENCY - DDR4.cl))
    found = run(Burst(0, 4), late, dram=dram)
    assert [(c, kind) for c, kind, _, _ in found.commands[2:]] == [
        (1999, PRECHARGE),
        (1999 + DDR4.rp, REFRESH),
        (1999 + DDR4.rp + DDR4.rfc, ACTIVATE),
        (1999 + DDR4.rp + DDR4.rfc + DDR4.rcd, READ),
    ]


def test_turnaround() -> None:
    """Read, write, read with all rows open: gaps of the data bus, in commands."""
    # Opens the rows, in three groups.
    opening = [Burst(i * COLUMN, 4) for i in range(3)]
    turning = [Burst(0, 4, cycle=1000), Burst(COLUMN, 4, True, 1000)]
    found = run(*opening, *turning, Burst(2 * COLUMN, 4, cycle=1001))
    late = [(c, kind) for c, kind, _, _ in found.commands if c >= 1000]
    # The write's data take four cycles, so both reads are there first.
    read, second, write = (c for c, _ in late)
    assert [kind for _, kind in late] == [READ, READ, WRITE]
    assert second - read == DDR4.burst_beats
    assert write - second == DDR4.rtw
    found = run(*opening, turning[1], Burst(0, 4, cycle=1007))
    (write, _), (read, _) = [(c, k) for c, k, _, _ in found.commands if c >= 1000]
    assert read - write == DDR4.cwl + DDR4.burst_beats + DDR4.wtr
    assert found.stats.turnarounds == 2
    assert found.done[-1] == read + DDR4.cl + 3


def test_a_write_is_answered_at_once_and_its_row_kept_until_it_is_written() -> None:
    later = Burst(8 * NEXT_ROW, 4, cycle=1000)
    found = run(Burst(0, 4, True), Burst(NEXT_ROW, 4, True), later)
    assert found.done[0] == found.accepted[0] + 4 + LATENCY
    kinds = [(kind, c) for c, kind, _, _ in found.commands]
    assert [k for k, _ in kinds][:5] == [ACTIVATE, WRITE, PRECHARGE, ACTIVATE, WRITE]
    assert kinds[2][1] - kinds[1][1] == DDR4.cwl + DDR4.burst_beats + DDR4.wr


# --- A model of reads, beat by beat ---------------------------------------------------------------


def model_reads(dram: DramTiming, latency: int, bursts: list[Burst], accepted: list[int]):
    """Cycle of every beat, of aligned whole columns: what the header of dram.h says, in Python.

    Walks time; at each cycle the oldest column may be read, then one row command may be given.
    """
    queue = []
    for burst, cycle in zip(bursts, accepted, strict=True):
        for beat in range(burst.address // PORT, burst.address // PORT + burst.beats, 4):
            column, group = divmod(beat // 4, dram.groups)
            bank, row = (column // (dram.row_beats // 4)) % (dram.banks // dram.groups), 0
            row = column // (dram.row_beats // 4) // (dram.banks // dram.groups)
            queue.append((cycle + latency - dram.cl, (bank, group), row))
    open_row: dict[tuple[int, int], int] = {}
    history: list[tuple[int, str, tuple[int, int]]] = []
    due, time, blocked = dram.refi, 0, 0
    beats: list[int] = []

    def last(kind: str, place=None, group=None) -> int:
        """Cycle of the last such command: anywhere, in a bank, in a group."""
        for cycle, k, p in reversed(history):
            if k == kind and (place is None or p == place) and (group is None or p[1] == group):
                return cycle
        return -(10**9)

    def closable(place: tuple[int, int]) -> int:
        return max(last("act", place) + dram.ras, last("read", place) + dram.rtp)

    while queue:
        if time >= due:
            if all(time >= closable(place) for place in open_row):
                closed = [last("pre", place) + dram.rp for _, _, place in history]
                start = time + dram.rp if open_row else max([time, *closed])
                blocked, due = start + dram.rfc, due + dram.refi
                open_row.clear()
            time += 1
            continue
        visible, place, row = queue[0]
        column = max(last("act", place) + dram.rcd, last("read") + 4)
        column = max(column, last("read", group=place[1]) + dram.ccd_long)
        if visible <= time and open_row.get(place) == row and time >= column:
            beats += [time + dram.cl + i for i in range(4)]
            history.append((time, "read", place))
            queue.pop(0)
        first: dict[tuple[int, int], int] = {}
        if queue and queue[0][0] <= time:
            for visible, place, row in queue[: dram.lookahead]:
                if visible <= time:
                    first.setdefault(place, row)
        recent = [t for t, k, _ in history if k == "act"][-4:]
        for place, row in first.items():
            if open_row.get(place) == row:
                continue
            if place in open_row:
                if time >= closable(place):
                    history.append((time, "pre", place))
                    del open_row[place]
                    break
                continue
            start = max(blocked, last("pre", place) + dram.rp, last("act") + dram.rrd_short)
            start = max(start, last("act", group=place[1]) + dram.rrd_long)
            if time >= start and (len(recent) < 4 or time >= recent[0] + dram.faw):
                history.append((time, "act", place))
                open_row[place] = row
                break
        time += 1
    return beats


@pytest.mark.parametrize("kind", DRAM_KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_reads_agree_with_the_model(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    dram = replace(dram_timing(kind, PORT), refi=rng.choice([600, 1500]), row_beats=32)
    bursts, address = [], 0
    for i in range(60):
        if rng.random() < 0.5:
            address = rng.randrange(1 << 8) * 1024
        beats = 4 * rng.randrange(1, 17)
        cycle = i * rng.choice([0, 20, 80])
        bursts.append(Burst(address, beats, cycle=cycle))
        address = (address + beats * PORT + 1023) // 1024 * 1024
    latency = rng.choice([dram.cl + 1, 60, 200])
    found = run(*bursts, dram=dram, latency=latency)
    wanted = model_reads(dram, latency, bursts, found.accepted)
    # Beats leave the chip's port one a cycle, in order: the DRAM never gives more.
    assert found.beat_cycles.tolist() == wanted


# --- Everything against the timing table ----------------------------------------------------------


def check_commands(dram: DramTiming, commands: list[tuple[int, int, int, int]]) -> None:
    """Commands keep the distances of the table; rows are open when they are used."""
    rows: dict[int, int] = {}
    past: dict[int, list[tuple[int, int]]] = {ACTIVATE: [], READ: [], WRITE: []}
    closed: dict[int, int] = {}
    bus: set[int] = set()
    refreshes: list[int] = []
    ready = 0
    write_ends = dram.cwl + dram.burst_beats

    def after(cycle: int, kind: int, gap: int, bank=None, group=None) -> None:
        """At least ``gap`` behind the last command of this kind: anywhere, in bank, in group."""
        some = [c for c, b in past[kind]
                if bank in (None, b) and group in (None, b % dram.groups)]  # fmt: skip
        assert not some or cycle >= some[-1] + gap, (cycle, kind, some[-1], gap)

    def closable(cycle: int, bank: int) -> None:
        after(cycle, ACTIVATE, dram.ras, bank)
        after(cycle, READ, dram.rtp, bank)
        after(cycle, WRITE, write_ends + dram.wr, bank)

    for cycle, kind, bank, row in commands:
        group = bank % dram.groups
        if kind == ACTIVATE:
            assert bank not in rows
            assert cycle >= max(ready, closed.get(bank, -1000) + dram.rp)
            after(cycle, ACTIVATE, dram.ras + dram.rp, bank)
            after(cycle, ACTIVATE, dram.rrd_short)
            after(cycle, ACTIVATE, dram.rrd_long, group=group)
            assert len(past[kind]) < 4 or cycle >= past[kind][-4][0] + dram.faw
            rows[bank] = row
        elif kind in (READ, WRITE):
            assert rows[bank] == row
            after(cycle, ACTIVATE, dram.rcd, bank)
            for other in (READ, WRITE):
                after(cycle, other, dram.burst_beats)
                after(cycle, other, dram.ccd_long, group=group)
            after(cycle, *((WRITE, write_ends + dram.wtr) if kind == READ else (READ, dram.rtw)))
            start = cycle + (dram.cl if kind == READ else dram.cwl)
            beats = set(range(start, start + dram.burst_beats))
            assert not beats & bus, "two on the data bus"
            bus |= beats
        elif kind == PRECHARGE:
            closable(cycle, bank)
            assert rows.pop(bank) == row
            closed[bank] = cycle
        elif kind == PRECHARGE_ALL:
            for open_bank in rows:
                closable(cycle, open_bank)
            closed |= dict.fromkeys(rows, cycle)
            rows.clear()
        else:
            assert not rows
            assert all(cycle >= c + dram.rp for c in closed.values())
            ready = cycle + dram.rfc
            refreshes.append(cycle)
        if kind in past:
            past[kind].append((cycle, bank))
    # None is put off for longer than the banks take to close.
    assert (abs(np.diff(refreshes) - dram.refi) <= 100).all()


@pytest.mark.parametrize("port_bytes", [4, 16, 64])
@pytest.mark.parametrize("kind", DRAM_KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_random_traffic_keeps_every_rule_and_every_byte(
    kind: str, seed: int, port_bytes: int
) -> None:
    rng = random.Random(seed)
    dram = replace(
        dram_timing(kind, port_bytes),
        row_beats=rng.choice([16, 64]),
        refi=rng.choice([900, 3000]),
        lookahead=rng.choice([1, 4, 32]),
        read_buffer_beats=rng.choice([4, 16, 128]),
        write_buffer_beats=rng.choice([8, 64]),
        write_high=2,
        write_low=rng.choice([0, 1]),
    )
    timing = MemoryTiming(
        rng.choice([dram.cl + 1, 60, 200]),
        bandwidth=rng.choice([1, 0.5]),
        outstanding_reads=rng.choice([1, 16]),
        stall_probability=rng.choice([0, 0.2]),
        dram=dram,
    )
    # Reads stay in the lower half, writes in the upper one: nobody orders one against the other.
    generator = np.random.default_rng(seed)
    half = 1 << 15
    memory = generator.integers(0, 256, 2 * half, np.uint8)
    bursts, expected, final, data = [], [], memory.copy(), []
    for i in range(150):
        beats = rng.randrange(1, 17)
        is_write = rng.random() < 0.3
        address = rng.randrange(half // port_bytes) * port_bytes
        beats = min(beats, (4096 - address % 4096) // port_bytes)
        where = slice(address, address + beats * port_bytes)
        if is_write:
            value = generator.integers(0, 256, beats * port_bytes, np.uint8)
            data.append(value)
            final[half + where.start : half + where.stop] = value
            address += half
        else:
            expected.append(memory[where].copy())
        bursts.append(Burst(address, beats, is_write, i * rng.choice([0, 10])))
    found = probe(
        timing,
        port_bytes,
        bursts,
        memory=memory,
        written=np.concatenate(data),
        ready_every=rng.choice([1, 3]),
        seed=seed,
        log=True,
    )
    assert np.array_equal(found.data.reshape(-1), np.concatenate(expected))
    assert np.array_equal(memory, final)
    check_commands(dram, found.commands)
    columns = sum(kind in (READ, WRITE) for _, kind, _, _ in found.commands)
    stats = found.stats
    assert columns >= stats.row_hits >= columns - stats.row_misses - stats.row_conflicts
    assert stats.read_beats == sum(b.beats for b in bursts if not b.is_write)
    assert stats.write_beats == sum(b.beats for b in bursts if b.is_write)


# --- The whole of it ------------------------------------------------------------------------------


def test_what_it_sustains() -> None:
    """Refresh is nearly all that a stream loses, at any latency; the ideal memory loses nothing."""
    assert sustained(MemoryTiming(), PORT).stream == pytest.approx(1.0, abs=1e-3)
    assert sustained(MemoryTiming(bandwidth=0.25), PORT).stream == pytest.approx(0.25, abs=2e-3)
    for kind in DRAM_KINDS:
        dram = dram_timing(kind, PORT)
        refresh = 1 - (dram.rfc + dram.rp + dram.rcd) / dram.refi
        for latency in (60, 200):
            found = sustained(MemoryTiming(latency, dram=dram), PORT)
            assert refresh - 0.01 < found.stream <= refresh
            assert found.scattered < found.mixed < found.stream
            assert found.scattered > 0.8


def test_reads_are_never_starved_by_writes() -> None:
    """Writes as fast as the port takes them, beside reads: either gets its share."""
    reads = [Burst(i * 1024, 64) for i in range(200)]
    writes = [Burst((1 << 22) + i * 1024, 64, True) for i in range(200)]
    found = run(*reads, *writes)
    half = int(np.median(found.done[:200])), int(np.median(found.done[200:]))
    assert 0.7 < half[0] / half[1] < 1.4


def test_bad_timings_are_refused() -> None:
    with pytest.raises(UserError, match="memory hbm9: no such DRAM; choose from ddr4, lpddr4"):
        dram_timing("hbm9", PORT)
    with pytest.raises(UserError, match="DDR4-2400 at 1200 MHz alone takes 17; give at least 18"):
        MemoryTiming(17, dram=DDR4)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"rcd": 0}, "rcd must be at least 1"),
        ({"groups": 3}, "full groups"),
        ({"row_beats": 30}, "whole columns"),
        ({"rtw": 3}, "meet on the bus"),
        ({"refi": 400}, "no time left"),
        ({"write_low": 40}, "below write_high"),
        ({"write_buffer_beats": 100}, "than the write buffer holds"),
    ]
    for wrong, text in cases:
        with pytest.raises(UserError, match=text):
            replace(DDR4, **wrong)
