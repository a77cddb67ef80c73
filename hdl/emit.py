"""Verilog, or Yosys's RTLIL, of a component."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import Const, Value
from amaranth.hdl._ir import PortDirection  # 0.5 has no public name for it
from amaranth.lib.wiring import Component, In

__all__ = [
    "collisions_undefined",
    "emit_rtlil",
    "emit_verilog",
    "memories_without_zeros",
    "ports_of",
    "relative_sources",
    "without_sources",
]

_ROOT = Path(__file__).resolve().parent.parent
_SOURCE = re.compile(r"^\s*attribute \\src .*\n", re.MULTILINE)


def ports_of(component: Component, separator: str = "_") -> dict[str, tuple[Value, PortDirection]]:
    """Top-level ports by Verilog name; constant members (``always_ready`` ready) have none."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        if not isinstance(value, Const) and len(value):
            direction = PortDirection.Input if member.flow is In else PortDirection.Output
            ports[separator.join(map(str, path))] = (value, direction)
    return ports


@contextmanager
def memories_without_zeros() -> Iterator[None]:
    """Leaves out the initial contents of memories that start as zeros.

    Amaranth writes every bit of them: 22 million for `edge`, most of the time and text of the
    whole. No block reads a word that was never written, so nothing needs the zeros; simulators
    that know X show it if one does.
    """
    emit_memory = rtlil.ModuleEmitter.emit_memory

    def without(self, cell_idx, cell):
        if any(cell.init):
            emit_memory(self, cell_idx, cell)

    rtlil.ModuleEmitter.emit_memory = without
    try:
        yield
    finally:
        rtlil.ModuleEmitter.emit_memory = emit_memory


def emit_verilog(component: Component, name: str, *, separator: str = "_") -> str:
    """Verilog of a component and everything in it.

    Members are joined by ``separator`` (``m_axi_araddr``); one clock ``clk``, one synchronous reset
    ``rst``; a struct or array is one packed port, first field lowest. The text is stable: equal
    components give equal text.
    """
    with memories_without_zeros():
        return verilog.convert(
            component,
            name=name,
            ports=ports_of(component, separator),
            emit_src=False,
            strip_internal_attrs=True,
        )


def emit_rtlil(
    component: Component, name: str, *, separator: str = "_", platform: Any = None
) -> str:
    """RTLIL of a component and everything in it, for synthesis; ports as of ``emit_verilog``.

    Without source locations, with ``collisions_undefined``. ``platform``: Amaranth's, or anything
    with the ``get_*`` methods that replace parts.
    """
    with memories_without_zeros():
        text = rtlil.convert(
            component, name=name, platform=platform, ports=ports_of(component, separator)
        )
    return without_sources(collisions_undefined(relative_sources(text)))


def relative_sources(rtlil: str) -> str:
    """RTLIL with source paths from the repository's root, those of packages from their own."""
    rtlil = re.sub(r'(\\src "|\|)[^"|]*/(?:site-packages|python3\.\d+)/', r"\1", rtlil)
    return rtlil.replace(f"{_ROOT}/", "")


def without_sources(rtlil: str) -> str:
    """RTLIL without source locations: equal RTL, equal text."""
    return _SOURCE.sub("", rtlil)


def collisions_undefined(rtlil: str) -> str:
    """RTLIL in which reading a word while it is written gives anything, for marked memories.

    The mark is the attribute ``no_rw_check``; Amaranth's FIFOs count as marked, for they read no
    place before it is written and write none before it has been read. Yosys heeds the mark where it
    makes a read port itself, not for Amaranth's, which come with a mask that says that the old word
    is read; block RAM then gets registers and multiplexers that see to it.
    """
    lines = rtlil.split("\n")
    marked: set[str] = set()
    reader, is_marked, mask = "", False, 0
    for number, line in enumerate(lines):
        words = line.split()
        if words[:1] == ["module"]:
            marked = set()
        elif words[:2] == ["attribute", "\\no_rw_check"]:
            is_marked = words[2] != "0"
        elif words[:2] == ["attribute", "\\src"]:
            is_marked |= words[2].startswith('"amaranth/lib/fifo.py:')
        elif words[:1] in (["memory"], ["wire"], ["cell"]):
            if is_marked and words[0] == "memory":
                marked.add(words[-1])
            is_marked, reader = False, words[1] if words[0] == "cell" else ""
        elif reader == "$memrd_v2" and words[:2] == ["parameter", "\\MEMID"]:
            reader = words[2].strip('"').replace("\\\\", "\\")
        elif reader in marked and words[:2] == ["parameter", "\\COLLISION_X_MASK"]:
            mask = number
        elif reader in marked and words == ["parameter", "\\CLK_ENABLE", "1"]:
            head, _, bits = lines[mask].rpartition("'")
            lines[mask] = f"{head}'{'1' * len(bits)}"
    return "\n".join(lines)
