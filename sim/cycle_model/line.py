"""The memory's read channel: the tape as a continuous flow, everybody else's requests in it.

Beats come in the order in which they were asked for. The tape reader asks whenever its FIFO has
room, last in priority, and is as far ahead as the channel takes bursts; so the tape's arrival is a
line of one beat every ``beat_cycles``, broken where the FIFO was full and where others' beats lie.
"""

from bisect import insort
from collections.abc import Callable

from sim.cycle_model.machine import Machine
from sim.cycle_model.startup import BUS_TO_CLIENT, REQUEST_TO_BUS, ROOM_TO_REQUEST, SPLITTER_CYCLES

__all__ = ["ReadLine"]

_LOOK_BACK = 24
"""Requests that may still be on their way: units are worked out one after the other."""


class ReadLine:
    """Arrival times on the read channel, in cycles on the bus.

    Beat n of the tape (1, 2, ...) is on the bus at ``z + n * beat_cycles``, ``z`` of the last mark
    before it.
    """

    def __init__(self, machine: Machine, tape_beats: float):
        self.beat = machine.beat_cycles
        self.lag = REQUEST_TO_BUS + machine.latency
        self.period = machine.period
        self.window = machine.window_tiles * machine.period
        self.ahead = min(
            machine.read_window - 1, (machine.outstanding_reads - 1) * machine.burst_beats
        )
        self.burst = machine.burst_beats
        # From a burst asked for to its last beat, and what part of a tile's beats it is
        self.burst_cycles = self.lag + BUS_TO_CLIENT + self.burst * self.beat
        self.total = tape_beats
        self.limit = min(self.window, tape_beats)  # beats that may be asked for
        self.marks: list[list[float]] = []
        self.started = float("inf")
        self._forgotten = float("-inf")  # what was before is not known any more
        self._present = False  # the array has come as far as the requests that are made
        self._eaten = (-self.period, 0.0)  # the last tile told of
        self._idle: list[tuple[float, float, float]] = []  # made while the tape's FIFO was full
        self.accepted = 0.0  # when the port took the last request
        # All but the tape: asked at, last beat, first beat of its last burst, tape beats before it,
        # first beat of its last burst if 4 KiB boundaries cut it
        self._others: list[tuple[float, float, float, float, float]] = []
        self.blocked = 0.0  # cycles in which the tape reader may not ask
        self.later_at = float("inf")  # somebody asks then; the array has not come so far
        self._later: Callable[[], None] | None = None

    def start(self, t: float) -> None:
        """The tape reader asks for its first burst."""
        self.started = t
        first = t + self.lag
        for other in self._others:
            if other[0] <= t:
                first = max(first, other[1] + self.beat)
        self.marks = [[0.0, first - self.beat]]
        self._idle = [entry for entry in self._idle if entry[0] > t]

    def go_on(self, n: float, t: float) -> None:
        """The tape reader asks for what is behind beat n from t on: another instruction."""
        self._mark(n, t + self.lag - (n + 1) * self.beat)

    def due(self, n: float) -> float:
        """When beat n of the tape is on the bus."""
        for start, z in reversed(self.marks):
            if start < n:
                return z + n * self.beat
        return float("-inf")

    def request(self, t: float, beats: float, *, tail: float = 0) -> float:
        """Somebody asks at t; when the last beat is on the bus.

        ``tail``: beats of its last burst, where 4 KiB boundaries cut it otherwise than from its
        start on. The next request must be there when that burst goes out, or the tape gets one in.

        Bursts go to memory no more than the read window ahead of the bus, and one waits behind
        them: the request stands behind those.
        """
        first = t + self.lag
        issued = t + self.ahead * self.beat  # on the bus by then: gone to memory by now
        before = None
        for other in self._others[:-_LOOK_BACK:-1]:
            if other[0] <= t:
                if before is None or other[1] > before[1]:
                    before = other
                if other[1] < t:
                    break
        if before:
            first = max(first, before[1] + self.beat)
        self.accepted = t
        asked = 0.0
        known = t > self._forgotten
        if t > self.started and known:
            asked = self._asked(t)
            ahead = self.ahead * self.beat
            if before and issued < before[4]:
                asked = min(asked, before[3])  # the one before is still being cut into bursts
                first = max(first, self.due(asked) + self.beat)
                self.accepted = max(t, before[2] - ahead)
            else:
                first = max(first, self.due(asked) + self.beat)
                self.accepted = max(t, min(first - self.burst * self.beat, self.due(asked)) - ahead)
        last = first + (beats - 1) * self.beat
        whole = last - ((beats - 1) % self.burst) * self.beat
        entry = (t, last, whole, asked, last - (tail - 1) * self.beat if tail else whole)
        if not self._others or self._others[-1][0] <= t:
            self._others.append(entry)
        else:
            insort(self._others, entry)
        if len(self._others) > 64:
            del self._others[:32]
        if not self.marks:
            insort(self._idle, (t, beats, last))
        elif known:
            if t > self.started and asked >= self.limit < self.total and not self._present:
                insort(self._idle, (t, beats, last))  # what the tape asks for then is not known yet
            else:
                self._mark(asked, last - asked * self.beat)
        return last

    def reserve(self, until: float) -> None:
        """The bus is taken until then by what was asked for before the step."""
        if until > 0:
            self._others.append((0.0, until, until, 0.0, until))

    def later(self, t: float, ask: Callable[[], None]) -> None:
        """``ask`` makes requests at t; called when the array has come so far."""
        self.flush()
        self.later_at, self._later = t, ask

    def flush(self) -> None:
        """Make the requests that wait."""
        ask, self._later, self.later_at = self._later, None, float("inf")
        if ask:
            self._present = True
            ask()
            self._present = False

    def consumed(self, n: float, t: float, *, paused: bool = False) -> None:
        """A block tile, the one after beat n, has left the FIFO at t; ``paused``: for the first
        time after a while.
        """
        at = self.window + n
        if at < self.total:
            resume = t + ROOM_TO_REQUEST + self.lag
            if paused:
                self.blocked += max(0.0, t - BUS_TO_CLIENT - self.due(at))
            self._mark(at, resume - (at + 1) * self.beat)
        self.limit = min(self.total, at + self.period)
        if self._idle:
            self._replay(n, t)
        self._present = False  # the array has come as far as the requests that are made
        self._eaten = (n, t)

    def _replay(self, n: float, t: float) -> None:
        """Requests made while the tape's FIFO was full, and before this tile was taken."""
        while self._idle and self._idle[0][0] <= t:
            asked_at, beats, last = self._idle.pop(0)
            if asked_at <= self._forgotten:
                continue
            # The FIFO's room then lies between that of the last two tiles told of
            eaten, before = self._eaten
            share = max(0.0, asked_at - before) / max(1.0, t - before)
            room = self.window + eaten + self.period + share * (n - eaten - self.period)
            asked = min(self._asked(asked_at), max(room, self.window + eaten))
            last = max(last, self.due(asked) + beats * self.beat)
            self._mark(asked, last - asked * self.beat)

    @property
    def waits(self) -> bool:
        """Requests of :meth:`later` are to be made."""
        return self._later is not None or bool(self._idle)

    def ahead_of(self, eaten: float, base: float) -> tuple[float, ...]:
        """How the tape stands, relative to a time, behind what the array has eaten."""
        if self.limit >= self.total:
            return (-1.0,)
        steps = [eaten + i * self.window / 8 for i in range(1, 9)]
        return tuple(round(self.due(n) - base, 3) for n in steps)

    def others_of(self, base: float) -> tuple[float, ...]:
        """How requests stand, relative to a time, while the array eats no tape."""
        past = -2 * (self.lag + (self.ahead + 2 * self.burst) * self.beat)
        return (
            max(past, round(self.due(self.limit) - base, 3)),
            max(past, round(self._others[-1][1] - base, 3)),
        )

    def move_others(self, cycles: float) -> None:
        """Requests so much later, and the tape behind them."""
        last = self._others[-1][1]
        for mark in self.marks:
            if mark[1] + (mark[0] + 1) * self.beat > last:
                mark[1] += cycles
        self._others = [
            (a + cycles, b + cycles, c + cycles, d, e + cycles) for a, b, c, d, e in self._others
        ]

    def move(self, cycles: float, beats: float) -> None:
        """So much later, and so much further on the tape."""
        for mark in self.marks:
            mark[0] += beats
            mark[1] += cycles - beats * self.beat
        self.limit = min(self.total, self.limit + beats)
        self._others = [
            (a + cycles, b + cycles, c + cycles, d + beats, e + cycles)
            for a, b, c, d, e in self._others
        ]
        self._forgotten = self.marks[0][1] + self.marks[0][0] * self.beat

    def _asked(self, t: float) -> float:
        """Tape beats that stand before a request made at t."""
        asked = min(
            self.limit,
            self.burst * (self._delivered(t + self.ahead * self.beat) // self.burst + 2),
            -self.burst * ((self.started - t) // SPLITTER_CYCLES),
        )
        late = t + self.lag + 3 * self.burst * self.beat
        for start, z in reversed(self.marks):
            if z + (start + 1) * self.beat <= late:
                break
            asked = min(asked, start)  # from here on the tape is asked for after t
        return asked

    def _delivered(self, t: float) -> float:
        """Tape beats on the bus before t."""
        most = self.limit
        for start, z in reversed(self.marks):
            n = (t - z) / self.beat
            if n > start:
                return min(n, most)
            most = min(most, start)
        return 0.0

    def _mark(self, at: float, z: float) -> None:
        """Beats behind ``at`` come no earlier than ``z`` says."""
        marks = self.marks
        if at < marks[0][0]:  # long eaten
            return
        i = len(marks)
        while i and marks[i - 1][0] > at:
            i -= 1
            if marks[i][1] < z:
                marks[i][1] = z
        if i and marks[i - 1][1] >= z:
            return
        if i and marks[i - 1][0] == at:
            marks[i - 1][1] = z
        else:
            marks.insert(i, [at, z])
        # Equal neighbours say nothing; and what the array has eaten is past.
        if len(marks) > 64:
            floor = self.limit - self.window - 4 * self.period
            while len(marks) > 2 and marks[1][0] < floor:
                del marks[0]
                self._forgotten = marks[0][1] + marks[0][0] * self.beat
