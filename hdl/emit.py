"""Verilog of the whole chip, with standard AXI port names."""

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.lib.wiring import Component, In

__all__ = ["emit_verilog"]


def emit_verilog(component: Component, name: str) -> str:
    """Verilog of a component: members joined by one underscore (``m_axi_araddr``), one clock
    ``clk``, one synchronous reset ``rst``. The text is stable: equal chips give equal text.
    """
    from amaranth.hdl._ir import PortDirection  # 0.5 has no public name for it

    ports = {}
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        if not isinstance(value, Const) and len(value):
            direction = PortDirection.Input if member.flow is In else PortDirection.Output
            ports["_".join(map(str, path))] = (value, direction)
    return verilog.convert(
        component, name=name, ports=ports, emit_src=False, strip_internal_attrs=True
    )
