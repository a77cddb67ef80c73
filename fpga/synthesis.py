"""Synthesis: RTLIL to a netlist of the device's cells, with Yosys."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fpga.design import Design
from fpga.family import Family
from fpga.script import synthesis_steps
from fpga.tools import Runner

__all__ = [
    "MemoryPorts",
    "memories_with_collision_logic",
    "read_memories",
    "synthesise",
]

NETLIST = "netlist.json"
LOG = "synthesis.log"


def synthesise(
    runner: Runner,
    family: Family,
    design: Design,
    folder: Path,
    watch: Callable[[str, float], None],
    sites: dict[str, str] | None = None,
) -> None:
    """Write `netlist.json` (flattened) and `memories.il` (memories before mapping) into a folder.

    ``watch`` gets what is being done and the share of the steps that came before. ``sites``: where
    cells shall stand, by the ends of their names.
    """
    (folder / "design.il").write_text(design.rtlil)
    steps = [
        ("reading", "read_rtlil design.il"),
        *synthesis_steps(family),
        *(
            ("writing the netlist", f'setattr -set BEL "{site}" c:*{name}')
            for name, site in (sites or {}).items()
        ),
        ("writing the netlist", f"write_json {NETLIST}.part"),
    ]
    texts = list(dict.fromkeys(text for text, _ in steps))
    # Of the whole time: mapping logic (ABC) is half of it.
    weights = [6.0 if text == "mapping logic" else 1.0 for text in texts]

    def step(text: str) -> None:
        done = sum(weights[: texts.index(text)])
        watch(text, done / sum(weights))

    runner.yosys(steps, folder, LOG, step)
    (folder / f"{NETLIST}.part").rename(folder / NETLIST)


@dataclass(frozen=True)
class MemoryPorts:
    """A memory before it is mapped.

    Attributes: `name`: hierarchical; `source`: file and line, "" if unknown; `collisions`: pairs of
    a clocked read port and a write port whose result is defined when both meet at a word, which
    block RAM does not do by itself.
    """

    name: str
    source: str
    collisions: int


def _mask(text: str) -> int:
    """A parameter's value: `4'0101`, or a decimal number."""
    _, quote, bits = text.partition("'")
    return int(bits.replace("x", "0"), 2) if quote else int(text)


def read_memories(text: str) -> list[MemoryPorts]:
    """Memories of a dump of `$mem_v2` cells."""
    found = []
    source = ""
    cell: dict[str, str] | None = None
    for line in text.splitlines():
        words = line.split(maxsplit=2)
        if words[:2] == ["attribute", "\\src"]:
            source = words[2].strip('"').split("|")[0]
        elif words[:2] == ["cell", "$mem_v2"]:
            cell = {"name": words[2].lstrip("\\")}
        elif cell is not None and words[:1] == ["parameter"]:
            name, _, value = line.strip().removeprefix("parameter ").rpartition(" ")
            cell[name.split("\\")[-1]] = value
        elif cell is not None and words == ["end"]:
            found.append(_memory(cell, source))
            cell, source = None, ""
    return found


def _memory(cell: dict[str, str], source: str) -> MemoryPorts:
    reads, writes = _mask(cell["RD_PORTS"]), _mask(cell["WR_PORTS"])
    clocked, anything = _mask(cell["RD_CLK_ENABLE"]), _mask(cell["RD_COLLISION_X_MASK"])
    pairs = [
        (r, w)
        for r in range(reads)
        for w in range(writes)
        if clocked >> r & 1 and not anything >> (r * writes + w) & 1
    ]
    return MemoryPorts(cell["name"], source, len(pairs))


def memories_with_collision_logic(memories: list[MemoryPorts], block_rams: set[str]) -> list[str]:
    """Memories in block RAM that have logic for a word read while it is written.

    ``block_rams``: names of the block RAM cells, each its memory's with numbers behind.
    """
    held = {re.sub(r"(\.\d+)+$", "", name) for name in block_rams}
    return sorted(m.name for m in memories if m.collisions and m.name in held)
