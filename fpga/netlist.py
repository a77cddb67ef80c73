"""A flattened netlist: which block each cell belongs to, what it costs, where it comes from.

How a cell finds its block, first that holds:

1. its memory's name (block RAM and LUT RAM) or the scope that Yosys noted when it flattened the
   design (registers, multipliers);
2. for logic, the scope in which the net that it drives was declared; of several names of one net
   the driver's counts (the deepest that is not an input port);
3. for a net that synthesis made up: the block that most of the cells it drives belong to.

Every cell is in exactly one block, so the blocks' sums are the whole. Logic that synthesis shares
between blocks counts where its result has a name.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fpga.family import RESOURCES, Cost, Family

__all__ = ["ATTRIBUTION", "Name", "Netlist", "block_name", "input_ports"]

ATTRIBUTION = (
    "registers, memories and multipliers by the scope they were written in; logic by the declared "
    "net that it drives, else by the cells that it drives; every cell once"
)

Scope = tuple[str, ...]

MEMORIES = frozenset({"rows", "constants", "activations"})
OUTSIDE = "top"
"""The block of what stands in no other: clock, pins, wiring."""


def block_name(scope: Scope) -> str:
    """The block of a report that a scope belongs to: the design is `dut` in a shell."""
    if scope[:1] != ("dut",):
        return OUTSIDE
    path = scope[2:] if scope[1:2] == ("accelerator",) else scope[1:]
    if not path:
        return OUTSIDE
    if path[0] in MEMORIES:
        return "memories"
    if path[0] == "memory":
        return "sdram"
    if path[0] == "matrix":
        inner = path[1] if len(path) > 1 else ""
        return f"matrix.{inner}" if inner in ("array", "accumulator") else "matrix.rest"
    return path[0].partition("$")[0]


def input_ports(rtlil: str) -> set[tuple[Scope, str]]:
    """(scope, name) of every input port of a design; Amaranth makes a module for each instance."""
    found = set()
    scope: Scope = ()
    for line in rtlil.splitlines():
        if line.startswith("module \\"):
            scope = tuple(line[8:].split(".")[1:])
        elif match := re.match(r"\s+wire (?:.* )?input \d+ (?:.* )?\\(\S+)$", line):
            found.add((scope, match[1]))
    return found


@dataclass(frozen=True)
class Name:
    """A declared name of a net: `scope`, `name` with its bit, `source` file and line."""

    scope: Scope
    name: str
    source: str

    def __str__(self) -> str:
        path = self.scope[1:] if self.scope[:1] == ("dut",) else self.scope
        return ".".join((*path, self.name))


class Netlist:
    """The top module of a Yosys JSON netlist of a family's cells.

    Parameters: `top`: the module as Yosys writes it; `inputs`: of `input_ports`.
    """

    def __init__(self, top: dict[str, Any], family: Family, inputs: set[tuple[Scope, str]]):
        self.family = family
        self.cells: dict[str, dict] = {
            name: cell for name, cell in top["cells"].items() if cell["type"] != "$scopeinfo"
        }
        self._types = {cell["type"] for cell in self.cells.values()}
        self._modules = {
            tuple(cell["attributes"].get("hdlname", name).split()): own_source(
                cell["attributes"].get("module_src", "")
            )
            for name, cell in top["cells"].items()
            if cell["type"] == "$scopeinfo"
        }
        self._nets = top["netnames"]
        self._inputs = inputs

    @classmethod
    def read(cls, path: Path, family: Family, rtlil: str, top: str = "top") -> "Netlist":
        """From files of a synthesis."""
        with open(path) as file:
            return cls(json.load(file)["modules"][top], family, input_ports(rtlil))

    # Names ------------------------------------------------------------------------------------
    @cached_property
    def names(self) -> dict[int, Name]:
        """The declared name of each net bit that has one: its driver's, else a reader's port."""
        found: dict[int, Name] = {}
        ranks: dict[int, tuple[bool, int]] = {}
        for name, net in self._nets.items():
            attributes = net["attributes"]
            if "hdlname" in attributes:
                *scope, local = attributes["hdlname"].split()
            elif self._of_the_top(name, net):
                scope, local = [], name
            else:
                continue
            inside = (tuple(scope), local) not in self._inputs
            rank = (inside, len(scope) if inside else -len(scope))
            source = own_source(attributes.get("src", ""))
            offset = net.get("offset", 0)
            for index, bit in enumerate(net["bits"]):
                if isinstance(bit, int) and (bit not in ranks or ranks[bit] < rank):
                    ranks[bit] = rank
                    suffix = f"[{index + offset}]" if len(net["bits"]) > 1 else ""
                    found[bit] = Name(tuple(scope), local + suffix, source)
        return found

    def _of_the_top(self, name: str, net: dict) -> bool:
        """Whether the top module declares a net, and Yosys did not name it after cells."""
        own = "." not in name and not net["hide_name"] and "src" in net["attributes"]
        return own and not any(f"_{kind}_" in name for kind in self._types)

    def register_source(self, cell: dict) -> str:
        """Where a register is assigned; where that is not in the RTL (FSMs), where its module is.

        Of the signal's declaration if the register has lost its own.
        """
        found = own_source(cell["attributes"].get("src", ""))
        named = [self.names[b] for _, b in self.outputs(cell) if b in self.names]
        scope = tuple(cell["attributes"].get("scopename", "").split())
        if not scope and named:
            scope = named[0].scope
        return found or (named[0].source if named else "") or self._modules.get(scope, "")

    def outputs(self, cell: dict) -> Iterable[tuple[str, int]]:
        """(port, net bit) of what a cell drives."""
        for port, direction in cell["port_directions"].items():
            if direction != "input":
                yield from ((port, b) for b in cell["connections"].get(port, ()) if b not in _CONST)

    def inputs(self, cell: dict) -> Iterable[tuple[str, int]]:
        """(port, net bit) of what drives a cell."""
        for port, direction in cell["port_directions"].items():
            if direction == "input":
                yield from ((port, b) for b in cell["connections"].get(port, ()) if b not in _CONST)

    @cached_property
    def readers(self) -> dict[int, list[str]]:
        """Cells that read a net bit."""
        found: dict[int, list[str]] = {}
        for name, cell in self.cells.items():
            for _, bit in self.inputs(cell):
                found.setdefault(bit, []).append(name)
        return found

    # Blocks -----------------------------------------------------------------------------------
    @cached_property
    def blocks(self) -> dict[str, str]:
        """The block of each cell."""
        found: dict[str, str] = {}
        for name, cell in self.cells.items():
            if (scope := self._own_scope(name, cell)) is not None:
                found[name] = block_name(scope)
        for start in self.cells:
            stack = [start]
            on_the_way: set[str] = set()
            while stack:
                name = stack[-1]
                if name in found:
                    stack.pop()
                    continue
                sinks = [r for _, b in self.outputs(self.cells[name])
                         for r in self.readers.get(b, ())]  # fmt: skip
                missing = [s for s in sinks if s not in found and s not in on_the_way]
                if name not in on_the_way and missing:
                    on_the_way.add(name)
                    stack += missing
                    continue
                votes = Counter(found[s] for s in sinks if s in found)
                best = max(votes.values(), default=0)
                found[name] = min((b for b, n in votes.items() if n == best), default=OUTSIDE)
                stack.pop()
        return found

    def _own_scope(self, name: str, cell: dict) -> Scope | None:
        attributes = cell["attributes"]
        if "scopename" in attributes:
            return tuple(attributes["scopename"].split())
        cost = self.family.costs.get(cell["type"], {})
        if "brams" in cost or "lut_ram" in cost:
            memory = re.sub(r"(\.\d+)+$", "", name)
            return tuple(memory.split(".")[:-1])
        named = [self.names[b] for _, b in self.outputs(cell) if b in self.names]
        if named:
            return max(named, key=lambda n: len(n.scope)).scope
        if "hdlname" in attributes:
            return tuple(attributes["hdlname"].split()[:-1])
        return None

    def by_block(self) -> dict[str, Cost]:
        """Resources of each block that has any, the largest first."""
        found: dict[str, Cost] = {}
        for name, cell in self.cells.items():
            cost = self.family.costs.get(cell["type"])
            if cost:
                block = found.setdefault(self.blocks[name], dict.fromkeys(RESOURCES, 0))
                for resource, amount in cost.items():
                    block[resource] += amount
        return dict(sorted(found.items(), key=lambda item: -item[1]["luts"]))

    def total(self) -> Cost:
        """Resources of the whole, counted without blocks."""
        total = dict.fromkeys(RESOURCES, 0)
        types = Counter(cell["type"] for cell in self.cells.values())
        for kind, count in types.items():
            for resource, amount in self.family.costs.get(kind, {}).items():
                total[resource] += amount * count
        return total

    # Checks -----------------------------------------------------------------------------------
    def latches(self) -> list[str]:
        """Cells that are latches."""
        return [n for n, cell in self.cells.items() if cell["type"] in self.family.latches]

    def registered_multipliers(self) -> int:
        """Multipliers with a register inside on both operands and on the product."""
        needed = self.family.multiplier_registers
        return sum(
            all(cell["parameters"].get(p, "NONE") != "NONE" for p in needed)
            for cell in self.cells.values()
            if needed and "multipliers" in self.family.costs.get(cell["type"], {})
        )

    def _registered(self, cell: dict) -> bool:
        if cell["type"] in self.family.state:
            return True
        needed = self.family.multiplier_registers
        return "multipliers" in self.family.costs.get(cell["type"], {}) and any(
            cell["parameters"].get(p, "NONE") != "NONE" for p in needed
        )

    def loops(self) -> list[list[str]]:
        """Cells of each combinational loop (Tarjan's strongly connected components)."""
        following: dict[str, list[str]] = {
            n: [] for n, cell in self.cells.items() if not self._registered(cell)
        }
        readers: dict[int, set[str]] = {}
        for name in following:
            cell = self.cells[name]
            through = self.family.through.get(cell["type"])
            for port, bit in self.inputs(cell):
                if through is None or port in through:
                    readers.setdefault(bit, set()).add(name)
        for name, after in following.items():
            found = {r for _, b in self.outputs(self.cells[name]) for r in readers.get(b, ())}
            after += sorted(found)
        return strongly_connected(following)


_CONST = frozenset({"0", "1", "x", "z"})


def own_source(source: str) -> str:
    """The first location in the project's own RTL, else in a Python package, else ''."""
    places = source.split("|")
    python = [p for p in places if re.search(r"/.*\.py:\d", p)]
    own = [p for p in python if p.startswith(("hdl/", "fpga/"))]
    return (own or python or [""])[0]


def strongly_connected(following: dict[str, list[str]]) -> list[list[str]]:
    """Components of a graph with more than one node, or with an edge to itself."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found = []
    for root in following:
        if root in order:
            continue
        work = [(root, iter(following[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, edges = work[-1]
            for other in edges:
                if other not in order:
                    order[other] = low[other] = len(order)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(following[other])))
                    break
                if other in on_stack:
                    low[node] = min(low[node], order[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    component = []
                    while True:
                        top = stack.pop()
                        on_stack.discard(top)
                        component.append(top)
                        if top == node:
                            break
                    if len(component) > 1 or node in following[node]:
                        found.append(sorted(component))
    return found
