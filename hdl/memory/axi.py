"""AXI4 signals of the memory port (AMBA AXI4, ARM IHI 0022)."""

from amaranth.lib.wiring import In, Out, Signature

from hdl.config import Config

__all__ = ["BURST_INCR", "CACHE", "PAGE_BYTES", "axi4_signature"]

PAGE_BYTES = 4096
"""A burst may not cross a multiple of this (A3.4.1)."""

BURST_INCR = 0b01

CACHE = 0b0010
"""Normal, non-cacheable, non-bufferable: bursts may be resized, responses come from the memory."""


def axi4_signature(config: Config) -> Signature:
    """A manager's AXI4 port with the standard's lowercase names; one ID, always 0.

    Flattened with the prefix ``m_axi_`` it is the port any AXI4 interconnect knows.
    """

    def address(prefix: str) -> dict:
        return {
            f"{prefix}id": Out(1),
            f"{prefix}addr": Out(config.address_bits),
            f"{prefix}len": Out(8),  # beats - 1
            f"{prefix}size": Out(3),  # log2 of bytes a beat
            f"{prefix}burst": Out(2),
            f"{prefix}lock": Out(1),
            f"{prefix}cache": Out(4),
            f"{prefix}prot": Out(3),
            f"{prefix}valid": Out(1),
            f"{prefix}ready": In(1),
        }

    return Signature(
        {
            **address("aw"),
            "wdata": Out(config.port_bits),
            "wstrb": Out(config.port_bytes),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            **address("ar"),
            "rid": In(1),
            "rdata": In(config.port_bits),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )
