"""Figures of a step from the chip's counters and the work it had to do."""

from typing import Any

from hdl.config import Config
from hdl.isa import Counter
from runtime.work import StepWork

__all__ = ["READ_CAUSES", "UNITS", "WRITE_CAUSES", "step_metrics"]

READ_CAUSES = {
    "tape": Counter.READ_TAPE_BEATS,
    "kv": Counter.READ_KV_BEATS,
    "program": Counter.READ_PROGRAM_BEATS,
    "rows": Counter.READ_ROW_BEATS,
    "walk": Counter.READ_WALK_BEATS,
}
WRITE_CAUSES = {"kv_write": Counter.WRITE_KV_BEATS, "rows_write": Counter.WRITE_ROW_BEATS}
UNITS = ("tape", "load", "matrix", "vector", "kv")


def step_metrics(config: Config, work: StepWork, counters: dict[Counter, int]) -> dict:
    """JSON-able figures; those that need cycles are None on a device without counters.

    Returns
    -------
    ``cycles``, ``roofline_cycles``, ``efficiency`` (roofline / measured), ``mac_utilization``
    (useful MACs / (cycles x rows x cols)), ``array_fed`` (share of cycles in which the array took
    a row, padding included), ``bandwidth_utilization`` (cycles with a read beat / cycles),
    ``bytes`` by cause, ``cycles_by_unit`` (busy, starved, blocked, idle), ``useful_macs``.
    """
    result: dict[str, Any] = {
        "cycles": None,
        "roofline_cycles": work.roofline_cycles,
        "efficiency": None,
        "mac_utilization": None,
        "array_fed": None,
        "bandwidth_utilization": None,
        "useful_macs": work.macs,
        "bytes": {},
        "cycles_by_unit": {},
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
    return result
