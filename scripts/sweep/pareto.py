"""Pareto fronts: what no other point beats at both speed and cost."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["COSTS", "Refusals", "Workload", "front", "text_of", "thinned", "varying", "workloads"]

COSTS = {"area": "area_mm2", "power": "watts"}
"""Fronts by name: the column that is to be small, at most tokens/s."""

_DESIGN = (
    *("preset", "rows", "cols", "port_bytes", "lanes", "row_capacity", "panel_ring", "page_slots"),
    *("tape_beats", "burst_beats", "outstanding_reads", "queue_depth", "max_head_dim"),
    *("activation_blocks", "row_blocks", "constant_blocks", "kv_on_chip_bytes"),
    *("clock_hz", "memory_gbs", "latency"),
)
"""Columns that tell designs apart."""


@dataclass(frozen=True)
class Workload:
    """Points of the same model and work: those whose tokens/s can be compared."""

    title: str
    rows: list[dict[str, Any]]

    def front(self, cost: str) -> list[dict[str, Any]]:
        """The front of a cost of `COSTS`, cheapest first."""
        return front(self.rows, COSTS[cost])


def front(rows: Iterable[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    """Rows that none beats at ``cost`` and tokens/s, cheapest first; of equal ones the first."""
    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda r: (r[cost], -r["tokens_per_second"])):
        if not best or row["tokens_per_second"] > best[-1]["tokens_per_second"]:
            best.append(row)
    return best


def thinned(best: list[dict[str, Any]], gain: float = 0.02) -> list[dict[str, Any]]:
    """Points of a front that are each faster by ``gain`` than the one before, for reading."""
    kept: list[dict[str, Any]] = []
    for row in best:
        if not kept or row["tokens_per_second"] >= (1 + gain) * kept[-1]["tokens_per_second"]:
            kept.append(row)
    return kept


def workloads(rows: Iterable[dict[str, Any]]) -> list[Workload]:
    """Rows that have figures, by model, batch, context and chunk."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        if row["refusal"] is None:
            work = tuple(row[k] for k in ("model", "model_hash", "batch", "context", "chunk"))
            groups.setdefault(work, []).append(row)
    hashes = Counter(model for model, _ in {work[:2] for work in groups})
    result = []
    for work in sorted(groups):
        model, hashed, batch, context, chunk = work
        name = f"{model} ({hashed[:6]})" if hashes[model] > 1 else model
        step = f"prefill of {chunk} rows" if chunk > 1 else "decode"
        sequences = f"{batch} sequence{'s' if batch > 1 else ''}"
        title = f"{name}, {step}, {sequences}, context {context:,}"
        result.append(Workload(title, sorted(groups[work], key=lambda r: r["point"])))
    return result


def varying(rows: list[dict[str, Any]]) -> list[str]:
    """Columns of the design that are not the same in all rows."""
    return [c for c in _DESIGN if len({r[c] for r in rows}) > 1]


def text_of(name: str, value: Any) -> str:
    """A value of a column for people."""
    if isinstance(value, str):
        return value
    if name == "clock_hz":
        return f"{value / 1e6:,.6g} MHz"
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:.4g}"


class Refusals:
    """Points without figures, counted by reason; reasons that differ in numbers alone are one."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str) -> None:
        kind = re.sub(r"\d[\d,]*", "N", reason)
        self._counts[kind] += 1
        self._examples.setdefault(kind, reason)

    @property
    def total(self) -> int:
        return self._counts.total()

    def as_list(self) -> list[dict[str, Any]]:
        """``count`` and an ``example`` of each kind of reason, most frequent first."""
        return [{"count": n, "example": self._examples[k]} for k, n in self._counts.most_common()]
