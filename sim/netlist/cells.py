"""Models of the ECP5 cells in a netlist: Yosys's own, and ours for what is a black box there.

From Yosys (techlibs/lattice, as pyosys ships it): LUT4, PFUMX, L6MUX21, CCU2C, TRELLIS_FF,
TRELLIS_DPR16X4. Two things are taken out of them: specify blocks, which only have delays, and the
initial value of TRELLIS_FF, so that the simulator starts every flip-flop at random: what a chip
does after its reset may not depend on what stood in its registers before.

Ours: DP16KD (``dp16kd.v``) and MULT18X18D (``fpga/ecp5/mult18x18d.v``), tested against what Yosys's
mapping assumes of them in ``tests/sim/netlist/test_cells.py``.
"""

import re
from pathlib import Path

from sim.netlist import yosys

__all__ = ["MODELLED", "models_for", "own_models", "yosys_models"]

_FROM_YOSYS = {
    "common_sim.vh": ("LUT4", "LUT2", "L6MUX21", "PFUMX", "TRELLIS_DPR16X4", "TRELLIS_FF"),
    "ccu2c_sim.vh": ("CCU2C",),
}
_ROOT = Path(__file__).parents[2]
_OWN = {
    "DP16KD": _ROOT / "sim" / "netlist" / "dp16kd.v",
    "MULT18X18D": _ROOT / "fpga" / "ecp5" / "mult18x18d.v",
}
_START = "\tinitial Q = srval;\n"
_STATE = "output Q);\n\treg state;\n\tassign Q = state;"
_WRITE = "mem[i] <= INITVAL"

MODELLED = frozenset([*(n for names in _FROM_YOSYS.values() for n in names), *_OWN])
"""Cells that a netlist may have."""


def _replaced(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise RuntimeError(f"Yosys's cell models have changed: {old.strip()!r} is not there once")
    return text.replace(old, new)


def _modules(text: str, names: tuple[str, ...]) -> str:
    found = []
    for name in names:
        body = re.search(rf"(?ms)^module {name}\s*\(.*?^endmodule\n?", text)
        if body is None:
            raise RuntimeError(f"Yosys's cell models have no {name}")
        found.append(re.sub(r"(?ms)^\s*specify\b.*?^\s*endspecify\n", "", body[0]))
    return "\n".join(found)


def yosys_models(without: tuple[str, ...] = ()) -> str:
    """Verilog of the cells whose models are Yosys's, some left out."""
    parts = []
    for file, every in _FROM_YOSYS.items():
        names = tuple(name for name in every if name not in without)
        text = _modules((yosys.cell_library() / file).read_text(), names)
        if "TRELLIS_FF" in names:
            text = _replaced(text, _START, "")
            # Verilator starts a register at random if it has a name of its own, not if it is an
            # output that drives a bit of a vector.
            text = _replaced(text, "output reg Q);", _STATE)
            text = text.replace("\tQ <= ", "\tstate <= ")
            # In an initial block both mean the same, and Verilator warns of the first.
            if "TRELLIS_DPR16X4" in names:
                text = _replaced(text, _WRITE, _WRITE.replace("<=", "="))
        parts.append(text)
    return "\n".join(parts)


def own_models(without: tuple[str, ...] = ()) -> str:
    """Verilog of the cells whose models are ours, some left out."""
    return "\n".join(path.read_text() for name, path in _OWN.items() if name not in without)


def models_for(verilog: str) -> str:
    """Models for the simulation of a netlist.

    Raises
    ------
    ValueError
        The netlist has a cell that isn't modelled.
    """
    used = set(re.findall(r"(?m)^  ([A-Z]\w*) (?:#\(|\\|\w)", verilog))
    if unknown := used - MODELLED:
        raise ValueError(f"no model of {', '.join(sorted(unknown))}")
    return f"{yosys_models()}\n{own_models()}"
