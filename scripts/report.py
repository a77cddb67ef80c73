"""Tables of what steps cost."""

from rich.console import Console
from rich.table import Table

from hdl.config import Config
from runtime.generate import StepRecord
from runtime.limit import MemoryLimit
from runtime.metrics import UNITS, step_metrics

__all__ = ["breakdown", "phase_table", "step_json"]


def step_json(config: Config, record: StepRecord, limit: MemoryLimit | None = None) -> dict:
    """A step for the JSON report."""
    return {
        "phase": record.phase,
        "rows": record.rows,
        "outputs": record.outputs,
        "bit_exact": record.exact,
        "seconds": record.seconds,
        **step_metrics(config, record.work, record.counters, limit),
    }


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def phase_table(config: Config, steps: list[dict], console: Console) -> None:
    """Cycles a token by phase, with efficiency and utilisation; nothing without cycles."""
    steps = [s for s in steps if s["cycles"]]
    if not steps:
        return
    table = Table(title="Cycles by phase", title_justify="left", box=None, pad_edge=False)
    for name in (
        "phase",
        "steps",
        "rows",
        "cycles",
        "cycles/row",
        "roofline",
        "efficiency",
        "MACs useful",
        "array fed",
        "bus read",
    ):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for phase in ("prefill", "mixed", "decode"):
        some = [s for s in steps if s["phase"] == phase]
        if not some:
            continue
        cycles = sum(s["cycles"] for s in some)
        rows = sum(s["rows"] for s in some)
        roofline = sum(s["roofline_cycles"] for s in some)

        def mean(key: str, some: list[dict] = some, cycles: int = cycles) -> float:
            return sum(s[key] * s["cycles"] for s in some) / cycles

        table.add_row(
            phase,
            str(len(some)),
            str(rows),
            f"{cycles:,}",
            f"{cycles / rows:,.0f}",
            f"{roofline:,}",
            _percent(roofline / cycles),
            _percent(mean("mac_utilization")),
            _percent(mean("array_fed")),
            _percent(mean("bandwidth_utilization")),
        )
    console.print(table)
    if steps[0]["memory"]:
        cycles = sum(s["cycles"] for s in steps)
        share = sum(s["sustained_roofline_cycles"] for s in steps) / cycles
        console.print(
            f"Memory: {steps[0]['memory']}; efficiency under that limit {_percent(share)}"
        )


def breakdown(steps: list[dict], console: Console) -> None:
    """Where the cycles went, by unit, and bytes by cause."""
    steps = [s for s in steps if s["cycles"]]
    if not steps:
        return
    cycles = sum(s["cycles"] for s in steps)
    table = Table(title="Where the cycles went", title_justify="left", box=None, pad_edge=False)
    table.add_column("unit")
    states = ("busy", "starved", "blocked", "idle")
    for state in states:
        table.add_column(state, justify="right")
    for unit in UNITS:
        sums = [sum(s["cycles_by_unit"][unit][state] for s in steps) for state in states]
        table.add_row(unit, *[_percent(v / cycles) for v in sums])
    console.print(table)
    causes = list(steps[0]["bytes"])
    totals = {c: sum(s["bytes"][c] for s in steps) for c in causes}
    console.print(
        "Bytes moved: " + ", ".join(f"{c.replace('_', ' ')} {v:,}" for c, v in totals.items())
    )
