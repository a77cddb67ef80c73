"""Bench of the memory port: data, order, burst rules, faults, abort, bandwidth."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from hdl.isa import Fault
from hdl.memory import READERS, WRITERS
from sim.bench import (
    Coverage,
    Image,
    Pulses,
    Sink,
    Source,
    parameters,
    rng,
    start,
)
from sim.bench.axi import AxiMemory
from sim.bench.memory import REQUEST

BASE, SIZE = 0x10000, 1 << 16
CONFIG = parameters()["config"]
WIDTH = CONFIG.port_bytes
STALLS = ((0.0, 1), (0.3, 1), (0.6, 4), (0.8, 20))


class Reader:
    """A read client: keeps what it asked for, checks what comes."""

    def __init__(self, dut, name: str, image: Image, **stalls):
        self.image = image
        self.request: Source = Source(dut, f"{name}__request", layout=REQUEST, **stalls)
        self.data = Sink(dut, f"{name}__data")
        self.beats = Pulses(dut, f"{name}_beat")
        self.expected: list[int] = []

    def ask(self, address: int, beats: int) -> None:
        self.request.send({"address": address, "beats": beats})
        for i in range(beats):
            word = self.image.read(address + i * WIDTH, WIDTH)
            self.expected.append(int.from_bytes(word, "little"))

    async def finish(self) -> None:
        await self.data.count(len(self.expected))
        assert self.data.values == self.expected
        assert self.beats.count >= len(self.expected) - 1  # the pulse monitor may lag this edge


class Writer:
    """A write client; what it writes also goes to ``model``."""

    def __init__(self, dut, name: str, model: Image, **stalls):
        self.model = model
        self.request: Source = Source(dut, f"{name}__request", layout=REQUEST, **stalls)
        self.data = Source(dut, f"{name}__data", **stalls)
        self.done = Pulses(dut, f"{name}__done")
        self.beats = Pulses(dut, f"{name}_beat")
        self.asked = 0

    def put(self, address: int, words: Sequence[tuple[int, int]]) -> None:
        self.request.send({"address": address, "beats": len(words)})
        self.asked += 1
        for i, (word, strobe) in enumerate(words):
            self.data.send(word | strobe << 8 * WIDTH)
            self.model.write(address + i * WIDTH, word.to_bytes(WIDTH, "little"), strobe)

    async def finish(self) -> None:
        await self.done.reach(self.asked)


async def begin(dut, **memory):
    await start(dut, base=BASE, limit=BASE + SIZE)
    image = Image(SIZE, BASE)
    image.write(BASE, rng("image").randbytes(SIZE))
    return image, AxiMemory(dut, image, **memory) if memory else None


def clients_of(readers: list[Reader], writers: list[Writer]) -> list[Any]:
    return [*readers, *writers]


def random_words(draw, beats: int, holes: float = 0.4) -> list[tuple[int, int]]:
    full = (1 << WIDTH) - 1
    return [
        (draw.getrandbits(8 * WIDTH), draw.getrandbits(WIDTH) if draw.random() < holes else full)
        for _ in range(beats)
    ]


def random_place(draw, low: int, high: int, beats: int) -> int:
    """A beat address in [low, high) for ``beats``, often next to a 4 KiB boundary."""
    if draw.random() < 0.4:
        near = draw.randrange(low, high, 4096) & ~4095
        address = near + WIDTH * draw.randrange(-beats, 3)
    else:
        address = draw.randrange(low, high, WIDTH)
    return min(max(address, low), high - beats * WIDTH) // WIDTH * WIDTH


def random_beats(draw) -> int:
    return draw.choice((1, 2, 3, draw.randint(1, 256), CONFIG.burst_beats, 256))


def load(readers: list[Reader], writers: list[Writer], draw, requests: int) -> None:
    """Random work. Readers read the lower half of memory, writers have a quarter each."""
    for reader in readers:
        for _ in range(requests):
            beats = random_beats(draw)
            reader.ask(random_place(draw, BASE, BASE + SIZE // 2, beats), beats)
    for i, writer in enumerate(writers):
        low = BASE + SIZE // 2 + i * SIZE // 4
        for _ in range(requests):
            beats = random_beats(draw)
            writer.put(random_place(draw, low, low + SIZE // 4, beats), random_words(draw, beats))


def check_bursts(cover: Coverage, memory: AxiMemory) -> None:
    for burst in memory.read_bursts + memory.write_bursts:
        assert burst.beats <= CONFIG.burst_beats
        end = burst.address + burst.beats * WIDTH
        cover.hit("longest burst", burst.beats == CONFIG.burst_beats)
        cover.hit("one beat", burst.beats == 1)
        cover.hit("ends at 4 KiB", end % 4096 == 0)
        cover.hit("starts at 4 KiB", burst.address % 4096 == 0)
        cover.hit("first beat of the window", burst.address == BASE)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_traffic(dut):
    """All clients at once under stalls of every kind: data, order, done, burst rules."""
    cover = Coverage(
        "longest burst", "one beat", "ends at 4 KiB", "starts at 4 KiB", "first beat of the window"
    )
    for stall, run in STALLS:
        image, memory = await begin(
            dut, latency=(1, 40), rng=rng("axi", stall), stall=stall, run=run
        )
        model = Image(SIZE, BASE)
        model.data[:] = image.data
        draw = rng("traffic", stall)
        kind = {"stall": stall / 2, "run": run}
        readers = [Reader(dut, n, image, rng=rng(n, stall), **kind) for n in READERS]
        writers = [Writer(dut, n, model, rng=rng(n, stall), **kind) for n in WRITERS]
        readers[0].ask(BASE, 1)
        load(readers, writers, draw, 8)
        for client in clients_of(readers, writers):
            await client.finish()
        await ClockCycles(dut.clk, 3)
        assert int(dut.idle.value)
        assert not int(dut.fault__valid.value)
        assert image.data == model.data
        for client in readers:
            assert client.beats.count == len(client.expected)
        check_bursts(cover, memory)
        dut.rst.value = 1
        await RisingEdge(dut.clk)
        for client in clients_of(readers, writers):
            stop(client)
        memory._task.cancel()
    cover.assert_complete()


def stop(client) -> None:
    """End a client's drivers (another set will drive the same ports)."""
    for part in vars(client).values():
        if hasattr(part, "_task"):
            part._task.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def independent_subordinate(dut):
    """The same against cocotbext-axi's AxiRam, somebody else's reading of the standard."""
    from cocotbext.axi import AxiBus, AxiRam

    image, _ = await begin(dut)
    logging.getLogger("cocotb.top.axi_").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is written for cocotb 1
        ram = AxiRam(AxiBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=2 * SIZE)
    ram.write(BASE, bytes(image.data))
    model = Image(SIZE, BASE)
    model.data[:] = image.data
    draw = rng("traffic")

    def pauses(name):
        source = rng(name)
        while True:
            yield source.random() < 0.3

    for name, channel in (
        ("ar", ram.read_if.ar_channel),
        ("r", ram.read_if.r_channel),
        ("aw", ram.write_if.aw_channel),
        ("w", ram.write_if.w_channel),
        ("b", ram.write_if.b_channel),
    ):
        channel.set_pause_generator(pauses(name))
    readers = [Reader(dut, n, image, rng=rng(n), stall=0.2) for n in READERS]
    writers = [Writer(dut, n, model, rng=rng(n), stall=0.2) for n in WRITERS]
    load(readers, writers, draw, 4)
    for client in clients_of(readers, writers):
        await client.finish()
    assert ram.read(BASE, SIZE) == bytes(model.data)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def splitting(dut):
    """Bursts of one request, exactly."""
    image, memory = await begin(dut, latency=3)
    reader = Reader(dut, "tape", image)
    writer = Writer(dut, "rows", Image(SIZE, BASE))
    page, most = 4096 // WIDTH, CONFIG.burst_beats
    for skip, beats in ((0, 256), (page - 1, 2), (page - 3, most + 5), (7, most), (page - 1, 1)):
        address, left, expected = BASE + skip * WIDTH, beats, []
        while left:
            n = min(left, most, (4096 - address % 4096) // WIDTH)
            expected.append((address, n))
            address, left = address + n * WIDTH, left - n
        memory.read_bursts.clear()
        memory.write_bursts.clear()
        reader.ask(BASE + skip * WIDTH, beats)
        writer.put(BASE + skip * WIDTH, random_words(rng(skip), beats))
        await reader.finish()
        await writer.finish()
        for bursts in (memory.read_bursts, memory.write_bursts):
            assert [(b.address, b.beats) for b in bursts] == expected
    assert writer.done.count == 5


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def priority_and_turns(dut):
    """Readers by priority, writers in turn."""
    image, memory = await begin(dut, latency=3)
    readers = [Reader(dut, n, image) for n in READERS]
    writers = [Writer(dut, n, Image(SIZE, BASE)) for n in WRITERS]
    for i, reader in enumerate(readers):
        for k in range(3):
            reader.ask(BASE + 0x1000 * i + 0x100 * k, 4)
    for i, writer in enumerate(writers):
        for k in range(4):
            writer.put(BASE + SIZE // 2 + 0x1000 * i + 0x100 * k, random_words(rng(k), 4))
    for client in clients_of(readers, writers):
        await client.finish()
    order = [(b.address - BASE) // 0x1000 for b in memory.read_bursts]
    assert order == sorted(order), order
    turns = [(b.address - BASE - SIZE // 2) // 0x1000 for b in memory.write_bursts]
    assert turns in ([0, 1] * 4, [1, 0] * 4), turns


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def read_window(dut):
    """No more is asked for ahead than the window and a burst; that costs no beat, and an urgent
    client waits no longer than for what is ahead of it."""
    latency, beats, burst, urgent = 50, 1024, CONFIG.burst_beats, 300
    image, memory = await begin(dut, latency=latency)
    assert memory
    readers = {n: Reader(dut, n, image) for n in ("walk", "tape")}
    waited: dict[int, int] = {}  # by window
    for window in (latency + 8, 0):
        dut.window.value = window
        for k in range(beats // burst):  # as the tape reader asks
            readers["tape"].ask(BASE + burst * WIDTH * k, burst)
        most = cycles = 0
        goal = readers["tape"].beats.count + beats
        served = readers["walk"].beats.count + 1
        while readers["tape"].beats.count < goal or window not in waited:
            await RisingEdge(dut.clk)
            cycles += 1
            came = sum(reader.beats.count for reader in readers.values())
            most = max(most, sum(b.beats for b in memory.read_bursts) - came)
            if cycles == urgent:
                readers["walk"].ask(BASE, 1)
            if window not in waited and readers["walk"].beats.count == served:
                waited[window] = cycles - urgent
        if window:
            assert latency < most < window + burst + 3, most  # three cycles to the pulse
        else:
            assert most > window + 2 * burst, f"{most} beats ahead without a window"
        assert cycles <= beats + latency + 30, cycles
    assert waited[latency + 8] <= 2 * latency + 2 * burst < waited[0], waited


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def faults(dut):
    """Every cause, with its address; the port works again after abort and idle."""
    image, memory = await begin(dut, latency=5)
    readers = {n: Reader(dut, n, image) for n in READERS}
    writers = {n: Writer(dut, n, Image(SIZE, BASE)) for n in WRITERS}
    bad_read, bad_write = BASE + 0x100 + 2 * WIDTH, BASE + 0x300 + WIDTH
    cases = [
        ("walk", BASE - WIDTH, 1, Fault.BAD_ADDRESS, BASE - WIDTH, 2),
        ("tape", BASE + SIZE, 1, Fault.BAD_ADDRESS, BASE + SIZE, 5),
        ("load", BASE + SIZE - WIDTH, 2, Fault.BAD_ADDRESS, BASE + SIZE - WIDTH, 3),
        ("pages", BASE + WIDTH // 2, 2, Fault.BAD_ADDRESS, BASE + WIDTH // 2, 4),
        ("pages", (1 << 40) - WIDTH, 1, Fault.BAD_ADDRESS, (1 << 40) - WIDTH, 4),
        ("kv", BASE - 8 * WIDTH, 4, Fault.BAD_ADDRESS, BASE - 8 * WIDTH, 16),
        ("rows", BASE + SIZE - WIDTH, 256, Fault.BAD_ADDRESS, BASE + SIZE - WIDTH, 17),
        ("descriptor", BASE + 0x100, 4, Fault.READ_ERROR, bad_read, 0),
        ("rows", BASE + 0x300, 4, Fault.WRITE_ERROR, BASE + 0x300, 17),
    ]
    for name, address, beats, cause, where, detail in cases:
        memory.bad_reads, memory.bad_writes = {bad_read}, {bad_write}
        bursts = len(memory.read_bursts) + len(memory.write_bursts)
        client: Any = readers.get(name) or writers[name]
        client.request.send({"address": address, "beats": beats})
        if name in WRITERS:
            client.data.extend([0] * beats)
        for _ in range(100):
            await RisingEdge(dut.clk)
            if int(dut.fault__valid.value):
                break
        report = {k: int(getattr(dut, f"fault__{k}").value) for k in ("cause", "address")}
        assert report == {"cause": cause.value, "address": where}, (name, report)
        assert int(dut.fault__detail.value) == detail
        issued = len(memory.read_bursts) + len(memory.write_bursts) - bursts
        assert issued == (0 if cause == Fault.BAD_ADDRESS else 1)
        if name in WRITERS:
            client.data._queue.clear()
            client.data._task.cancel()
            writers[name].data = Source(dut, f"{name}__data")
        # While the fault stands nobody is served.
        readers["walk"].request.send({"address": BASE, "beats": 1})
        await ClockCycles(dut.clk, 30)
        assert readers["walk"].request.pending == 1
        readers["walk"].request._queue.clear()
        readers["walk"].request._task.cancel()
        readers["walk"].request = Source(dut, "walk__request", layout=REQUEST)
        dut.abort.value = 1
        await ClockCycles(dut.clk, 30)
        assert int(dut.idle.value)
        dut.abort.value = 0
        await RisingEdge(dut.clk)
        assert not int(dut.fault__valid.value)
        memory.bad_reads, memory.bad_writes = set(), set()
        for reader in readers.values():
            reader.data.clear()
            reader.expected.clear()
            reader.beats.count = 0
        readers["tape"].ask(BASE + 0x200, 20)
        await readers["tape"].finish()
        writers["kv"].done.count = 0
        writers["kv"].asked = 0
        writers["kv"].put(BASE, random_words(rng(), 3))
        await writers["kv"].finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def end_of_bus(dut):
    """A window larger than the bus can address does not wrap."""
    _, memory = await begin(dut, latency=3)
    dut.limit.value = (1 << 40) - 1
    top = 1 << CONFIG.address_bits
    Source(dut, "walk__request", layout=REQUEST).send({"address": top - WIDTH, "beats": 2})
    await ClockCycles(dut.clk, 20)
    assert int(dut.fault__cause.value) == Fault.BAD_ADDRESS.value
    assert not memory.read_bursts
    dut.abort.value = 1


async def nothing_new(dut, name: str) -> None:
    """Fail when an address comes that did not stand already in the first cycle."""
    valid, ready = getattr(dut, f"axi__{name}valid"), getattr(dut, f"axi__{name}ready")
    await RisingEdge(dut.clk)
    while True:
        stands = int(valid.value) and not int(ready.value)
        await RisingEdge(dut.clk)
        assert stands or not int(valid.value), f"{name}: issued after abort"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def abort(dut):
    """Abort in the middle of everything: drained, no strobe, no beat, no done; then it works."""
    cover = Coverage("read beats thrown away", "write burst thrown away", "write burst cut short")
    for trial in range(18):
        draw = rng("abort", trial)
        image, memory = await begin(dut, latency=(1, 60), rng=draw, stall=0.3, run=4)
        model = Image(SIZE, BASE)
        readers = [Reader(dut, n, image) for n in READERS]
        writers = [Writer(dut, n, model, rng=rng(n), stall=0.3) for n in WRITERS]
        if trial % 3 != 1:
            load(readers, [], draw, 6)
        for i, writer in enumerate(writers if trial % 3 != 2 else []):
            for k in range(6):
                beats = random_beats(draw)
                address = BASE + SIZE // 2 + i * SIZE // 4 + k * 0x800
                writer.put(address, random_words(draw, beats, holes=0))
        await ClockCycles(dut.clk, draw.choice((draw.randint(4, 30), draw.randint(30, 400))))
        dut.abort.value = 1
        for client in clients_of(readers, writers):
            stop(client)
        for name in READERS:
            getattr(dut, f"{name}__request__valid").value = 0
        for name in WRITERS:
            getattr(dut, f"{name}__request__valid").value = 0
            getattr(dut, f"{name}__data__valid").value = 0
        watch = [Pulses(dut, f"{n}_beat") for n in READERS]
        written = [Pulses(dut, f"{n}_beat") for n in WRITERS]
        watch += [Pulses(dut, f"{n}__done") for n in WRITERS]
        watch += [Pulses(dut, f"{n}__data__valid") for n in READERS]
        quiet = [cocotb.start_soon(nothing_new(dut, name)) for name in ("ar", "aw")]
        given = memory.beats
        for _ in range(3000):
            await RisingEdge(dut.clk)
            if int(dut.idle.value):
                break
        assert int(dut.idle.value), "not drained"
        owed = sum(b.beats for b in memory.read_bursts) - memory.beats
        owed += sum(b.beats for b in memory.write_bursts) - len(memory.strobes)
        assert not owed, "idle with beats or responses to come"
        await ClockCycles(dut.clk, 100)
        assert int(dut.idle.value)
        assert [w.count for w in watch] == [0] * len(watch)
        assert sum(w.count for w in written) <= 1, "beats taken after the abort's first cycle"
        announced = sum(b.beats for b in memory.write_bursts)
        assert announced == len(memory.strobes), "a write burst was left open"
        cover.hit("read beats thrown away", memory.beats > given + 2)
        strobes = iter(memory.strobes)
        for burst in memory.write_bursts:
            full = [bool(next(strobes)[1]) for _ in range(burst.beats)]
            assert full == sorted(full, reverse=True), "data after abort"
            cover.hit("write burst thrown away", not any(full))
            cover.hit("write burst cut short", any(full) and not all(full))
        dut.abort.value = 0
        for task in [*quiet, *(w._task for w in (*watch, *written))]:
            task.cancel()
        reader = Reader(dut, "load", image)
        reader.ask(BASE + 0x40, 33)
        await reader.finish()
        stop(reader)
        memory._task.cancel()
        dut.rst.value = 1
        await RisingEdge(dut.clk)
    cover.assert_complete()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def bandwidth(dut):
    """A read beat every cycle at latency 60, over bursts, 4 KiB boundaries and clients."""
    image, memory = await begin(dut, latency=60)
    tape, pages = Reader(dut, "tape", image), Reader(dut, "pages", image)
    burst = CONFIG.burst_beats
    for i in range(30):
        tape.ask(BASE + i * burst * WIDTH % (SIZE // 2), burst)
        if i % 3 == 0:
            pages.ask(BASE + SIZE // 2 + i * 8 * WIDTH, 8)
    await tape.finish()
    await pages.finish()
    times = sorted(tape.data.times + pages.data.times)
    beats, cycles = len(times), times[-1] - times[0] + 1
    dut._log.info("bandwidth: %d beats in %d cycles at latency 60", beats, cycles)
    assert cycles == beats, f"{beats} beats took {cycles} cycles"
    first = memory.read_bursts[0]
    assert first.cycle <= 8, "first burst late"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def write_bandwidth(dut):
    """A write beat every cycle at latency 20 once started, and several writes outstanding."""
    await begin(dut, latency=20)
    writer = Writer(dut, "rows", Image(SIZE, BASE))
    for i in range(20):
        writer.put(BASE + i * 512, random_words(rng(i), 16))
    beats = Pulses(dut, "rows_beat")
    await beats.reach(1)
    cycles = 0
    while beats.count < 20 * 16:
        await RisingEdge(dut.clk)
        cycles += 1
    await writer.finish()
    dut._log.info("write bandwidth: %d beats in %d cycles", beats.count, cycles)
    assert cycles <= 20 * 16 + 8
