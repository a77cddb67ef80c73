"""Bench of the tape reader: contents, order, reservation, semaphores, faults, bandwidth."""

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from hdl.isa import Fault, Opcode, encode
from sim.bench import (
    Coverage,
    Image,
    Instructions,
    MemoryReader,
    Semaphores,
    Sink,
    UnitMonitor,
    parameters,
    rng,
    start,
)

CONFIG = parameters()["config"]
WIDTH = CONFIG.port_bytes
TILE = CONFIG.block_tile_beats * WIDTH
BASE, TILES = 0x2_0000, 96


class Bench:
    """The unit with its memory, semaphores and sinks."""

    def __init__(self, dut, *, salt=0, stall=0.0, run=1.0, expect_fault=False, **memory):
        self.dut = dut
        stalls = {"stall": stall, "run": run}
        self.image = Image(TILES * TILE, BASE)
        self.image.write(BASE, rng("tape").randbytes(TILES * TILE))
        self.reader = MemoryReader(
            dut, "memory", self.image, rng=rng("memory", salt), **stalls, **memory
        )
        self.semaphores = Semaphores(dut, rng=rng("semaphore", salt), stall=stall)
        self.instructions = Instructions(dut, rng=rng("instruction", salt), **stalls)
        self.elements = Sink(dut, "tape_elements", rng=rng("elements", salt), **stalls)
        self.scales = Sink(dut, "tape_scales", rng=rng("scales", salt), **stalls)
        self.monitor = UnitMonitor(dut, expect_fault=expect_fault)
        self.want_elements: list[int] = []
        self.want_scales: list[int] = []

    def play(self, tile: int, tiles: int, **semaphores: int) -> None:
        """Issue a TAPE and note what must come of it."""
        address = BASE + tile * TILE
        self.instructions.issue(
            encode(Opcode.TAPE, address=address, block_tiles=tiles, **semaphores)
        )
        for t in range(tiles):
            raw = self.image.read(address + t * TILE, TILE)
            scales, elements = raw[: CONFIG.cols], raw[CONFIG.cols :]
            self.want_scales.append(int.from_bytes(scales, "little"))
            self.want_elements += [
                int.from_bytes(elements[i : i + WIDTH], "little")
                for i in range(0, len(elements), WIDTH)
            ]

    async def finish(self) -> None:
        await self.elements.count(len(self.want_elements))
        await self.scales.count(len(self.want_scales))
        assert self.elements.values == self.want_elements
        assert self.scales.values == self.want_scales
        await ClockCycles(self.dut.clk, 3)
        assert not int(self.dut.left.value)
        assert self.monitor.busy == self.reader.beats

    async def end(self) -> None:
        """Reset, and end every driver."""
        self.dut.rst.value = 1
        await RisingEdge(self.dut.clk)
        for part in vars(self).values():
            if hasattr(part, "_task"):
                part._task.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_tapes(dut):
    """Instructions of all lengths, under stalls on every side."""
    cover = Coverage("one tile", "many tiles", "aligned to a burst", "not aligned", "crosses 4 KiB")
    for salt, (stall, run) in enumerate(((0.0, 1), (0.3, 1), (0.5, 8), (0.8, 40))):
        await start(dut)
        bench = Bench(dut, salt=salt, stall=stall, run=run, latency=(1, 50))
        draw = rng("plan", salt)
        tiles = 0
        while tiles < (60 if CONFIG.tile_beats < 64 else 24):
            n = min(draw.choice((1, 1, 2, 3, 5, 20)), TILES)
            tile = draw.randrange(TILES - n + 1)
            bench.play(tile, n)
            tiles += n
            cover.hit("one tile", n == 1)
            cover.hit("many tiles", n > 4)
        await bench.finish()
        for request in bench.reader.requests:
            assert request.beats <= CONFIG.burst_beats
            last = request.address + request.beats * WIDTH - 1
            assert request.address // 4096 == last // 4096, "an aligned burst does not cross"
            cover.hit("aligned to a burst", request.address % (CONFIG.burst_beats * WIDTH) == 0)
            cover.hit("not aligned", request.address % (CONFIG.burst_beats * WIDTH) != 0)
            cover.hit("crosses 4 KiB", (last + 1) % 4096 == 0)
        await bench.end()
    cover.assert_complete()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def full_rate(dut):
    """A beat every cycle at latency 60, over instructions back to back."""
    await start(dut)
    bench = Bench(dut, latency=60)
    for i in range(6):
        bench.play(i * 8, 8)
    await bench.finish()
    beats = bench.reader.beats
    cycles = bench.elements.times[-1] - bench.elements.times[0] + 1 + CONFIG.row_beats
    dut._log.info("tape: %d beats in %d cycles at latency 60", beats, cycles)
    assert cycles == beats, f"{beats} beats took {cycles} cycles"
    first = bench.reader.requests[0]
    assert first.cycle <= 10
    assert bench.monitor.starved <= 70
    assert bench.monitor.blocked <= 4


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reservation(dut):
    """Nobody takes: it asks for no more than fits, whichever of the two streams is stuck."""
    for stuck in (("elements",), ("scales",), ("elements", "scales")):
        await start(dut)
        bench = Bench(dut, latency=5)
        for name in stuck:
            getattr(bench, name).hold = True
        bench.play(0, TILES)
        await ClockCycles(dut.clk, 4 * CONFIG.tape_beats)
        before = bench.reader.beats
        assert before >= CONFIG.tape_beats // 2, "did not run ahead"
        blocked = bench.monitor.blocked
        await ClockCycles(dut.clk, 100)
        assert bench.reader.beats == before
        assert bench.monitor.blocked == blocked + 100
        assert int(dut.left.value)
        for name in stuck:
            getattr(bench, name).hold = False
        await bench.finish()
        await bench.end()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def semaphores(dut):
    """It waits for its mask; it signals when the last beat has come, once an instruction."""
    await start(dut)
    bench = Bench(dut, latency=(5, 20), salt="semaphores")
    bench.semaphores._loop = False
    bench.play(0, 2, wait=0b0101, signal=0b10)
    bench.play(2, 1, signal=0b1000_0000)
    bench.play(3, 3, wait=0b1)
    await ClockCycles(dut.clk, 50)
    assert not bench.reader.requests, "asked before its semaphores"
    assert bench.monitor.blocked >= 45
    bench.semaphores.give(0b0001)
    await ClockCycles(dut.clk, 20)
    assert bench.semaphores.taken == [0] * 8, "took a part of its mask"
    bench.semaphores.give(0b0100)
    given = 0
    while not bench.semaphores.given[1]:
        given = bench.reader.beats
        await RisingEdge(dut.clk)
    assert 2 * CONFIG.block_tile_beats <= given <= 2 * CONFIG.block_tile_beats + 3
    while not bench.semaphores.given[7]:
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 50)
    assert bench.reader.beats == 3 * CONFIG.block_tile_beats
    bench.semaphores.give(0b1)
    await bench.finish()
    assert bench.semaphores.given == [0, 1, 0, 0, 0, 0, 0, 1]
    assert bench.semaphores.taken == [2, 0, 1, 0, 0, 0, 0, 0]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def faults(dut):
    """Every cause with its index; the unit stops; what ran before is finished."""
    good = BASE + TILE
    cases = [
        (encode(Opcode.TAPE, address=good, block_tiles=0), Fault.BAD_OPERAND, good),
        (encode(Opcode.TAPE, address=good + 1, block_tiles=1), Fault.BAD_ADDRESS, good + 1),
        (encode(Opcode.PREPARE), Fault.ILLEGAL_INSTRUCTION, None),
        (0, Fault.ILLEGAL_INSTRUCTION, None),
    ]
    for word, cause, address in cases:
        await start(dut)
        bench = Bench(dut, latency=30, expect_fault=True)
        bench.play(0, 2)
        bench.instructions.issue(word, index=77)
        bench.instructions.issue(encode(Opcode.TAPE, address=good, block_tiles=1))
        await bench.elements.count(len(bench.want_elements))
        await ClockCycles(dut.clk, 20)
        assert bench.elements.values == bench.want_elements
        assert bench.monitor.fault is not None
        assert bench.monitor.fault["cause"] == cause.value
        assert bench.monitor.fault["index"] == 77
        assert address is None or bench.monitor.fault["address"] == address
        assert bench.instructions.pending == 1, "went on after a fault"
        await bench.end()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def many_short_instructions(dut):
    """More instructions of one tile in flight than receipts: every one is signalled, in order."""
    await start(dut)
    bench = Bench(dut, latency=200, salt="short")
    number = 12
    for i in range(number):
        bench.play(i, 1, signal=1 << i % 8)
    await bench.finish()
    assert bench.semaphores.given == [2, 2, 2, 2, 1, 1, 1, 1]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def left_until_taken(dut):
    """``left`` stands until both streams are empty, whichever is the last."""
    for stuck in ("elements", "scales"):
        await start(dut)
        bench = Bench(dut, latency=5)
        assert not int(dut.left.value)
        getattr(bench, stuck).hold = True
        bench.play(0, 1)
        await ClockCycles(dut.clk, 5 * CONFIG.block_tile_beats)
        assert not any(int(getattr(dut, f"activity__{n}").value) for n in ("busy", "blocked"))
        assert int(dut.left.value), f"{stuck} not taken"
        getattr(bench, stuck).hold = False
        await bench.finish()
        await bench.end()
