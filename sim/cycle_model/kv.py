"""The KV unit's clock: page walks, pages into slots, appends."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from hdl.config import PAGE_TOKENS
from hdl.memory.axi import PAGE_BYTES
from sim.cycle_model.line import ReadLine
from sim.cycle_model.machine import Machine
from sim.cycle_model.startup import BUS_TO_CLIENT
from sim.cycle_model.writes import APPEND_PLACES, WriteCosts

__all__ = ["Batch", "KVClock", "batches_of", "visit_starts", "walk_beats"]

Segment = tuple[int, int, int]
"""First position, rows, outputs."""

_BEGIN = 4
"""hdl/kv/unit.py: DECODE, CHECK, BEGIN behind an instruction's arrival."""

_NEST = 6
"""hdl/kv/visits.py: READ, SEGMENT, HEAD, BATCH, RANGE, SPAN and the first PAGE, beside the rows."""

_FRAMES = 3
"""hdl/kv/frames.py: from the semaphores to READ; each segment then costs four cycles."""

_PAGE_TO_ENTRY = 5
_ENTRY_TO_OWNER = 10
_OWNER_TO_FRAME = 8
"""hdl/kv/walk.py, lookup.py, address.py: beside a bit of the page number a cycle."""

_WALK_DEPTH = 2
"""hdl/kv/walk.py: lookups in flight for each page slot."""

_TAKE_TO_ASK = 3
_PAGE_TO_VISIT = 3
"""hdl/kv/fetch.py."""

_APPEND_STEPS = 9
_TAKEN_AHEAD = 7
"""hdl/kv/append.py: the address pipeline, and the blocks in it before the one that is written."""


@dataclass(frozen=True)
class Batch:
    """Query rows that visit the pages of a KV head together."""

    rows: int
    query_rows: int
    visits: int
    pages: int


def batches_of(
    segments: list[Segment], kv_heads: int, group: int, batch_rows: int, visit_pages: int = 1
) -> list[Batch]:
    """The batches of an ATTEND in their order (hdl/kv/visits.py)."""
    batches = []
    for position, rows, _ in segments:
        head = []
        for first in range(0, rows, batch_rows):
            count = min(batch_rows, rows - first)
            last = position + first + count - 1
            pages = last // PAGE_TOKENS + 1
            head.append(Batch(count, count * group, -(-pages // visit_pages), pages))
        batches += head * kv_heads
    return batches


def walk_beats(port_bytes: int, segments: list[Segment], batches: list[Batch]) -> int:
    """Beats of page and owner tables that an ATTEND reads (hdl/kv/lookup.py keeps the last one).

    Page tables begin at a beat; the pages of a sequence are taken to follow each other.
    """
    words = max(1, port_bytes // 4)
    each = len(batches) // len(segments) if segments else 0
    beats, base, owner = 0, 0, -1
    for s, (position, rows, _) in enumerate(segments):
        table = -1
        for batch in batches[s * each : (s + 1) * each]:
            last = (batch.pages - 1) // words
            beats += last + (table != 0)
            table = last
            first, last = base // words, (base + batch.pages - 1) // words
            beats += last - first + (owner != first)
            owner = last
        base += (position + rows - 1) // PAGE_TOKENS + 1
    return beats


def visit_starts(
    segments: list[Segment],
    batches: list[Batch],
    kv_heads: int,
    visit_pages: int,
    page_bytes: int,
    head_bytes: int,
) -> np.ndarray:
    """Byte addresses, less the layer's offset, of the last page of each visit of an ATTEND.

    The pages of a sequence are taken to follow each other, and sequences likewise.
    """
    each = len(batches) // max(1, len(segments))
    starts: list[np.ndarray] = []
    base = 0
    for s, (position, rows, _) in enumerate(segments):
        for i, batch in enumerate(batches[s * each : (s + 1) * each]):
            visits = np.arange(1, batch.visits + 1) * visit_pages - 1
            pages = base + np.minimum(visits, batch.pages - 1)
            starts.append(pages * page_bytes + i * kv_heads // each * head_bytes)
        base += (position + rows - 1) // PAGE_TOKENS + 1
    return np.concatenate(starts) if starts else np.zeros(1, np.int64)


class KVClock:
    """When the KV unit does what."""

    def __init__(
        self,
        machine: Machine,
        line: ReadLine,
        writes: WriteCosts,
        head_blocks: int,
        starts: np.ndarray,
    ):
        self._machine = machine
        self._starts = starts  # byte address of each visit's (last) page, but for the layer
        self._tails = np.ones(1)
        self.asked = 0  # visits of the ATTEND
        self._line = line
        self._writes = writes
        self.page_beats = machine.page_beats(head_blocks) * machine.visit_pages
        self.coming: deque[float] = deque()
        self._first = 0
        self.begun = False
        self.idle = 0.0
        self.prepared = float("inf")
        self.open = 0.0
        self.fetch = 0.0  # the next page may be asked for
        self.releases: deque[float] = deque()
        self.appended = 0.0  # last write done
        self.attending = 0.0
        self.walk_beats = 0
        self.page_end = 0.0  # last beat of a page
        self.began = 0.0
        self.starved = 0.0

    def _last_bursts(self, offset: int) -> np.ndarray:
        """Beats of the last burst of every visit of a layer (hdl/memory/splitter.py).

        A page is cut into bursts from its start on, and again from a 4 KiB boundary on.
        """
        port, burst = self._machine.port_bytes, self._machine.burst_beats
        size = int(self.page_beats / self._machine.visit_pages) * port
        start = self._starts + offset
        last = start + size - 1
        cut = np.where(start // PAGE_BYTES == last // PAGE_BYTES, start, last & -PAGE_BYTES)
        return (last - cut) // port % burst + 1

    def prepare(self, granted: float, segments: list[Segment], page_bits: int) -> float:
        """PREPARE: when its table is complete."""
        words = max(1, self._machine.port_bytes // 4)
        pages = []
        base = 0
        for position, rows, _ in segments:
            first, last = position // PAGE_TOKENS, (position + rows - 1) // PAGE_TOKENS
            token = position % PAGE_TOKENS
            left = rows
            for page in range(first, last + 1):
                here = min(left, PAGE_TOKENS - token)
                pages.append((page == first, here, (base + page) // words))
                left -= here
                token = 0
            base += last + 1
        at = granted + _FRAMES
        depth = _WALK_DEPTH * self._machine.page_slots
        entries: list[float] = []
        owners: list[float] = []
        filled = at
        kept = -1
        for i, (fresh, rows, owner_line) in enumerate(pages):
            at += 4 if fresh else 2
            if i >= depth:
                at = max(at, entries[i - depth])
            if fresh or i == 0:
                entry = self._line.request(at + _PAGE_TO_ENTRY, 1) + BUS_TO_CLIENT
                at = max(at, self._line.accepted - _PAGE_TO_ENTRY)
                self.walk_beats += 1
            else:
                entry = entries[-1] + 3
            entries.append(entry)
            ask = entry + _ENTRY_TO_OWNER
            if owner_line != kept:
                owner = self._line.request(ask, 1) + BUS_TO_CLIENT
                self.walk_beats += 1
                kept = owner_line
            else:
                owner = max(ask, owners[-1] + 3)
            owners.append(owner)
            filled = max(filled, owner + _OWNER_TO_FRAME + page_bits) + 1 + rows
        self.prepared = filled + 5
        self.idle = self.prepared + 1
        self.began = granted - _BEGIN
        self.starved += self.prepared - granted
        return self.prepared

    def append(self, offered: float, blocks: int, pace: float, rows: int) -> tuple[float, float]:
        """A head's blocks of all rows, the first offered at ``offered``, one each ``pace``.

        Returns when there is a place in the FIFO for the last block, and when it is taken.
        """
        whole = blocks - rows  # blocks before the last ones of each head-row, which bring a scale
        beats = self._writes.element_beats
        start = max(offered, self.prepared) + _APPEND_STEPS
        run = self._writes.run(start, blocks + rows, beats, waiting=False)

        def written(block: int) -> float:
            return run.at(block + max(0, block - whole))

        last_offer = offered + (blocks - 1) * pace
        late = last_offer + _APPEND_STEPS + 2 * self._writes.pace(beats, waiting=False)
        done = max(run.answered, late + run.answered - run.last)
        self.starved += done - max(offered, self.appended)
        self.appended = done
        claim = written(blocks - 1 - APPEND_PLACES - _TAKEN_AHEAD)
        return claim, max(last_offer, written(blocks - 1 - _TAKEN_AHEAD))

    def begin(self, taken: float, batches: list[Batch], page_bits: int, offset: int) -> None:
        """ATTEND is taken: walk, wait for the layer's appends, ask for as many pages as go in.

        ``offset``: of the layer in a page, bytes.
        """
        self._tails = self._last_bursts(offset)
        self.asked = 0
        self.attending = taken
        self.begun = True
        walk = taken + _BEGIN + _NEST + batches[0].rows
        entry = self._line.request(walk + _PAGE_TO_ENTRY, 1) + BUS_TO_CLIENT
        owner = self._line.request(entry + _ENTRY_TO_OWNER, 1) + BUS_TO_CLIENT
        frame = owner + _OWNER_TO_FRAME + page_bits
        self.open = max(self.appended + 2, taken + _BEGIN)
        self.fetch = max(frame, self.open + 1)
        slots = self._machine.page_slots
        self.releases = deque([0.0] * slots)
        visits = sum(b.visits for b in batches[:slots])
        self._first = min(slots, visits)
        self._line.later(self.fetch + _TAKE_TO_ASK, self._prefetch)

    def _prefetch(self) -> None:
        self.coming = deque(self._ask() for _ in range(self._first))

    def page(self) -> float:
        """When the next visit is passed on."""
        return self.coming.popleft() if self.coming else self._ask()

    def _ask(self) -> float:
        take = max(self.fetch, self.releases.popleft() + 1)
        ask = take + _TAKE_TO_ASK
        tail = float(self._tails[self.asked % len(self._tails)])
        self.asked += 1
        last = self._line.request(ask, self.page_beats, tail=tail)
        first = last - (self.page_beats - 1) * self._line.beat
        self.starved += max(0.0, first - max(take, self.page_end))
        self.starved += self.page_beats * (self._line.beat - 1)
        self.page_end = last
        self.fetch = self._line.accepted + 2
        return last + BUS_TO_CLIENT + _PAGE_TO_VISIT
