"""A timeline as one HTML file that needs nothing else: zoom, move, and what is at the pointer."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from hdl.isa import Cause, Unit
from hdl.trace import BEATS, State
from runtime.trace.names import state_name
from runtime.trace.picture import BEAT_COLOURS
from runtime.trace.reader import Timeline
from runtime.trace.summary import OPCODE_COLOURS, colour_of, rebin

__all__ = ["write_page"]

_MOST = 200_000
"""Segments of states in a page; of more, the page gets as many equal columns as fit."""


def write_page(timeline: Timeline, path: Path, first: int, last: int, title: str) -> None:
    """Writes cycles first to last as a page; all of its data are in the file."""
    part = timeline.clip(first, last)
    edges = None
    if len(part.states) > _MOST:
        edges = np.unique(np.linspace(first, last, _MOST // 20 + 1).astype(np.int64))
    data = {
        "first": first,
        "last": last,
        "steps": [{k: s[k] for k in ("name", "start", "cycles")} for s in part.about["steps"]],
        "opcodes": _opcodes(part),
        "units": [_unit(part, unit, first, edges) for unit in Unit],
        "beats": [
            {
                "name": name.replace("_", " "),
                "colour": BEAT_COLOURS[name],
                "write": "write" in name,
                "data": _pack(part.beats[:, 0], part.beats[:, 1], counts, first, None),
            }
            for name, counts in zip(BEATS, part.beats[:, 2:].T, strict=True)
            if name in BEAT_COLOURS and counts.any()
        ],
    }
    text = Path(__file__).with_name("page.html").read_text()
    content = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    text = text.replace("__TITLE__", html.escape(title)).replace("__DATA__", content)
    path.write_text(text)


def _opcodes(part: Timeline) -> dict[str, str]:
    used = {name for some in part.instructions.values() for _, _, name, _ in some}
    return {name: colour for name, colour in OPCODE_COLOURS.items() if name in used}


def _unit(part: Timeline, unit: Unit, first: int, edges: np.ndarray | None) -> dict[str, Any]:
    """A unit's instructions and states."""
    mine = part.states[part.states["unit"] == unit.value]
    states = []
    for state, cause in np.unique(mine[["state", "cause"]]).tolist():
        some = mine[(mine["state"] == state) & (mine["cause"] == cause)]
        s, c = State(state), Cause(cause)
        packed = _pack(some["start"], some["length"], some["count"], first, edges)
        states.append({"name": state_name(unit, s, c), "colour": colour_of(s, c), "data": packed})
    bars = [
        [start, length, name, " ".join(f"{k}={v}" for k, v in args.items())]
        for start, length, name, args in part.instructions[unit]
    ]
    return {"name": unit.name.lower(), "states": states, "bars": bars}


def _pack(
    start: np.ndarray, length: np.ndarray, count: np.ndarray, first: int, edges: np.ndarray | None
) -> list[int]:
    """Starts as differences, lengths and counts, in turns; on the columns of ``edges`` if given."""
    if edges is not None:
        counts = np.rint(
            np.diff(np.round(np.cumsum(rebin(start, length, count, edges))), prepend=0)
        )
        some = counts > 0
        start, length, count = edges[:-1][some], np.diff(edges)[some], counts[some].astype(int)
    kept = count > 0
    start, length, count = start[kept], length[kept], count[kept]
    return np.stack([np.diff(start, prepend=first), length, count], 1).reshape(-1).tolist()
