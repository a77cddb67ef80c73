"""Verilog of one component, as the benches build it."""

from amaranth.hdl._ir import PortDirection  # 0.5 has no public name for it
from amaranth.lib.wiring import Component

from hdl.emit import emit_verilog, ports_of

__all__ = ["emit", "port_names"]

TOP = "top"
_SEPARATOR = "__"


def port_names(component: Component, *, inputs_only: bool = False) -> list[str]:
    """Names of the top-level ports, ``clk`` and ``rst`` not among them."""
    return [
        name
        for name, (_, direction) in ports_of(component, _SEPARATOR).items()
        if direction is PortDirection.Input or not inputs_only
    ]


def emit(component: Component, name: str = TOP) -> str:
    """Verilog with stable text (no source locations), ports flattened with ``__``."""
    return emit_verilog(component, name, separator=_SEPARATOR)
