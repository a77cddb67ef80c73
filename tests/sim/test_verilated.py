"""The verilated simulator: build, memory model, bus, errors. The design is a memory copier."""

import functools
import math
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator

from compiler.errors import UserError
from hdl.emit import emit_verilog
from sim.verilated import (
    BuildConfig,
    BusError,
    MemoryTiming,
    SimulatedChip,
    SimulationError,
    build,
)
from sim.verilated.dram import DRAM_KINDS, dram_timing
from sim.verilated.netlist import prepare
from sim.verilated.probe import sustained
from tests.sim.verilated_dma import Copier, Mode, Register, Scrambler

ROOT = Path(__file__).resolve().parents[2]
MEMORY_BYTES = 1 << 16
QUICK = BuildConfig(optimize=0)
TIMEOUT_CYCLES = 100_000


@functools.cache
def verilog(data_bits: int = 32, address_bits: int = 32) -> str:
    return emit_verilog(Copier(data_bits, address_bits), "copier")


@functools.cache
def library(data_bits: int = 32, address_bits: int = 32, config: BuildConfig = QUICK) -> Path:
    return build(verilog(data_bits, address_bits), "copier", config)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, MEMORY_BYTES, dtype=np.uint8)


def copy(chip, source=0, destination=0x8000, beats=64, burst=16, mode=0) -> int:
    """Runs one copy; its worst response."""
    for register, value in (
        (Register.SOURCE, source),
        (Register.DESTINATION, destination),
        (Register.BEATS, beats),
        (Register.BURST_BEATS, burst),
        (Register.MODE, mode),
        (Register.CONTROL, 1),
    ):
        chip.write(register, value)
    assert chip.run(TIMEOUT_CYCLES), "the copy does not end"
    chip.write(Register.CONTROL, 2)
    return chip.read(Register.RESPONSE)


# --- Data and timing ---------------------------------------------------------------------------


@pytest.mark.parametrize(("data_bits", "address_bits"), [(32, 32), (64, 40), (128, 32), (1024, 40)])
def test_copies_under_random_timing(data_bits, address_bits):
    path = library(data_bits, address_bits)
    for seed in range(6):
        rng = random.Random(seed)
        timing = MemoryTiming(
            latency=rng.choice([1, 2, 13, 60]) + (20 if seed % 2 else 0),
            bandwidth=rng.choice([1, Fraction(3, 4), Fraction(1, 7)]),
            outstanding_reads=rng.choice([1, 2, 16]),
            outstanding_writes=rng.choice([1, 3]),
            stall_probability=rng.choice([0, 0.1, 0.7]),
            stalls=rng.choice([{}, {"r": 0.5}, {"aw": 0.9, "b": 0.9}]),
            dram=dram_timing(rng.choice(DRAM_KINDS), data_bits // 8) if seed % 2 else None,
        )
        memory = noise(seed)
        beat = data_bits // 8
        source = beat * rng.randrange(MEMORY_BYTES // 4 // beat)
        destination = MEMORY_BYTES // 2 + beat * rng.randrange(MEMORY_BYTES // 4 // beat)
        beats = rng.randrange(1, min(200, MEMORY_BYTES // 4 // beat))
        expected = memory.copy()
        expected[destination : destination + beats * beat] = memory[source : source + beats * beat]
        with SimulatedChip(path, memory, timing, seed) as chip:
            chip.reset()
            assert chip.bus_bytes == beat
            assert copy(chip, source, destination, beats, rng.choice([1, 5, 32])) == 0
            stats = chip.memory_stats()
            assert chip.read(Register.LASTS) == stats.read_bursts
        assert np.array_equal(memory, expected), f"seed {seed}, {timing}"
        assert (stats.read_beats, stats.write_beats) == (beats, beats)


@pytest.mark.parametrize("latency", [1, 2, 7, 60])
def test_latency_is_exact(latency):
    with SimulatedChip(library(), noise(), MemoryTiming(latency=latency)) as chip:
        chip.reset()
        copy(chip)
        assert chip.read(Register.READ_LATENCY) == latency
        assert chip.read(Register.WRITE_LATENCY) == latency


@pytest.mark.parametrize(
    ("latency", "burst", "outstanding"), [(60, 16, 8), (60, 1, 64), (1, 1, 2), (100, 64, 4)]
)
def test_bandwidth_1_has_no_gap_between_bursts(latency, burst, outstanding):
    timing = MemoryTiming(latency=latency, outstanding_reads=outstanding)
    with SimulatedChip(library(), noise(), timing) as chip:
        chip.reset()
        copy(chip, beats=1024, burst=burst, mode=Mode.READ_ONLY)
        assert chip.read(Register.READ_SPAN) == 1024
        stats = chip.memory_stats()
        assert stats.read_bursts == 1024 // burst
        assert stats.read_busy_cycles == 1024 + latency - 1
        assert stats.read_blocked_cycles == 0


def test_outstanding_limit():
    timing = MemoryTiming(latency=20, outstanding_reads=1)
    with SimulatedChip(library(), noise(), timing) as chip:
        chip.reset()
        copy(chip, beats=80, burst=8, mode=Mode.READ_ONLY)
        span = chip.read(Register.READ_SPAN)
    assert span == 10 * (20 + 8) - 20
    # The probe, which stands where the chip would, finds the same.
    assert sustained(timing, 4, 8).stream == pytest.approx(80 / (span + 20), rel=0.01)


@pytest.mark.parametrize("bandwidth", [Fraction(3, 4), Fraction(1, 3), 0.1])
def test_bandwidth(bandwidth):
    timing = MemoryTiming(latency=5, bandwidth=bandwidth)
    with SimulatedChip(library(), noise(), timing) as chip:
        chip.reset()
        copy(chip, beats=600, burst=16, mode=Mode.READ_ONLY)
        span = chip.read(Register.READ_SPAN)
        # The first beat finds the credit full, so at most one more comes early.
        assert math.floor(598 / bandwidth) <= span <= math.ceil(600 / bandwidth)
        chip.memory[:] = 0
        before = chip.cycles
        copy(chip, beats=600, burst=16)
        assert chip.cycles - before >= 598 / bandwidth


def test_a_dram_behind_the_port():
    """The chip's own count: a closed row costs tRCD more, writes are answered from their buffer."""
    timing = MemoryTiming(latency=60, dram=dram_timing("ddr4", 4))
    with SimulatedChip(library(), memory := noise(), timing) as chip:
        chip.reset()
        copy(chip, beats=1024)
        assert chip.read(Register.READ_LATENCY) == 60 + timing.dram.rcd
        assert chip.read(Register.WRITE_LATENCY) == 60
        stats = chip.memory_stats()
        assert stats.row_misses + stats.row_conflicts > 0
        assert stats.row_hits > 5 * (stats.row_misses + stats.row_conflicts)
        assert stats.turnarounds > 2
        assert np.array_equal(memory[:4096], memory[0x8000:0x9000])
        assert not chip.run(20_000)
        assert chip.memory_stats().refreshes == 2


def test_write_strobes():
    with SimulatedChip(library(), memory := noise()) as chip:
        chip.reset()
        expected = memory.copy().view(np.uint16)
        expected[0x4000:0x4080:2] = expected[0:0x80:2]
        assert copy(chip, beats=64, mode=Mode.HALF) == 0
    assert np.array_equal(memory.view(np.uint16), expected)


def test_seed_decides_the_stalls():
    def cycles(seed: int, **stalls: float) -> int:
        timing = MemoryTiming(stalls=stalls)
        with SimulatedChip(library(), noise(), timing, seed) as chip:
            chip.reset()
            copy(chip)
            return chip.cycles

    assert cycles(5, r=0.5) == cycles(5, r=0.5)
    assert len({cycles(seed, r=0.5) for seed in range(4)}) > 1
    for channel in ("ar", "r", "aw", "w", "b"):
        assert cycles(1, **{channel: 0.9}) > cycles(1), channel


# --- Errors ------------------------------------------------------------------------------------


def test_error_responses():
    with SimulatedChip(library(), memory := noise()) as chip:
        chip.reset()
        assert copy(chip, source=MEMORY_BYTES - 4, beats=1) == 0
        assert copy(chip, source=MEMORY_BYTES - 4, beats=2) == 3
        assert copy(chip, destination=MEMORY_BYTES, beats=1) == 3
        assert copy(chip, source=0xFFFFFFF0, beats=1) == 3
        before = memory.copy()
        chip.inject_errors(reads=[(0x200, 0x201)], writes=[(0x8104, 0x8108)])
        assert copy(chip, source=0x204, beats=4) == 0
        assert copy(chip, source=0x1FC, beats=2) == 2
        memory[:] = before
        assert copy(chip, source=0, destination=0x8100, beats=3) == 2
        assert memory[0x8100:0x810C].tolist() == [
            *before[:4],
            *before[0x8104:0x8108],
            *before[8:12],
        ]
        chip.inject_errors()
        assert copy(chip, source=0x1FC, destination=0x8100, beats=4) == 0


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (Mode.CROSS_4K, r"AXI4 AR at cycle \d+: burst crosses 4 KiB \(address 0xff0\)"),
        (Mode.WRAP, "AXI4 A[RW] at cycle .* burst type is not INCR"),
        (Mode.EARLY_WLAST, "AXI4 W at cycle .* wlast does not agree with awlen"),
        (Mode.DROP_ARVALID, "AXI4 AR at cycle .* valid or payload changed before ready"),
        (Mode.ASSERT, r"at cycle \d+: Assertion failed in .*: beat 2 of \"64\" read, 100 % wrong$"),
    ],
)
def test_violations_stop_the_simulation(mode, message):
    timing = MemoryTiming(stalls={"ar": 0.5})
    with SimulatedChip(library(), noise(), timing, seed=3) as chip:
        chip.reset()
        with pytest.raises(SimulationError, match=message):
            copy(chip, source=0xFF0, mode=mode)
        stopped = chip.cycles
        with pytest.raises(SimulationError, match=message):
            chip.run(10)
        assert chip.cycles == stopped
    with SimulatedChip(library(), noise(), timing) as chip:
        chip.reset()
        assert copy(chip, source=0xFF0) == 0


def test_assertions_can_be_left_out():
    config = BuildConfig(optimize=0, assertions=False)
    with SimulatedChip(library(config=config), noise()) as chip:
        chip.reset()
        assert copy(chip, mode=Mode.ASSERT) == 0


def test_register_access():
    with SimulatedChip(library(), noise()) as chip:
        chip.reset()
        chip.write(Register.BEATS, 0x89ABCDEF)
        chip.write(Register.SOURCE, -1)
        assert chip.read(Register.BEATS) == 0x89ABCDEF
        assert chip.read(Register.SOURCE) == 0xFFFFFFFF
        with pytest.raises(BusError, match="write of 0x02c was answered with SLVERR"):
            chip.write(Register.REFUSED, 1)
        with pytest.raises(BusError, match="read of 0x02c was answered with SLVERR"):
            chip.read(Register.REFUSED)
        with pytest.raises(BusError, match="read of 0x028 timed out"):
            chip.read(Register.SILENT, timeout_cycles=50)


def test_run_is_bounded_and_reports():
    seen: list[int] = []
    with SimulatedChip(library(), noise()) as chip:
        chip.reset()
        start = chip.cycles
        assert not chip.run(50_001, progress=seen.append)
        assert chip.cycles - start == 50_001
        assert seen == sorted(seen)
        assert len(seen) > 1
        assert seen[-1] == 50_001
        assert copy(chip, mode=Mode.GREET) == 0
        assert chip.output() == "copying 64 beats\n"
        assert chip.output() == ""


def test_reset_drops_what_is_under_way():
    with SimulatedChip(library(), memory := noise(), MemoryTiming(latency=50)) as chip:
        chip.reset()
        chip.write(Register.BEATS, 100)
        chip.write(Register.BURST_BEATS, 8)
        chip.write(Register.CONTROL, 1)
        chip.run(30)
        chip.reset()
        assert not chip.run(500)
        assert copy(chip, beats=8) == 0
        assert np.array_equal(memory[:32], memory[0x8000:0x8020])


def test_bad_parameters():
    for wrong in (
        {"latency": 0},
        {"bandwidth": 0},
        {"bandwidth": 1.5},
        {"stall_probability": 1.0},
        {"stalls": {"x": 0.1}},
        {"outstanding_reads": 0},
    ):
        with pytest.raises(UserError):
            MemoryTiming(**wrong)
    with pytest.raises(ValueError, match="uint8"):
        SimulatedChip(library(), np.zeros(64, np.uint16))
    chip = SimulatedChip(library(), noise())
    chip.close()
    with pytest.raises(ValueError, match="closed"):
        chip.run(1)
    with pytest.raises(UserError, match="without tracing"), SimulatedChip(library(), noise()) as c:
        c.trace(Path("never.vcd"))


def test_a_timing_says_what_it_is():
    assert str(MemoryTiming()) == "ideal, latency 60"
    dram = dram_timing("lpddr4", 16)
    assert str(MemoryTiming(99, dram=dram)) == "LPDDR4-3200 at 800 MHz, latency 99"
    assert str(MemoryTiming(bandwidth=0.5, stall_probability=0.1)) == (
        "ideal, latency 60, 0.5 beats a cycle at most, random stalls of 10% on each channel"
    )
    assert "0% to 20%" in str(MemoryTiming(stalls={"r": 0.2}))
    assert MemoryTiming(60).read_window(64) == 92
    assert MemoryTiming(60, dram=dram).read_window(64) == 92 + dram.rp + dram.rcd


# --- The model itself --------------------------------------------------------------------------


def test_waveform(tmp_path):
    config = BuildConfig(optimize=0, trace="vcd")
    with SimulatedChip(library(config=config), noise()) as chip:
        chip.reset()
        chip.trace(tmp_path / "wave.vcd")
        copy(chip)
        chip.trace(None)
        size = (tmp_path / "wave.vcd").stat().st_size
        chip.run(100)
    text = (tmp_path / "wave.vcd").read_text()
    assert len(text) == size
    assert " m_axi_rdata " in text
    assert text.count("\n#") > 200


def test_registers_keep_their_meaning():
    """Amaranth's own simulator and the rewritten, verilated netlist agree."""
    top = Scrambler()
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    digests = []

    async def bench(ctx):
        ctx.set(top.start, 1)
        await ctx.tick()
        ctx.set(top.start, 0)
        await ctx.tick().repeat(Scrambler.CYCLES + 5)
        digests.append(ctx.get(top.digest))

    simulator.add_testbench(bench)
    simulator.run_until(1e-6 * (Scrambler.CYCLES + 20))
    with SimulatedChip(library(), noise()) as chip:
        chip.reset()
        copy(chip, beats=Scrambler.CYCLES)
        assert chip.read(Register.DIGEST) == digests[0]


def test_every_register_is_folded():
    text = emit_verilog(Scrambler(), "scrambler")
    rewritten = prepare(text, "scrambler")
    assert "\n    if (rst) begin\n" in rewritten
    # What is left of `always @*` are the signals that really are combinational: none here.
    assert text.count("always @*") >= 8
    assert rewritten.count("always @*") == 0
