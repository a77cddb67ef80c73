"""Two masters of random traffic on one memory: data, order, bursts, fairness."""

import logging
import warnings
from itertools import pairwise

import cocotb
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiBus, AxiMaster, AxiProt, AxiResp

from sim.bench import Image, Stall, parameters, rng, start
from sim.bench.axi import AxiMemory

CONFIG = parameters()["config"]
SIZE = 1 << 15
WIDTH = CONFIG.port_bytes
SECURE = AxiProt(0)  # as our masters
STALLS = ((0.0, 1), (0.3, 1), (0.6, 15))


def pause(generator: Stall):
    while True:
        yield generator.step()


def master(dut, prefix: str, stall: float, run: float) -> AxiMaster:
    logging.getLogger(f"cocotb.top.{prefix}").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is written for cocotb 1
        made = AxiMaster(AxiBus.from_prefix(dut, prefix), dut.clk, dut.rst, max_burst_len=16)
    if stall:
        for part in (made.write_if, made.read_if):
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                if channel := getattr(part, name, None):
                    generator = Stall(rng(prefix, name, stall), stall, run)
                    channel.set_pause_generator(pause(generator))
    return made


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(stalls=STALLS)
async def random_traffic(dut, stalls):
    """Each master in its half of the memory, reads and writes at once."""
    stall, run = stalls
    await start(dut)
    image = Image(SIZE)
    image.data[:] = rng("image").randbytes(SIZE)
    memory = AxiMemory(
        dut,
        image,
        prefix="memory",
        latency=(1, 30),
        rng=rng("axi", stall),
        stall=stall,
        run=run,
    )
    memory.bad_reads = {SIZE // 2 + 64}
    model = bytearray(image.data)

    async def traffic(prefix: str, base: int):
        port, draw = master(dut, prefix, stall, run), rng(prefix, stall)
        for _ in range(40):
            length = WIDTH * draw.choice([1, 2, 16, draw.randrange(1, 150)])
            at = base + draw.randrange(0, SIZE // 2 - 4096, WIDTH)
            data = draw.randbytes(length)
            # Reads are under way while this master writes elsewhere and the other works.
            other = base + SIZE // 2 - 1024 + draw.randrange(0, 900, WIDTH)
            reading = cocotb.start_soon(port.read(other, 64, arid=0, prot=SECURE))
            result = await port.write(at, data, awid=0, prot=SECURE)
            assert result.resp is AxiResp.OKAY
            model[at : at + length] = data
            assert (await reading).data == bytes(model[other : other + 64])
            back = await port.read(at, length, arid=0, prot=SECURE)
            spoilt = any(at <= b < at + length for b in memory.bad_reads)
            assert (back.resp is AxiResp.OKAY) == (not spoilt)
            assert back.data == data

    tasks = [
        cocotb.start_soon(traffic(prefix, base)) for prefix, base in (("a_", 0), ("b_", SIZE // 2))
    ]
    for task in tasks:
        await task
    assert image.data == model


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def fair(dut):
    """Masters that both ask all the time get a burst each in turn, at the memory's full rate."""
    await start(dut)
    memory = AxiMemory(dut, Image(SIZE), prefix="memory", latency=12)
    beats = 8
    for prefix, address in (("a", 0), ("b", SIZE // 2)):
        for name, value in (
            ("araddr", address),
            ("arlen", beats - 1),
            ("arsize", WIDTH.bit_length() - 1),
            ("arburst", 1),
            ("arvalid", 1),
            ("rready", 1),
        ):
            getattr(dut, f"{prefix}__{name}").value = value
    await ClockCycles(dut.clk, 1000)
    bursts = memory.read_bursts
    turns = [b.address == 0 for b in bursts]
    assert all(x != y for x, y in pairwise(turns))
    assert memory.beats > 950, f"{memory.beats} beats in 1000 cycles"
