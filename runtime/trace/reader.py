"""Reads a trace file back, for pictures and tables."""

import gzip
import json
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors import UserError
from hdl.isa import Unit
from hdl.trace import BEATS
from runtime.trace.chrome import COUNTERS, FORMAT
from runtime.trace.names import parse_state

__all__ = ["STATE", "Timeline", "read_trace"]

STATE = np.dtype([(n, "<i8") for n in ("unit", "start", "length", "state", "cause", "count")])
"""``count`` cycles of a state and cause in a segment of a unit; a segment may have several."""


@dataclass(frozen=True)
class Timeline:
    """A trace in arrays; cycles from the file's first.

    Attributes
    ----------
    about : the file's ``otherData``: chip, resolution, steps with name, start, cycles, counters
    instructions : of each unit, (start, length, name, args) in order
    states : ``STATE``, by unit and start
    beats : int64 (bins, 2 + len(BEATS)): first cycle, cycles, counts as ``hdl.trace.BEATS``
    """

    about: dict[str, Any]
    instructions: dict[Unit, list[tuple[int, int, str, dict[str, Any]]]]
    states: np.ndarray
    beats: np.ndarray

    @property
    def cycles(self) -> int:
        return sum(step["cycles"] for step in self.about["steps"])

    def clip(self, first: int, last: int) -> "Timeline":
        """What lies in first <= cycle < last; of what crosses the edge the part inside (counts of
        states and beats in proportion, rounded).
        """
        instructions = {
            unit: [i for i in some if i[0] < last and i[0] + i[1] > first]
            for unit, some in self.instructions.items()
        }
        states, inside = _cut(self.states["start"], self.states["length"], first, last)
        kept = self.states[states].copy()
        start, length, share = inside
        kept["start"], kept["length"] = start, length
        kept["count"] = np.rint(kept["count"] * share)
        bins, inside = _cut(self.beats[:, 0], self.beats[:, 1], first, last)
        beats = self.beats[bins].copy()
        beats[:, 2:] = np.rint(beats[:, 2:] * inside[2][:, None])
        beats[:, 0], beats[:, 1] = inside[0], inside[1]
        return Timeline(self.about, instructions, kept, beats)


def _cut(start: np.ndarray, length: np.ndarray, first: int, last: int):
    """Which intervals meet [first, last), and of those: start, length and share inside."""
    chosen = (start < last) & (start + length > first)
    start, length = start[chosen], length[chosen]
    low = np.maximum(start, first)
    high = np.minimum(start + length, last)
    return chosen, (low, high - low, (high - low) / length)


def read_trace(path: Path) -> Timeline:
    """A file of ``TraceWriter``. Raises ``UserError`` for a file that is none."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        content = json.loads(data)
    except OSError as error:
        raise UserError(f"{path}: can't read it ({error.strerror or error})") from None
    except (EOFError, zlib.error):
        raise UserError(f"{path}: the compressed file is cut short or damaged") from None
    except ValueError:
        raise UserError(
            f"{path}: not a complete JSON file: give a trace written with --trace"
        ) from None
    try:
        about = content["otherData"]
        if about["format"] != FORMAT:
            raise KeyError
        return _timeline(content["traceEvents"], about)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise UserError(
            f"{path}: not a trace of this program ({FORMAT}): write one with --trace"
        ) from None


def _timeline(events: list[dict[str, Any]], about: dict[str, Any]) -> Timeline:
    instructions: dict[Unit, list] = {unit: [] for unit in Unit}
    states: list[tuple[int, ...]] = []
    counters: dict[str, list[tuple[int, dict[str, int]]]] = {name: [] for name in COUNTERS}
    keys: dict[str, tuple[int, int]] = {}
    for e in events:
        if e["ph"] == "X" and e["cat"] == "instruction":
            unit = Unit((e["tid"] - 10) // 2)
            instructions[unit].append((e["ts"], e["dur"], e["name"], e["args"]))
        elif e["ph"] == "X" and e["cat"] == "state":
            for key, count in e["args"].items():
                if key not in keys:
                    state, cause = parse_state(key)
                    keys[key] = state.value, cause.value
                states.append(((e["tid"] - 11) // 2, e["ts"], e["dur"], *keys[key], count))
        elif e["ph"] == "C":
            counters[e["name"].split(" in ")[0]].append((e["ts"], e["args"]))
    for step in about["steps"]:
        step["start"] + step["cycles"]  # they are there, and numbers
    table = np.array(states, STATE)
    table.sort(order=("unit", "start"), kind="stable")
    return Timeline(about, instructions, table, _bins(counters, about["bin_cycles"]))


def _bins(counters: dict[str, list[tuple[int, dict[str, int]]]], size: int) -> np.ndarray:
    """Counter events, each of which holds until the next, as bins."""
    names = list(BEATS)
    found: dict[int, list[int]] = {}
    for events in counters.values():
        for (at, values), (until, _) in pairwise(events):
            if not any(values.values()):
                continue
            for start in range(at, until, size):
                row = found.setdefault(start, [start, min(size, until - start), *[0] * len(BEATS)])
                for name, count in values.items():
                    row[2 + names.index(name)] = count
    rows = [found[start] for start in sorted(found)]
    return np.array(rows, np.int64).reshape(-1, 2 + len(BEATS))
