"""Rewrites the Verilog of `amaranth.back.verilog` into an equivalent form that Verilator runs fast.

Amaranth (through Yosys) emits a register as two processes::

    always @*             begin t = q; if (en) begin t = d; end if (rst) begin t = 0; end end
    always @(posedge clk) q <= t;

so every next-state function hangs combinationally on `rst`, a top-level input, and Verilator keeps
(and runs, twice a clock cycle) an input-sensitive copy of the whole design beside the clocked one.
Folded into one process, the model runs 2 to 3 times faster and its C++ is a quarter as long::

    always @(posedge clk) if (rst) q <= 0; else if (en) q <= d;

Assertions are brought into one form as well: checked at the rising clock edge, never in reset,
naming themselves. A combinational one would otherwise also see values that are still settling.

The text comes from a program, with one layout; what does not match that layout exactly is left as
it is, which is always correct, only slower.
"""

import re
from collections import Counter
from dataclasses import dataclass

from sim.verilated.sink import sink
from sim.verilated.verilog_text import IDENTIFIER, TOKEN
from sim.verilated.widen import widen

__all__ = ["prepare"]

_ATTRIBUTE = re.compile(r'\(\* src = "[^"]*" \*\) ?')
_ATTRIBUTE_LINE = re.compile(r"(?m)^ *\(\* .* \*\)\n")
_COMBINATIONAL = "  always @* begin"
_CLOCKED = re.compile(rf"  always @\(posedge ({IDENTIFIER})\)$")
_TRANSFER = re.compile(rf"    ({IDENTIFIER})(?:\[[\d:]+\])? <= ({IDENTIFIER});$")
_BLOCKING = re.compile(rf"\s*({IDENTIFIER})(\[[^\]]*\])? = [^;]*;$")
_WORD = re.compile(rf"    ({IDENTIFIER})\[(\d+)\] = (\d+'h\w+);$")
_CONDITION = re.compile(rf"    if \({IDENTIFIER}\) begin$")
_CHECK = re.compile(r"\s*(assert|assume) \((.*)\);$")


@dataclass
class _Block:
    """Lines `first` to `last` (inclusive) of a module: one `always` process."""

    first: int
    last: int


def prepare(verilog: str, top: str, *, waveforms: bool = False) -> str:
    """`verilog` with registers and memory contents folded, assertions clocked, attributes removed;
    signed sums widened and combinational logic moved into enables (`widen`, `sink`).

    Parameters: `verilog`: text from `amaranth.back.verilog.convert`; `top`: name of the top module,
    whose `clk` and `rst` time the assertions of modules that have no clock of their own;
    `waveforms`: leave every signal with its own width and value, at the price of speed.
    """
    head, *modules = re.split(r"(?m)^(?=module )", verilog)
    parts = [_ATTRIBUTE_LINE.sub("", head)]
    for text in modules:
        lines = _fold_contents(_ATTRIBUTE_LINE.sub("", text).split("\n"))
        if not waveforms:
            widen(lines)
        lines = _prepare_module(lines, top)
        parts.append("\n".join(lines if waveforms else sink(lines)))
    return "".join(parts)


def _prepare_module(lines: list[str], top: str) -> list[str]:
    blocks = _find_blocks(lines)
    clock, reset = _clock_and_reset(lines, top)
    replaced: dict[int, list[str]] = {}  # first line of a block -> its new lines
    dropped: set[int] = set()  # declarations no longer used
    last = {block.first: block.last for block in blocks}

    for block in blocks:
        body = lines[block.first : block.last + 1]
        if any(_CHECK.match(line) or " cover (" in line for line in body):
            replaced[block.first] = _clock_checks(body, lines, clock, reset)
    _fold_registers(lines, blocks, Counter(TOKEN.findall("\n".join(lines))), replaced, dropped)

    result: list[str] = []
    index = 0
    while index < len(lines):
        if index in replaced:
            result += replaced[index]
            index = last[index] + 1
        else:
            if index not in dropped:
                result.append(lines[index])
            index += 1
    return [_ATTRIBUTE.sub("", line) if "(* src" in line else line for line in result]


def _find_blocks(lines: list[str]) -> list[_Block]:
    """The `always` processes: a header at two spaces, everything deeper belongs to it."""
    blocks = []
    index = 0
    while index < len(lines):
        if lines[index].startswith("  always @"):
            last = index
            while lines[last + 1].startswith("    "):
                last += 1
            if lines[index].endswith(" begin") and lines[last + 1] == "  end":
                last += 1
            blocks.append(_Block(index, last))
            index = last
        index += 1
    return blocks


def _clock_and_reset(lines: list[str], top: str) -> tuple[str, str]:
    """Names of clock and reset in this module; a module without them reads the top's."""
    inputs = {line.strip() for line in lines if line.startswith("  input ")}
    return (
        "clk" if "input clk;" in inputs else f"{top}.clk",
        "rst" if "input rst;" in inputs else f"{top}.rst",
    )


# --- Memories ----------------------------------------------------------------------------------


def _fold_contents(lines: list[str]) -> list[str]:
    """Loops instead of runs of equal words in the initial contents of memories.

    A memory of zeros is a statement a word otherwise, in Verilog and in C++.
    """
    result: list[str] = []
    run: list[re.Match] = []

    def finish() -> None:
        if len(run) > 3:
            first, last, word = int(run[0][2]), int(run[-1][2]), run[0][3]
            loop = f"for (int i = {first}; i <= {last}; i = i + 1)"
            result.append(f"    {loop} {run[0][1]}[i] = {word};")
        else:
            result.extend(match[0] for match in run)
        run.clear()

    for line in lines:
        match = _WORD.match(line) if "] = " in line else None
        if run and (match is None or match[3] != run[0][3] or match[1] != run[0][1]):
            finish()
        if match is None:
            result.append(line)
        else:
            run.append(match)
    finish()
    return result


# --- Registers ---------------------------------------------------------------------------------


def _fold_registers(
    lines: list[str],
    blocks: list[_Block],
    uses: Counter[str],
    replaced: dict[int, list[str]],
    dropped: set[int],
) -> None:
    """Moves each next-state process into the process that clocks its result."""
    next_state: dict[str, list[_Block]] = {}
    for block in blocks:
        if lines[block.first] == _COMBINATIONAL and block.first not in replaced:
            targets = _assigned(lines[block.first + 1 : block.last])
            if targets is not None and len(set(targets)) == 1:
                next_state.setdefault(targets[0], []).append(block)
    declarations = {}
    for index, line in enumerate(lines):
        match = re.match(rf"  reg (?:\[\d+:\d+\] )?({IDENTIFIER});$", line)
        if match:
            declarations[match[1]] = index

    for block in blocks:
        if block.last != block.first + 1 or not _CLOCKED.match(lines[block.first]):
            continue
        transfer = _TRANSFER.match(lines[block.last])
        if transfer is None or len(next_state.get(transfer[2], [])) != 1:
            continue
        source = next_state[transfer[2]][0]
        body = lines[source.first + 1 : source.last]
        writes = _assigned(body)
        # One declaration, one transfer, and writes: nothing else reads the next state.
        if (
            writes is None
            or transfer[2] not in declarations
            or uses[transfer[2].strip()] != len(writes) + 2
        ):
            continue
        folded = _folded(lines[block.first], lines[block.last], transfer[2], body)
        replaced[block.first] = folded
        replaced[source.first] = []
        if not any(transfer[2] in line for line in folded):
            dropped.add(declarations[transfer[2]])


def _assigned(body: list[str]) -> list[str] | None:
    """The target of every blocking assignment; None if there is any other kind of statement."""
    targets = []
    for line in body:
        if line.endswith(";") and not line.endswith("/* empty */;"):
            match = _BLOCKING.match(line)
            if match is None:
                return None
            targets.append(match[1])
    return targets


def _folded(header: str, transfer: str, temporary: str, body: list[str]) -> list[str]:
    """One clocked process doing what `body`, then `transfer` at the clock edge, did."""
    register = transfer.strip().split(" <= ")[0]  # an escaped name keeps the space that ends it
    body = [line for line in body if "dump_module" not in line]

    def clocked(line: str) -> str:
        # Targets are the only uses of the temporary; one slice and one target in a line.
        match = _BLOCKING.match(line)
        if match is None:
            return line
        indent, _, tail = line.partition(match[1])
        return f"{indent}{register}{tail.replace(' = ', ' <= ', 1)}"

    resets: list[list[str]] = []
    while (
        len(body) > 3
        and body[-1] == "    end"
        and _CONDITION.match(body[-3])
        and (match := _BLOCKING.match(body[-2]))
        and not match[2]
        and re.search(r" = \d+'\w+;$", body[-2])
    ):
        # The last word: the same as a branch taken first, and then all registers read
        # `if (rst) ... else if (enable) ...`, which Verilator merges into one.
        resets.append(body[-3:-1])
        body = body[:-3]
    if register.endswith("]"):
        body = [*body, transfer]  # part of a signal: slices of a slice are not worth the trouble
    else:
        if body[0] == f"    {temporary} = {register};":
            body = body[1:]
        body = [clocked(line) for line in body]
    for condition, value in reversed(resets):
        body = [condition, clocked(value), "    end else begin", *body, "    end"]
    return [f"{header} begin", *body, "  end"]


# --- Assertions --------------------------------------------------------------------------------


def _clock_checks(body: list[str], module: list[str], clock: str, reset: str) -> list[str]:
    """The checks of one process: at the clock edge, outside reset, each with its message."""
    result = [body[0].replace("always @*", f"always @(posedge {clock})")]
    pending = ""  # arguments of the $write that belongs to the next check
    for index, line in enumerate(body[1:], 1):
        check = _CHECK.match(line)
        follower = body[index + 1].strip() if index + 1 < len(body) else ""
        if check is not None:
            message = pending or _as_message(check[2], module)
            indent = line[: len(line) - len(line.lstrip())]
            result.append(f"{indent}if (!{reset}) assert ({check[2]}) else $error({message});")
            pending = ""
        elif line.lstrip().startswith("if (!") and follower.startswith("$write("):
            pending = follower.removeprefix("$write(").removesuffix(");")
        elif not (pending and line.lstrip().startswith("$write(")) and " cover (" not in line:
            result.append(line)
    return result


def _as_message(condition: str, module: list[str]) -> str:
    """A quoted message for a check without one: its condition, and where it was written."""
    prefix = f"  assign {condition} = "
    text = next((line[len(prefix) : -1] for line in module if line.startswith(prefix)), condition)
    source = re.search(r'\(\* src = "([^"]*)" \*\)', text)
    text = _ATTRIBUTE.sub("", text)
    if source is not None:
        text += f" ({source[1].rpartition('/')[2]})"
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'
