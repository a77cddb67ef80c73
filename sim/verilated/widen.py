"""Gives sums and products of signed values the width of a machine word.

A sum of 17 bits costs Verilator a mask where it is made and a sign extension where it is used, more
than the sum itself; in 32 bits it costs neither. The systolic array is made of such sums. A wire is
widened where that changes no bit that anyone reads: it is the exact (not truncated) sum or product
of signed operands, and is read as a signed value or by slices only.
"""

import re

from sim.verilated.verilog_text import IDENTIFIER

__all__ = ["widen"]

_OPERAND = rf"{IDENTIFIER}(?:\[\d+(?::\d+)?\])?|\d+'s?h[0-9a-f]+"
_ASSIGN = re.compile(
    rf"  assign ({IDENTIFIER}) = \$signed\(({_OPERAND})\) ([+*]) \$signed\(({_OPERAND})\);$"
)
_DECLARATION = re.compile(
    rf"  (?:wire|reg|input|output) (?:\[(\d+):0\] )?({IDENTIFIER})(?: = .*)?;$"
)
_SLICE = re.compile(r"\[(\d+)(?::(\d+))?\]$")
_WORD_BITS = 32


def widen(lines: list[str]) -> None:
    """Changes the declarations of such wires in the lines of one module."""
    declared: dict[str, tuple[int, int, bool]] = {}  # name: width, line, is a wire and no port
    candidates = {}
    for index, line in enumerate(lines):
        if match := _DECLARATION.match(line):
            name = match[2].strip()
            inner = line.startswith("  wire ") and name not in declared
            declared[name] = int(match[1] or 0) + 1, index, inner
        elif (match := _ASSIGN.match(line)) and match[1].strip() not in candidates:
            candidates[match[1].strip()] = match
    if not candidates:
        return

    exact = {}
    for name, match in candidates.items():
        left, right = (_width(match[i], declared) for i in (2, 4))
        width, _, inner = declared.get(name, (0, 0, False))
        if inner and left and right:
            need = left + right if match[3] == "*" else max(left, right) + 1
            if need <= width < _WORD_BITS:
                exact[name] = match
    if not exact:
        return
    read_otherwise = _read_otherwise(lines, set(exact))
    for name in exact.keys() - read_otherwise:
        width, index, _ = declared[name]
        lines[index] = lines[index].replace(f"[{width - 1}:0]", f"[{_WORD_BITS - 1}:0]", 1)


def _width(operand: str, declared: dict[str, tuple[int, int, bool]]) -> int:
    """Bits of an operand; 0 if that can't be told."""
    if "'" in operand:
        return int(operand.partition("'")[0])
    if match := _SLICE.search(operand):
        return int(match[1]) - int(match[2] or match[1]) + 1
    return declared.get(operand.strip(), (0, 0, False))[0]


def _read_otherwise(lines: list[str], names: set[str]) -> set[str]:
    """Names that occur in any other place than as `$signed(name)`, sliced, or assigned."""
    token = re.compile(rf"({IDENTIFIER})")
    found = set()
    for line in lines:
        if line.startswith(("  wire ", "  reg ")):
            continue
        for match in token.finditer(line):
            name = match[1].strip()
            if name not in names:
                continue
            before, after = line[: match.start()], line[match.end() :]
            if not (
                (before.endswith("$signed(") and after.startswith(")"))
                or after.startswith("[")
                or (before == "  assign " and after.startswith((" = ", "= ")))
            ):
                found.add(name)
    return found
