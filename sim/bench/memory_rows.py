"""Bench of the row loader: every source and target, packing, stalls, semaphores, faults."""

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from hdl.interfaces import row_entry, step_layout
from hdl.isa import Fault, LoadSource, Opcode, Target, encode
from sim.bench import (
    Coverage,
    Image,
    Instructions,
    MemoryReader,
    ReadPort,
    Semaphores,
    Sink,
    UnitMonitor,
    drive_struct,
    pack,
    parameters,
    rng,
    start,
)

CONFIG = parameters()["config"]
WORD_BYTES = 4 * CONFIG.lanes
BASE, SIZE = 0x4_0000, 1 << 17
LIMITS = {Target.ROWS: CONFIG.row_blocks, Target.CONSTANTS: CONFIG.constant_blocks}


class Bench:
    """The unit with its memory, row table, semaphores and target memories."""

    def __init__(self, dut, *, salt=0, stall=0.0, run=1.0, rows=1, expect_fault=False, **memory):
        self.dut = dut
        self.draw = rng("bench", salt)
        stalls = {"stall": stall, "run": run}
        self.image = Image(SIZE, BASE)
        self.image.write(BASE, rng("image").randbytes(SIZE))
        self.rows = rows
        drive_struct(dut, "step", step_layout(), rows=rows)
        self.table = [
            {"token": self.draw.randrange(40), "position": self.draw.randrange(60)}
            for _ in range(rows)
        ]
        words = [pack(row_entry(), entry) for entry in self.table]
        self.row_port = ReadPort(dut, "rows", words, outside=(1 << 40) - 1)
        self.reader = MemoryReader(
            dut, "memory", self.image, rng=rng("memory", salt), **stalls, **memory
        )
        self.semaphores = Semaphores(dut, rng=rng("semaphore", salt), stall=stall)
        self.instructions = Instructions(dut, rng=rng("instruction", salt), **stalls)
        self.sinks = {}
        for target, name in ((Target.ROWS, "row_write"), (Target.CONSTANTS, "constant_write")):
            self.sinks[target] = Sink(dut, name, rng=rng(name, salt), **stalls)
        self.monitor = UnitMonitor(dut, expect_fault=expect_fault)
        self.want: dict[Target, list[int]] = {Target.ROWS: [], Target.CONSTANTS: []}

    def load(self, source, target, destination, blocks, address, **semaphores: int) -> None:
        """Issue a LOAD and note the writes that must come of it."""
        self.instructions.issue(
            encode(
                Opcode.LOAD,
                source=source,
                target=target,
                destination=destination,
                blocks=blocks,
                address=address,
                **semaphores,
            )
        )
        for r in range(1 if source == LoadSource.CONSTANT else self.rows):
            index = {
                LoadSource.CONSTANT: 0,
                LoadSource.TOKEN: self.table[r]["token"],
                LoadSource.POSITION: self.table[r]["position"],
                LoadSource.ROW: r,
            }[source]
            raw = self.image.read(address + index * blocks * 128, blocks * 128)
            first = (destination + r * blocks) * CONFIG.block_words
            bits = max(LIMITS[target] * CONFIG.block_words - 1, 1).bit_length()
            for i in range(blocks * CONFIG.block_words):
                data = int.from_bytes(raw[i * WORD_BYTES : (i + 1) * WORD_BYTES], "little")
                self.want[target].append((first + i) | data << bits)

    async def finish(self) -> None:
        for target, sink in self.sinks.items():
            await sink.count(len(self.want[target]))
            assert sink.values == self.want[target], target
        await ClockCycles(self.dut.clk, 5)
        for target, sink in self.sinks.items():
            assert len(sink.values) == len(self.want[target]), "wrote too much"
        assert not any(int(getattr(self.dut, f"activity__{n}").value) for n in ("busy", "starved"))

    async def end(self) -> None:
        """Reset, and end every driver."""
        self.dut.rst.value = 1
        await RisingEdge(self.dut.clk)
        for part in [*vars(self).values(), *self.sinks.values()]:
            if hasattr(part, "_task"):
                part._task.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_loads(dut):
    """All sources and targets, several rows, back to back, under stalls."""
    cover = Coverage(
        *(f"{s.name} to {t.name}" for s in LoadSource for t in Target),
        "one row",
        "all rows",
        "last block of the target",
        "request cut at the FIFO",
    )
    shapes = ((0.0, 1), (0.3, 1), (0.5, 8), (0.8, 40))
    for salt, (stall, run) in enumerate(shapes):
        rows = (1, CONFIG.row_capacity, 3, 2)[salt]
        await start(dut)
        bench = Bench(dut, salt=salt, stall=stall, run=run, rows=rows, latency=(1, 50))
        draw = bench.draw
        for source in LoadSource:
            for target in Target:
                number = 1 if source == LoadSource.CONSTANT else rows
                limit = LIMITS[target]
                blocks = draw.choice((1, 2, 3, 12)) if rows < 4 else 1
                blocks = min(blocks, limit // number)
                room = limit - number * blocks
                place = draw.choice((0, room, draw.randint(0, room)))
                address = BASE + draw.randrange(0, 0x4000, CONFIG.port_bytes)
                bench.load(source, target, place, blocks, address)
                cover.hit(f"{source.name} to {target.name}")
                cover.hit("one row", number == 1)
                cover.hit("all rows", number == CONFIG.row_capacity)
                cover.hit("last block of the target", place == room)
                cover.hit(
                    "request cut at the FIFO", blocks * 128 > CONFIG.burst_beats * CONFIG.port_bytes
                )
        await bench.finish()
        assert bench.monitor.busy
        await bench.end()
    cover.assert_complete()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def full_rate(dut):
    """A beat every cycle at latency 60 within a row longer than the FIFO."""
    await start(dut)
    bench = Bench(dut, latency=60, rows=2)
    blocks = min(3 * CONFIG.burst_beats * CONFIG.port_bytes // 128, CONFIG.row_blocks // 2)
    bench.load(LoadSource.ROW, Target.ROWS, 0, blocks, BASE)
    await bench.finish()
    times = bench.sinks[Target.ROWS].times
    beats = 2 * blocks * 128 // CONFIG.port_bytes
    cycles = times[-1] - times[0] + WORD_BYTES // CONFIG.port_bytes
    dut._log.info("rows: %d beats in %d cycles at latency 60", beats, cycles)
    # Two bursts of FIFO cover a latency of one burst; a shorter burst shows the rest of it.
    assert cycles <= beats * max(1.0, (60 + 20 + CONFIG.burst_beats) / (2 * CONFIG.burst_beats))
    assert bench.reader.requests[0].cycle <= 16 + blocks.bit_length()  # two multiplications


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def blocked_target(dut):
    """A target that takes nothing: no beat is lost, no more is asked than fits."""
    await start(dut)
    bench = Bench(dut, latency=5)
    bench.sinks[Target.ROWS].hold = True
    bench.load(LoadSource.CONSTANT, Target.ROWS, 0, 24, BASE)
    await ClockCycles(dut.clk, 8 * CONFIG.burst_beats)
    beats, blocked = bench.reader.beats, bench.monitor.blocked
    assert beats == min(2 * CONFIG.burst_beats, 24 * 128 // CONFIG.port_bytes)
    await ClockCycles(dut.clk, 50)
    assert bench.reader.beats == beats
    assert bench.monitor.blocked == blocked + 50
    bench.sinks[Target.ROWS].hold = False
    await bench.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def semaphores(dut):
    """It waits for its mask, and signals after its last write, in order."""
    await start(dut)
    bench = Bench(dut, latency=(5, 30), salt="semaphores", rows=2)
    bench.semaphores._loop = False
    bench.load(LoadSource.ROW, Target.ROWS, 4, 2, BASE, wait=0b11, signal=0b100)
    bench.load(LoadSource.CONSTANT, Target.CONSTANTS, 0, 1, BASE + 4096, signal=0b1000)
    await ClockCycles(dut.clk, 60)
    assert not bench.reader.requests, "asked before its semaphores"
    assert bench.monitor.blocked >= 50
    bench.semaphores.give(0b11)
    sink = bench.sinks[Target.ROWS]
    while not bench.semaphores.given[2]:
        written = len(sink.values)
        assert not bench.semaphores.given[3]
        await RisingEdge(dut.clk)
    assert written >= len(bench.want[Target.ROWS]) - 1
    await bench.finish()
    assert bench.semaphores.given == [0, 0, 1, 1, 0, 0, 0, 0]
    assert bench.semaphores.taken == [1, 1, 0, 0, 0, 0, 0, 0]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def faults(dut):
    """Every cause with its index; the last legal place is no fault."""
    rows = 3

    def word(opcode=Opcode.LOAD, **fields):
        operands = {
            "source": LoadSource.ROW,
            "target": Target.ROWS,
            "destination": 0,
            "blocks": 1,
            "address": BASE,
        }
        return encode(opcode, **{**operands, **fields})

    far = (1 << 40) - 128
    cases = [
        (word(destination=CONFIG.row_blocks - rows + 1), Fault.BAD_OPERAND),
        (word(destination=CONFIG.row_blocks), Fault.BAD_OPERAND),
        (word(blocks=(1 << 16) - 1), Fault.BAD_OPERAND),
        (
            word(target=Target.CONSTANTS, destination=CONFIG.constant_blocks - rows + 1),
            Fault.BAD_OPERAND,
        ),
        (word(blocks=0), Fault.BAD_OPERAND),
        (word(address=BASE + 2), Fault.BAD_ADDRESS),
        (word(address=far), Fault.BAD_ADDRESS),
        (encode(Opcode.TAPE, address=BASE, block_tiles=1), Fault.ILLEGAL_INSTRUCTION),
    ]
    for instruction, cause in cases:
        await start(dut)
        bench = Bench(dut, latency=10, rows=rows, expect_fault=True)
        if instruction == word(address=far):
            bench.image = bench.reader.image = Image(256, far)  # row 0 is still inside
        else:
            bench.load(LoadSource.ROW, Target.ROWS, CONFIG.row_blocks - rows, 1, BASE)
        bench.instructions.issue(instruction, index=91)
        bench.instructions.issue(word())
        await ClockCycles(dut.clk, 400)
        assert bench.monitor.fault is not None, hex(instruction)
        assert bench.monitor.fault["cause"] == cause.value, (hex(instruction), bench.monitor.fault)
        assert bench.monitor.fault["index"] == 91
        if cause == Fault.BAD_ADDRESS and instruction != word(address=BASE + 2):
            assert bench.monitor.fault["address"] == (far + 128) % (1 << 40)
        elif cause != Fault.BAD_ADDRESS:
            assert bench.sinks[Target.ROWS].values == bench.want[Target.ROWS]
        assert bench.instructions.pending == 1, "went on after a fault"
        await bench.end()
