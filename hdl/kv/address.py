"""Byte address of a page: KV_BASE + page * KV_PAGE_BYTES, by shift and add."""

from amaranth import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS, model_layout

__all__ = ["PageAddress"]


class PageAddress(Component):
    """One page at a time; as many cycles as the page number has bits, and two.

    A page of HEAD_BLOCKS >= 1 takes far longer to arrive, so one bit a cycle is fast enough.

    Members
    -------
    page
        Page number. ``ready`` means that no page is inside.
    address
        Its byte address.
    overflow
        The address does not fit; held until reset, no address comes out.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "model": In(model_layout()),
                "page": In(stream.Signature(24)),
                "address": Out(stream.Signature(ADDRESS_BITS)),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        left = Signal(24)  # bits of the page number that are not added yet
        addend = Signal(ADDRESS_BITS + 1)  # KV_PAGE_BYTES << bits done; top bit: it overflowed
        total = Signal(ADDRESS_BITS + 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.page.ready.eq(~self.overflow)
                m.d.sync += [
                    left.eq(self.page.payload),
                    addend.eq(self.model.kv_page_bytes),
                    total.eq(self.model.kv_base),
                ]
                with m.If(self.page.valid & self.page.ready):
                    m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += [
                    left.eq(left >> 1),
                    addend.eq((addend << 1) | (addend & 1 << ADDRESS_BITS)),
                ]
                with m.If(left[0]):
                    m.d.sync += total.eq(total + addend)
                with m.If(total[-1] | (left[0] & addend[-1])):
                    m.d.sync += self.overflow.eq(1)
                    m.next = "IDLE"
                with m.Elif(left == 0):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [
                    self.address.valid.eq(1),
                    self.address.payload.eq(total[:ADDRESS_BITS]),
                ]
                with m.If(self.address.ready):
                    m.next = "IDLE"
        return m
