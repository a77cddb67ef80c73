"""The axes of the design space and how their values are written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from compiler.errors import UserError
from sim.cycle_model import MACHINES, Machine

__all__ = ["AXES", "DEFAULTS", "GRID", "SIZES", "parse_axis"]

_MOST_VALUES = 10_000


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high``; whole numbers where ``low`` is one. None: names."""

    low: float | None
    high: float
    help: str


AXES: dict[str, Axis] = {
    "model": Axis(None, 0, "Name, config.json, Hugging Face folder, GGUF or llama2.c file"),
    "preset": Axis(None, 0, f"Machine that is varied: {', '.join(MACHINES)}"),
    "rows": Axis(1, 4096, "Array rows (reduction)"),
    "cols": Axis(1, 4096, "Array columns (outputs)"),
    "port_bytes": Axis(1, 1 << 16, "Memory port, bytes a beat"),
    "lanes": Axis(1, 4096, "FP32 lanes of the vector unit"),
    "row_capacity": Axis(1, 1 << 16, "Token rows in a step at the most"),
    "max_head_dim": Axis(32, 4096, "Longest head that pages and panels hold, elements"),
    "panel_ring": Axis(2, 1024, "Accumulator panels between matrix and vector unit"),
    "page_slots": Axis(1, 1024, "KV pages buffered on chip"),
    "tape_beats": Axis(1, 1 << 24, "Tape FIFO, beats"),
    "burst_beats": Axis(1, 256, "Longest AXI burst, beats"),
    "outstanding_reads": Axis(1, 4096, "AXI read bursts under way"),
    "activation_blocks": Axis(1, 1 << 30, "Activation memory, MX blocks"),
    "row_blocks": Axis(1, 1 << 30, "Row memory, blocks of 32 FP32"),
    "constant_blocks": Axis(1, 1 << 30, "Constant memory, blocks of 32 FP32"),
    "clock": Axis(0.001, 100_000.0, "MHz; memory stays as far away in time"),
    "memory_bandwidth": Axis(
        1e-6, 1e6, "Sustained GB/s, at most a beat a cycle; by default just that"
    ),
    "latency": Axis(1, 100_000, "Memory latency, cycles"),
    "batch": Axis(1, 1 << 16, "Sequences"),
    "context": Axis(0, (1 << 20) - 1, "Tokens of each sequence in the KV cache"),
    "chunk": Axis(1, 1 << 16, "New rows of each sequence; 1 is decode"),
}

SIZES = tuple(f.name for f in fields(Machine) if f.name in AXES and f.name != "latency")
"""Axes that are fields of `sim.cycle_model.Machine` by the same name."""

GRID: dict[str, list] = {
    "rows": [8, 16, 32],
    "cols": [8, 16, 32],
    "port_bytes": [4, 8, 16, 32],
    "lanes": [4, 8, 16],
    "batch": [1, 8],
}
"""What is swept where no axis but the model is given."""

DEFAULTS: dict[str, list] = {
    "model": ["demo"],
    "preset": ["edge"],
    "batch": [1],
    "context": [128],
    "chunk": [1],
}
"""Values of axes that are not given; those of a machine are the preset's."""


def parse_axis(name: str, given: str | Sequence, where: str) -> list:
    """Values of an axis, in the order given, each once.

    Parameters
    ----------
    given
        ``8,16,32``; a range ``4:64:x2`` (times 2), ``0:1024:256`` (plus 256), ``1:4`` (plus 1),
        both ends included; ranges and values mixed, separated by commas. Or a list of values.
    where
        The option or file, for messages.

    Raises
    ------
    UserError
        For what is no number, is out of range or is too much.
    """
    axis = AXES[name]
    words = given.split(",") if isinstance(given, str) else list(given)
    values: dict[Any, None] = {}
    for word in words:
        text = str(word).strip()
        if axis.low is None:
            if not text:
                raise UserError(f"{where}: an empty name among the values {given!r}")
            values[text] = None
        else:
            many = _range(axis, text, where) if ":" in text else [_number(axis, text, where)]
            values.update(dict.fromkeys(many))
    if not values:
        raise UserError(f"{where}: no values; leave it out or give some")
    return list(values)


def _number(axis: Axis, text: str, where: str) -> Any:
    assert axis.low is not None
    kind = type(axis.low)
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not axis.low <= value <= axis.high:  # not a number compares with nothing
        what = "whole numbers" if kind is int else "numbers"
        raise UserError(
            f"{where}: {text!r}; give {what} from {axis.low:,} to {axis.high:,}, "
            "as 8,16,32 or FIRST:LAST:xFACTOR or FIRST:LAST:STEP"
        )
    return value


def _range(axis: Axis, text: str, where: str) -> list:
    first, last, *rest = text.split(":")
    low, high = _number(axis, first, where), _number(axis, last, where)
    step = rest[0] if rest else "1"
    times = step.startswith("x")
    try:
        by = float(step.removeprefix("x")) if "." in step else int(step.removeprefix("x"))
    except ValueError:
        by = 0
    if len(rest) > 1 or low > high or not by > (1 if times else 0) or (times and not low):
        raise UserError(
            f"{where}: range {text!r}; give FIRST:LAST:STEP or FIRST:LAST:xFACTOR, rising"
        )
    values = []
    value, n = low, 0
    while value <= high:
        values.append(value)
        if len(values) > _MOST_VALUES:
            raise UserError(f"{where}: range {text!r} has more than {_MOST_VALUES:,} values")
        n += 1
        value = low * by**n if times else low + by * n
        if isinstance(axis.low, int):
            value = int(value)
            if value == values[-1]:
                raise UserError(f"{where}: range {text!r}; its step is below 1")
    return values
