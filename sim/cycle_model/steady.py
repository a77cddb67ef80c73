"""Skips what repeats: once all times stand to each other as an item before, the rest is arithmetic.

The model is made of maxima and sums of times, so equal relative times and equal work give equal
steps for ever; nothing is approximated but what is older than :data:`_HORIZON` cycles.
"""

from collections.abc import Callable, MutableSequence
from typing import Any

__all__ = ["Steady"]

_HORIZON = 1e4
"""Cycles after which an event has no say in what comes."""

_FIRST = 24
_EVERY = 16
"""Items looked at: the first ones, then two of so many."""


class Steady:
    """Looks for a steady state in a loop of equal items.

    Parameters
    ----------
    times
        (object, attribute) pairs that are times.
    queues
        Sequences of times.
    counts
        (object, attribute) pairs that grow by the same amount an item.
    key
        More that must be equal, relative to a time: the tape's state.
    move
        Called with cycles skipped and items skipped, for what is not a plain time.
    """

    def __init__(
        self,
        times: list[tuple[Any, str]],
        queues: list[MutableSequence[float]],
        counts: list[tuple[Any, str]],
        key: Callable[[float], tuple[float, ...]],
        move: Callable[[float, int], None],
    ):
        self._times, self._queues, self._counts = times, queues, counts
        self._key, self._move = key, move
        self._last: tuple[float, ...] | None = None
        self._base = 0.0
        self._before: list[float] = []

    def skip(self, number: int, left: int) -> int:
        """After item ``number`` (0, 1, ...), ``left`` to come: how many are done by arithmetic."""
        if left < 2 or (number >= _FIRST and number % _EVERY > 1):
            return 0
        base = getattr(*self._times[0])
        floor = -_HORIZON
        now = [getattr(o, a) - base for o, a in self._times]
        for queue in self._queues:
            now += [t - base for t in queue]
            now.append(len(queue))
        key = (*[round(max(t, floor), 3) for t in now], *self._key(base))
        counts = [getattr(o, a) for o, a in self._counts]
        found = key == self._last and (number < _FIRST or number % _EVERY == 1)
        delta, before = base - self._base, self._before
        self._last, self._base, self._before = key, base, counts
        if not found:
            return 0
        cycles = delta * left
        for o, a in self._times:
            setattr(o, a, getattr(o, a) + cycles)
        for queue in self._queues:
            for i, t in enumerate(queue):
                queue[i] = t + cycles
        for (o, a), count, was in zip(self._counts, counts, before, strict=True):
            setattr(o, a, count + (count - was) * left)
        self._move(cycles, left)
        return left
