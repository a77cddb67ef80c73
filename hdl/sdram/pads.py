"""The registers beside the pads of the SDRAM."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.sdram.pins import sdram_signature

__all__ = ["SdramPads"]


class SdramPads(wiring.Component):
    """One register on every signal to and from the pads, and nothing between it and the pad.

    They belong into the I/O cells, so that all leave and enter at the same time after the clock. A
    platform with a method ``get_sdram_pads`` (as Amaranth's ``get_ff_sync``) gives what is built
    in its place; for all else it is plain registers.

    Members
    -------
    inner : In(sdram_signature())
        From the controller; ``dq_i`` is ``pins.dq_i`` of the cycle before.
    pins : Out(sdram_signature())
        To the pads: ``inner`` of the cycle before.
    """

    def __init__(self):
        super().__init__({"inner": In(sdram_signature()), "pins": Out(sdram_signature())})

    def elaborate(self, platform):
        if hasattr(platform, "get_sdram_pads"):
            return platform.get_sdram_pads(self)
        m = Module()
        for name, member in self.pins.signature.members.items():
            inner, pin = getattr(self.inner, name), getattr(self.pins, name)
            m.d.sync += pin.eq(inner) if member.flow is Out else inner.eq(pin)
        return m
