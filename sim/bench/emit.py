"""Verilog of one component, as the benches build it."""

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.lib.wiring import Component

__all__ = ["emit", "port_names"]

TOP = "top"


def _ports(component: Component) -> dict:
    """Top-level ports by Verilog name; constant members (``always_ready`` ready) have none."""
    from amaranth.hdl._ir import PortDirection  # 0.5 has no public name for it
    from amaranth.lib.wiring import In

    ports = {}
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        if not isinstance(value, Const) and len(value):
            direction = PortDirection.Input if member.flow is In else PortDirection.Output
            ports["__".join(map(str, path))] = (value, direction)
    return ports


def port_names(component: Component, *, inputs_only: bool = False) -> list[str]:
    """Names of the top-level ports, ``clk`` and ``rst`` not among them."""
    from amaranth.hdl._ir import PortDirection

    return [
        name
        for name, (_, direction) in _ports(component).items()
        if direction is PortDirection.Input or not inputs_only
    ]


def emit(component: Component, name: str = TOP) -> str:
    """Verilog with stable text (no source locations), ports flattened with ``__``.

    A struct or array payload is one packed port, first field lowest.
    """
    return verilog.convert(
        component,
        name=name,
        ports=_ports(component),
        emit_src=False,
        strip_internal_attrs=True,
    )
