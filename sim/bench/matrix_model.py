"""What stands around the matrix unit in its bench: tape, memories, vector unit and KV unit."""

from collections import deque
from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hdl.config import BLOCK, PAGE_TOKENS, Config
from hdl.interfaces import activation_word, visit_layout
from sim.bench import Pulses, ReadPort, Source, Stall, pulse
from sim.golden import mx

__all__ = ["Activations", "Batch", "KVModel", "Page", "Tape", "VectorModel", "random_codes"]


def random_codes(data: np.random.Generator, shape, rare: float = 0.01) -> np.ndarray:
    """E8M0 codes around 1, rarely any code at all."""
    codes = data.integers(110, 140, shape)
    wild = data.choice([0, 1, 126, 127, 253, 254, 255], shape)
    return np.where(data.random(shape) < rare, wild, codes).astype(np.uint8)


class Tape:
    """The tape reader: scales and elements of matrices in the order of docs/spec.md, section 2."""

    def __init__(self, dut, config: Config, rng, stall: float):
        self.config = config
        self.scales = Source(dut, "tape_scales", rng=rng, stall=stall / 4, run=20)
        beats = config.passes * config.tile_beats
        self.elements = Source(
            dut,
            "tape_elements",
            rng=rng,
            stall=stall,
            run=4,
            may=lambda number: number // beats < self.scales.shown,
        )

    def append(self, elements: np.ndarray, codes: np.ndarray) -> None:
        """A matrix: int8 (panels * 32, blocks, 32), codes uint8 (panels * 32, blocks)."""
        c = self.config
        outputs, blocks = codes.shape
        # (panel, group, column, block, pass, row) to (panel, block, group, pass, column, row)
        tiles = elements.reshape(outputs // BLOCK, BLOCK // c.cols, c.cols, blocks, -1, c.rows)
        beats = tiles.transpose(0, 3, 1, 4, 2, 5).reshape(-1, c.port_bytes)
        by_column = codes.reshape(outputs // BLOCK, BLOCK // c.cols, c.cols, blocks)
        words = by_column.transpose(0, 3, 1, 2).reshape(-1, c.cols)
        self.elements.extend(int.from_bytes(beat.tobytes(), "little") for beat in beats)
        self.scales.extend(int.from_bytes(word.tobytes(), "little") for word in words)

    @property
    def left(self) -> int:
        return self.elements.pending + self.scales.pending


class Activations:
    """Activation memory behind the unit's read port. What nobody wrote is noise."""

    def __init__(self, dut, config: Config, data: np.random.Generator):
        self.data = data
        size = config.activation_blocks
        self.elements = np.zeros((size, BLOCK), np.int8)
        self.scales = np.zeros(size, np.uint8)
        self.shifts = np.zeros(size, np.uint8)
        self.spoil(0, size)
        layout = activation_word()
        self._scale, self._shift = layout["scale"].offset, layout["shift"].offset
        self._port = ReadPort(dut, "activations", self._word)

    def _word(self, address: int) -> int:
        if address >= len(self.scales):
            return 0
        word = int.from_bytes(self.elements[address].tobytes(), "little")
        word |= int(self.scales[address]) << self._scale
        return word | int(self.shifts[address]) << self._shift

    def write(self, address: int, elements, codes, shifts=None) -> None:
        """Words from ``address`` on: int8 (n, 32), uint8 (n,), uint8 (n,)."""
        where = slice(address, address + len(codes))
        self.elements[where], self.scales[where] = elements, codes
        self.shifts[where] = (
            self.data.integers(0, 256, len(codes), np.uint8) if shifts is None else shifts
        )

    def spoil(self, address: int, count: int) -> None:
        """Noise, so that a read too early or too late is seen."""
        self.write(
            address,
            self.data.integers(-127, 128, (count, BLOCK), np.int8),
            random_codes(self.data, count),
        )


@dataclass
class Page:
    """A KV page of one head: int8 (32, 32 * head_blocks), codes (32,)."""

    keys: np.ndarray
    key_codes: np.ndarray
    values: np.ndarray


@dataclass
class Batch:
    """An attention batch: its pages, its rows' queries, and P for every page (drawn at random).

    ``queries`` int8 (query_rows, head_blocks, 32) with codes (query_rows, head_blocks);
    ``weights`` int8 (pages, query_rows, 32) with codes and shifts (pages, query_rows).
    """

    fields: dict[str, int]  # of the visits, the same for all
    pages: list[Page]
    queries: np.ndarray
    query_codes: np.ndarray
    weights: np.ndarray
    weight_codes: np.ndarray
    shifts: np.ndarray
    output: np.ndarray | None = field(default=None)

    def scores(self, page: int) -> np.ndarray:
        """float32 (query_rows, 32)."""
        p = self.pages[page]
        keys = p.keys.reshape(PAGE_TOKENS, -1, BLOCK)
        return mx.batched_dot(self.queries, self.query_codes, keys, p.key_codes[:, None])

    def accumulate(self, page: int) -> np.ndarray:
        """Adds P V of the page to the output, float32 (query_rows, 32 * head_blocks)."""
        sums = mx.block_sums(self.weights[page], self.pages[page].values.T)
        codes, shifts = self.weight_codes[page][:, None], self.shifts[page][:, None]
        self.output = mx.accumulate(self.output, sums, codes, np.uint8(127), shifts)
        return self.output


class KVModel:
    """Page slots: fills them in ring order, sends the visits, spoils what was released."""

    def __init__(self, dut, config: Config, data: np.random.Generator, rng, stall: float):
        c = self.config = config
        self.data = data
        self.visits = Source(dut, "visits", layout=visit_layout(c))
        self.releases = Pulses(dut, "slot_release")
        self._dut = dut
        self._stall = Stall(rng, stall, run=40)
        self._beats = np.zeros((c.page_slots, 2, c.slot_beats, c.port_bytes), np.int8)
        self._codes = [0] * 8
        self._bits = (c.slot_beats - 1).bit_length()
        self._queue: deque[tuple[Page, dict[str, int]]] = deque()
        self.filled = 0
        self._spoiled = 0
        ReadPort(dut, "page_elements", self._beat)
        ReadPort(dut, "key_scales", self._codes)
        cocotb.start_soon(self._run())

    def _beat(self, address: int) -> int:
        beat, half = address & (1 << self._bits) - 1, address >> self._bits
        if beat >= self.config.slot_beats or half >> 1 >= self.config.page_slots:
            return 0
        return int.from_bytes(self._beats[half >> 1, half & 1, beat].tobytes(), "little")

    def visit(self, page: Page, **fields: int) -> None:
        self._queue.append((page, fields))

    async def _run(self) -> None:
        c, edge = self.config, RisingEdge(self._dut.clk)
        while True:
            await edge
            while self._spoiled < self.releases.count:
                slot = self._spoiled % c.page_slots
                self._beats[slot] = self.data.integers(-127, 128, self._beats[slot].shape)
                self._codes[slot] = 0
                self._spoiled += 1
            assert self.releases.count <= self.filled, "slot released that was never filled"
            if self._stall.step() or not self._queue:
                continue
            if self.filled - self.releases.count == c.page_slots:
                continue
            page, fields = self._queue.popleft()
            slot = self.filled % c.page_slots
            for half, elements in enumerate((page.keys, page.values)):
                beats = elements.reshape(-1, c.port_bytes)
                self._beats[slot, half, : len(beats)] = beats
            self._codes[slot] = int.from_bytes(page.key_codes.tobytes(), "little")
            self.visits.send({"slot": slot, **fields})
            self.filled += 1


class VectorModel:
    """Takes panels in order, checks them, makes P, counts the credits of docs/spec.md."""

    def __init__(self, dut, config: Config, activations: Activations, rng, stall: float):
        c = self.config = config
        self._dut = dut
        self._edge = RisingEdge(dut.clk)
        self.activations = activations
        self.ring = Pulses(dut, "ring_produce")
        self.outputs = Pulses(dut, "output_produce")
        self.buffers = Pulses(dut, "weights_release")
        self._taken = self._finals = self._given = 0
        self._stall = Stall(rng, stall, run=30)
        self._rng = rng if stall else None
        self._word_bits = (c.block_words - 1).bit_length()
        self._row_bits = (c.row_capacity - 1).bit_length()

    async def _pause(self) -> None:
        """Mostly short; now and then long enough that every credit is used up."""
        long = self._rng is not None and self._rng.random() < 0.05
        for _ in range(600 if long else 0):
            await self._edge
        while self._stall.step():
            await self._edge

    async def _until(self, condition) -> None:
        while not condition():
            await self._edge

    async def read(self, panel: int, rows: int) -> np.ndarray:
        """Rows of a panel as bit patterns, uint32 (rows, 32)."""
        c, dut = self.config, self._dut
        words = []
        # the last written first: a panel that is announced too early shows
        order = [(row, word) for row in range(rows) for word in range(c.block_words)][::-1]
        for step in range(len(order) + 1):
            if step < len(order):
                row, word = order[step]
                dut.panel_read__address.value = (
                    word | (row | panel << self._row_bits) << self._word_bits
                )
            await self._edge
            if step:
                words.append(
                    dut.panel_read__data.value.to_unsigned().to_bytes(4 * c.lanes, "little")
                )
        return np.frombuffer(b"".join(words[::-1]), "<u4").reshape(rows, BLOCK)

    async def _compare(self, panel: int, expected: np.ndarray, what: str) -> None:
        got = await self.read(panel, len(expected))
        want = np.ascontiguousarray(expected, np.float32).view(np.uint32)
        wrong = np.argwhere(got != want)
        if len(wrong):
            row, col = wrong[0]
            raise AssertionError(
                f"{what}, panel {panel}: {len(wrong)} of {want.size} values differ, first at row "
                f"{row} column {col}: {got[row, col]:#010x}, expected {want[row, col]:#010x}"
            )

    async def take(self, expected: np.ndarray, what: str) -> None:
        """The next panel of the ring must hold ``expected`` (rows, 32)."""
        await self.ring.reach(self._taken + 1)
        await self._pause()
        await self._compare(self._taken % self.config.panel_ring, expected, what)
        self._taken += 1
        await pulse(self._dut, "ring_release")

    async def attend(
        self, batches: list[Batch], weights_at: int, what: str, finals_late: int, pause: int
    ) -> None:
        """Vector unit's part of an ATTEND.

        ``finals_late``: batches whose first page goes before the final scaling of a batch; 1 as
        docs/spec.md says, 2 needs the credits of the output panels. ``pause``: cycles before it.
        """
        c = self.config
        done: list[Batch] = []
        number = self._given = 0
        base = self.buffers.count
        cocotb.start_soon(self._spoil_buffers(weights_at, base, sum(len(b.pages) for b in batches)))
        for batch in batches:
            for page in range(len(batch.pages)):
                await self.take(batch.scores(page), f"{what}: scores of page {page}")
                await self._until(lambda n=number: n - (self.buffers.count - base) < 2)
                await self._pause()
                self.activations.write(
                    weights_at + number % 2 * c.row_capacity,
                    batch.weights[page],
                    batch.weight_codes[page],
                    batch.shifts[page],
                )
                await pulse(self._dut, "weights_produce")
                number = self._given = number + 1
                batch.accumulate(page)
                if len(done) == finals_late:
                    for _ in range(pause):
                        await self._edge
                    await self._final(done.pop(0), what)
            done.append(batch)
        for batch in done:
            await self._final(batch, what)

    async def _spoil_buffers(self, weights_at: int, base: int, count: int) -> None:
        rows = self.config.row_capacity
        for number in range(count):
            await self._until(lambda n=number: self.buffers.count - base > n)
            if self._given <= number + 2:  # not yet written again
                self.activations.spoil(weights_at + number % 2 * rows, rows)

    async def _final(self, batch: Batch, what: str) -> None:
        c = self.config
        await self.outputs.reach(self._finals + 1)
        await self._pause()
        assert batch.output is not None
        first = c.panel_ring + batch.fields["parity"] * c.head_blocks
        for block in range(batch.output.shape[1] // BLOCK):
            part = batch.output[:, block * BLOCK : (block + 1) * BLOCK]
            await self._compare(first + block, part, f"{what}: output block {block}")
        self._finals += 1
        await pulse(self._dut, "output_release")
