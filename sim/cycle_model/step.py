"""One step of a program: the controller, and what was counted at the end."""

from collections import deque
from collections.abc import MutableSequence, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from hdl.config import BLOCK
from hdl.isa import DESCRIPTOR_READ_BEATS, TABLE, LoadSource, Opcode, RowSelect, Unit, decode
from sim.cycle_model import startup
from sim.cycle_model.chip import Chip
from sim.cycle_model.instructions import HANDLERS
from sim.cycle_model.kv import Segment
from sim.cycle_model.machine import Machine
from sim.cycle_model.startup import BUS_TO_CLIENT, DISPATCH_TO_UNIT, WORD_FIFO
from sim.cycle_model.steady import Steady

__all__ = ["StepModel"]

_CONSTANT = LoadSource.CONSTANT.value

_ALL = RowSelect.ALL.value

_AT_ONCE = (Opcode.SET, Opcode.TAPE)
"""hdl/control/dispatch.py: need nothing of the descriptor; nor does a LOAD of constants."""

_COUNTED = (Opcode.ADD, Opcode.MATMUL, Opcode.NORM, Opcode.QUANTISE)
"""hdl/control/dispatch.py: need the number of rows, where they work on all."""

_WORD_BYTES = 16
"""Of an instruction."""

_SPLITTER_CYCLES = 3
"""hdl/memory/splitter.py: a request of one burst."""

_WORK = ("blocks", "panels", "pairs", "rows", "value", "source", "target", "wait", "signal")
"""Operands that say how much an instruction does; the others say where."""

_cached_decode = lru_cache(maxsize=65536)(decode)


class StepModel:
    """Predicts one step.

    Parameters
    ----------
    machine
    words
        The program's instruction words, END last.
    segments
        (first position, rows, outputs) of each sequence of the step.
    store_logits
        The descriptor asks for logits.
    first
        The first step of a program: its head is still being read.

    Raises
    ------
    ValueError
        For an instruction that is not the table's.
    """

    def __init__(
        self,
        machine: Machine,
        words: Sequence[int],
        segments: Sequence[Segment],
        *,
        store_logits: bool = True,
        first: bool = False,
    ):
        self._first = first
        self.machine = machine
        self.code = [_cached_decode(w) for w in words]
        self.chip = Chip(machine, self.code, list(segments), store_logits)
        self._shape = (self.chip.rows, self.chip.outputs, len(segments))
        self._chunks: list[float] = []  # when the first word of each is there
        self._fetch = 0.0
        self._at = 0.0  # the last dispatch
        self._next = 0  # instruction to dispatch
        self._dispatched: deque[float] = deque()  # and not executed
        # Words between the reader and the one that is dispatched, and one that is put together
        self._early = 4 + (machine.port_bytes < _WORD_BYTES)

    # The controller -----------------------------------------------------------------------------
    def run(self) -> float:
        """Doorbell to done, in cycles."""
        port, latency = self.machine.port_bytes, self.machine.latency
        counted = startup.descriptor_counted(latency)
        good = startup.descriptor_good(port, latency, *self._shape)
        self._read_head()
        start = startup.START + startup.READER_START_TO_REQUEST
        self.chip.line.request(start, DESCRIPTOR_READ_BEATS)
        more = startup.descriptor_beats(port, *self._shape) - DESCRIPTOR_READ_BEATS
        if more:
            last = self.chip.line.request(counted + startup.READER_START_TO_REQUEST - 1, more)
            good = max(good, last + BUS_TO_CLIENT + WORD_FIFO + startup.LAST_WORD_TO_GOOD)
        self._at = float(startup.START)
        layers = self._layers()
        i = 0
        while i < len(self.code):
            self._dispatch(counted, good)
            op, v = self.code[i]
            HANDLERS[op](self.chip, v, self._dispatched.popleft() + DISPATCH_TO_UNIT)
            if op is Opcode.ATTEND:
                i += self._skip_layers(i, layers)
            i += 1
        return self._end(self._at)

    def _dispatch(self, counted: float, good: float) -> None:
        """Send instructions to the queues, as far ahead as these have room."""
        chunk = startup.PROGRAM_CHUNK_WORDS
        word_cycles = max(1.0, _WORD_BYTES / self.machine.port_bytes)
        for i in range(self._next, len(self.code)):
            op, v = self.code[i]
            rooms = [self.chip.taken[u] for u in TABLE[op].units if u is not Unit.CONTROL]
            if not all(rooms):
                return
            at = max(self._at + 1, self._chunks[i // chunk] + (i % chunk) * word_cycles)
            if op in _COUNTED and v.get("rows", _ALL) == _ALL:
                at = max(at, counted)
            elif op not in _AT_ONCE and not (op is Opcode.LOAD and v["source"] == _CONSTANT):
                at = max(at, good)
            for room in rooms:
                at = max(at, room.popleft() + 1)
            self._at = at
            self._dispatched.append(at)
            self._next = i + 1
            if (i + self._early) % chunk == chunk - 1:
                self._ask_program(at + 2)

    def _read_head(self) -> None:
        """The first two chunks of the program: read before the step, or on their way."""
        line, latency = self.chip.line, self.machine.latency
        self._chunks = [startup.START + 1.0] * 2
        self._head_beats = 0.0
        if not self._first:
            return
        beats = startup.PROGRAM_CHUNK_WORDS * _WORD_BYTES / self.machine.port_bytes
        come = -startup.HEAD_POLL_CYCLES  # its first beat
        come = max(come, latency - startup.HEAD_POLLED_CYCLES)
        self._head_beats = max(0.0, min(2 * beats, 2 * beats + come / line.beat))
        line.reserve(come + 2 * beats * line.beat)
        for i in range(2):
            self._chunks[i] = max(self._chunks[i], come + i * beats * line.beat + WORD_FIFO)

    def _layers(self) -> dict[int, int]:
        """For each ATTEND: how many of the next ones stand behind the same instructions as it."""
        attends = [i for i, (op, _) in enumerate(self.code) if op is Opcode.ATTEND]

        def alike(first: int, last: int) -> tuple:
            return tuple((op, *(v.get(name) for name in _WORK)) for op, v in self.code[first:last])

        bodies = [alike(a, b) for a, b in pairwise(attends)]
        left: dict[int, int] = {}
        for k in range(len(bodies) - 1, -1, -1):
            same = k + 1 < len(bodies) and bodies[k] == bodies[k + 1]
            left[attends[k + 1]] = 1 + left[attends[k + 2]] if same else 0
        self._layer_state = self._steady_layers()
        self._layers_done = 0
        return left

    def _steady_layers(self) -> Steady:
        matrix, vector, kv, line = self.chip.matrix, self.chip.vector, self.chip.kv, self.chip.line

        def key(base: float) -> tuple[float, ...]:
            # A layer may end anywhere in a burst: that comes round again after a few layers.
            tape = (*line.ahead_of(matrix.beats, base), *line.others_of(base))
            return tuple(t // (2 * line.burst) for t in tape)

        def move(cycles: float, _: int) -> None:
            beats = matrix.beats - self._eaten
            matrix.skip(cycles, beats)
            line.move(cycles, beats)
            kv.coming.clear()

        times: list[tuple[Any, str]] = [(matrix, a) for a in ("fed", "loader")]
        times += [(vector, a) for a in ("wait", "idle", "drain", "landed")]
        times += [(kv, a) for a in ("idle", "open", "fetch", "appended", "page_end")]
        times += [(self.chip, a) for a in ("load_idle", "load_done")]
        counts: list[tuple[Any, str]] = [(matrix, a) for a in ("starved", "blocked")]
        counts += [(vector, a) for a in ("starved", "blocked")]
        counts += [(vector, "busy"), (kv, "starved"), (kv, "walk_beats"), (line, "blocked")]
        counts += [(matrix, "feed_rows"), (matrix, "beats")]
        counted = ("load_active", "load_blocked", "row_beats", "kv_beats")
        counts += [(self.chip, a) for a in (*counted, "append_blocks", "append_heads")]
        queues: list[MutableSequence[float]] = [*self.chip.semaphores, *self.chip.taken.values()]
        queues += [self.chip.credits, self.chip.panels, self.chip.load_jobs]
        queues.append(self.chip.writes.issues)
        return Steady(
            times,
            queues,
            counts,
            key,
            move,
        )

    def _skip_layers(self, i: int, layers: dict[int, int]) -> int:
        """Instructions left out behind the ATTEND at ``i``."""
        left = layers.get(i, 0)
        self._eaten, fed = self.chip.matrix.beats, self.chip.matrix.fed
        done = self._layer_state.skip(self._layers_done, left)
        self._layers_done += 1
        if not done:
            return 0
        attends = sorted(layers)
        behind = attends[attends.index(i) + done]
        cycles = self.chip.matrix.fed - fed
        self._next = min(len(self.code), self._next + behind - i)
        self._at += cycles
        ahead = self._next - behind - 1
        self._dispatched = deque(at + cycles for at in list(self._dispatched)[:ahead])
        while len(self._chunks) < 2 + (self._next + self._early) // startup.PROGRAM_CHUNK_WORDS:
            self._chunks.append(self._at)
        return behind - i

    def _ask_program(self, at: float) -> None:
        """Fetch the next instructions, two chunks ahead of the one that is dispatched."""
        beats = startup.PROGRAM_CHUNK_WORDS * _WORD_BYTES / self.machine.port_bytes
        self._fetch = max(self._fetch + 1, at)
        last = self.chip.line.request(self._fetch, beats) + BUS_TO_CLIENT + WORD_FIFO
        word = max(1.0, _WORD_BYTES / self.machine.port_bytes)
        self._chunks.append(last - (beats - word) * self.chip.line.beat + (word > 1))

    def _end(self, at: float) -> float:
        while self.chip.jobs:  # panels that nobody reads
            self.chip.make()
        end = max(
            at + DISPATCH_TO_UNIT,
            self.chip.vector.idle,
            self.chip.vector.landed,
            self.chip.load_done,
            self.chip.written + 1,
            self.chip.kv.appended,
            self.chip.kv.idle,
            self.chip.matrix.idle + 2 + self.machine.accumulate_latency,
        )
        return end + startup.QUIET_TO_DONE

    # What happened ------------------------------------------------------------------------------
    def beats(self) -> dict[str, float]:
        """Beats by cause."""
        port = self.machine.port_bytes
        descriptor = startup.descriptor_beats(port, *self._shape)
        program = (len(self._chunks) - 2) * startup.PROGRAM_CHUNK_WORDS * _WORD_BYTES / port
        blocks, scales = self.chip.append_blocks, self.chip.append_heads
        written: float = blocks * self.chip.writes.element_beats + scales
        if port > BLOCK:  # beats that are only partly used
            written = (BLOCK * blocks + scales) / port
        tokens = self.chip.written_tokens
        return {
            "tape": self.chip.line.total,
            "kv": self.chip.kv_beats,
            "program": descriptor + program + self._head_beats,
            "rows": self.chip.row_beats,
            "walk": self.chip.kv.walk_beats,
            "kv_write": written,
            "rows_write": self.chip.written_blocks * self.chip.writes.block_beats + tokens,
        }

    def activity(self) -> dict[str, tuple[float, float, float]]:
        """Cycles busy, starved and blocked of each unit."""
        line, matrix, vector = self.chip.line, self.chip.matrix, self.chip.vector
        tape = max(0.0, line.due(line.total) - line.started) if line.marks else 0.0
        tape_blocked = min(line.blocked, max(0.0, tape - line.total))
        ends = matrix.idle + 2 + self.machine.accumulate_latency
        active = ends - (matrix.began if matrix.began is not None else ends)
        return {
            "tape": (line.total, tape - line.total - tape_blocked, tape_blocked),
            "load": (
                self.chip.row_beats,
                max(0.0, self.chip.load_active - self.chip.row_beats - self.chip.load_blocked),
                self.chip.load_blocked,
            ),
            "matrix": (
                active - matrix.starved - matrix.blocked,
                matrix.starved,
                matrix.blocked,
            ),
            "vector": (vector.busy, vector.starved, vector.blocked),
            "kv": self._kv_activity(),
        }

    def _kv_activity(self) -> tuple[float, float, float]:
        """From PREPARE to the last visit; what is neither beats nor waiting for them is blocked."""
        kv = self.chip.kv
        active = max(0.0, kv.idle - kv.began) if kv.prepared < float("inf") else 0.0
        busy = min(active, self.chip.kv_beats + kv.walk_beats)
        starved = min(active - busy, kv.starved)
        return busy, starved, active - busy - starved
