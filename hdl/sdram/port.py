"""The SDRAM behind an AXI4 port."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.memory.axi import axi4_signature
from hdl.sdram.buffers import ReadBuffer, WriteBuffer
from hdl.sdram.pads import SdramPads
from hdl.sdram.pins import sdram_signature
from hdl.sdram.requests import SdramRequests
from hdl.sdram.scheduler import SdramScheduler
from hdl.sdram.segment import tag
from hdl.sdram.timing import SdramTiming

__all__ = ["SdramPort"]

REPLIES = 8
"""Write responses that may wait for B."""


class SdramPort(wiring.Component):
    """Controller of a 16-bit SDRAM chip as an AXI4 subordinate of any width.

    Bursts are INCR of up to 256 beats of ``config.port_bytes``, within 4 KiB, little-endian, an
    unaligned address taken as its beat's; read and write bursts are each answered in order, a read
    sees every write that was answered before it was asked. Other bursts and addresses beyond
    ``timing.size_bytes`` get an error on every beat (:class:`~hdl.sdram.requests.SdramRequests`)
    and nothing is lost after them. Reads are taken as far as ``read_beats`` have room, so
    data never waits inside for ``rready``; a write runs when all its data has come.

    From AR to R at 100 MHz and 4 bytes: 18 cycles in an open row, 20 if it has to be opened, 24 if
    another of its bank is open. A word (4 bytes) comes every two cycles.

    Clock and pads
    --------------
    The chip gets the controller's clock late by a phase of 180 to 270 degrees, and all other
    signals go through registers in the I/O cells. Dates below are after a controller's edge, at
    100 MHz, phase 240 degrees (6.7 ns). Assumed for LFE5U-85F, speed 6, LVCMOS33, until
    measured on a board: register to pad 1.5 to 3.5 ns, the same for clock and data within 0.5 ns
    (both leave through I/O cells); pad to register 0.5 to 1.5 ns, set-up and hold included; board
    0.2 ns each way.

    ==========================  ====================================  ======================
    to the chip                 clock edge at 6.7 + pad, data at pad  has       needs
    ==========================  ====================================  ======================
    set-up (tDS, tAS, tCMS)     6.7 - 0.5                             6.2 ns    1.5 ns
    hold (tDH, tAH, tCMH)       3.3 - 0.5                             2.8 ns    1.0 ns
    ==========================  ====================================  ======================

    ==========================  ==============================================  ==============
    from the chip, taken at     READ at 0, chip's edge CL - 1 at 10 CL - 3.3
    10 (CL + 1) = 40 ns
    ==========================  ==============================================  ==============
    set-up, slow                26.7 + 3.5 + tAC 5.4 + 0.4 + 1.5 = 37.5 ns      2.5 ns left
    hold, fast                  36.7 + 1.5 + tOH 2.5 + 0.4 + 0.5 = 41.6 ns      1.6 ns left
    ==========================  ==============================================  ==============

    With an inverted clock (180 degrees) the same sum leaves 4.2 ns of set-up and -0.1 ns of hold:
    it runs on boards (LiteX's ULX3S target uses it at 100 MHz), but only because real parts are
    not all at their fast end. Data is taken at the same edge for all these phases.

    Looked at before writing this one: no SDRAM controller in Amaranth is on PyPI. amaram
    (GitHub) is for Amaranth 0.3, with FIFOs for a port, unfinished; litedram is Migen. The
    structure (a bank's row state beside an elastic command queue) is the common one.

    Parameters
    ----------
    config
        For the AXI4 port.
    timing
        Of the chip at the clock used.
    read_beats, write_beats
        Sizes of the buffers: powers of two, each over the longest burst (256 beats in AXI4).

    Members
    -------
    axi : In(axi4_signature(config))
    pins : Out(sdram_signature())
    ready : Out(1)
        The chip is initialised. What is asked before is answered after.

    Raises
    ------
    ValueError
        A port of less than 4 bytes, or buffers too small.
    """

    def __init__(
        self,
        config: Config,
        timing: SdramTiming | None = None,
        *,
        read_beats: int = 512,
        write_beats: int = 512,
    ):
        for name, beats in (("read_beats", read_beats), ("write_beats", write_beats)):
            if beats < 4 or beats & (beats - 1):
                raise ValueError(f"SdramPort: {name}={beats}, choose a power of two from 4")
        if config.port_bytes // 4 > 8:
            raise ValueError(f"SdramPort: port_bytes={config.port_bytes}, choose 4, 8, 16 or 32")
        self.config, self.timing = config, timing or SdramTiming()
        self._read_beats, self._write_beats = read_beats, write_beats
        super().__init__(
            {
                "axi": In(axi4_signature(config)),
                "pins": Out(sdram_signature()),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, timing = self.config, self.timing
        m.submodules.requests = requests = SdramRequests(
            config,
            timing,
            read_beats=self._read_beats,
            write_beats=self._write_beats,
            replies=REPLIES,
        )
        m.submodules.scheduler = scheduler = SdramScheduler(timing)
        m.submodules.reads = reads = ReadBuffer(config, beats=self._read_beats)
        m.submodules.writes = writes = WriteBuffer(config, beats=self._write_beats, replies=REPLIES)
        m.submodules.pads = pads = SdramPads()
        connect(m, requests.segments, scheduler.segments)
        connect(m, pads.pins, flipped(self.pins))

        owners: dict[str, Any] = {"a": requests, "w": writes, "b": writes, "r": reads}
        for name, member in self.axi.signature.members.items():
            owner = owners[name[0]]
            outer, inner = getattr(self.axi, name), getattr(owner.axi, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)

        m.d.comb += [
            requests.beat_taken.eq(reads.taken),
            requests.reply_taken.eq(writes.taken),
            requests.whole_write.eq(writes.whole),
            writes.phase.eq(scheduler.phase),
            writes.write.eq(scheduler.write),
            writes.tag.eq(scheduler.tag),
            self.ready.eq(scheduler.ready),
        ]

        # Out: the command stands a cycle after its decision, the pads a cycle later.
        command = scheduler.command.as_value()
        m.d.comb += [
            pads.inner.cke.eq(1),
            pads.inner.cs_n.eq(0),
            Cat(pads.inner.we_n, pads.inner.cas_n, pads.inner.ras_n).eq(command),
            pads.inner.ba.eq(scheduler.bank),
            pads.inner.a.eq(scheduler.address),
            pads.inner.dq_o.eq(writes.half),
            pads.inner.dq_oe.eq(writes.active),
            pads.inner.dqm.eq(Mux(writes.active, ~writes.strobe, Mux(scheduler.ready, 0b00, 0b11))),
        ]

        # In: decision, command, pads, CAS latency, input register, and the second half of the word.
        delay = timing.cas_latency + 4
        valid = Signal(delay)
        tags = [Signal(tag(), name=f"tag_{i}") for i in range(delay)]
        low = Signal(16)
        m.d.sync += [valid.eq(Cat(scheduler.read, valid)), low.eq(pads.inner.dq_i)]
        for earlier, later in zip([scheduler.tag, *tags], tags, strict=False):
            m.d.sync += later.eq(earlier)
        m.d.comb += [
            reads.valid.eq(valid[-1]),
            reads.tag.eq(tags[-1]),
            reads.word.eq(Cat(low, pads.inner.dq_i)),
        ]
        return m
