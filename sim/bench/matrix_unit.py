"""Bench of the matrix unit: MATMUL and ATTEND against the golden products, bit for bit."""

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from hdl.config import BLOCK, PAGE_TOKENS, Config
from hdl.interfaces import model_layout, step_layout
from hdl.isa import Fault, Opcode, RowSelect, encode
from sim.bench import (
    Coverage,
    Instructions,
    Pulses,
    Semaphores,
    UnitMonitor,
    drive_struct,
    parameters,
    rng,
    seed,
    start,
)
from sim.bench.matrix_model import (
    Activations,
    Batch,
    KVModel,
    Page,
    Tape,
    VectorModel,
    random_codes,
)
from sim.golden import mx

_BINS = (
    *("no rows", "one row", "all rows", "more panels than the ring", "batch of one page"),
    *("batch of several pages", "attend of one visit", "attend of several batches"),
    *("busy", "starved", "blocked"),
)
REGIONS = 4
DONE_BIT = 4  # semaphores 0 .. 3 let an instruction of a region start, 4 .. 7 say it is fed


class Bench:
    """The unit, everything around it, and instructions that use activation regions in turn.

    The regions' data come late (just before the semaphore is given) and are spoiled as soon as the
    instruction signals: a read too early or too late gives a wrong product.
    """

    def __init__(self, dut, config: Config, stall: float, cover: Coverage):
        self.dut, self.config, self.cover = dut, config, cover
        self.data = np.random.default_rng(seed())
        self.draw = rng("bench")
        self.instructions = Instructions(dut, rng=rng("instructions"), stall=stall)
        self.semaphores = Semaphores(dut, rng=rng("semaphores"), stall=stall, loop=False)
        self.monitor = UnitMonitor(dut)
        self.tape = Tape(dut, config, rng("tape"), stall)
        self.activations = Activations(dut, config, self.data)
        self.kv = KVModel(dut, config, self.data, rng("kv"), stall)
        self.vector = VectorModel(dut, config, self.activations, rng("vector"), stall)
        self.late = stall > 0
        self.finals_late = 0  # batches; 0: drawn for each ATTEND
        self.final_pause = 0  # cycles
        self.issued = 0
        self.jobs: list = []  # what the vector unit does, in order
        self._gives = [0] * REGIONS  # instructions given, by region
        self.model: dict[str, int] = {}
        self.step: dict[str, int] = {}

    def configure(self, rows: int, outputs: int, heads: int, group: int, head_blocks: int):
        """Model and step registers."""
        self.model = {
            "kv_heads": heads,
            "head_group": group,
            "head_blocks": head_blocks,
            "query_stride": heads * group * head_blocks,
            "batch_rows": self.config.row_capacity // group,
        }
        self.step = {"rows": rows, "outputs": outputs}
        drive_struct(self.dut, "model", model_layout(), **self.model)
        drive_struct(self.dut, "step", step_layout(), **self.step)

    @property
    def region_blocks(self) -> int:
        return self.config.activation_blocks // REGIONS

    def _next_region(self) -> tuple[int, int]:
        region = self.issued % REGIONS
        self.issued += 1
        return region, region * self.region_blocks

    async def _give(self, region: int, write) -> None:
        """Wait until the region is free, fill it, give its semaphore."""
        order = self._gives[region]
        self._gives[region] += 1
        while self.semaphores.given[DONE_BIT + region] < order:
            await RisingEdge(self.dut.clk)
        if self.late:
            await ClockCycles(self.dut.clk, self.draw.choice((1, 1, 20, 300)))
        write()
        self.semaphores.give(1 << region)

    async def _spoil(self, region: int, order: int, start: int, count: int) -> None:
        while self.semaphores.given[DONE_BIT + region] <= order:
            await RisingEdge(self.dut.clk)
        if self._gives[region] <= order + 1 and count:
            self.activations.spoil(start, count)

    def matmul(self, blocks: int, panels: int, output: bool = False) -> None:
        """Queue a MATMUL of random data."""
        rows = self.step["outputs" if output else "rows"]
        region, at = self._next_region()
        at += self.draw.randint(0, self.region_blocks - rows * blocks)
        shape = (rows, blocks)
        x = self.data.integers(-127, 128, (*shape, BLOCK), np.int8)
        x_codes = random_codes(self.data, shape)
        w = self.data.integers(-128, 128, (panels * BLOCK, blocks, BLOCK), np.int8)
        w_codes = random_codes(self.data, w.shape[:2])
        self.tape.append(w, w_codes)
        name = f"instruction {self.instructions.index}, MATMUL"
        order = self._gives[region]
        cocotb.start_soon(
            self._give(
                region,
                lambda: self.activations.write(at, x.reshape(-1, BLOCK), x_codes.reshape(-1)),
            )
        )
        cocotb.start_soon(self._spoil(region, order, at, rows * blocks))
        self.instructions.issue(
            encode(
                Opcode.MATMUL,
                wait=1 << region,
                signal=1 << DONE_BIT + region,
                activations=at,
                blocks=blocks,
                panels=panels,
                rows=RowSelect.OUTPUT if output else RowSelect.ALL,
            )
        )
        self.cover.hit("no rows", rows == 0)
        self.cover.hit("one row", rows == 1)
        self.cover.hit("all rows", rows == self.config.row_capacity)
        self.cover.hit("more panels than the ring", panels > self.config.panel_ring)
        if rows:
            product = mx.batched_dot(x, x_codes, w, w_codes)
            for panel, part in enumerate(np.split(product, panels, axis=1)):
                self.jobs.append(("panel", part, f"{name} panel {panel}"))

    def _page(self, width: int) -> Page:
        d = self.data
        return Page(
            d.integers(-127, 128, (PAGE_TOKENS, width), np.int8),
            random_codes(d, PAGE_TOKENS),
            d.integers(-127, 128, (PAGE_TOKENS, width), np.int8),
        )

    def attend(self, segments: list[tuple[int, int]]) -> None:
        """Queue an ATTEND: segments of (rows, first position), of random data."""
        c, d = self.config, self.data
        heads, group = self.model["kv_heads"], self.model["head_group"]
        hb, stride = self.model["head_blocks"], self.model["query_stride"]
        region, queries = self._next_region()
        weights = queries + self.step["rows"] * stride
        assert weights + 2 * c.row_capacity <= queries + self.region_blocks
        x = d.integers(-127, 128, (self.step["rows"], heads, group, hb, BLOCK), np.int8)
        x_codes = random_codes(d, x.shape[:-1])
        batches: list[Batch] = []
        row = 0
        for rows, position in segments:
            for head in range(heads):
                for first in range(0, rows, self.model["batch_rows"]):
                    n = min(self.model["batch_rows"], rows - first)
                    q = slice(row + first, row + first + n)
                    pages = (position + first + n - 1) // PAGE_TOKENS + 1
                    count = n * group
                    shifts = np.minimum(d.geometric(0.3, (pages, count)) - 1, 255)
                    shifts = np.where(d.random(shifts.shape) < 0.05, 255, shifts)
                    shifts = np.where(d.random(shifts.shape) < 0.05, 60, shifts)
                    batches.append(
                        Batch(
                            {
                                "parity": len(batches) & 1,
                                "row": row + first,
                                "rows": n,
                                "query_rows": count,
                                "query_offset": (row + first) * stride + head * group * hb,
                                "position": position + first,
                            },
                            [self._page(hb * BLOCK) for _ in range(pages)],
                            x[q, head].reshape(count, hb, BLOCK),
                            x_codes[q, head].reshape(count, hb),
                            d.integers(-127, 128, (pages, count, BLOCK), np.int8),
                            random_codes(d, (pages, count)),
                            shifts.astype(np.uint8),
                        )
                    )
            row += rows
        for number, batch in enumerate(batches):
            last_page = len(batch.pages) - 1
            for index, page in enumerate(batch.pages):
                self.kv.visit(
                    page,
                    **batch.fields,
                    first=int(index == 0),
                    last=int(index == last_page),
                    end=int(index == last_page and number == len(batches) - 1),
                    token=index * PAGE_TOKENS,
                )
            self.cover.hit("batch of one page", last_page == 0)
            self.cover.hit("batch of several pages", last_page > 0)
        self.cover.hit("attend of one visit", len(batches) == 1 and len(batches[0].pages) == 1)
        self.cover.hit("attend of several batches", len(batches) > 1)
        flat = x.reshape(-1, BLOCK)
        cocotb.start_soon(
            self._give(region, lambda: self.activations.write(queries, flat, x_codes.reshape(-1)))
        )
        name = f"instruction {self.instructions.index}, ATTEND"
        self.instructions.issue(
            encode(
                Opcode.ATTEND,
                wait=1 << region,
                signal=1 << DONE_BIT + region,  # the vector unit's to give
                queries=queries,
                output=0,
                weights=weights,
                offset=0,
            )
        )
        self.jobs.append(("attend", batches, weights, name, region))

    async def finish(self) -> None:
        """The vector unit's work for everything queued; then the unit must be idle."""
        for kind, *job in self.jobs:
            if kind == "panel":
                await self.vector.take(*job)
            else:
                batches, weights, name, region = job
                before = self.semaphores.given[DONE_BIT + region]
                late = self.finals_late or self.draw.randint(1, 2)
                await self.vector.attend(batches, weights, name, late, self.final_pause)
                assert self.semaphores.given[DONE_BIT + region] == before, f"{name}: signalled"
                self.semaphores.given[DONE_BIT + region] += 1  # the vector unit's signal
        self.jobs.clear()
        await self.instructions.drained()
        while sum(self.semaphores.given) < self.issued or self.tape.left:
            await RisingEdge(self.dut.clk)
        await ClockCycles(self.dut.clk, 80)
        m = self.monitor
        active = m.busy + m.starved + m.blocked
        await ClockCycles(self.dut.clk, 10)
        assert m.busy + m.starved + m.blocked == active, "not idle after its last instruction"
        assert self.kv.releases.count == self.kv.filled, "page slots not released"
        assert sum(self.semaphores.given) == self.issued, "signalled more than once"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def random_programs(dut):
    """MATMULs and ATTENDs of random shapes, everything stalls at random."""
    config = parameters()["config"]
    cover = Coverage(*_BINS)
    await start(dut)
    bench = Bench(dut, config, 0.3, cover)
    draw = bench.draw
    for phase in range(parameters()["phases"]):
        rows = (1, config.row_capacity, draw.randint(1, config.row_capacity))[phase % 3]
        head_blocks = (1, config.head_blocks, draw.randint(1, config.head_blocks))[phase % 3]
        # activation regions must hold the queries and P; not too many visits
        room = (bench.region_blocks - 2 * config.row_capacity) // (rows * head_blocks)
        heads = 1 if phase % 3 == 0 or rows >= 32 else draw.randint(1, max(1, min(3, room // 2)))
        group = draw.randint(1, max(1, min(2 if rows >= 32 else 4, room // heads)))
        bench.configure(
            rows, (0, rows, draw.randint(0, rows))[phase % 3], heads, group, head_blocks
        )
        bench.matmul(draw.randint(1, 5), draw.randint(1, 2))
        bench.matmul(1, 1)
        bench.attend([(rows, draw.choice((0, 5)) if phase % 3 == 0 else draw.randint(0, 70))])
        bench.matmul(draw.randint(1, 3), 1, output=True)
        bench.matmul(1, 1)
        if rows > 1:
            first = draw.randint(1, rows - 1)
            bench.attend([(first, draw.randint(0, 40)), (rows - first, draw.randint(0, 20))])
        bench.matmul(1, config.panel_ring + 1, output=bool(phase % 2))
        bench.matmul(2, 2)
        await bench.finish()
    m = bench.monitor
    cocotb.log.info(
        "%d cycles: %d busy, %d starved, %d blocked", m.cycles, m.busy, m.starved, m.blocked
    )
    cover.hit("busy", m.busy)
    cover.hit("starved", m.starved)
    cover.hit("blocked", m.blocked)
    cover.assert_complete()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def no_bubbles(dut):
    """With tape, panels and activations there, tiles follow every max(rows, tile_beats) cycles."""
    config = parameters()["config"]
    await start(dut)
    bench = Bench(dut, config, 0.0, Coverage(*_BINS))
    for rows in (1, config.row_capacity):
        bench.configure(rows, rows, 1, 1, 1)
        times: list[int] = []
        watch = cocotb.start_soon(_times(dut, "fed", times))
        blocks = 8 if rows == 1 else 4
        bench.matmul(blocks, 2)
        bench.matmul(blocks, 2)
        await bench.finish()
        watch.cancel()
        tiles = 4 * blocks * config.column_groups * config.passes
        period = max(rows, config.tile_beats)
        assert len(times) == tiles * rows
        span = times[-1] - times[0] + 1
        best = (tiles - 1) * period + rows
        cocotb.log.info("%d rows: %d tiles in %d cycles, ideal %d", rows, tiles, span, best)
        # a beat of scales comes along with a beat of elements, so nothing but tiles takes time
        assert span == best


async def _times(dut, name: str, times: list[int]) -> None:
    edge, handle = RisingEdge(dut.clk), getattr(dut, name)
    cycle = 0
    while True:
        await edge
        cycle += 1
        if int(handle.value):
            times.append(cycle)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def no_credits(dut):
    """Nobody takes panels: the ring fills, the unit stops blocked, and goes on when they go."""
    config = parameters()["config"]
    await start(dut)
    bench = Bench(dut, config, 0.0, Coverage(*_BINS))
    bench.configure(1, 1, 1, 1, 1)
    for _ in range(3):
        bench.matmul(1, config.panel_ring - 1)
    bench.attend([(1, 0)])
    panel = config.tile_beats * config.column_groups * config.passes
    await ClockCycles(dut.clk, (config.panel_ring + 2) * panel + 200)
    assert bench.vector.ring.count == config.panel_ring
    blocked = bench.monitor.blocked
    await ClockCycles(dut.clk, 20)
    assert bench.monitor.blocked == blocked + 20
    await bench.finish()
    # Both sets of output panels in use while the weights for the next are there
    bench.configure(1, 1, 4, 1, 1)
    bench.attend([(1, 0)])
    bench.finals_late, bench.final_pause = 2, 6 * panel
    await bench.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def faults(dut):
    """Operands that can't be: the fault, its instruction, and nothing more done."""
    config = parameters()["config"]
    blocks = config.activation_blocks
    matmul: dict[str, Any] = {"activations": 0, "blocks": 1, "panels": 1, "rows": RowSelect.ALL}
    attend = {"queries": 0, "output": 0, "weights": 0, "offset": 0}
    norm = {"source": 0, "destination": 0, "blocks": 1, "weights": 0, "rows": 0}
    good = {"head_blocks": 1, "head_group": 1, "query_stride": 1}
    operand, illegal = Fault.BAD_OPERAND, Fault.ILLEGAL_INSTRUCTION
    cases: list[tuple[Opcode, dict[str, Any], dict[str, int], Fault]] = [
        (Opcode.MATMUL, matmul | {"blocks": 0}, {}, operand),
        (Opcode.MATMUL, matmul | {"panels": 0}, {}, operand),
        (Opcode.MATMUL, matmul | {"activations": blocks - 1}, {}, operand),
        (Opcode.MATMUL, matmul | {"activations": (1 << 20) - 1, "blocks": 4095}, {}, operand),
        (Opcode.ATTEND, attend | {"queries": blocks - 1}, {}, operand),
        (Opcode.ATTEND, attend | {"weights": blocks - 2 * config.row_capacity + 1}, {}, operand),
        (Opcode.ATTEND, attend, {"head_blocks": 0}, operand),
        (Opcode.ATTEND, attend, {"head_blocks": config.head_blocks + 1}, operand),
        (Opcode.ATTEND, attend, {"head_group": 0}, operand),
        (Opcode.ATTEND, attend, {"query_stride": 0}, operand),
        (Opcode.NORM, norm, {}, illegal),
    ]
    await start(dut)
    fed = Pulses(dut, "fed")
    for number, (opcode, operands, model, cause) in enumerate(cases):
        dut.rst.value = 1
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        drive_struct(dut, "model", model_layout(), **(good | model))
        drive_struct(dut, "step", step_layout(), rows=2)
        instructions = Instructions(dut)
        monitor = UnitMonitor(dut, expect_fault=True)
        index = 100 + number
        instructions.issue(encode(opcode, **operands), index)
        instructions.issue(encode(Opcode.MATMUL, **matmul))
        await ClockCycles(dut.clk, 20)
        assert monitor.fault is not None, f"{opcode} {operands} {model}: no fault"
        assert monitor.fault["cause"] == cause.value
        assert monitor.fault["index"] == index
        assert instructions.pending == 1, "took an instruction after a fault"
        assert not int(dut.semaphore__wait_valid.value)
        instructions._task.cancel()
        monitor._task.cancel()
    assert fed.count == 0
