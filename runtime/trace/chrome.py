"""Writes recorded steps as a Chrome trace, for Perfetto, chrome://tracing and `timeline`.

One cycle is shown as one microsecond, the unit of the format. Steps follow each other without a
gap: what the host does between them is not time of the chip. Tracks (``tid``): 0 steps; 10 + 2 *
unit its instructions, one more its states; counters: beats in each bin of ``bin_cycles``.
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (Trace Event Format)
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from compiler.errors import UserError
from hdl.config import Config
from hdl.isa import Cause, Counter, Unit
from hdl.trace import BEATS, State
from runtime.trace.names import state_key, state_name
from runtime.trace.step import TracedStep, describe, read_program, traced_step

__all__ = ["COUNTERS", "FORMAT", "TraceWriter"]

FORMAT = "serrano-trace-1"

COUNTERS = {
    "read beats": ("tape", "kv", "program", "rows", "walk"),
    "write beats": ("kv_write", "rows_write"),
    "rows fed to the array": ("fed",),
}
"""Counter tracks, and the events of ``hdl.trace.BEATS`` in each."""

_BIN_RUNS = 16  # recorder.h: a bin is so many times the resolution


class TraceWriter:
    """A trace file, written step by step; complete once it is closed.

    Parameters
    ----------
    path : ``.json``, or ``.json.gz`` (compressed)
    resolution
        Shortest run of a state that is kept whole, in cycles; shorter ones are gathered into
        segments that say how many cycles each state had. Beats are counted in bins of 16 times
        as many cycles.
    window
        (from, to) cycles of the whole file, states and beats outside of which are left out.
        Instructions are always there.

    Raises ``UserError`` if the file can't be written.
    """

    def __init__(self, path: Path, *, resolution: int = 16, window: tuple[int, int] | None = None):
        self.path = path
        self.resolution = resolution
        self.bin_cycles = _BIN_RUNS * resolution
        self._window = window or (0, 1 << 62)
        self._config: Config | None = None
        self._start = 0  # of the next step
        self._steps: list[dict[str, Any]] = []
        self._first = True
        try:
            # Closed by ``close``.
            self._file: TextIO | None = (
                gzip.open(path, "wt", compresslevel=6)  # noqa: SIM115
                if path.suffix == ".gz"
                else path.open("w")
            )
        except OSError as error:
            raise UserError(f"--trace {path}: can't write it ({error.strerror})") from None
        self._file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
        self._name(0, "steps")
        for unit in Unit:
            self._name(10 + 2 * unit.value, unit.name.lower())
            self._name(11 + 2 * unit.value, f"{unit.name.lower()}: states")

    @property
    def step_window(self) -> tuple[int, int]:
        """The window in cycles of the next step."""
        first, last = (max(0, cycle - self._start) for cycle in self._window)
        return first, last

    def add(
        self,
        config: Config,
        log: np.ndarray,
        memory: np.ndarray,
        program: int,
        descriptor: int,
        counters: dict[Counter, int],
    ) -> TracedStep:
        """Writes a step that has just run: its log, and the addresses of what it ran."""
        self._config = config
        words = read_program(memory, program)
        step = traced_step(log, words, describe(memory, descriptor, words))
        name = f"{len(self._steps)}: {step.name}"
        self._steps.append(
            {
                "name": name,
                "start": self._start,
                "cycles": step.cycles,
                "counters": {c.name: v for c, v in counters.items()},
            }
        )
        self._slice(0, name, "step", self._start, step.cycles, self._steps[-1]["counters"])
        self._instructions(step)
        self._states(step)
        self._beats(step)
        self._start += step.cycles
        return step

    def close(self) -> None:
        """Completes the file; once is enough."""
        if self._file is None:
            return
        about = {
            "format": FORMAT,
            "unit": "1 us is one cycle",
            "chip": asdict(self._config) if self._config else None,
            "resolution": self.resolution,
            "bin_cycles": self.bin_cycles,
            "window": None if self._window == (0, 1 << 62) else self._window,
            "steps": self._steps,
        }
        self._file.write(f'\n], "otherData": {json.dumps(about)}}}\n')
        self._file.close()
        self._file = None

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # Events -----------------------------------------------------------------------------------

    def _emit(self, event: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(("" if self._first else ",\n") + json.dumps(event))
        self._first = False

    def _name(self, tid: int, name: str) -> None:
        track = {"ph": "M", "pid": 0, "tid": tid}
        self._emit({**track, "name": "thread_name", "args": {"name": name}})
        self._emit({**track, "name": "thread_sort_index", "args": {"sort_index": tid}})

    def _slice(self, tid: int, name: str, kind: str, start: int, length: int, args) -> None:
        event = {"ph": "X", "pid": 0, "tid": tid, "name": name, "cat": kind}
        self._emit(event | {"ts": start, "dur": length, "args": args})

    def _instructions(self, step: TracedStep) -> None:
        for i in step.instructions:
            args = {"index": i.index, "dispatched": self._start + i.dispatched}
            args |= {"taken": self._start + i.taken, **i.operands}
            if not i.complete:
                args["complete"] = False
            tid = 10 + 2 * i.unit.value
            self._slice(
                tid, i.opcode.name, "instruction", self._start + i.start, i.end - i.start, args
            )

    def _states(self, step: TracedStep) -> None:
        keys = {
            (s.value, c.value): (state_key(s, c), [state_name(u, s, c) for u in Unit])
            for s in State
            for c in Cause
        }
        # Records of a segment stand together; the unit's next one begins later.
        group: tuple[int, int] | None = None
        parts: list[tuple[int, str, str]] = []
        length = 0
        for r in [*step.states.tolist(), None]:
            here = (r[5], r[0]) if r else None
            if group is not None and here != group:
                unit, start = group
                idle = (length - sum(p[0] for p in parts), "", "idle")
                name = max([*parts, idle], key=lambda part: part[0])[2]
                counts = {key: count for count, key, _ in parts}
                at = self._start + start
                self._slice(11 + 2 * unit, name, "state", at, length, counts)
                parts = []
            if r:
                cycle, length, count, _, _, unit, state, cause = r
                key, names = keys[state, cause]
                parts.append((count, key, names[unit]))
                group = unit, cycle

    def _beats(self, step: TracedStep) -> None:
        """A counter event where a bin differs from the one before; zeros after the last."""
        names = list(BEATS)
        for track, causes in COUNTERS.items():
            columns = [2 + names.index(c) for c in causes]
            last: Sequence[int] | None = None
            follows = 0  # cycle in which the bin after the last begins
            title = f"{track} in {self.bin_cycles} cycles"

            def emit(at: int, values: Sequence[int], title=title, causes=causes) -> None:
                args = dict(zip(causes, values, strict=True))
                event = {"ph": "C", "pid": 0, "name": title, "ts": self._start + at, "args": args}
                self._emit(event)

            zeros = [0] * len(columns)
            for start, length, *values in step.beats[:, [0, 1, *columns]].tolist():
                if last is not None and start != follows and any(last):
                    emit(follows, last := zeros)
                if values != last:
                    emit(start, last := values)
                follows = start + length
            if last is not None and any(last):
                emit(follows, zeros)
