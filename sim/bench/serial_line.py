"""The other end of a UART line, bit by bit."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import cocotb
from cocotb.triggers import RisingEdge

__all__ = ["Byte", "LineDriver", "LineMonitor"]


@dataclass(frozen=True)
class Byte:
    """A byte on the line: its stop bit, and idle bits after it."""

    value: int
    stop: int = 1
    gap: float = 0.0


class LineDriver:
    """Sends bytes on a port, a bit in ``bit_cycles`` (any fraction)."""

    def __init__(self, dut, port: str, bit_cycles: float):
        self._dut, self._line = dut, getattr(dut, port)
        self._bit = bit_cycles
        self._queue: deque[Byte] = deque()
        self._line.value = 1
        self.idle = True
        cocotb.start_soon(self._run())

    def send(self, data: Iterable[int | Byte]) -> None:
        self._queue.extend(b if isinstance(b, Byte) else Byte(b) for b in data)
        self.idle = False

    async def drained(self) -> None:
        while not self.idle:
            await RisingEdge(self._dut.clk)

    async def _run(self) -> None:
        edge = RisingEdge(self._dut.clk)
        cycle = due = 0.0
        while True:
            if not self._queue:
                self.idle = True
                await edge
                cycle += 1
                due = cycle
                continue
            byte = self._queue.popleft()
            bits = [0, *(byte.value >> i & 1 for i in range(8)), byte.stop]
            for level in bits:
                self._line.value = level
                due += self._bit
                while cycle < due:
                    await edge
                    cycle += 1
            if byte.gap or not byte.stop:
                self._line.value = 1
                due += (byte.gap or 1) * self._bit
                while cycle < due:
                    await edge
                    cycle += 1


class LineMonitor:
    """Bytes seen on a port, into ``data``; asserts that every stop bit is high."""

    def __init__(self, dut, port: str, bit_cycles: float):
        self._dut, self._line = dut, getattr(dut, port)
        self._bit = bit_cycles
        self.data = bytearray()
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self._dut.clk)
        while True:
            await edge
            if int(self._line.value):
                continue
            value, cycle = 0, 0
            for bit in range(10):
                middle = (bit + 0.5) * self._bit
                while cycle < int(middle):
                    await edge
                    cycle += 1
                level = int(self._line.value)
                if bit == 0:
                    assert level == 0, "start bit too short"
                elif bit == 9:
                    assert level == 1, "stop bit is low"
                else:
                    value |= level << (bit - 1)
            self.data.append(value)
