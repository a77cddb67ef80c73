"""The report of a build: JSON-able figures, and tables of them in Markdown."""

from typing import Any

from fpga.boards import Board
from fpga.family import RESOURCES
from fpga.netlist import ATTRIBUTION, Netlist
from fpga.synthesis import MemoryPorts, memories_with_collision_logic
from fpga.timing import clocks

__all__ = ["checks_of", "fit_problem", "markdown", "netlist_figures", "placed_figures"]

TITLES = {
    "luts": "LUT4",
    "lut_ram": "of it LUT RAM",
    "ffs": "FF",
    "brams": "block RAM",
    "multipliers": "multiplier",
}


def netlist_figures(netlist: Netlist, memories: list[MemoryPorts]) -> dict[str, Any]:
    """What synthesis alone says: resources by block, their sum, and the checks."""
    total = netlist.total()
    blocks = netlist.by_block()
    for resource in RESOURCES:
        assert sum(b[resource] for b in blocks.values()) == total[resource], resource
    return {
        **total,
        "blocks": blocks,
        "attribution": ATTRIBUTION,
        "checks": checks_of(netlist, memories),
    }


def checks_of(netlist: Netlist, memories: list[MemoryPorts]) -> dict[str, Any]:
    """What must not be in the netlist, and how many multipliers have their registers inside."""
    brams = {
        name
        for name, cell in netlist.cells.items()
        if "brams" in netlist.family.costs.get(cell["type"], {})
    }
    loops = netlist.loops()
    return {
        "latches": len(netlist.latches()),
        "combinational_loops": len(loops),
        "loop_example": loops[0][:4] if loops else [],
        "multipliers_with_registers": netlist.registered_multipliers(),
        "collision_logic": memories_with_collision_logic(memories, brams),
    }


def fit_problem(figures: dict[str, Any], board: Board) -> str:
    """What of a netlist is more than the device has, "" if nothing is."""
    over = [
        f"{figures[r]:,} {TITLES[r]}s of {board.device.capacity[r]:,}"
        for r in RESOURCES
        if figures[r] > board.device.capacity[r]
    ]
    return f"{board.device.name} is too small: needs {', '.join(over)}" if over else ""


def placed_figures(
    report: dict, netlist: Netlist, memories: list[MemoryPorts], figures: dict[str, Any]
) -> dict[str, Any]:
    """What placement adds: LUTs and registers as the device holds them, clocks and their paths."""
    sources = {m.name: m.source for m in memories}
    found: dict[str, Any] = {"clocks": clocks(report, netlist, sources)}
    added = {}
    for resource, name in netlist.family.utilisation.items():
        used = report["utilization"].get(name)
        if used:
            added[resource] = used["used"] - figures[resource]
            found[resource] = used["used"]
    # What the placer packs into cells of its own, so that the table's sum is the whole.
    placement = dict.fromkeys(RESOURCES, 0) | {r: n for r, n in added.items() if n}
    found["blocks"] = figures["blocks"] | {"(placement)": placement}
    return found


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def resource_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the resource table: blocks, the whole, the device."""
    header = ["block", *(TITLES[r] for r in RESOURCES)]
    rows = [[name, *(f"{cost[r]:,}" for r in RESOURCES)] for name, cost in report["blocks"].items()]
    rows.append(["whole", *(f"{report[r]:,}" for r in RESOURCES)])
    capacity = report["capacity"]
    rows.append(["device", *(f"{capacity[r]:,}" for r in RESOURCES)])
    rows.append(["used", *(_percent(report[r], capacity[r]) for r in RESOURCES)])
    return header, rows


def path_lines(path: dict[str, Any]) -> list[str]:
    """A slowest path in words."""
    start, end = path["from"], path["to"]
    lines = [
        f"from {start['signal']} ({start['kind']}, {start['source'] or 'source unknown'})",
        f"to {end['signal']}, pin {end['port']} ({end['kind']}, "
        f"{end['source'] or 'source unknown'})",
        f"{path['total_ns']:.2f} ns: {path['logic_ns']:.2f} logic in {path['levels']} levels, "
        f"{path['routing_ns']:.2f} routing",
    ]
    if path["through"]:
        lines.insert(2, f"through {', '.join(path['through'])}")
    return lines


def check_lines(report: dict[str, Any]) -> list[str]:
    """The checks in words."""
    checks = report["checks"]
    collisions = checks["collision_logic"]
    return [
        f"latches: {checks['latches'] or 'none'}",
        f"combinational loops: {checks['combinational_loops'] or 'none'}"
        + (f", for one {', '.join(checks['loop_example'])}" if checks["loop_example"] else ""),
        f"multipliers with registers inside: {checks['multipliers_with_registers']} of "
        f"{report['multipliers']}",
        f"block RAM with collision logic: {', '.join(collisions) or 'none'}",
    ]


def markdown(report: dict[str, Any]) -> str:
    """The whole report."""
    what = f"{report['board']}, target {report['target']}, preset {report['preset']}"
    lines = [f"# {what}", ""]
    lines.append(
        f"Device {report['device']}; {report['date']}, commit {report['commit']}; "
        f"{', '.join(report['tools'].values())}."
    )
    lines.append("")
    if not report["fits"]:
        lines += [f"**Does not fit**: {report['problem']}.", ""]
    for name, clock in report["clocks"].items():
        state = "met" if clock["met"] else "**missed**"
        lines += [
            f"## Clock {name}: {clock['fmax_mhz']:.1f} MHz",
            "",
            f"Target {clock['target_mhz']:g} MHz: {state}.",
            "",
        ]
        if clock["path"]:
            lines += [f"* {text}" for text in path_lines(clock["path"])] + [""]
    if report["seeds"]:
        lines += ["## Seeds", ""]
        lines += _table(
            ["seed", "Fmax, MHz", "seconds"],
            [
                [str(s["seed"]), f"{s['fmax_mhz']:.1f}", f"{s['seconds']:.0f}"]
                for s in report["seeds"]
            ],
        )
        lines.append("")
    lines += ["## Resources", "", *_table(*resource_rows(report)), ""]
    lines += [
        f"Blocks: {report['attribution']}; (placement): what the placer adds, or puts into I/O "
        "cells.",
        "",
    ]
    lines += ["## Checks", "", *(f"* {text}" for text in check_lines(report)), ""]
    return "\n".join(lines)
