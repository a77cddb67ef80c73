"""The chip's AXI4 master: every unit's way to memory."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.interfaces import (
    ADDRESS_BITS,
    READ_WINDOW_BITS,
    fault_signature,
    read_client,
    write_client,
)
from hdl.isa import Fault
from hdl.memory.axi import axi4_signature
from hdl.memory.read_channel import ReadChannel
from hdl.memory.write_channel import WriteChannel

__all__ = ["READERS", "WRITERS", "MemoryPort"]

READERS = ("descriptor", "program", "walk", "load", "pages", "tape")
"""Read clients, highest priority first."""

WRITERS = ("kv", "rows")


class MemoryPort(wiring.Component):
    """All memory traffic of the chip on one AXI4 port.

    See :class:`ReadChannel` and :class:`WriteChannel` for order, throughput and latency.

    Members
    -------
    descriptor, program, walk, load, pages, tape : In(read_client(config))
    kv, rows : In(write_client(config))
    <client>_beat : Out(1)
        Pulse: a beat read for the client, or taken from it.
    axi : Out(axi4_signature(config))
    base, limit : In(40)
        Legal byte addresses [base, limit); constant while anything is outstanding.
    window : In(READ_WINDOW_BITS)
        As in :class:`ReadChannel`.
    abort : In(1)
        Level: takes no request, issues nothing more, throws away read data, finishes announced
        writes with strobes of zero (but for a beat that was on its way in the first cycle), pulses
        no ``done``. Hold it until ``idle``, and reset the clients meanwhile.
    idle : Out(1)
        Nothing in hand or outstanding.
    fault : Out(fault_signature())
        BAD_ADDRESS (request outside the window or not aligned, with its address; nothing of it was
        issued), READ_ERROR (address of the beat), WRITE_ERROR (address of the burst). ``detail`` is
        the client's number (readers from 0, writers from 16), ``index`` 0. While it stands no new
        request is taken (but for one in its first cycle). Cleared by ``abort`` with ``idle``.
    """

    def __init__(
        self,
        config: Config,
        readers: tuple[str, ...] = READERS,
        writers: tuple[str, ...] = WRITERS,
    ):
        self.config = config
        self.readers = readers
        self.writers = writers
        super().__init__(
            {
                **{name: In(read_client(config)) for name in readers},
                **{name: In(write_client(config)) for name in writers},
                **{f"{name}_beat": Out(1) for name in (*readers, *writers)},
                "axi": Out(axi4_signature(config)),
                "base": In(ADDRESS_BITS),
                "limit": In(ADDRESS_BITS),
                "window": In(READ_WINDOW_BITS),
                "abort": In(1),
                "idle": Out(1),
                "fault": Out(fault_signature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.reads = reads = ReadChannel(self.config, self.readers)
        m.submodules.writes = writes = WriteChannel(self.config, self.writers)
        for channel, names in ((reads, self.readers), (writes, self.writers)):
            for name in names:
                connect(m, flipped(getattr(self, name)), getattr(channel, name))
                m.d.comb += getattr(self, f"{name}_beat").eq(getattr(channel, f"{name}_beat"))
            m.d.comb += [
                channel.base.eq(self.base),
                channel.limit.eq(self.limit),
                channel.abort.eq(self.abort),
                channel.hold.eq(self.fault.valid),
            ]
        for name, member in axi4_signature(self.config).members.items():
            channel = reads if name.startswith(("ar", "r")) else writes
            mine, theirs = getattr(self.axi, name), getattr(channel.axi, name)
            m.d.comb += mine.eq(theirs) if member.flow == Out else theirs.eq(mine)
        m.d.comb += reads.window.eq(self.window)
        m.d.comb += self.idle.eq(reads.idle & writes.idle)

        # (A bad request stays: that there is one is a cycle old.)
        bad_read, bad_write = Signal(), Signal()
        m.d.sync += [bad_read.eq(reads.bad), bad_write.eq(writes.bad)]
        events = (
            (reads.error, Fault.READ_ERROR, reads.error_address, reads.error_client),
            (writes.error, Fault.WRITE_ERROR, writes.error_address, 16 + writes.error_client),
            (bad_read, Fault.BAD_ADDRESS, reads.bad_address, reads.bad_client),
            (bad_write, Fault.BAD_ADDRESS, writes.bad_address, 16 + writes.bad_client),
        )
        with m.If(self.abort), m.If(self.idle):
            m.d.sync += self.fault.valid.eq(0)
        with m.Elif(~self.fault.valid):
            for happened, cause, address, client in reversed(events):
                with m.If(happened):
                    m.d.sync += [
                        self.fault.valid.eq(1),
                        self.fault.cause.eq(cause),
                        self.fault.address.eq(address),
                        self.fault.detail.eq(client),
                    ]
        return m
