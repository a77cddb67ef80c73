"""Moves combinational logic into the enable of the registers that it feeds.

A stage of a pipeline that stands still does nothing, but Verilator computes the wires in front of
its registers all the same, every cycle, and keeps them in memory. What only registers with one and
the same enable read is computed where they are written::

    assign w = f(a);                             always @(posedge clk) if (en) begin
    always @(posedge clk) if (en) q <= g(w);       w = f(a);
    always @(posedge clk) if (en) r <= h(w);       q <= g(w);  r <= h(w);
                                                 end

Nothing else may read such a wire: its value is old while the enable is low.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from sim.verilated.verilog_text import IDENTIFIER, TOKEN

__all__ = ["sink"]

_ASSIGN = re.compile(rf"  assign ({IDENTIFIER}) = (.*;)$")
_WIRE = re.compile(rf"  wire (?:\[\d+:\d+\] )?({IDENTIFIER});$")
_DECLARATION = re.compile(r"  (?:wire|reg|input|output|inout) |module ")
_IF = re.compile(r" *if \(.*\) begin$")
_ELSE = re.compile(r" *end else begin$")


@dataclass
class _Register:
    """A process that writes registers under a guard: lines ``first`` to ``last``.

    ``guard`` is its header and conditions; before each condition ``resets`` has what is written if
    a reset stands instead (one list a condition, empty for an enable). ``body`` is what is written.
    """

    first: int
    last: int
    guard: tuple[str, ...]
    resets: list[list[str]] = field(default_factory=list)
    body: list[str] = field(default_factory=list)


def sink(lines: list[str]) -> list[str]:
    """The lines of one module with such wires moved."""
    registers = {register.first: register for register in _registers(lines)}
    if not registers:
        return lines
    wires, assigned = _wires(lines)
    readers, uses = _readers(lines, registers, assigned)

    home: dict[str, tuple[str, ...] | None] = {}  # guard of all that reads a wire
    order = _readers_first(assigned, readers)
    for name in order:
        guards = {
            None
            if reader is None
            else home[reader]
            if isinstance(reader, str)
            else registers[reader].guard
            for reader in readers[name]
        }
        home[name] = guards.pop() if name in wires and len(guards) == 1 else None

    sunk: set[str] = set()
    for name in reversed(order):
        # A wire that is read once is written into its reader by Verilator itself.
        if home[name] is not None and (
            uses[name] > 1 or any(t in sunk for t in _tokens(_value(lines[assigned[name]])))
        ):
            sunk.add(name)
    return _moved(lines, registers, wires, assigned, readers, [w for w in order if w in sunk])


def _tokens(text: str) -> list[str]:
    return TOKEN.findall(text)


def _value(assign: str) -> str:
    return assign.partition(" = ")[2]


def _wires(lines: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Lines that declare wires that are no ports; lines that assign a whole signal, by name."""
    ports: set[str] = set()
    wires, assigned = {}, {}
    for index, line in enumerate(lines):
        if line.startswith(("  input ", "  output ", "  inout ")):
            ports.update(_tokens(line))
        elif match := _WIRE.match(line):
            wires[match[1].strip()] = index
        elif match := _ASSIGN.match(line):
            assigned[match[1].strip()] = index
    return {name: index for name, index in wires.items() if name not in ports}, assigned


def _registers(lines: list[str]) -> Iterator[_Register]:
    """Processes that are nothing but guarded writes, at least one guard an enable."""
    index = 0
    while index < len(lines):
        first = index
        index += 1
        if not (lines[first].startswith("  always @(posedge ") and lines[first].endswith("begin")):
            continue
        resets: list[list[str]] = []
        guard = [lines[first]]
        while _IF.match(lines[index]):
            guard.append(lines[index].strip())
            if _ELSE.match(lines[index + 2]) and " <= " in lines[index + 1]:
                resets.append([lines[index + 1]])
                index += 3
            else:
                resets.append([])
                index += 1
        body = []
        while " <= " in lines[index] and lines[index].endswith(";"):
            body.append(lines[index])
            index += 1
        while lines[index].startswith("   ") and lines[index].strip() == "end":
            index += 1
        if lines[index] == "  end" and body and not all(resets):
            yield _Register(first, index, tuple(guard), resets, body)


def _readers(
    lines: list[str], registers: dict[int, _Register], assigned: dict[str, int]
) -> tuple[dict[str, set[str | int | None]], Counter[str]]:
    """Who reads a signal: a wire's name, a register's first line, or None; and how often."""
    readers: dict[str, set[str | int | None]] = defaultdict(set)
    uses: Counter[str] = Counter()
    inside: _Register | None = None
    for index, line in enumerate(lines):
        if index in registers:
            inside = registers[index]
        reader: str | int | None = None
        text = line
        if inside is not None and line in inside.body:
            reader = inside.first
        elif (match := _ASSIGN.match(line)) and assigned[match[1].strip()] == index:
            reader, text = match[1].strip(), match[2]
        elif _DECLARATION.match(line):
            continue
        for token in _tokens(text):
            readers[token].add(reader)
            uses[token] += 1
        if inside is not None and index == inside.last:
            inside = None
    return readers, uses


def _readers_first(
    assigned: dict[str, int], readers: dict[str, set[str | int | None]]
) -> list[str]:
    """Assigned signals, each after all that read it; those in a loop are left out."""
    sources = defaultdict(list)
    waiting = {}
    for name in assigned:
        reading = [reader for reader in readers[name] if isinstance(reader, str)]
        waiting[name] = len(reading)
        for reader in reading:
            sources[reader].append(name)
    order = [name for name, count in waiting.items() if not count]
    for name in order:  # grows
        for source in sources[name]:
            waiting[source] -= 1
            if not waiting[source]:
                order.append(source)
    return order


def _moved(
    lines: list[str],
    registers: dict[int, _Register],
    wires: dict[str, int],
    assigned: dict[str, int],
    readers: dict[str, set[str | int | None]],
    sunk: list[str],
) -> list[str]:
    """``sunk``: wires to move, each after all that read it."""
    # Registers that share a wire become one process, no others: Verilator orders processes.
    together = {first: first for first in registers}

    def leader(first: int) -> int:
        while together[first] != first:
            first = together[first]
        return first

    reached: dict[str, int] = {}
    for name in sunk:
        # Every reader is a register of the guard, or a wire that is itself moved.
        found = {
            leader(reached[r] if isinstance(r, str) else r) for r in readers[name] if r is not None
        }
        reached[name] = min(found)
        for other in found:
            together[other] = reached[name]

    moved = defaultdict(list)
    for name in reversed(sunk):
        moved[leader(reached[name])].append(name)
    members = defaultdict(list)
    for first in registers:
        members[leader(first)].append(registers[first])

    result = list(lines)
    replaced: dict[int, list[str]] = {}
    gone: set[int] = set()
    for first, names in moved.items():
        for register in members[first]:
            gone.update(range(register.first, register.last + 1))
        writes = [lines[assigned[name]].replace("  assign ", "    ", 1) for name in names]
        replaced[first] = _process(members[first], writes)
        for name in names:
            gone.add(assigned[name])
            result[wires[name]] = lines[wires[name]].replace("  wire ", "  reg ", 1)
    text = []
    for index, line in enumerate(result):
        text += replaced.get(index, [])
        if index not in gone:
            text.append(line)
    return text


def _process(registers: list[_Register], writes: list[str]) -> list[str]:
    """One process that does what all the registers' processes did, after ``writes``."""
    header, *conditions = registers[0].guard
    text = [header]
    for level, condition in enumerate(conditions):
        text.append(f"    {condition}")
        if registers[0].resets[level]:
            text += [line for register in registers for line in register.resets[level]]
            text.append("    end else begin")
    text += writes
    text += [line for register in registers for line in register.body]
    return [*text, *["    end"] * len(conditions), "  end"]
