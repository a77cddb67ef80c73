"""Bench of the bench: runs on ``tests.sim.loopback.Loopback`` and checks the shared helpers."""

import cocotb
from cocotb.triggers import RisingEdge

from sim.bench import (
    Coverage,
    Image,
    Instructions,
    MemoryReader,
    MemoryWriter,
    Pulses,
    ReadPort,
    Semaphores,
    Sink,
    Source,
    UnitMonitor,
    WritePort,
    parameters,
    pulse,
    rng,
    start,
)
from tests.sim.loopback import ITEM


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def stream_under_stalls(dut):
    """Structs through a FIFO, both sides stalling."""
    await start(dut)
    draw = rng("data")
    source = Source(dut, "i_items", layout=ITEM, rng=rng("in"), stall=0.3, run=4)
    sink = Sink(dut, "o_items", layout=ITEM, rng=rng("out"), stall=0.3, run=4)
    cover = Coverage("stalled", "back to back")
    items = [
        {"tag": draw.randrange(255), "pair": [draw.randrange(-8, 8) for _ in range(2)]}
        for _ in range(300)
    ]
    source.extend(items)
    await sink.count(len(items))
    assert sink.values == items
    for early, late in zip(sink.times, sink.times[1:], strict=False):
        cover.hit("back to back" if late == early + 1 else "stalled")
    cover.assert_complete()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ports_and_pulses(dut):
    """A read port has one cycle of latency; writes and pulses are recorded."""
    await start(dut)
    table = [(37 * i + 11) & 0xFFFF for i in range(16)]
    ReadPort(dut, "table", table)
    written = WritePort(dut, "copy")
    pulses = Pulses(dut, "wrapped")
    await pulse(dut, "go", times=1)
    await pulses.reach(1)
    assert written.contents == dict(enumerate(table))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def memory_copy(dut):
    """Instructions copy memory through read_client and write_client under semaphores."""
    await start(dut)
    image = Image(4096, base=0x1000)
    draw = rng("image")
    image.write(0x1000, draw.randbytes(2048))
    reader = MemoryReader(dut, "memory", image, latency=(3, 30), rng=rng("r"), stall=0.3, run=3)
    writer = MemoryWriter(dut, "store", image, latency=(3, 30), rng=rng("w"), stall=0.3, run=3)
    monitor = UnitMonitor(dut)
    semaphores = Semaphores(dut, rng=rng("s"), stall=0.2)
    instructions = Instructions(dut, rng=rng("i"), stall=0.2)
    for i in range(8):
        instructions.issue(1 << (i % 8))
    for i in range(8):
        for _ in range(50):
            await RisingEdge(dut.clk)
        assert writer.done == i, "an instruction passed its semaphore"
        semaphores.give(1 << (i % 8))
        while writer.done == i:
            await RisingEdge(dut.clk)
    assert image.read(0x1800, 8 * 64) == image.read(0x1000, 8 * 64)
    assert reader.beats == 8 * 16
    assert monitor.busy > 8 * 16
    assert parameters()["purpose"] == "selftest"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def breaks_rtl_assertion(dut):
    """Only run on purpose: tag 255 is forbidden by an RTL assertion."""
    if not parameters().get("break"):
        return
    await start(dut)
    Source(dut, "i_items", layout=ITEM).send({"tag": 255, "pair": [0, 0]})
    for _ in range(10):
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def speed(dut):
    """Cycles per second with a source and a sink (figure only)."""
    import time

    await start(dut)
    source = Source(dut, "i_items", layout=ITEM)
    sink = Sink(dut, "o_items")
    number = parameters().get("speed", 100)
    source.extend(5 for _ in range(number))
    begin = time.perf_counter()
    await sink.count(number)
    dut._log.info("%.0f cycles/s", number / (time.perf_counter() - begin))
