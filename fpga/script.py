"""The Yosys commands from RTLIL to a netlist: for bitstreams, and for the netlists simulated."""

from fpga.family import Family
from hdl.replica import ATTRIBUTE

__all__ = ["MEMORIES", "TOP", "synthesis_steps"]

TOP = "top"
"""Module of the whole."""

MEMORIES = "memories.il"
"""File: memories before they are mapped."""


def synthesis_steps(family: Family) -> list[tuple[str, str]]:
    """What is being done, and the Yosys command, from RTLIL that was read to a netlist.

    On the way it writes ``MEMORIES`` into the working folder. The design is flattened before the
    family's own script, so that registers keep the scope they came from.
    """
    steps = [
        ("reading", "chformal -remove"),
        # The alias of an array's element is called `sums[0]`, as a bit of the array `sums` is;
        # ABC's netlist can't tell them apart and Yosys 0.70 stops.
        ("reading", r"rename -hide w:*\[*"),
        ("reading", f"hierarchy -top {TOP}"),
        ("flattening", "proc -latches error"),
        ("flattening", "flatten -scopename"),
        ("flattening", f"setattr -set keep 1 a:{ATTRIBUTE} %ci t:$*dff* %i"),
    ]
    labels = [label for label, _ in family.phases]
    for label, following in zip(labels, [*labels[1:], ""], strict=True):
        text = dict(family.phases)[label]
        if label == "map_ram":
            steps.append((text, f"tee -q -o {MEMORIES} dump t:$mem_v2"))
        steps.append((text, f"{family.synthesis} -top {TOP} -run {label}:{following}"))
    return steps
