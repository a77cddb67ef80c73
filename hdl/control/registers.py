"""Host registers: the AXI4-Lite map of ``hdl.isa.HostRegister``."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
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
        Pulses of CONTROL, a cycle after the write.
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
    counter_index : Out(7), counter_data : In(32), counters_settled : In(1)
        Read port of the counters, two cycles; a read waits until they are settled.
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
                "counters_settled": In(1),
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

        # Which register is written, decoded in the cycle before the strobe
        orders = Cat(self.doorbell, self.acknowledge, self.abort)
        m.d.sync += [self.moved.eq(0), orders.eq(0)]
        writes = {
            register: Signal(name=f"write_{register.name.lower()}")
            for register in (HostRegister.CONTROL, *read_write)
        }
        m.d.sync += [flag.eq(slave.address == register.value) for register, flag in writes.items()]
        m.d.comb += slave.write_ok.eq(Cat(writes.values()).any())
        with m.If(slave.write):
            with m.If(writes[HostRegister.CONTROL]):
                m.d.sync += orders.eq(slave.write_data)
            for register, target in read_write.items():
                with m.If(writes[register]):
                    m.d.sync += target.eq(slave.write_data)
            moves = [
                flag
                for register, flag in writes.items()
                if register.name.startswith(("PROGRAM", "MEMORY"))
            ]
            m.d.sync += self.moved.eq(Cat(*moves).any())

        # Which one is read; its value; then the answer, from a counter when that may be relied on
        reads = {
            register: (Signal(name=f"read_{register.name.lower()}"), source)
            for register, source in (read_only | read_write).items()
        }
        step = Signal(3)  # cycles of the read, and it ends
        m.d.sync += step.eq(Mux(slave.read & ~slave.read_done, Cat(1, step[:2]), 0))
        counters = HostRegister.COUNTERS.value
        number = slave.read_address[2:9]
        is_counter, known, value = Signal(), Signal(), Signal(32)
        m.d.comb += self.counter_index.eq(number)
        m.d.sync += [
            flag.eq(slave.read_address == register.value) for register, (flag, _) in reads.items()
        ]
        m.d.sync += [
            is_counter.eq(
                (slave.read_address[9:] == counters >> 9)
                & (number < 2 * len(Counter))
                & (slave.read_address[:2] == 0)
            ),
            known.eq(Cat(flag for flag, _ in reads.values()).any() | is_counter),
        ]
        with m.If(is_counter):
            m.d.sync += value.eq(self.counter_data)
        with m.Else():
            terms = [
                Cat(source, Const(0, 32))[:32] & flag.replicate(32)
                for flag, source in reads.values()
            ]
            while len(terms) > 1:
                terms = [reduce(or_, terms[i : i + 4]) for i in range(0, len(terms), 4)]
            m.d.sync += value.eq(terms[0])
        m.d.comb += [
            slave.read_ok.eq(known),
            slave.read_data.eq(value),
            slave.read_done.eq(slave.read & step[2] & (~is_counter | self.counters_settled)),
        ]
        return m
