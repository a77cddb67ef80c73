"""Two AXI4 masters on one slave."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from hdl.config import Config
from hdl.memory.axi import axi4_signature
from hdl.streams import SkidBuffer

__all__ = ["AxiArbiter"]


class AxiArbiter(wiring.Component):
    """Shares a memory between two masters, burst by burst, reads and writes on their own.

    In turn where both ask. All bursts have ID 0 and the slave answers in order, so who asked is
    remembered in order. An address is registered (one cycle), as are data to write, in a register
    slice; data read and responses pass through.

    Parameters
    ----------
    config
    outstanding
        Bursts of each kind under way at most; no more addresses are taken.

    Members
    -------
    a, b : In(axi4_signature(config))
        The masters.
    memory : Out(axi4_signature(config))
    """

    def __init__(self, config: Config, *, outstanding: int = 16):
        self.config = config
        self._outstanding = outstanding
        super().__init__(
            {
                "a": In(axi4_signature(config)),
                "b": In(axi4_signature(config)),
                "memory": Out(axi4_signature(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        masters, memory = (self.a, self.b), self.memory
        m.submodules.reads = reads = self._owners()
        m.submodules.writes = writes = self._owners()
        m.submodules.responses = responses = self._owners()

        self._addresses(m, "ar", [reads])
        self._addresses(m, "aw", [writes, responses])

        # The owner of the oldest read burst gets the beats.
        owner = reads.r_data
        m.d.comb += [
            memory.rready.eq(Mux(owner, self.b.rready, self.a.rready) & reads.r_rdy),
            reads.r_en.eq(memory.rvalid & memory.rready & memory.rlast),
        ]
        for number, master in enumerate(masters):
            m.d.comb += [
                master.rvalid.eq(memory.rvalid & reads.r_rdy & (owner == number)),
                Cat(master.rid, master.rdata, master.rresp, master.rlast).eq(
                    Cat(memory.rid, memory.rdata, memory.rresp, memory.rlast)
                ),
            ]

        owner = writes.r_data
        a_beat, b_beat, beat = (
            Cat(port.wlast, port.wdata, port.wstrb) for port in (self.a, self.b, memory)
        )
        m.submodules.beats = beats = SkidBuffer(len(beat))
        m.d.comb += [
            beats.i.valid.eq(Mux(owner, self.b.wvalid, self.a.wvalid) & writes.r_rdy),
            beats.i.payload.eq(Mux(owner, b_beat, a_beat)),
            writes.r_en.eq(beats.i.valid & beats.i.ready & beats.i.payload[0]),
            memory.wvalid.eq(beats.o.valid),
            beat.eq(beats.o.payload),
            beats.o.ready.eq(memory.wready),
        ]
        for number, master in enumerate(masters):
            m.d.comb += master.wready.eq(beats.i.ready & writes.r_rdy & (owner == number))

        owner = responses.r_data
        m.d.comb += [
            memory.bready.eq(Mux(owner, self.b.bready, self.a.bready) & responses.r_rdy),
            responses.r_en.eq(memory.bvalid & memory.bready),
        ]
        for number, master in enumerate(masters):
            m.d.comb += [
                master.bvalid.eq(memory.bvalid & responses.r_rdy & (owner == number)),
                Cat(master.bid, master.bresp).eq(Cat(memory.bid, memory.bresp)),
            ]
        return m

    def _owners(self) -> SyncFIFOBuffered:
        """Which master (0: a, 1: b) each burst under way belongs to."""
        return SyncFIFOBuffered(width=1, depth=self._outstanding)

    def _addresses(self, m, prefix: str, queues: list[SyncFIFOBuffered]) -> None:
        """One address channel: the masters' in turn, through a register."""
        names = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot")

        def wires(port):
            return Cat(getattr(port, prefix + name) for name in names)

        memory = self.memory
        out_valid, out_ready = (getattr(memory, prefix + n) for n in ("valid", "ready"))
        asks = [getattr(master, prefix + "valid") for master in (self.a, self.b)]
        last, chosen, free = Signal(), Signal(), Signal()
        m.d.comb += [
            chosen.eq(asks[1] & (~asks[0] | ~last)),
            free.eq((~out_valid | out_ready) & Cat(q.w_rdy for q in queues).all()),
        ]
        for number, master in enumerate((self.a, self.b)):
            m.d.comb += getattr(master, prefix + "ready").eq(free & (chosen == number))
        with m.If(out_ready):
            m.d.sync += out_valid.eq(0)
        with m.If(free & (asks[0] | asks[1])):
            m.d.sync += [
                out_valid.eq(1),
                wires(memory).eq(Mux(chosen, wires(self.b), wires(self.a))),
                last.eq(chosen),
            ]
            for q in queues:
                m.d.comb += q.w_en.eq(1)
        for q in queues:
            m.d.comb += q.w_data.eq(chosen)
