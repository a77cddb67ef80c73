"""KV pages in an on-chip memory, for chips whose `config.kv_on_chip_bytes` is not 0."""

from amaranth import Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS, model_layout, read_client, write_client
from hdl.isa import Fault
from hdl.kv.records import fault_report, log2_exact

__all__ = ["OnChipPages"]


class OnChipPages(Component):
    """A memory of ``kv_on_chip_bytes`` from byte address KV_BASE on, behind the clients' ports.

    Members
    -------
    pages
        Reads: a beat a cycle, 2 cycles after the request; requests back to back without a gap.
    writes
        Writes: a beat a cycle; ``done`` one cycle after the last beat, readable from then.
    fault
        BAD_ADDRESS: a beat outside the memory (address: its request's). Nothing is answered
        afterwards.

    A read of a beat in the cycle of its write gives the old data: the KV unit never does it.
    """

    def __init__(self, config: Config):
        if config.kv_on_chip_bytes % config.port_bytes or not config.kv_on_chip_bytes:
            raise ValueError(
                f"config {config.name!r}: kv_on_chip_bytes={config.kv_on_chip_bytes} must be a "
                f"multiple of port_bytes={config.port_bytes}, and not 0"
            )
        self._config = config
        super().__init__(
            {
                "model": In(model_layout()),
                "pages": In(read_client(config)),
                "writes": In(write_client(config)),
                "fault": Out(fault_report()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        beat_bits = log2_exact(config.port_bytes)
        depth = config.kv_on_chip_bytes // config.port_bytes
        m.submodules.memory = memory = Memory(shape=config.port_bits, depth=depth, init=[])
        load = memory.read_port()
        store = memory.write_port(granularity=8)
        fault = self.fault

        def cursor(request, step):
            """Follow a client's request beat by beat: word, running (and inside), last beat."""
            word = Signal(ADDRESS_BITS + 1 - beat_bits)  # below KV_BASE wraps far past the end
            left = Signal(9)
            start = Signal(ADDRESS_BITS)
            running = Signal()
            last = Signal()
            distance = (request.p.address - self.model.kv_base).as_unsigned()
            aligned = request.p.address[:beat_bits] == 0
            outside = word >= depth
            m.d.comb += [
                running.eq((left != 0) & ~outside & ~fault.valid),
                last.eq(left == 1),
                request.ready.eq(((left == 0) | (step & last)) & ~fault.valid),
            ]
            with m.If(step):
                m.d.sync += [word.eq(word + 1), left.eq(left - 1)]
            with m.If(request.valid & request.ready):
                m.d.sync += [
                    word.eq(Mux(aligned, distance >> beat_bits, -1)),
                    left.eq(request.p.beats),
                    start.eq(request.p.address),
                ]
            with m.If((left != 0) & outside & ~fault.valid):
                m.d.sync += [fault.valid.eq(1), fault.address.eq(start)]
            return word, running, last

        m.d.comb += fault.cause.eq(Fault.BAD_ADDRESS)

        reading = Signal()
        word, running, _ = cursor(self.pages.request, reading)
        m.d.comb += [
            reading.eq(running),
            load.addr.eq(word),
            self.pages.data.payload.eq(load.data),
        ]
        m.d.sync += self.pages.data.valid.eq(reading)

        writing = Signal()
        word, running, last = cursor(self.writes.request, writing)
        beat = self.writes.data
        m.d.comb += [
            beat.ready.eq(running),
            writing.eq(running & beat.valid),
            store.addr.eq(word),
            store.data.eq(beat.p.data),
            store.en.eq(Mux(writing, beat.p.strobe, 0)),
        ]
        m.d.sync += self.writes.done.eq(writing & last)
        return m
