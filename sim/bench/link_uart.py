"""UART receiver and transmitter, each against Python's other end."""

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from sim.bench import Coverage, Source, parameters, rng, start
from sim.bench.serial_line import Byte, LineDriver, LineMonitor

BIT = parameters()["bit_cycles"]


class Received:
    """What the receiver gives: bytes, and "error" for a lost one."""

    def __init__(self, dut):
        self.items: list[int | str] = []
        cocotb.start_soon(self._run(dut))

    async def _run(self, dut):
        while True:
            await RisingEdge(dut.clk)
            assert not (int(dut.valid.value) and int(dut.error.value))
            if int(dut.valid.value):
                self.items.append(int(dut.data.value))
            if int(dut.error.value):
                self.items.append("error")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def receives(dut):
    """Every byte, with and without gaps, from senders that are off by up to 2 %."""
    if not hasattr(dut, "rx"):
        return
    draw = rng("bytes")
    for skew in (1.0, 0.98, 1.02) if BIT > 8 else (1.0,):
        await start(dut, rx=1)
        got = Received(dut)
        line = LineDriver(dut, "rx", BIT * skew)
        data = [draw.randrange(256) for _ in range(60)]
        if skew == 1:
            data += range(256)
        line.send(Byte(b, gap=draw.choice([0, 0, 0.3, 1, 2.7])) for b in data)
        await line.drained()
        await ClockCycles(dut.clk, int(2 * BIT))
        assert got.items == data, f"skew {skew}"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def framing_errors(dut):
    """A low stop bit loses that byte alone; so does a line held low, once."""
    if not hasattr(dut, "rx"):
        return
    draw = rng("errors")
    cover = Coverage("good", "bad", "break", "spike")
    await start(dut, rx=1)
    got = Received(dut)
    line = LineDriver(dut, "rx", BIT)
    expected: list[int | str] = []
    for _ in range(120):
        kind = draw.choice(["good", "good", "bad", "break", "spike"])
        cover.hit(kind)
        value = draw.randrange(256)
        if kind == "good":
            line.send([Byte(value, gap=draw.choice([0, 1]))])
            expected.append(value)
        elif kind == "bad":
            line.send([Byte(value, stop=0, gap=1)])
            expected.append("error")
        await line.drained()
        await ClockCycles(dut.clk, draw.randrange(1, 4))
        if kind == "break":
            dut.rx.value = 0
            await ClockCycles(dut.clk, int(BIT * draw.randrange(11, 30)))
            dut.rx.value = 1
            await ClockCycles(dut.clk, int(3 * BIT))
            expected.append("error")
        elif kind == "spike":  # shorter than half a bit: no start bit
            dut.rx.value = 0
            await ClockCycles(dut.clk, max(1, int(BIT * 0.3)))
            dut.rx.value = 1
            await ClockCycles(dut.clk, int(2 * BIT))
    await line.drained()
    await ClockCycles(dut.clk, int(3 * BIT))
    assert got.items == expected
    cover.assert_complete()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def spikes_inside_bits(dut):
    """One wrong sample in a bit changes nothing."""
    if not hasattr(dut, "rx") or BIT < 16:
        return
    await start(dut, rx=1)
    got = Received(dut)
    draw = rng("spikes")
    data = [draw.randrange(256) for _ in range(50)]
    edge = RisingEdge(dut.clk)
    due = cycle = 0.0
    for value in data:
        for bit, level in enumerate([0, *(value >> i & 1 for i in range(8)), 1]):
            begin = cycle
            due += BIT
            # Not at the start bit's edge, which is what time is counted from.
            spike = draw.randrange(int(BIT * 0.3), int(BIT * 0.9))
            if bit == 9:  # after its middle a stop bit is over, and a low a start bit
                spike = int(BIT * 0.4)
            while cycle < due:
                dut.rx.value = level ^ int(cycle - begin == spike)
                await edge
                cycle += 1
    await ClockCycles(dut.clk, int(2 * BIT))
    assert got.items == data


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def transmits(dut):
    """Every byte, in its time: ten bits and at most a cycle more."""
    if not hasattr(dut, "tx"):
        return
    draw = rng("bytes")
    for stall in (0.0, 0.9):
        await start(dut)
        source = Source(dut, "i_bytes", rng=rng("gaps", stall), stall=stall, run=10 * BIT)
        line = LineMonitor(dut, "tx", BIT)
        data = [draw.randrange(256) for _ in range(60)]
        if not stall:
            data += range(256)
        source.extend(data)
        cycles = 0
        while len(line.data) < len(data):
            await RisingEdge(dut.clk)
            cycles += 1
        assert line.data == bytes(data)
        if not stall:
            assert cycles <= len(data) * (10 * BIT + 2), "bytes come too slowly"
