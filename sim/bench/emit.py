"""Verilog of one component, as the benches build it."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import Const, Value
from amaranth.lib.wiring import Component, In

__all__ = ["emit", "port_names"]

TOP = "top"
_LOCK = threading.Lock()


def _ports(component: Component) -> dict[str, Any]:
    """Top-level ports by Verilog name; constant members (``always_ready`` ready) have none."""
    from amaranth.hdl._ir import PortDirection  # Amaranth 0.5 has no public name for it

    ports = {}
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        if not isinstance(value, Const) and len(value):
            direction = PortDirection.Input if member.flow is In else PortDirection.Output
            ports["__".join(map(str, path))] = (value, direction)
    return ports


def port_names(component: Component, *, inputs_only: bool = False) -> list[str]:
    """Names of the top-level ports, ``clk`` and ``rst`` not among them."""
    return [
        name
        for name, (_, direction) in _ports(component).items()
        if not inputs_only or direction.name == "Input"
    ]


@contextlib.contextmanager
def _no_zero_memories() -> Iterator[None]:
    """Leave out initial contents of memories that are all zero.

    Amaranth writes every bit and Yosys a line a word: 75 s for the activation memory of ``edge``.
    The chip needs no memory cleared, and Verilator clears it without being told.
    """
    emitter: Any = rtlil.ModuleEmitter
    original = emitter.emit_memory

    def emit_memory(self: Any, cell_idx: Any, cell: Any) -> None:
        if any(cell.init):
            original(self, cell_idx, cell)

    with _LOCK:
        emitter.emit_memory = emit_memory
        try:
            yield
        finally:
            emitter.emit_memory = original


def emit(component: Component, name: str = TOP) -> str:
    """Verilog with stable text (no source locations), ports flattened with ``__``.

    A struct or array payload is one packed port, first field lowest.
    """
    with _no_zero_memories():
        return verilog.convert(
            component,
            name=name,
            ports=_ports(component),
            emit_src=False,
            strip_internal_attrs=True,
        )
