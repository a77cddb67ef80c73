"""A component as a model checker's file: And-Inverter Graph with bad states and constraints."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib.wiring import Component

from hdl.emit import ports_of

__all__ = ["Netlist", "aiger", "rtlil_text", "waves"]

CELL = re.compile(r"^  cell \$check \S+\n(?P<body>.*?)^  end\n", re.MULTILINE | re.DOTALL)

# Yosys runs in a process of its own: it prints, and ends its process on an error.
YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.stdin.read().splitlines():
    libyosys.run_pass(command, design)
"""


@dataclass(frozen=True)
class Netlist:
    """What the checkers read. ``properties``: message of each bad state, in the file's order."""

    folder: Path
    properties: list[str]


def rtlil_text(component: Component) -> str:
    """RTLIL of a component with ports named as in the benches; equal components, equal text."""
    return rtlil.convert(component, name="top", ports=ports_of(component, "__"), emit_src=False)


def _checks(text: str, covers: bool) -> tuple[str, list[str]]:
    """Amaranth's checks as Yosys's formal cells, named by number; their messages.

    A cover is an assertion that it does not happen.
    """
    messages: list[str] = []

    def one(match: re.Match[str]) -> str:
        body = match["body"]
        parameter = dict(re.findall(r'parameter \\(\w+) "(.*)"$', body, re.MULTILINE))
        wire = dict(re.findall(r"connect \\(\w+) (.*)$", body, re.MULTILINE))
        flavor = parameter["FLAVOR"]
        if flavor != "assume" and covers != (flavor == "cover"):
            return ""
        number = len(messages)
        messages.append(parameter["FORMAT"].replace("{{", "{").replace("}}", "}") or flavor)
        test, before = wire["A"], ""
        if flavor == "cover":
            before = f"  wire \\miss_{number}\n  cell $not \\not_{number}\n"
            before += "".join(f"    parameter \\{p}\n" for p in ("A_SIGNED 0", "A_WIDTH 1"))
            before += f"    parameter \\Y_WIDTH 1\n    connect \\A {test}\n"
            before += f"    connect \\Y \\miss_{number}\n  end\n"
            test = f"\\miss_{number}"
        kind = "$assume" if flavor == "assume" else "$assert"
        return (
            f"{before}  cell {kind} \\check_{number}\n"
            f"    connect \\A {test}\n    connect \\EN {wire['EN']}\n  end\n"
        )

    return CELL.sub(one, text), messages


def _yosys(script: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", YOSYS],
        input="\n".join(script),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"Yosys failed:\n{done.stdout[-3000:]}")
    return done.stdout


def _ports(text: str) -> str:
    """The top without outputs, each of which would count as a bad state, and with ``rst`` at 0."""
    start = text.index("module \\top\n")
    end = text.index("\nend\n", start)
    top = re.sub(r"(  wire width \d+) output \d+", r"\1", text[start:end])
    reset = re.compile(r"(  wire width 1) input \d+(  \\rst)$", re.MULTILINE)
    top, found = reset.subn(r"\1\2", top)
    if found:
        top += "\n  connect \\rst 1'0\n"
    return text[:start] + top + text[end:]


def aiger(text: str, folder: Path, *, covers: bool = False) -> Netlist:
    """Writes ``top.aig``, ``top.aim`` (names of inputs and latches) and ``top.il`` to a folder.

    It starts in the state after reset (``rst`` is 0). What has no initial value, the words of
    memories among it, starts with any. Assertions, or with ``covers`` the covers, are bad states.

    Parameters
    ----------
    text
        From :func:`rtlil_text`.

    Raises
    ------
    RuntimeError
        Yosys refused; the text has the end of its output.
    """
    text, messages = _checks(text, covers)
    text = _ports(text)
    (folder / "source.il").write_text(text)
    script = [
        "read_rtlil source.il",
        "hierarchy -top top",
        "proc",
        "flatten",
        "opt_clean",
        "memory_map -formal",
        "setundef -undriven -anyseq",
        "opt -full",
        "dffunmap",
        "check -assert",
        "write_rtlil top.il",
        "techmap",
        "setundef -anyseq",
        "aigmap",
        "opt_clean",
        "write_aiger -zinit -I -map top.aim -ywmap top.ywm top.aig",
    ]
    log = _yosys(script, folder)
    if not (folder / "top.aig").exists():
        raise RuntimeError(f"Yosys wrote nothing:\n{log[-3000:]}")
    names = json.loads((folder / "top.ywm").read_text())["asserts"]
    found = []
    for name in names:
        match = re.search(r"check_(\d+)", str(name))
        found.append(messages[int(match[1])] if match else str(name))
    return Netlist(folder, found)


def waves(folder: Path) -> str:
    """VCD of the counterexample ``cex.aiw`` that a checker left in a netlist's folder."""
    script = ["read_rtlil top.il", "sim -r cex.aiw -map top.aim -clock clk -vcd cex.vcd"]
    _yosys(script, folder)
    return (folder / "cex.vcd").read_text()
