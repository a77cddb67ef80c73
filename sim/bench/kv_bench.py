"""The surroundings of a KV unit in a bench: memories, consumers, a step from PREPARE to ATTEND."""

import random
from collections import deque

import cocotb
from cocotb.triggers import RisingEdge

from hdl.interfaces import (
    append_payload,
    model_layout,
    segment_entry,
    step_layout,
    visit_layout,
)
from hdl.isa import Opcode, encode
from sim.bench import (
    Image,
    Instructions,
    MemoryReader,
    MemoryWriter,
    ReadPort,
    Semaphores,
    Sink,
    Source,
    Stall,
    UnitMonitor,
    drive_struct,
    pack,
    rng,
    start,
)
from sim.bench.kv_model import BASE, Step, World, expected_visits, page_halves

__all__ = ["KVBench", "fill_random"]

ATTEND_OPERANDS = {"queries": 0, "output": 0, "weights": 0}


class KVBench:
    """One reset of the design, and everything around it.

    ``stall`` is the share of stalled cycles everywhere, ``latency`` of the memories (cycles or a
    range); ``walk_latency`` of table reads and ``write_latency`` where they differ.
    """

    def __init__(self, dut, world: World, *, stall=0.0, run=1.0, latency=10, salt="", **options):
        self.dut = dut
        self.world = world
        self.draw = rng("bench", salt)
        self.latency = latency
        self.walk_latency = options.get("walk_latency", latency)
        self.write_latency = options.get("write_latency", latency)
        self.write_outstanding = options.get("write_outstanding", 4)
        self.expect_fault = options.get("expect_fault", False)
        self.check_slots = options.get("check_slots", True)
        self.on_chip = bool(world.config.kv_on_chip_bytes)
        self.stalls = {"stall": stall, "run": run}
        self.salt = salt
        self.visited = 0  # since reset

    async def begin(self):
        """Reset, then memories as ``world.content`` says."""
        dut, world, stalls = self.dut, self.world, self.stalls
        config = world.config

        def noise(name):
            return {"rng": rng(name, self.salt), **stalls}

        await start(dut)
        self.image = Image(world.size, BASE)
        self.image.data[:] = world.content
        self.walk = MemoryReader(
            dut, "walk", self.image, latency=self.walk_latency, outstanding=64, **noise("walk")
        )
        self.pages = MemoryReader(dut, "pages", self.image, latency=self.latency, **noise("pages"))
        self.writer = MemoryWriter(
            dut,
            "memory",
            self.image,
            latency=self.write_latency,
            outstanding=self.write_outstanding,
            **noise("memory"),
        )
        self.segments = ReadPort(dut, "segments", [])
        self.appends = Source(dut, "append", layout=append_payload(), **noise("append"))
        layout = visit_layout(config)
        self.matrix = Sink(dut, "matrix_visits", layout=layout, **noise("matrix"))
        self.vector = Sink(dut, "vector_visits", layout=layout, **noise("vector"))
        self.instructions = Instructions(dut, **noise("instructions"))
        self.semaphores = Semaphores(dut, rng=rng("sem", self.salt), stall=stalls["stall"])
        self.monitor = UnitMonitor(dut, expect_fault=self.expect_fault)
        self.releases = 0
        self.release_stall = Stall(rng("release", self.salt), stalls["stall"], 40)
        self._tasks = [cocotb.start_soon(self._release()), cocotb.start_soon(self._ordering())]

    def end(self):
        """Stop the bench's own tasks, before another reset in the same test."""
        parts: list = [self.walk, self.pages, self.writer, self.segments, self.appends, self.matrix]
        parts += [self.vector, self.instructions, self.semaphores, self.monitor]
        for task in [*self._tasks, *(p._task for p in parts)]:
            task.cancel()

    async def cycles(self, number: int):
        for _ in range(number):
            await RisingEdge(self.dut.clk)

    # Step ----------------------------------------------------------------------------------------
    def load_step(self, step: Step, model=None, header=None):
        """Registers and segment table of a step; memory gets the world's tables."""
        drive_struct(self.dut, "model", model_layout(), **(model or self.world.model()))
        drive_struct(self.dut, "step", step_layout(), **(header or step.header()))
        self.segments.contents = [pack(segment_entry(), s.entry()) for s in step.segments]
        tables = self.world.kv_at - BASE
        self.image.data[:tables] = self.world.content[:tables]

    def prepare(self, wait=0, signal=0) -> int:
        return self.instructions.issue(encode(Opcode.PREPARE, wait=wait, signal=signal))

    def attend(self, offset: int) -> int:
        word = encode(Opcode.ATTEND, wait=0x30, signal=0xC0, offset=offset, **ATTEND_OPERANDS)
        return self.instructions.issue(word)

    def append_layer(self, step: Step, offset: int):
        """Random keys and values of every row, to the unit and to ``world``."""
        world, draw = self.world, self.draw
        for value in range(2):
            rows = [(h, r) for h in range(world.kv_heads) for r in range(step.rows)]
            if draw.random() < 0.3:
                draw.shuffle(rows)
            for head, row in rows:
                scale = draw.randrange(256)
                for block in range(world.head_blocks):
                    self.append_block(step, head, row, block, value, scale, offset)

    def append_block(self, step, head, row, block, value, scale, offset):
        payload: dict = {
            "elements": self.draw.randbytes(32),
            "scale": scale,
            "row": row,
            "head": head,
            "block": block,
            "value": value,
            "offset": offset,
        }
        page, token = step.segment_of(row).place(row)
        self.world.append(page, token, offset, payload)
        self.appends.send({**payload, "elements": list(payload["elements"])})

    # Visits --------------------------------------------------------------------------------------
    async def _release(self):
        """Matrix unit's slot_release: one pulse for each of ``releases``."""
        level = 0
        while True:
            await RisingEdge(self.dut.clk)
            now = int(self.releases > 0 and not self.release_stall.step())
            self.releases -= now
            if now != level:
                self.dut.slot_release.value = level = now

    async def _ordering(self):
        """No page is asked for while an append is on its way to memory."""
        asks = self.dut.pages__request__valid
        while True:
            await RisingEdge(self.dut.clk)
            if int(asks.value):
                writes, done = len(self.writer.requests), self.writer.done
                assert not self.appends.pending, "pages are read before all appends were taken"
                assert writes == done, f"pages are read after {done} of {writes} writes"

    async def visits(self, step: Step, offset: int) -> list[dict]:
        """Take the visits of an ATTEND, compare records and slots, release; gives the model's."""
        world, config = self.world, self.world.config
        expected = expected_visits(world, step)
        base = self.visited
        # Slots held unread behind the newest.
        lag = self.draw.choice([0, 1, config.page_slots - 1]) if self.check_slots else 0
        held: deque[tuple[int, dict]] = deque()

        async def let_go():
            slot, want = held.popleft()
            if self.check_slots:
                halves = page_halves(world, want["page"], want["head"], offset)
                await self.compare_slot(slot, halves, f"visit of {want}")
            self.releases += 1

        for i, want in enumerate(expected):
            got = (await self.matrix.count(base + i + 1))[base + i]
            same = (await self.vector.count(base + i + 1))[base + i]
            assert got == same, f"visit {i}: matrix {got}, vector {same}"
            record = {k: v for k, v in want.items() if k not in ("page", "head")}
            record["slot"] = (base + i) % config.page_slots
            assert got == record, f"visit {i}: {got}, expected {record}"
            self.visited += 1
            held.append((record["slot"], want))
            if len(held) > lag:
                if self.check_slots and i == config.page_slots:
                    await self.cycles(1500)  # every slot is full or filling: none may be written
                await let_go()
        while held:
            await let_go()
        return expected

    async def compare_slot(self, slot: int, halves, what: str):
        """Read a slot through all its ports, a beat a cycle."""
        config, dut, edge = self.world.config, self.dut, RisingEdge(self.dut.clk)
        beat_bits = (config.slot_beats - 1).bit_length()
        width = config.port_bytes
        want = []
        for value, (elements, _) in enumerate(halves):
            for beat in range(len(elements) // width):
                address = slot << (beat_bits + 1) | value << beat_bits | beat
                want.append((address, elements[beat * width :][:width]))
        dut.key_scales__address.value = slot
        dut.value_scales__address.value = slot
        for i in range(len(want) + 1):
            if i < len(want):
                dut.page_elements__address.value = want[i][0]
            await edge
            if i:
                address, beat = want[i - 1]
                data = dut.page_elements__data.value.to_unsigned()
                assert data == int.from_bytes(beat, "little"), (
                    f"{what}: slot address {address:#x}: {data:#x}, expected {beat[::-1].hex()}"
                )
        for name, (_, scales) in zip(("key", "value"), halves, strict=True):
            data = getattr(dut, f"{name}_scales__data").value.to_unsigned()
            assert data == int.from_bytes(scales, "little"), f"{what}: {name} scales {data:#x}"

    def compare_memory(self):
        """Every byte of memory, written or not."""
        if self.on_chip:
            assert not self.pages.requests, "pages were read from memory"
            assert not self.writer.requests, "pages were written to memory"
            return
        got, want = self.image.data, self.world.content
        if got != want:
            first = next(i for i in range(len(want)) if got[i] != want[i])
            raise AssertionError(
                f"memory at {BASE + first:#x} (page area + {BASE + first - self.world.kv_at:#x}): "
                f"{got[first]:#x}, expected {want[first]:#x}"
            )

    async def idle(self):
        """Until no activity for some cycles."""
        quiet = 0
        while quiet < 8:
            await RisingEdge(self.dut.clk)
            active = any(
                int(getattr(self.dut, f"activity__{n}").value)
                for n in ("busy", "starved", "blocked")
            )
            quiet = 0 if active or self.instructions.pending else quiet + 1


def fill_random(world: World, draw: random.Random):
    """Pages with old content."""
    start_of_pages = world.kv_at - BASE
    world.content[start_of_pages:] = draw.randbytes(world.size - start_of_pages)
