"""The write channel: what an append and a written block cost."""

from collections import deque

from hdl.config import BLOCK
from sim.cycle_model.machine import Machine

__all__ = ["APPEND_PLACES", "MEMORY_PLACES", "WriteCosts", "WriteRun"]

APPEND_PLACES = 16
"""hdl/vector/unit.py: blocks between vector and KV unit."""

MEMORY_PLACES = 4
"""hdl/vector/writer.py: blocks (or tokens) queued."""

_SPLITTER_CYCLES = 4
"""hdl/memory/splitter.py: a request of one burst."""

_REPLIES = 8
"""hdl/memory/write_channel.py: bursts without a response."""

_REPLY_CYCLES = 4
"""hdl/memory/write_channel.py: a burst's place in ``replies`` besides its beats and latency."""

_REQUEST_TO_BEAT = 6
"""hdl/vector/writer.py, hdl/memory/write_channel.py: from a request to its first beat, for one who
waits for it: two beats wait in the channel already."""

_LAST_REPLY = 6
"""From the place given back until the last response has been counted."""


class WriteRun:
    """Requests one after the other: ``at(i)`` is when request i is taken.

    Eight may be without a response, so the first eight go as fast as they come, and each further
    one when the eighth before it is answered.
    """

    def __init__(self, first: list[float], step: float, count: int, answer: float):
        self._first, self._step = first, step
        self.last = self.at(count - 1)
        self.answered = self.last + answer

    def at(self, i: int) -> float:
        group, place = divmod(max(i, 0), _REPLIES)
        return self._first[place] + group * self._step


class WriteCosts:
    """The write channel.

    Attributes
    ----------
    element_beats, block_beats
        Beats of a quantised block, of a block of 32 FP32.
    issues
        When the last eight requests were taken.
    """

    def __init__(self, machine: Machine):
        self._latency = machine.latency
        self._beat = float(1 / machine.bandwidth)
        self.element_beats = max(1, BLOCK // machine.port_bytes)
        self.block_beats = max(1, 4 * BLOCK // machine.port_bytes)
        self.issues: deque[float] = deque([-1e9] * _REPLIES, maxlen=_REPLIES)

    def pace(self, beats: int, *, waiting: bool) -> float:
        """Cycles between requests that nothing holds up; ``waiting``: for their own data."""
        if waiting:
            return _REQUEST_TO_BEAT + beats * self._beat
        return max(_SPLITTER_CYCLES, beats * self._beat)

    def run(self, start: float, count: int, beats: int, *, waiting: bool) -> WriteRun:
        """So many requests from ``start`` on."""
        pace = self.pace(beats, waiting=waiting)
        turn = self._latency + beats * self._beat + _REPLY_CYCLES
        first: list[float] = []
        at = start - pace
        for i in range(min(count, _REPLIES)):
            at = max(at + pace, self.issues[i] + turn)
            first.append(at)
        run = WriteRun(first, max(turn, _REPLIES * pace), count, turn + _LAST_REPLY)
        self.issues.extend(run.at(i) for i in range(max(0, count - _REPLIES), count))
        return run
