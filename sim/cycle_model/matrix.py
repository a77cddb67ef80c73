"""The matrix unit's clock: runs of array tiles between loader and feeder."""

from collections import deque
from functools import lru_cache

from sim.cycle_model.line import ReadLine
from sim.cycle_model.machine import Machine
from sim.cycle_model.startup import (
    BUS_TO_CLIENT,
    REQUEST_TO_BUS,
    ROOM_TO_REQUEST,
    SPLITTER_CYCLES,
    WORD_FIFO,
)

__all__ = ["MatrixClock", "window_profile"]

_READ_TO_ROW = 3
"""hdl/matrix/feeder.py: from a row's read to the row before the array."""

_SEEN = 1
"""Credits of both units are registered."""

_BEAT_TO_LOADER = BUS_TO_CLIENT + 3 + WORD_FIFO
"""A tape beat on the bus, until the loader can take it: two registers before the FIFO of
hdl/memory/tape_reader.py, a slice behind it."""

_ANCHORS = 6
"""Runs before this one that may still hold it up."""

SEQUENCER_CYCLES = 7
"""hdl/matrix/sequencer.py: instruction taken, CHECK, MULTIPLY, ADD, START, tile in the register, in
the loader."""


@lru_cache(maxsize=1024)
def window_profile(
    machine: Machine, cycles: float, instruction_tiles: int = 0
) -> tuple[tuple[float, ...], float]:
    """Feeds of block tiles in a row, where the array takes ``cycles`` for one and the tape reader
    may be only ``window_tiles`` ahead; tile by tile and burst by burst. With
    ``instruction_tiles`` every so many tiles are a TAPE of their own, whose last burst is cut.

    Returns the time of each feed from the first, which finds the FIFO full, and the cycles a tile
    in the long run.
    """
    beat, period, burst = machine.beat_cycles, machine.period, machine.burst_beats
    window = machine.window_tiles * period
    lag = REQUEST_TO_BUS + machine.latency
    turn = machine.tile_beats
    fed = max(turn, cycles / machine.passes)
    plain = max(cycles, period * beat)
    if window * beat > 2 * (lag + (2 * period + burst) * beat) + window * beat / 2:
        return (), plain
    passes, scale = machine.passes, machine.scale_beats
    whole = instruction_tiles * period or float("inf")
    tiles = 64 * max(1, machine.window_tiles)
    free = [0.0]  # when the n-th block tile's place is free again
    asked, ask, end = 0.0, 0.0, 0.0
    bursts: list[tuple[float, float]] = []  # tape beats before it ends, bus time of its last beat
    at, feed, feeds = 0, lag + 2 * window * beat, []
    for i in range(tiles):
        for j in range(passes):
            need = i * period + scale + (j + 1) * turn
            while asked < need:
                size = min(burst, whole - asked % whole)
                places = max(0, -int(-(asked + size - window) // period))
                ask = max(ask + SPLITTER_CYCLES, free[places] + ROOM_TO_REQUEST)
                end = max(ask + lag, end + beat) + (size - 1) * beat
                asked += size
                bursts.append((asked, end))
            while bursts[at][0] < need:
                at += 1
            there = bursts[at][1] - (bursts[at][0] - need) * beat + _BEAT_TO_LOADER
            taken = max(there, feed + turn - 1)
            feed = max(feed + fed, taken + 1)
        free.append(taken)
        feeds.append(feed)
    half = tiles // 2
    spacing = max(plain, (feeds[-1] - feeds[-1 - half]) / half)
    return tuple(f - feeds[0] for f in feeds), spacing


class MatrixClock:
    """When the matrix unit does what.

    ``fed`` is the cycle in which the feeder took the last tile, ``rows`` what that tile feeds.
    """

    def __init__(self, machine: Machine, line: ReadLine, instruction_tiles: int = 0):
        self._machine = machine
        self._instruction_tiles = instruction_tiles
        self._line = line
        self._tile = machine.tile_beats
        self._passes = machine.passes
        self._scale = machine.scale_beats
        self._period = machine.period
        self._produce = _READ_TO_ROW + machine.accumulate_latency + _SEEN
        self.fed = -1e9
        self.rows = 0
        self.loader = 0.0  # the loader has a tile to load from here on
        self.beats = 0.0  # tape beats eaten
        self.starved = 0.0
        self.blocked = 0.0
        self.feed_rows = 0
        self.began: float | None = None
        self._tiles = 0  # block tiles fed
        self._anchors: deque[tuple[int, float]] = deque(maxlen=_ANCHORS)  # tile, its feed

    @property
    def idle(self) -> float:
        """The feeder has read its last row."""
        return self.fed + self.rows

    def tape(self, tiles: int, rows: int, gate: float) -> float:
        """A run of block tiles from the tape that ends a panel; the first is fed no earlier than
        ``gate``. Returns when the vector unit can read the panel.
        """
        line, period, eaten = self._line, self._period, self.beats
        turn = max(rows, self._tile)
        block = self._passes * turn
        first_beat = max(self.fed, self.loader)
        if line.later_at < max(first_beat, gate) + tiles * block:
            ahead = (line.later_at - max(first_beat, gate)) // block
            if ahead < 1:
                line.flush()
            elif ahead < tiles:
                self.tape(int(ahead), rows, gate)
                line.flush()
                return self.tape(tiles - int(ahead), rows, 0.0)
        tile_ready = line.due(eaten + self._scale + self._tile) + _BEAT_TO_LOADER
        loaded = max(first_beat + self._tile - 1, tile_ready)
        idle = self.fed + self.rows
        may = max(loaded + 1, idle)
        if self.began is None:
            self.began = first_beat
            idle = max(idle, first_beat)
            may = max(may, idle)
        start = max(may, gate)
        self.blocked += start - may
        self.starved += max(0.0, may - max(idle, first_beat + self._tile))
        feed = max(
            start + (self._passes - 1) * turn, line.due(eaten + period) + _BEAT_TO_LOADER + 1
        )
        plain = feed + (tiles - 1) * block
        end = eaten + tiles * period
        profile, spacing = window_profile(self._machine, block, self._instruction_tiles)
        windowed = bool(profile) and spacing > max(block, period * line.beat)
        last = max(plain, line.due(end) + _BEAT_TO_LOADER + 1)
        for at, z in line.marks:
            if eaten + period < at < end:  # the tape comes later from there on
                tile = (at - eaten) // period + 1
                there = z + (eaten + tile * period) * line.beat + _BEAT_TO_LOADER + 1
                last = max(last, there + (tiles - tile) * block)
        if windowed:
            feed, last = self._windowed(tiles, block, feed, last)
        if last > plain:
            # Beats that stream come between rows that are fed; a wait for memory does not
            streaming = period * line.beat
            late = (last - plain) / max(1, tiles - 1)
            wait = max(0.0, late - max(0.0, streaming - block))
            share = max(0.0, 1 - rows * self._passes / max(streaming, block))
            self.starved += (wait + (late - wait) * share) * max(1, tiles - 1)
        else:  # the tape's FIFO is full but for what comes and goes
            bursts = (tiles - 1) * period / line.burst
            line.blocked += max(0.0, last - feed - bursts * line.burst_cycles)
        slack = turn - self._tile + 1
        line.consumed(eaten, max(loaded, feed - slack), paused=True)
        if tiles > 1:
            line.consumed(end - period, last - slack if last > plain else plain - slack)
        self._end(last, rows, tiles * self._passes)
        self.beats = end
        self.loader = last
        return last + rows - 1 + self._produce

    def _windowed(self, tiles: int, block: float, feed: float, last: float) -> tuple[float, float]:
        """First and last feed of a run whose tape reader waits for room.

        Each run's first feed says when the tiles behind it can come at the earliest: as behind a
        full FIFO.
        """
        profile, spacing = window_profile(self._machine, block, self._instruction_tiles)

        def after(tile: int) -> float:
            known = len(profile) - 1
            return profile[min(tile, known)] + max(0, tile - known) * spacing

        first = self._tiles
        feed = max([feed, *(at + after(first - tile) for tile, at in self._anchors)])
        self._anchors.append((first, feed))
        last = max([last, *(at + after(first + tiles - 1 - tile) for tile, at in self._anchors)])
        self._tiles = first + tiles
        return feed, last

    def page(
        self, tiles: int, beats: float, rows: int, ready: float, gate: float
    ) -> tuple[float, float, float]:
        """Tiles of ``beats`` beats from a page that the sequencer knows at ``ready``.

        Returns the cycles of its first and last feed, and when the result can be read.
        """
        load = min(self._tile, beats)  # scales come beside
        turn = max(rows, load)
        first_beat = max(self.fed, self.loader, ready)
        idle = self.fed + self.rows
        may = max(first_beat + load, idle)
        if self.began is None:
            self.began = first_beat
        start = max(may, gate)
        self.starved += max(0.0, may - max(idle, self.fed + load))
        self.blocked += start - may
        last = start + (tiles * self._passes - 1) * turn
        self._end(last, rows, tiles * self._passes)
        self.loader = last
        return start, last, last + rows - 1 + self._produce

    def skip(self, cycles: float, beats: float) -> None:
        """Runs alike have been left out."""
        tiles = round(beats / self._period)
        self._tiles += tiles
        moved = ((tile + tiles, at + cycles) for tile, at in self._anchors)
        self._anchors = deque(moved, maxlen=_ANCHORS)

    def _end(self, last: float, rows: int, tiles: int) -> None:
        self.fed = last
        self.rows = rows
        self.feed_rows += rows * tiles
