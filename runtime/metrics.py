"""Figures of a step from the chip's counters and the work it had to do."""

from typing import Any

from hdl.config import Config
from hdl.isa import Counter
from runtime.limit import MemoryLimit
from runtime.work import StepWork

__all__ = ["READ_CAUSES", "UNITS", "WRITE_CAUSES", "array_breakdown", "step_metrics"]

READ_CAUSES = {
    "tape": Counter.READ_TAPE_BEATS,
    "kv": Counter.READ_KV_BEATS,
    "program": Counter.READ_PROGRAM_BEATS,
    "rows": Counter.READ_ROW_BEATS,
    "walk": Counter.READ_WALK_BEATS,
}
WRITE_CAUSES = {"kv_write": Counter.WRITE_KV_BEATS, "rows_write": Counter.WRITE_ROW_BEATS}
UNITS = ("tape", "load", "matrix", "vector", "kv")


def array_breakdown(config: Config, work: StepWork, counters: dict[Counter, int]) -> dict:
    """Where the array's cycles went, in the form of TPU v1 (Jouppi, ISCA'17, table 3); shares of 1.

    ``active`` + ``weight_stall`` + ``weight_shift`` + ``other`` = 1.

    ``active``
        A row of activations entered the array (FEED_ROWS), padding included.
    ``useful_macs``, ``unused_macs``
        Parts of ``active``: multiplications of the true dimensions, and those on padding.
    ``weight_stall``
        Nothing was fed and the weights (tape or KV page) had not come (MATRIX_STARVED).
    ``weight_shift``
        Nothing was fed and the weights of the next tile moved in, or the last sums out (MATRIX_BUSY
        less FEED_ROWS). The port fills the array at the width of the port, so in decode this is
        the memory at work: the part of it in which no beat came is ``weight_stall``.
    ``other``
        ``dependency``: a loaded tile waited for activations, a panel or a semaphore
        (MATRIX_BLOCKED); the rest: no instruction for the matrix unit (start, end, other units).
    """
    cycles = counters[Counter.CYCLES]
    fed, busy = counters[Counter.FEED_ROWS], counters[Counter.MATRIX_BUSY]
    stalled, blocked = counters[Counter.MATRIX_STARVED], counters[Counter.MATRIX_BLOCKED]
    useful = work.macs / (config.rows * config.cols)
    shift = max(0, busy - fed)
    return {
        "active": fed / cycles,
        "useful_macs": useful / cycles,
        "unused_macs": (fed - useful) / cycles,
        "weight_stall": stalled / cycles,
        "weight_shift": shift / cycles,
        "other": (cycles - fed - stalled - shift) / cycles,
        "dependency": blocked / cycles,
    }


def step_metrics(
    config: Config,
    work: StepWork,
    counters: dict[Counter, int],
    limit: MemoryLimit | None = None,
) -> dict:
    """JSON-able figures; those that need cycles are None on a device without counters.

    Returns
    -------
    ``cycles``, ``roofline_cycles`` and what ``bound`` it ("memory", "MACs"), ``efficiency``
    (roofline / measured), ``mac_utilization``
    (useful MACs / (cycles x rows x cols)), ``array_fed`` (share of cycles in which the array took
    a row, padding included), ``bandwidth_utilization`` (cycles with a read beat / cycles),
    ``bytes`` by cause, ``cycles_by_unit`` (busy, starved, blocked, idle), ``useful_macs``,
    ``array`` (:func:`array_breakdown`). Of the memory model, where its ``limit`` is known:
    ``memory``, ``sustained_beats_per_cycle``, and ``sustained_roofline_cycles`` and
    ``sustained_efficiency``, the roofline with that many beats a cycle.
    """
    result: dict[str, Any] = {
        "cycles": None,
        "roofline_cycles": work.roofline_cycles,
        "bound": "MACs" if work.bound_by_macs(config) else "memory",
        "efficiency": None,
        "mac_utilization": None,
        "array_fed": None,
        "bandwidth_utilization": None,
        "useful_macs": work.macs,
        "bytes": {},
        "cycles_by_unit": {},
        "array": {},
        "memory": None,
        "sustained_beats_per_cycle": None,
        "sustained_roofline_cycles": None,
        "sustained_efficiency": None,
    }
    if not counters:
        return result
    cycles = counters[Counter.CYCLES]
    causes = READ_CAUSES | WRITE_CAUSES
    result |= {
        "cycles": cycles,
        "efficiency": work.roofline_cycles / cycles,
        "mac_utilization": work.macs / (cycles * config.rows * config.cols),
        "array_fed": counters[Counter.FEED_ROWS] / cycles,
        "bandwidth_utilization": counters[Counter.PORT_BUSY] / cycles,
        "bytes": {name: counters[c] * config.port_bytes for name, c in causes.items()},
    }
    for unit in UNITS:
        states = {
            state: counters[Counter[f"{unit}_{state}".upper()]]
            for state in ("busy", "starved", "blocked")
        }
        states["idle"] = cycles - sum(states.values())
        result["cycles_by_unit"][unit] = states
    result["array"] = array_breakdown(config, work, counters)
    if limit is not None:
        bound = work.roofline_under(config, limit.stream, limit.shared)
        result |= {
            "memory": str(limit),
            "sustained_beats_per_cycle": limit.stream,
            "sustained_roofline_cycles": bound,
            "sustained_efficiency": bound / cycles,
        }
    return result
