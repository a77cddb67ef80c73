"""Where the cycles of a timeline went: columns for pictures, and the table."""

from dataclasses import dataclass

import numpy as np

from hdl.isa import Cause, Unit
from hdl.trace import State
from runtime.trace.names import state_name
from runtime.trace.reader import Timeline

__all__ = ["COLOURS", "OPCODE_COLOURS", "Share", "colour_of", "rebin", "shares", "state_columns"]

COLOURS = {
    State.BUSY: "#8fb8a8",
    Cause.PIPELINE: "#b9b3c9",
    Cause.SEMAPHORE: "#8c6bb1",
    Cause.MEMORY: "#d7301f",
    Cause.PORT: "#fc8d59",
    Cause.FIFO: "#74a9cf",
    Cause.TAPE: "#e34a33",
    Cause.PAGE: "#ce1256",
    Cause.VISIT: "#df65b0",
    Cause.PANEL: "#fdbb84",
    Cause.WEIGHTS: "#807dba",
    Cause.OUTPUT: "#c994c7",
    Cause.SLOT: "#6baed6",
    Cause.APPEND: "#238b45",
    Cause.WRITE: "#016450",
    Cause.WALK: "#ae017e",
    Cause.DESCRIPTOR: "#fdd0a2",
    Cause.PROGRAM: "#f16913",
    Cause.QUEUE: "#9ecae1",
    Cause.DRAIN: "#d9d9d9",
}
"""Of states and causes; idle has none."""

OPCODE_COLOURS = {
    "END": "#969696",
    "SET": "#737373",
    "TAPE": "#a6bddb",
    "LOAD": "#ccebc5",
    "MATMUL": "#4292c6",
    "NORM": "#fdae6b",
    "QUANTISE": "#d8b365",
    "ADD": "#66c2a5",
    "ROPE": "#e78ac3",
    "SWIGLU": "#a6d854",
    "APPEND": "#fb8072",
    "LOGITS": "#b3b3e6",
    "STORE": "#bc80bd",
    "PREPARE": "#ffd92f",
    "ATTEND": "#8da0cb",
}
"""Of instructions."""


@dataclass(frozen=True)
class Share:
    """Cycles of one state and cause of a unit."""

    unit: Unit
    state: State
    cause: Cause
    cycles: int

    @property
    def name(self) -> str:
        return state_name(self.unit, self.state, self.cause)


def colour_of(state: State, cause: Cause) -> str:
    return COLOURS[state if state is State.BUSY else cause]


def shares(timeline: Timeline, cycles: int) -> dict[Unit, list[Share]]:
    """For each unit its states, busy first, then what it waited for, longest first, then idle.

    ``cycles``: of the range that the timeline was clipped to.
    """
    found: dict[Unit, list[Share]] = {}
    for unit in Unit:
        mine = timeline.states[timeline.states["unit"] == unit.value]
        some = []
        for state, cause in np.unique(mine[["state", "cause"]]).tolist():
            count = mine["count"][(mine["state"] == state) & (mine["cause"] == cause)].sum()
            some.append(Share(unit, State(state), Cause(cause), int(count)))
        some.sort(key=lambda s: (s.state is not State.BUSY, -s.cycles))
        idle = cycles - sum(s.cycles for s in some)
        if idle:
            some.append(Share(unit, State.IDLE, Cause.NONE, idle))
        found[unit] = some
    return found


def rebin(
    start: np.ndarray, length: np.ndarray, count: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """Counts between the edges, float64 (len(edges) - 1,).

    ``count`` is spread evenly over each interval; intervals ascend and do not overlap.
    """
    if not len(start):
        return np.zeros(len(edges) - 1)
    points = np.stack([start, start + length], 1).reshape(-1)
    total = np.cumsum(count)
    values = np.stack([total - count, total], 1).reshape(-1)
    return np.diff(np.interp(edges, points, values))


def state_columns(
    timeline: Timeline, unit: Unit, edges: np.ndarray
) -> list[tuple[State, Cause, np.ndarray]]:
    """Of each state and cause of a unit the share of every column, 0 to 1: busy first."""
    mine = timeline.states[timeline.states["unit"] == unit.value]
    columns = []
    for state, cause in np.unique(mine[["state", "cause"]]).tolist():
        some = mine[(mine["state"] == state) & (mine["cause"] == cause)]
        counts = rebin(some["start"], some["length"], some["count"], edges)
        columns.append((State(state), Cause(cause), counts / np.diff(edges)))
    return columns
