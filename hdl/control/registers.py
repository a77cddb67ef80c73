"""Host registers: the AXI4-Lite map of ``hdl.isa.HostRegister``."""

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.control.axi_lite import AXI4LiteSlave, axi4_lite_signature
from hdl.interfaces import ADDRESS_BITS, INDEX_BITS, READ_WINDOW_BITS
from hdl.isa import IDENTITY, Counter, Fault, HostRegister, Unit

__all__ = ["HostRegisters"]

VERSION = 1


class HostRegisters(wiring.Component):
    """Register file of the host, and the path to the counters.

    Members
    -------
    bus : In(axi4_lite_signature)
    doorbell, acknowledge, abort : Out(1)
        Pulses of CONTROL.
    moved : Out(1)
        Pulse: PROGRAM or the range of legal addresses was written.
    interrupt_enable : Out(1)
    program, descriptor, base, limit : Out(40)
        Byte addresses; stable while a step runs unless the host writes them.
    watchdog : Out(32)
    window : Out(READ_WINDOW_BITS)
    busy, done, faulted, ahead : In(1)
        STATUS.
    cause, detail, unit, index, address : In
        Fault record.
    counter_index : Out(7), counter_data : In(32)
        Read port of the counters, one cycle.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "bus": In(axi4_lite_signature()),
                "doorbell": Out(1),
                "acknowledge": Out(1),
                "abort": Out(1),
                "moved": Out(1),
                "interrupt_enable": Out(1),
                "program": Out(ADDRESS_BITS),
                "descriptor": Out(ADDRESS_BITS),
                "base": Out(ADDRESS_BITS),
                "limit": Out(ADDRESS_BITS),
                "watchdog": Out(32),
                "window": Out(READ_WINDOW_BITS),
                "busy": In(1),
                "done": In(1),
                "faulted": In(1),
                "ahead": In(1),
                "cause": In(Fault),
                "detail": In(32),
                "unit": In(Unit),
                "index": In(INDEX_BITS),
                "address": In(ADDRESS_BITS),
                "counter_index": Out(7),
                "counter_data": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        m.submodules.slave = slave = AXI4LiteSlave()
        connect(m, flipped(self.bus), slave.bus)

        read_write = {HostRegister.INTERRUPT_ENABLE: self.interrupt_enable}
        for name, register in (
            ("PROGRAM", self.program),
            ("DESCRIPTOR", self.descriptor),
            ("MEMORY_BASE", self.base),
            ("MEMORY_LIMIT", self.limit),
        ):
            read_write[HostRegister[f"{name}_LOW"]] = register[:32]
            read_write[HostRegister[f"{name}_HIGH"]] = register[32:]
        read_write[HostRegister.WATCHDOG] = self.watchdog
        read_write[HostRegister.READ_WINDOW] = self.window
        read_only: dict[HostRegister, Value] = {
            HostRegister.IDENTITY: Const(IDENTITY, 32),
            HostRegister.VERSION: Const(VERSION, 32),
            HostRegister.STATUS: Cat(self.busy, self.done, self.faulted, self.ahead),
            HostRegister.FAULT_CAUSE: Value.cast(self.cause),
            HostRegister.FAULT_DETAIL: self.detail,
            HostRegister.FAULT_UNIT: Value.cast(self.unit),
            HostRegister.FAULT_INDEX: self.index,
            HostRegister.FAULT_ADDRESS_LOW: self.address[:32],
            HostRegister.FAULT_ADDRESS_HIGH: self.address[32:],
            HostRegister.CONFIG_ARRAY: Const(
                c.rows | c.cols << 8 | c.port_bytes << 16 | c.lanes << 24, 32
            ),
            HostRegister.CONFIG_LIMITS: Const(c.row_capacity | c.max_head_dim << 16, 32),
        }

        m.d.sync += self.moved.eq(0)
        with m.Switch(slave.address):
            with m.Case(HostRegister.CONTROL.value):
                m.d.comb += slave.write_ok.eq(1)
                with m.If(slave.write):
                    m.d.comb += Cat(self.doorbell, self.acknowledge, self.abort).eq(
                        slave.write_data
                    )
            for register, target in read_write.items():
                with m.Case(register.value):
                    m.d.comb += slave.write_ok.eq(1)
                    with m.If(slave.write):
                        m.d.sync += target.eq(slave.write_data)
                        if register.name.startswith(("PROGRAM", "MEMORY")):
                            m.d.sync += self.moved.eq(1)

        counters = HostRegister.COUNTERS.value
        word = slave.read_address[2:9]
        is_counter = Signal()
        last = 2 * len(Counter)
        known, value = Signal(), Signal(32)
        m.d.comb += self.counter_index.eq(word)
        with m.If(slave.read):
            m.d.sync += [
                is_counter.eq(
                    (slave.read_address[9:] == counters >> 9)
                    & (word < last)
                    & (slave.read_address[:2] == 0)
                ),
                known.eq(0),
            ]
            with m.Switch(slave.read_address):
                for register, source in (read_only | read_write).items():
                    with m.Case(register.value):
                        m.d.sync += [known.eq(1), value.eq(source)]
        m.d.comb += [
            slave.read_ok.eq(known | is_counter),
            slave.read_data.eq(value),
        ]
        with m.If(is_counter):
            m.d.comb += slave.read_data.eq(self.counter_data)
        return m
