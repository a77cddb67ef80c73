"""AXI4-Lite slave: one register access at a time."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["AXI4LiteSlave", "axi4_lite_signature"]

OKAY, SLVERR = 0, 2


def axi4_lite_signature(address_bits: int = 12) -> Signature:
    """AXI4-Lite, 32-bit data, from the master's side (standard names, lower case)."""
    return Signature(
        {
            "awaddr": Out(address_bits),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_bits),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


class AXI4LiteSlave(wiring.Component):
    """Turns AXI4-Lite into single-cycle register strobes.

    A write takes both its address and its data, in any order, then one cycle of ``write``; a read
    one cycle of ``read`` with the answer two cycles later. Partial strobes and unknown addresses
    answer SLVERR and write nothing.

    Members
    -------
    bus : In(axi4_lite_signature)
    address : Out(12)
        Byte address of the access, valid with ``write``; with ``read`` in ``read_address``.
    write, write_data : Out
        Strobe and value; ``write_ok`` must say in the same cycle whether the address is writable.
    read, read_address : Out
        Strobe and address; ``read_data`` and ``read_ok`` must stand in the next cycle.
    """

    def __init__(self):
        super().__init__(
            {
                "bus": In(axi4_lite_signature()),
                "address": Out(12),
                "write": Out(1),
                "write_data": Out(32),
                "write_ok": In(1),
                "read": Out(1),
                "read_address": Out(12),
                "read_data": In(32),
                "read_ok": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        have_address, have_data = Signal(), Signal()
        strobe = Signal(4)
        m.d.comb += [
            bus.awready.eq(~have_address),
            bus.wready.eq(~have_data),
            self.write.eq(have_address & have_data & ~bus.bvalid & strobe.all()),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [have_address.eq(1), self.address.eq(bus.awaddr)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [
                have_data.eq(1),
                self.write_data.eq(bus.wdata),
                strobe.eq(bus.wstrb),
            ]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(have_address & have_data & ~bus.bvalid):
            ok = self.write_ok & strobe.all()
            m.d.sync += [have_address.eq(0), have_data.eq(0), bus.bvalid.eq(1)]
            with m.If(ok):
                m.d.sync += bus.bresp.eq(OKAY)
            with m.Else():
                m.d.sync += bus.bresp.eq(SLVERR)

        waiting, answer = Signal(), Signal()  # read strobe given; data stands
        m.d.comb += bus.arready.eq(~waiting & ~answer & ~bus.rvalid)
        m.d.comb += self.read.eq(waiting)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [waiting.eq(1), self.read_address.eq(bus.araddr)]
        with m.If(waiting):
            m.d.sync += [waiting.eq(0), answer.eq(1)]
        with m.If(answer):
            m.d.sync += [answer.eq(0), bus.rvalid.eq(1), bus.rdata.eq(self.read_data)]
            with m.If(self.read_ok):
                m.d.sync += bus.rresp.eq(OKAY)
            with m.Else():
                m.d.sync += bus.rresp.eq(SLVERR)
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        return m
