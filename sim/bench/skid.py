"""Bench of the register slice: order, rate, nothing lost or doubled, clear."""

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from sim.bench import Coverage, Sink, Source, Stall, rng, start


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_stalls(dut):
    """Whatever the stalls, what comes out is what went in."""
    cover = Coverage("full", "passes a payload a cycle")
    await start(dut)
    draw = rng("payloads")
    source, sink = Source(dut, "i"), Sink(dut, "o")
    sent: list[int] = []
    for stalls in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.4)):
        source.stall, sink.stall = (Stall(rng(n), p) for n, p in zip("io", stalls, strict=True))
        before = len(sent)
        sent += [draw.getrandbits(8) for _ in range(300)]
        source.extend(sent[before:])
        while len(sink.values) < len(sent):
            await RisingEdge(dut.clk)
            cover.hit("full", int(dut.full.value))
        times = sink.times[before:]
        if stalls == (0.0, 0.0):
            assert times[-1] - times[0] == len(times) - 1, "a payload a cycle"
            cover.hit("passes a payload a cycle")
    assert sink.values == sent
    cover.assert_complete()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def clear(dut):
    """Both places are forgotten; what comes afterwards passes."""
    await start(dut)
    source = Source(dut, "i")
    dut.o__ready.value = 0
    source.extend([1, 2])
    await source.drained()
    await ClockCycles(dut.clk, 3)
    assert int(dut.full.value)
    assert int(dut.o__valid.value)
    dut.clear.value = 1
    await ClockCycles(dut.clk, 2)
    dut.clear.value = 0
    assert not int(dut.full.value)
    assert not int(dut.o__valid.value)
    after = Sink(dut, "o")
    source.send(3)
    while not after.values:
        await RisingEdge(dut.clk)
    assert after.values == [3]
