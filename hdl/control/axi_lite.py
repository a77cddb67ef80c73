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

    A write takes both its address and its data, in any order, then, after a cycle to decode them,
    one cycle of ``write``; a read holds ``read`` until ``read_done``. Partial strobes and unknown
    addresses answer SLVERR and write nothing.

    Members
    -------
    bus : In(axi4_lite_signature)
    address : Out(12)
        Byte address of a write, from the cycle before ``write`` on.
    write, write_data : Out
        Strobe and value; ``write_ok`` must say in the same cycle whether the address is writable.
    read, read_address : Out
        Level and address, until ``read_done``; in that cycle ``read_data`` and ``read_ok`` stand.
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
                "read_done": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        have_address, have_data = Signal(), Signal()
        strobe, whole = Signal(4), Signal()
        ripe = Signal()  # address and data stand for a cycle
        m.d.comb += [
            bus.awready.eq(~have_address),
            bus.wready.eq(~have_data),
            self.write.eq(ripe & whole),
        ]
        m.d.sync += [
            ripe.eq(have_address & have_data & ~bus.bvalid & ~ripe),
            whole.eq(strobe.all()),
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
        with m.If(ripe):
            m.d.sync += [have_address.eq(0), have_data.eq(0), bus.bvalid.eq(1)]
            with m.If(self.write_ok & whole):
                m.d.sync += bus.bresp.eq(OKAY)
            with m.Else():
                m.d.sync += bus.bresp.eq(SLVERR)

        m.d.comb += bus.arready.eq(~self.read & ~bus.rvalid)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [self.read.eq(1), self.read_address.eq(bus.araddr)]
        with m.If(self.read & self.read_done):
            m.d.sync += [self.read.eq(0), bus.rvalid.eq(1), bus.rdata.eq(self.read_data)]
            with m.If(self.read_ok):
                m.d.sync += bus.rresp.eq(OKAY)
            with m.Else():
                m.d.sync += bus.rresp.eq(SLVERR)
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        return m
