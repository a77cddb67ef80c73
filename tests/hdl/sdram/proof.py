"""The port on the chip's rules, for proofs: small counters and buffers, the logic as it is."""

import dataclasses

from amaranth.hdl import Assert, Assume, Cat, Cover, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, connect, flipped

from hdl.config import PRESETS, Config
from hdl.memory.axi import BURST_INCR, axi4_signature
from hdl.sdram import AUTO_OR_ALL, Command, SdramPort, SdramTiming
from hdl.sdram.requests import DECERR, OKAY, SLVERR
from hdl.sdram.scheduler import SdramScheduler
from hdl.sdram.segment import segment
from sim.board.sdram_rules import PADS, SdramRules

__all__ = ["CONFIG", "TIMING", "PortOnRules", "SchedulerOnRules"]

CONFIG = dataclasses.replace(PRESETS["tiny"], address_bits=24)

TIMING = SdramTiming(
    powerup_ns=20,
    init_refreshes=1,
    refresh_ns=8e3,
    refreshes=16,
    postponed=2,
    row_bits=2,
    column_bits=3,
)
"""All waits as at 100 MHz; a refresh every 40 cycles, banks of 4 rows of 4 words."""


class SchedulerOnRules(wiring.Component):
    """The scheduler, asked for anything at any time; the pads as the port makes them of it."""

    def __init__(self, timing: SdramTiming = TIMING, chip: SdramTiming | None = None):
        self.timing, self.chip = timing, chip or timing
        super().__init__({"segments": In(stream.Signature(segment(timing)))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.scheduler = scheduler = SdramScheduler(self.timing)
        m.submodules.rules = rules = SdramRules(self.chip, longest=False)
        connect(m, flipped(self.segments), scheduler.segments)
        started = Signal()
        with m.If(~scheduler.phase):
            m.d.sync += rules.dq_oe.eq(scheduler.write)
        m.d.sync += started.eq(1)
        m.d.comb += [
            rules.cke.eq(started),
            Cat(rules.we_n, rules.cas_n, rules.ras_n).eq(scheduler.command.as_value()),
            rules.ba.eq(scheduler.bank),
            rules.a.eq(scheduler.address),
            rules.dqm.eq(~scheduler.ready.replicate(2)),
        ]
        return m


class PortOnRules(wiring.Component):
    """An :class:`SdramPort` whose pads are watched by :class:`SdramRules`; DQ reads anything.

    On the AXI side, anything that a manager may do: bursts of up to four beats (writes all of one
    length, any), reads and writes of any kind and place, every stall. Checked there: a stalled
    payload holds; a burst that is watched (any one) gets its beats, its id, its error or none, and
    RLAST; a write one response, after its last beat.
    """

    def __init__(
        self,
        config: Config = CONFIG,
        timing: SdramTiming = TIMING,
        chip: SdramTiming | None = None,
    ):
        self.config, self.timing, self.chip = config, timing, chip or timing
        super().__init__(
            {
                "axi": In(axi4_signature(config)),
                "dq_i": In(16),
                "watch": In(1),
                "length": In(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        m.submodules.port = port = SdramPort(self.config, self.timing, read_beats=4, write_beats=8)
        m.submodules.rules = rules = SdramRules(self.chip, longest=False)
        connect(m, flipped(axi), port.axi)
        for name in PADS:
            m.d.comb += getattr(rules, name).eq(getattr(port.pins, name))
        m.d.comb += port.pins.dq_i.eq(self.dq_i)

        ar, r = axi.arvalid & axi.arready, axi.rvalid & axi.rready
        aw, w, b = axi.awvalid & axi.awready, axi.wvalid & axi.wready, axi.bvalid & axi.bready

        # The manager. The first cycle chooses the length of all writes.
        started, length, beat = Signal(), Signal(2), Signal(2)
        m.d.sync += started.eq(1)
        with m.If(~started):
            m.d.sync += length.eq(self.length)
        with m.If(w):
            m.d.sync += beat.eq(Mux(axi.wlast, 0, beat + 1))
        m.d.comb += [
            Assume(axi.arlen < 4),
            Assume(axi.awlen == length),
            Assume(axi.wlast == (beat == length)),
            Assume(started | ~(axi.awvalid | axi.wvalid)),
        ]

        def held(name: str, valid, ready, *payload):
            """A payload that was not taken is shown again."""
            before = Signal(len(Cat(payload)), name=f"{name}_before")
            waits = Signal(name=f"{name}_waits")
            m.d.sync += [before.eq(Cat(payload)), waits.eq(valid & ~ready)]
            with m.If(waits):
                m.d.sync += [
                    Assert(valid, f"AXI: {name} withdrawn"),
                    Assert(Cat(payload) == before, f"AXI: {name} changed while stalled"),
                ]

        held("R", axi.rvalid, axi.rready, axi.rid, axi.rresp, axi.rlast)
        held("B", axi.bvalid, axi.bready, axi.bid, axi.bresp)

        def response(address, burst, size, prefix: str):
            """What a burst has to be answered."""
            want = Signal(2, name=f"{prefix}_want")
            m.d.comb += want.eq(Mux(address >= self.timing.size_bytes, DECERR, OKAY))
            with m.If((burst != BURST_INCR) | (size != 2)):
                m.d.comb += want.eq(SLVERR)
            return want

        # One burst of each kind is watched; those before it are counted.
        reads, writes, wholes = Signal(4), Signal(5), Signal(5)
        m.d.sync += [
            reads.eq(reads + ar - (r & axi.rlast)),
            writes.eq(writes + aw - b),
            wholes.eq(wholes + (w & axi.wlast) - b),
            Assert(~axi.rvalid | (reads != 0), "AXI: a read beat that nobody asked for"),
            Assert(~axi.bvalid | (writes != 0), "AXI: a write response without its burst"),
            Assert(~axi.bvalid | (wholes != 0), "AXI: a write response before its last beat"),
        ]
        watching, ahead, left = Signal(), Signal(4), Signal(8)
        ident, want = Signal(), Signal(2)
        mine = watching & (ahead == 0) & axi.rvalid
        with m.If(ar & self.watch & ~watching):
            m.d.sync += [
                watching.eq(1),
                ahead.eq(reads - (r & axi.rlast)),
                left.eq(axi.arlen),
                ident.eq(axi.arid),
                want.eq(response(axi.araddr, axi.arburst, axi.arsize, "ar")),
            ]
        with m.If(mine):
            m.d.sync += [
                Assert(axi.rlast == (left == 0), "AXI: RLAST with the last beat, and only then"),
                Assert(axi.rid == ident, "AXI: RID"),
                Assert(axi.rresp == want, "AXI: RRESP"),
            ]
            with m.If(r):
                m.d.sync += [left.eq(left - 1), watching.eq(~axi.rlast)]
        with m.Elif(watching & r & axi.rlast):
            m.d.sync += ahead.eq(ahead - 1)

        watching, ahead = Signal(name="w_watching"), Signal(5, name="w_ahead")
        ident, want = Signal(name="w_ident"), Signal(2, name="w_want")
        with m.If(aw & self.watch & ~watching):
            m.d.sync += [
                watching.eq(1),
                ahead.eq(writes - b),
                ident.eq(axi.awid),
                want.eq(response(axi.awaddr, axi.awburst, axi.awsize, "aw")),
            ]
        with m.If(watching & (ahead == 0) & axi.bvalid):
            m.d.sync += [
                Assert(axi.bid == ident, "AXI: BID"),
                Assert(axi.bresp == want, "AXI: BRESP"),
                watching.eq(~b),
            ]
        with m.Elif(watching & b):
            m.d.sync += ahead.eq(ahead - 1)

        # What has to be possible.
        seen = {kind: Signal(2, name=f"seen_{kind.name.lower()}") for kind in Command}
        command = Cat(rules.we_n, rules.cas_n, rules.ras_n)
        for kind, count in seen.items():
            with m.If((command == kind) & (count != 3)):
                m.d.sync += count.eq(count + 1)
        started_up = seen[Command.MODE] != 0
        refreshed = Signal()
        with m.If(started_up & (command == Command.REFRESH)):
            m.d.sync += refreshed.eq(1)
        m.d.comb += [
            Cover(r & axi.rlast & (axi.rresp == OKAY), "a read is answered"),
            Cover(r & axi.rlast & (axi.rresp == DECERR), "a read is answered DECERR"),
            Cover(b & (axi.bresp == OKAY), "a write is answered"),
            Cover(b & (axi.bresp == SLVERR), "a write is answered SLVERR"),
            Cover(refreshed & r, "a read after a refresh"),
            Cover(refreshed & b, "a write after a refresh"),
            Cover(
                (seen[Command.ACTIVATE] == 2) & (seen[Command.READ] == 2), "two rows and two reads"
            ),
            Cover(
                started_up
                & (command == Command.PRECHARGE)
                & ~rules.a[AUTO_OR_ALL]
                & (seen[Command.WRITE] != 0),
                "a bank is closed for another row",
            ),
        ]
        return m
