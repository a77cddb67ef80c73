"""The chip in Amaranth's own simulator, with a memory: to measure that simulator, and to debug.

Everything happens in Python, a few hundred to a few thousand times slower than
`sim.verilated`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from time import process_time

import numpy as np
from amaranth.sim import Simulator

from hdl.accelerator import Accelerator
from hdl.config import Config
from hdl.isa import HostRegister

__all__ = ["PythonChip"]


class PythonChip:
    """An `Accelerator` that runs steps, and a memory that moves a beat a cycle each way.

    Parameters
    ----------
    config
    memory : uint8, shared with the caller
    seconds : CPU seconds of simulation, over all steps
    latency : of the memory, cycles

    Attributes
    ----------
    cycles : simulated so far
    """

    def __init__(self, config: Config, memory: np.ndarray, seconds: float, latency: int = 60):
        self._config = config
        self._memory = memory
        self._seconds = seconds
        self._latency = latency
        self.cycles = 0
        self._commands: deque[Iterator] = deque()
        self._chip = Accelerator(config)
        self._sim = Simulator(self._chip)
        self._sim.add_clock(1e-8)
        self._sim.add_testbench(self._read_channel, background=True)
        self._sim.add_testbench(self._write_channel, background=True)
        self._sim.add_testbench(self._host, background=True)
        self._busy = False
        self._status = 0

    def run(self, program: int, descriptor: int, progress: Callable[[int], None] | None = None):
        """One step, doorbell to done, no counters. `TimeoutError`; `RuntimeError` on a fault."""
        self._program, self._descriptor = program, descriptor
        self._busy = True
        start = process_time()
        while self._busy:
            for _ in range(10):
                self._sim.advance()
            if process_time() - start > self._seconds:
                raise TimeoutError(f"not done after {self.cycles} cycles")
        self._seconds -= process_time() - start
        if self._status & 4:
            raise RuntimeError("the chip stopped the step")
        return {}

    def close(self) -> None:
        """Nothing to give back."""

    # Host ---------------------------------------------------------------------------------------
    async def _host(self, ctx) -> None:
        bus = self._chip.s_axil

        async def write(register: HostRegister, value: int) -> None:
            ctx.set(bus.awaddr, register.value)
            ctx.set(bus.wdata, value)
            ctx.set(bus.wstrb, 0xF)
            ctx.set(bus.bready, 1)
            ctx.set(bus.awvalid, 1)
            ctx.set(bus.wvalid, 1)
            done = False
            while not done:
                address, data, done = await self._tick(ctx, bus.awready, bus.wready, bus.bvalid)
                if address:
                    ctx.set(bus.awvalid, 0)
                if data:
                    ctx.set(bus.wvalid, 0)

        async def read(register: HostRegister) -> int:
            ctx.set(bus.araddr, register.value)
            ctx.set(bus.arvalid, 1)
            ctx.set(bus.rready, 1)
            while True:
                taken, valid, data = await self._tick(ctx, bus.arready, bus.rvalid, bus.rdata)
                if taken:
                    ctx.set(bus.arvalid, 0)
                if valid:
                    return data

        await write(HostRegister.MEMORY_LIMIT_LOW, self._memory.size)
        await write(HostRegister.WATCHDOG, 1_000_000)
        await write(HostRegister.INTERRUPT_ENABLE, 1)
        while True:
            while not self._busy:
                await self._tick(ctx)
            await write(HostRegister.PROGRAM_LOW, self._program)
            await write(HostRegister.DESCRIPTOR_LOW, self._descriptor)
            await write(HostRegister.CONTROL, 1)
            while not (await self._tick(ctx, self._chip.irq))[0]:
                pass
            self._status = await read(HostRegister.STATUS)
            await write(HostRegister.CONTROL, 2)
            self._busy = False

    async def _tick(self, ctx, *values) -> tuple:
        """One cycle of the host; what the values were at its end."""
        _, _, *found = await ctx.tick().sample(*values)
        self.cycles += 1
        return tuple(found)

    # Memory -------------------------------------------------------------------------------------
    async def _read_channel(self, ctx) -> None:
        axi, width = self._chip.m_axi, self._config.port_bytes
        beats: deque[tuple[int, int, bool]] = deque()  # ready cycle, address, last
        cycle = 0
        ctx.set(axi.arready, 1)
        address_channel = (axi.arvalid, axi.araddr, axi.arlen)
        while True:
            _, _, valid, address, length, taken = await ctx.tick().sample(
                *address_channel, axi.rvalid & axi.rready
            )
            cycle += 1
            if taken:
                beats.popleft()
            if valid:
                word = address // width * width
                for i in range(length + 1):
                    beats.append((cycle + self._latency - 1, word + i * width, i == length))
            ready = bool(beats) and beats[0][0] <= cycle
            ctx.set(axi.rvalid, ready)
            if ready:
                _, address, last = beats[0]
                data = self._memory[address : address + width].tobytes()
                ctx.set(axi.rdata, int.from_bytes(data, "little"))
                ctx.set(axi.rlast, last)

    async def _write_channel(self, ctx) -> None:
        axi, width = self._chip.m_axi, self._config.port_bytes
        bursts: deque[int] = deque()  # addresses of their next beats
        answers: deque[int] = deque()  # cycles from which a response may come
        cycle = 0
        ctx.set(axi.awready, 1)
        while True:
            ctx.set(axi.wready, bool(bursts))
            ctx.set(axi.bvalid, bool(answers) and answers[0] <= cycle)
            _, _, start, address, beat, data, strobe, last, answered = await ctx.tick().sample(
                *(axi.awvalid, axi.awaddr, axi.wvalid & axi.wready, axi.wdata, axi.wstrb),
                *(axi.wlast, axi.bvalid & axi.bready),
            )
            cycle += 1
            if answered:
                answers.popleft()
            if beat:
                word = np.frombuffer(data.to_bytes(width, "little"), np.uint8)
                enabled = np.array([strobe >> i & 1 for i in range(width)], bool)
                here = self._memory[bursts[0] : bursts[0] + width]
                here[enabled] = word[enabled]
                bursts[0] += width
                if last:
                    bursts.popleft()
                    answers.append(cycle + self._latency)
            if start:
                bursts.append(address // width * width)
