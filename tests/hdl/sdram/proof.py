"""The port on the chip's rules, for proofs: small counters and buffers, the logic as it is."""

import dataclasses

from amaranth.hdl import Assert, Assume, Cat, Cover, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, connect, flipped

from hdl.config import PRESETS, Config
from hdl.memory.axi import axi4_signature
from hdl.sdram import Command, SdramPort, SdramTiming
from hdl.sdram.scheduler import SdramScheduler
from hdl.sdram.segment import segment
from sim.board.sdram_rules import PADS, SdramRules

__all__ = ["CONFIG", "TIMING", "PortOnRules", "SchedulerOnRules"]

CONFIG = dataclasses.replace(PRESETS["tiny"], address_bits=24)

TIMING = SdramTiming(
    powerup_ns=60,
    init_refreshes=2,
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
    """An :class:`SdramPort` whose pads are watched by :class:`SdramRules`; DQ reads anything."""

    def __init__(
        self,
        config: Config = CONFIG,
        timing: SdramTiming = TIMING,
        chip: SdramTiming | None = None,
    ):
        self.config, self.timing, self.chip = config, timing, chip or timing
        super().__init__({"axi": In(axi4_signature(config)), "dq_i": In(16)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.port = port = SdramPort(
            self.config, self.timing, read_beats=4, write_beats=8
        )
        m.submodules.rules = rules = SdramRules(self.chip, longest=False)
        connect(m, flipped(self.axi), port.axi)
        for name in PADS:
            m.d.comb += getattr(rules, name).eq(getattr(port.pins, name))
        m.d.comb += port.pins.dq_i.eq(self.dq_i)
        # Bursts of up to 4 beats: a longer one would not fit into these buffers.
        axi = self.axi
        m.d.comb += [
            Assume(axi.arlen < 4),
            Assume(axi.awlen < 4),
        ]
        return m
