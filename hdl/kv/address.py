"""Byte address of a page: KV_BASE + page * KV_PAGE_BYTES, by shift and add."""

from amaranth import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS, model_layout

__all__ = ["PageAddress"]


class PageAddress(Component):
    """One page at a time; as many cycles as the page number has bits, and three.

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
        idle, over = Signal(init=1), Signal()  # `over`: the sum overflowed, a cycle old
        m.d.comb += [
            self.page.ready.eq(idle),
            self.address.payload.eq(total[:ADDRESS_BITS]),
        ]
        m.d.sync += over.eq(~idle & (over | total[-1] | (left[0] & addend[-1])))
        with m.If(idle):
            m.d.sync += [
                left.eq(self.page.payload),
                addend.eq(self.model.kv_page_bytes),
                total.eq(self.model.kv_base),
                idle.eq(~self.page.valid),
            ]
        with m.Else():
            m.d.sync += [
                left.eq(left >> 1),
                addend.eq((addend << 1) | (addend & 1 << ADDRESS_BITS)),
            ]
            with m.If(left[0]):
                m.d.sync += total.eq(total + addend)
        added = Signal()
        m.d.sync += added.eq(~idle & (left == 0))
        with m.If(self.address.valid):
            with m.If(self.address.ready):
                m.d.sync += [self.address.valid.eq(0), idle.eq(1), added.eq(0)]
        with m.Elif(added & over):
            m.d.sync += self.overflow.eq(1)
        with m.Elif(added):
            m.d.sync += self.address.valid.eq(1)
        return m
