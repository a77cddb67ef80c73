"""Bench of the systolic array: streams of tiles at the limits of its timing, exact sums."""

import random

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hdl.config import Config
from hdl.matrix.array import SUM_BITS, SystolicArray, load_layout, row_layout
from sim.bench import Coverage, pack, parameters, rng, seed, start

MOST_ROWS = 64
BINS = (
    *("column then column", "column then row", "row then column", "row then row"),
    *("load gap", "row gap", "load before the swap", "load in the swap cycle"),
    *("beats take longer", "rows take longer", "feed two cycles after the last beat"),
    *("one row", "most rows", "extremes"),
)


class Schedule:
    """What stands at the array's inputs in each cycle, and the sums that must come out."""

    def __init__(self, config: Config, cover: Coverage):
        self.config = config
        self.cover = cover
        self.latency = SystolicArray(config).latency
        self.loads: dict[int, int] = {}
        self.rows: dict[int, int] = {}
        self.sums: dict[int, np.ndarray] = {}
        self.swap = 0  # cycle of the last tile's first row
        self.beat = -1  # cycle of the last beat
        self.row = -1  # cycle of the last row
        self.by_row = False
        self._load, self._row = load_layout(config), row_layout(config)

    def tile(self, weights: np.ndarray, rows: np.ndarray, by_row: bool, gap) -> None:
        """Append a tile: weights (rows, cols), activations (R, rows); ``gap()`` idle cycles."""
        c = self.config
        lines = weights if by_row else weights.T
        at = max(self.beat + 1, self.swap - 1) - 1
        for index, line in enumerate(lines):
            for chunk, part in enumerate(line.reshape(-1, c.port_bytes)):
                at += 1 + (wait := gap())
                self.cover.hit("load gap", wait)
                self.loads[at] = pack(
                    self._load,
                    {
                        "valid": 1,
                        "by_row": by_row,
                        "index": index,
                        "chunk": chunk,
                        "elements": int.from_bytes(part.tobytes(), "little"),
                    },
                )
                self.cover.hit("load in the swap cycle", at == self.swap)
                self.cover.hit("load before the swap", at == self.swap - 1)
        self.beat = at
        kind = ("column", "row")
        self.cover.hit(f"{kind[self.by_row]} then {kind[by_row]}")
        self.by_row = by_row
        at = max(self.beat + 1, self.row)
        self.cover.hit("beats take longer", self.beat > self.row)
        self.cover.hit("rows take longer", self.beat < self.row)
        for i, row in enumerate(rows):
            at += 1 + (wait := gap())
            self.cover.hit("row gap", wait)
            elements = int.from_bytes(row.tobytes(), "little")
            self.rows[at] = pack(self._row, {"valid": 1, "swap": int(i == 0), "elements": elements})
            self.sums[at + self.latency] = row.astype(np.int64) @ weights
            if i == 0:
                self.swap = at
                self.cover.hit("feed two cycles after the last beat", at == self.beat + 2)
        self.row = at
        self.cover.hit("one row", len(rows) == 1)
        self.cover.hit("most rows", len(rows) == MOST_ROWS)

    async def play(self, dut) -> None:
        """Drive it all, check every sum."""
        edge = RisingEdge(dut.clk)
        noise = random.Random(seed())
        load_bits, row_bits = len(dut.load), len(dut.row)
        cols = self.config.cols
        for cycle in range(max(self.sums) + 2):
            # What stands there when nothing is valid must not matter
            dut.load.value = self.loads.get(cycle, noise.getrandbits(load_bits) & ~1)
            dut.row.value = self.rows.get(cycle, noise.getrandbits(row_bits) & ~3)
            await edge
            if cycle in self.sums:
                word = dut.sums.value.to_unsigned()
                got = [word >> SUM_BITS * j & (1 << SUM_BITS) - 1 for j in range(cols)]
                want = [int(s) & (1 << SUM_BITS) - 1 for s in self.sums[cycle]]
                assert got == want, f"cycle {cycle}: sums {got}, expected {want}"


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def streams_of_tiles(dut):
    """Random tiles, back to back and with gaps; extremes of the elements."""
    config = parameters()["config"]
    draw = rng("tiles")
    data = np.random.default_rng(seed())
    cover = Coverage(*BINS)
    schedule = Schedule(config, cover)
    rows, cols = config.rows, config.cols
    limit = config.tile_beats
    counts = [1, 1, 1, limit - 1, limit, limit + 1, MOST_ROWS, 1, 2, 1]
    for tile in range(parameters()["tiles"]):
        tight = tile < len(counts) or draw.random() < 0.5
        count = counts[tile] if tile < len(counts) else draw.randint(1, MOST_ROWS)
        weights = data.integers(-128, 128, (rows, cols), np.int8)
        activations = data.integers(-127, 128, (count, rows), np.int8)
        if tile % 5 == 0:
            cover.hit("extremes")
            weights[:, ::2], weights[:, 1::2] = -128, 127
            activations[:] = np.where(np.arange(count)[:, None] % 2, 127, -127)
        rate = 0.0 if tight else draw.choice((0.1, 0.6))
        schedule.tile(
            weights,
            activations,
            draw.random() < 0.5,
            lambda rate=rate: int(draw.random() < rate) * draw.randint(1, 4),
        )
    await start(dut)
    await schedule.play(dut)
    cover.assert_complete()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def no_bubbles(dut):
    """Tiles of R rows, always the earliest cycle: the period is max(R, tile_beats)."""
    config = parameters()["config"]
    data = np.random.default_rng(seed() + 1)
    await start(dut)
    for count in (1, config.tile_beats, MOST_ROWS):
        schedule = Schedule(config, Coverage(*BINS))
        swaps = []
        for tile in range(6):
            schedule.tile(
                data.integers(-128, 128, (config.rows, config.cols), np.int8),
                data.integers(-127, 128, (count, config.rows), np.int8),
                tile % 3 == 1,
                lambda: 0,
            )
            swaps.append(schedule.swap)
        assert set(np.diff(swaps)) == {max(count, config.tile_beats)}
        await schedule.play(dut)
