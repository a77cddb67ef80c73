"""The whole chip against the golden model: every byte of memory after every step."""

import logging
import random

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from compiler.compile import compile_checkpoint
from hdl.config import Config
from hdl.isa import Counter, DescriptorError, Fault, HostRegister, Unit
from runtime.chip import Progress
from runtime.device import Device, RowRequest
from runtime.golden_chip import GoldenChip
from runtime.pages import Sequence
from sim.bench import Coverage, Stall, parameters, rng, seed, start
from tests.models import random_checkpoint


class Recorder(GoldenChip):
    """A golden chip that keeps memory before and after every step."""

    def __init__(self, config: Config, memory: np.ndarray):
        super().__init__(config, memory)
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def run(self, program: int, descriptor: int, progress: Progress | None = None):
        before = self.memory.copy()
        super().run(program, descriptor, progress)
        self.steps.append((before, self.memory.copy()))
        return {}


def pause(generator: Stall):
    while True:
        yield generator.step()


class Chip:
    """The design between an AXI memory and a host."""

    def __init__(self, dut, size: int, stall: float):
        self.dut = dut
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi_"), dut.clk, dut.rst, size=size)
        self.bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil_"), dut.clk, dut.rst)
        for part in (self.ram.write_if, self.ram.read_if, self.bus.write_if, self.bus.read_if):
            part.log.setLevel(logging.WARNING)
        if stall:
            channels = [
                self.ram.write_if.aw_channel,
                self.ram.write_if.w_channel,
                self.ram.write_if.b_channel,
                self.ram.read_if.ar_channel,
                self.ram.read_if.r_channel,
            ]
            for i, channel in enumerate(channels):
                channel.set_pause_generator(pause(Stall(rng(f"stall{i}"), stall, 4)))

    async def write(self, register: HostRegister, value: int) -> None:
        await self.bus.write(register.value, value.to_bytes(4, "little"))

    async def read(self, address: int) -> int:
        return int.from_bytes((await self.bus.read(address, 4)).data, "little")

    async def begin(self, image, size: int) -> None:
        await start(self.dut)
        await self.write(HostRegister.PROGRAM_LOW, image.memory.program)
        await self.write(HostRegister.DESCRIPTOR_LOW, image.memory.descriptor)
        await self.write(HostRegister.MEMORY_LIMIT_LOW, size)
        await self.write(HostRegister.WATCHDOG, 20_000)
        await self.write(HostRegister.INTERRUPT_ENABLE, 1)

    async def step(self, cycles: int = 2_000_000) -> str:
        """Doorbell to interrupt: "" or the fault's text."""
        await self.write(HostRegister.CONTROL, 1)
        edge = RisingEdge(self.dut.irq)
        if not int(self.dut.irq.value):
            await edge
        status = await self.read(HostRegister.STATUS.value)
        await self.write(HostRegister.CONTROL, 2)
        if not status & 4:
            return ""
        cause = Fault(await self.read(HostRegister.FAULT_CAUSE.value))
        unit = Unit(await self.read(HostRegister.FAULT_UNIT.value))
        detail = await self.read(HostRegister.FAULT_DETAIL.value)
        index = await self.read(HostRegister.FAULT_INDEX.value)
        address = await self.read(HostRegister.FAULT_ADDRESS_LOW.value)
        name = DescriptorError(detail).name if cause is Fault.BAD_DESCRIPTOR else hex(detail)
        return f"{cause.name} unit {unit.name} instruction {index} detail {name} at {address:#x}"


def describe(image, found: np.ndarray, golden: np.ndarray, wrong: np.ndarray) -> str:
    """First difference in each region of the memory map."""
    map = image.manifest["memory"]
    sizes = ("size", "context", "kv_pages", "tape_block_tiles")
    starts = sorted((v, k) for k, v in map.items() if k not in sizes)
    lines = []
    for (low, name), (high, _) in zip(starts, [*starts[1:], (map["size"], "")], strict=True):
        there = wrong[(wrong >= low) & (wrong < high)]
        if len(there):
            at = int(there[0])
            lines.append(
                f"{name}: {len(there)} bytes differ, the first at +{at - low:#x}: {found[at]}, "
                f"golden {golden[at]}"
            )
    return "; ".join(lines)


def random_steps(device: Device, draw: random.Random, count: int) -> None:
    """Mixed steps: new sequences, chunks, decodes, rolled back and closed ones."""
    live: list[Sequence] = []
    for _ in range(count):
        room = device.rows
        requests = []
        if len(live) < 3 or draw.random() < 0.3:
            live.append(device.open_sequence())
        for sequence in draw.sample(live, len(live)):
            free = device.map.context - sequence.length
            if not room or not free or draw.random() < 0.2:
                continue
            n = draw.choice([1, 1, draw.randint(1, room)])
            n = min(n, room, free)
            room -= n
            tokens = [draw.randrange(device.vocab) for _ in range(n)]
            requests.append(RowRequest(sequence, tokens, draw.choice([0, 1, n])))
        if requests:
            device.step(requests, logits=draw.random() < 0.7)
        if live and draw.random() < 0.2:
            device.close_sequence(live.pop(draw.randrange(len(live))))
        elif live and draw.random() < 0.3:
            sequence = draw.choice(live)
            device.truncate(sequence, draw.randint(0, sequence.length))


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def mixed_steps(dut):
    """Random small model, random mixed steps, random stalls: memory equal to the last byte."""
    given = parameters()
    config: Config = given["config"]
    draw = rng("steps")
    checkpoint = random_checkpoint(seed(), **given["model"])
    image = compile_checkpoint(checkpoint, config, sequences=4)
    recorders: list[Recorder] = []

    def make(config: Config, memory: np.ndarray) -> Recorder:
        recorders.append(Recorder(config, memory))
        return recorders[-1]

    device = Device(image, make)
    random_steps(device, draw, given["steps"])
    chip = Chip(dut, device.memory.size, given["stall"])
    await chip.begin(image, device.memory.size)
    cover = Coverage("step")
    for i, (before, after) in enumerate(recorders[0].steps):
        chip.ram.write(0, before.tobytes())
        fault = await chip.step()
        assert not fault, f"step {i}: {fault}"
        found = np.frombuffer(chip.ram.read(0, after.size), np.uint8)
        wrong = np.flatnonzero(found != after)
        if len(wrong):
            raise AssertionError(f"step {i}: {describe(image, found, after, wrong)}")
        cycles = await chip.read(HostRegister.COUNTERS.value + 8 * Counter.CYCLES.value)
        dut._log.info("step %d of %d: %d cycles", i + 1, len(recorders[0].steps), cycles)
        cover.hit("step")
    cover.assert_complete()
