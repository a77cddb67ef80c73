"""What limits each clock: the slowest path of nextpnr's report, in terms of the RTL."""

import re
from typing import Any

from fpga.netlist import Netlist, own_source
from fpga.place import clock_name

__all__ = ["clocks", "describe_path"]

SUFFIXES = re.compile(r"(\$(CCU2_COMB|DPR16X4_|RAMW|PFUMX|MUX)\w*|_LC)+$")


def clocks(report: dict, netlist: Netlist, sources: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Each clock's Fmax, target and slowest path.

    Parameters: `report` of nextpnr; `sources`: file and line of memories by name.
    """
    found: dict[str, dict[str, Any]] = {}
    for net, figures in report["fmax"].items():
        found[clock_name(net)] = {
            "fmax_mhz": round(figures["achieved"], 2),
            "target_mhz": figures["constraint"],
            "met": figures["achieved"] >= figures["constraint"],
            "path": None,
        }
    for path in report["critical_paths"]:
        edges = [re.sub(r"^(pos|neg)edge ", "", path[end]) for end in ("from", "to")]
        if edges[0] == edges[1] and (clock := found.get(clock_name(edges[0]))):
            clock["path"] = describe_path(path["path"], netlist, sources)
    return found


def describe_path(steps: list[dict], netlist: Netlist, sources: dict[str, str]) -> dict[str, Any]:
    """From which register or memory to which, through which nets, with its nanoseconds.

    Levels are cells of logic between the two; a carry chain is one level however long.
    """
    logic = sum(s["delay"] for s in steps if s["type"] != "routing")
    routing = sum(s["delay"] for s in steps if s["type"] == "routing")
    levels, chain = 0, False
    for step in steps:
        if step["type"] == "logic":
            carry = step["to"]["port"] in ("FCO", "COUT")
            levels += not chain
            chain = carry
    through = []
    for step in steps:
        if step["type"] == "routing" and (name := _declared(step, netlist)):
            through.append(name)
    first, last = steps[0], steps[-1]
    return {
        "from": _end(first["from"], netlist, sources, drives=True),
        "to": _end(last["to"], netlist, sources, drives=False),
        "through": list(dict.fromkeys(through)),
        "levels": levels,
        "logic_ns": round(logic, 2),
        "routing_ns": round(routing, 2),
        "total_ns": round(logic + routing, 2),
    }


def _declared(step: dict, netlist: Netlist) -> str:
    """The RTL's name of the net of a routing step, "" if it has none."""
    cell = netlist.cells.get(SUFFIXES.sub("", step["from"]["cell"]))
    if cell is None:
        return ""
    names = [str(netlist.names[b]) for _, b in netlist.outputs(cell) if b in netlist.names]
    return names[0] if len(names) == 1 else ""


def _end(end: dict, netlist: Netlist, sources: dict[str, str], *, drives: bool) -> dict[str, str]:
    """Signal, port and source of an end of a path."""
    name = SUFFIXES.sub("", end["cell"])
    cell = netlist.cells.get(name)
    if cell is None:
        return {"signal": name, "port": end["port"], "source": "", "kind": ""}
    kind = cell["type"]
    if kind in netlist.family.flip_flops:
        named = [netlist.names[b] for _, b in netlist.outputs(cell) if b in netlist.names]
        signal = str(named[0]) if named else name
        source = netlist.register_source(cell)
        return {"signal": signal, "port": end["port"], "source": source, "kind": "register"}
    memory = re.sub(r"(\.\d+)+$", "", name)
    if memory in sources:
        side = "read data" if drives else "inputs"
        return {
            "signal": f"{memory.removeprefix('dut.')} ({side})",
            "port": end["port"],
            "source": sources[memory],
            "kind": "memory",
        }
    named = [netlist.names[b] for _, b in netlist.outputs(cell) if b in netlist.names]
    return {
        "signal": str(named[0]) if named else name,
        "port": end["port"],
        "source": own_source(cell["attributes"].get("src", "")),
        "kind": "multiplier" if "MULT" in kind else kind,
    }
