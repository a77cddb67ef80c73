"""Registers of equal content that synthesis keeps apart."""

from amaranth.hdl import Module, Signal, Value

__all__ = ["ATTRIBUTE", "replica"]

ATTRIBUTE = "replica"
"""Of the signal: the synthesis script keeps the registers of such signals (``fpga.script``)."""


def replica(m: Module, source: Value, name: str, init: int = 0) -> Signal:
    """``source``, a cycle late, in a register of its own.

    One register that thousands listen to stands far from most of them. Synthesis makes one of
    registers that hold the same; those with this attribute may each stand beside their own.
    """
    copy = Signal(len(source), name=name, init=init, attrs={ATTRIBUTE: 1})
    m.d.sync += copy.eq(source)
    return copy
