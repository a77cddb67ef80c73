"""Words of memory and registers, one at a time, over AXI4 and AXI4-Lite."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import ceil_log2

from hdl.config import Config
from hdl.control.axi_lite import axi4_lite_signature
from hdl.memory.axi import BURST_INCR, CACHE, axi4_signature

__all__ = ["WordAccess", "access_signature"]

REGISTER_BITS = 12


def access_signature() -> Signature:
    """From the side that asks. ``valid`` with its payload is held until ``done``.

    ``registers``: AXI4-Lite, not memory; ``address``: in bytes, a multiple of 4. ``done`` is high
    for the one cycle in which ``read_data`` and ``error`` (the bus answered so, or the address
    does not exist on it) stand.
    """
    return Signature(
        {
            "valid": Out(1),
            "registers": Out(1),
            "write": Out(1),
            "address": Out(32),
            "data": Out(32),
            "done": In(1),
            "error": In(1),
            "read_data": In(32),
        }
    )


class WordAccess(wiring.Component):
    """The bus master of the link.

    One word at a time, so it never holds a channel while it waits for the line: no host can stop
    the accelerator's traffic. A line of 3 Mbaud has a word in 1300 cycles.

    Members
    -------
    access : In(access_signature())
    memory : Out(axi4_signature(config))
        Single beats; of a wider port one word, by strobes.
    registers : Out(axi4_lite_signature())
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "access": In(access_signature()),
                "memory": Out(axi4_signature(config)),
                "registers": Out(axi4_lite_signature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, ask, memory, registers = self.config, self.access, self.memory, self.registers
        shift = ceil_log2(config.port_bytes)
        lane = ask.address[2:shift]
        for prefix in ("aw", "ar"):
            address = getattr(memory, f"{prefix}addr")
            m.d.comb += [
                address[shift:].eq(ask.address[shift : config.address_bits]),
                getattr(memory, f"{prefix}size").eq(shift),
                getattr(memory, f"{prefix}burst").eq(BURST_INCR),
                getattr(memory, f"{prefix}cache").eq(CACHE),
                getattr(registers, f"{prefix}addr").eq(ask.address),
            ]
        m.d.comb += [
            memory.wdata.eq(ask.data.replicate(config.port_bytes // 4)),
            memory.wstrb.eq(0xF << (lane << 2) if len(lane) else 0xF),
            memory.wlast.eq(1),
            registers.wdata.eq(ask.data),
            registers.wstrb.eq(0xF),
            memory.bready.eq(1),
            memory.rready.eq(1),
            registers.bready.eq(1),
            registers.rready.eq(1),
        ]
        exists = Signal()
        m.d.comb += exists.eq(
            Mux(
                ask.registers,
                ~ask.address[REGISTER_BITS:].any(),
                ~ask.address[config.address_bits :].any(),
            )
        )

        # Answers are taken into registers before anything looks at them: they come from afar.
        answered, wrong = Signal(), Signal()
        values = [Signal(len(bus.rdata)) for bus in (memory, registers)]
        m.d.sync += [
            answered.eq(Cat((bus.bvalid, bus.rvalid) for bus in (memory, registers)).any()),
            wrong.eq(
                Cat(
                    valid & (resp != 0)
                    for bus in (memory, registers)
                    for valid, resp in ((bus.bvalid, bus.bresp), (bus.rvalid, bus.rresp))
                ).any()
            ),
            *[value.eq(bus.rdata) for value, bus in zip(values, (memory, registers), strict=True)],
            ask.done.eq(0),
        ]
        for bus in (memory, registers):
            for channel in ("aw", "w", "ar"):
                valid = getattr(bus, f"{channel}valid")
                with m.If(valid & getattr(bus, f"{channel}ready")):
                    m.d.sync += valid.eq(0)
        with m.FSM():
            with m.State("IDLE"), m.If(ask.valid & ~ask.done):
                with m.If(~exists):
                    m.d.sync += [ask.done.eq(1), ask.error.eq(1)]
                with m.Else():
                    for bus, chosen in ((memory, ~ask.registers), (registers, ask.registers)):
                        m.d.sync += [
                            bus.awvalid.eq(chosen & ask.write),
                            bus.wvalid.eq(chosen & ask.write),
                            bus.arvalid.eq(chosen & ~ask.write),
                        ]
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(answered):
                    m.d.sync += [
                        ask.done.eq(1),
                        ask.error.eq(wrong),
                        ask.read_data.eq(
                            Mux(ask.registers, values[1], values[0].word_select(lane, 32))
                        ),
                    ]
                    m.next = "IDLE"
        return m
