"""Verilog, or Yosys's RTLIL, of a component."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import Const, Value
from amaranth.hdl._ir import PortDirection  # 0.5 has no public name for it
from amaranth.lib.wiring import Component, In

__all__ = ["emit_rtlil", "emit_verilog", "memories_without_zeros", "ports_of"]


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

    ``platform``: Amaranth's, or anything with the ``get_*`` methods that replace parts.
    """
    with memories_without_zeros():
        return rtlil.convert(
            component,
            name=name,
            platform=platform,
            ports=ports_of(component, separator),
            emit_src=False,
        )
