"""The host link: from a serial line to memory and registers."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hdl.config import Config
from hdl.control.axi_lite import axi4_lite_signature
from hdl.link.access import WordAccess
from hdl.link.executor import Executor
from hdl.link.receiver import FrameReceiver
from hdl.link.transmitter import FrameTransmitter
from hdl.link.uart import UartReceiver, UartTransmitter
from hdl.memory.axi import axi4_signature

__all__ = ["Link"]


class Link(wiring.Component):
    """Executes a host's requests (docs/link.md) that come over a UART. Wiring only.

    Parameters
    ----------
    config
        Of the chip behind the link.
    clock_hz, baud
        Of ``sync`` and of the line.
    memory_bytes
        What the host is told of the memory.
    timeout_cycles
        As of ``FrameReceiver``.

    Members
    -------
    rx : In(1), tx : Out(1)
    memory : Out(axi4_signature(config))
    registers : Out(axi4_lite_signature())
    irq : In(1)
        Of the accelerator.
    busy : Out(1)
        A frame comes, is carried out or goes.
    dropped : Out(1)
        Pulse: a frame came that was damaged.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock_hz: int = 100_000_000,
        baud: int = 3_000_000,
        memory_bytes: int = 32 << 20,
        timeout_cycles: int = 1 << 22,
    ):
        self._config = config
        self._line = (clock_hz, baud)
        self._memory_bytes = memory_bytes
        self._timeout_cycles = timeout_cycles
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "memory": Out(axi4_signature(config)),
                "registers": Out(axi4_lite_signature()),
                "irq": In(1),
                "busy": Out(1),
                "dropped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart_receiver = uart_receiver = UartReceiver(*self._line)
        m.submodules.uart_transmitter = uart_transmitter = UartTransmitter(*self._line)
        m.submodules.receiver = receiver = FrameReceiver(self._timeout_cycles)
        m.submodules.transmitter = transmitter = FrameTransmitter()
        m.submodules.executor = executor = Executor(
            self._config, clock_hz=self._line[0], memory_bytes=self._memory_bytes
        )
        m.submodules.access = access = WordAccess(self._config)

        connect(m, receiver.o_bytes, executor.i_bytes)
        connect(m, executor.o_payload, transmitter.i_payload)
        connect(m, transmitter.o_bytes, uart_transmitter.i_bytes)
        connect(m, executor.access, access.access)
        connect(m, access.memory, flipped(self.memory))
        connect(m, access.registers, flipped(self.registers))
        m.d.comb += [
            uart_receiver.rx.eq(self.rx),
            self.tx.eq(uart_transmitter.tx),
            receiver.data.eq(uart_receiver.data),
            receiver.valid.eq(uart_receiver.valid),
            receiver.error.eq(uart_receiver.error),
            executor.irq.eq(self.irq),
            self.busy.eq(
                uart_receiver.busy | receiver.busy | executor.busy | ~uart_transmitter.i_bytes.ready
            ),
            self.dropped.eq(receiver.dropped),
        ]
        return m
