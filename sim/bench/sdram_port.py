"""Bench of the SDRAM port on its chip: contents, errors, order, bandwidth."""

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from hdl.sdram import SdramTiming
from sim.bench import Coverage, Image, parameters, rng, start
from sim.bench.axi_manager import AxiManager, Transfer

CONFIG = parameters()["config"]
TIMING = SdramTiming(**parameters()["timing"])
WIDTH = CONFIG.port_bytes
FULL = (1 << WIDTH) - 1
SIZE = TIMING.size_bytes
PAGE = 4096
ROW = 2 << TIMING.column_bits
OKAY, SLVERR, DECERR = 0, 2, 3
STORED = Image(SIZE)  # what the chip holds: it keeps it from test to test
PIN_BYTES = 2  # a cycle


async def begin(dut, **stalls) -> AxiManager:
    await start(dut)
    manager = AxiManager(dut, **stalls)
    while not int(dut.ready.value):
        await RisingEdge(dut.clk)
    return manager


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


class Golden:
    """Random bursts with what must come of them.

    Reads and writes of one place are never in flight together: AXI does not order them.
    """

    def __init__(self, manager: AxiManager, draw):
        self.manager, self.draw = manager, draw
        self.image = STORED
        self.flying: list[tuple[Transfer, list[int]]] = []

    def _free(self, address: int, length: int, write: bool) -> bool:
        def apart(other: Transfer) -> bool:
            if not (write or other.write):
                return True
            end = other.address + other.beats * WIDTH
            return end <= address or address + length <= other.address - other.address % WIDTH

        return all(apart(transfer) for transfer, _ in self.flying)

    def settle(self) -> None:
        """Check what has been answered."""
        left = []
        for transfer, want in self.flying:
            if not transfer.done:
                left.append((transfer, want))
                continue
            if transfer.write:
                assert transfer.responses == [OKAY]
                continue
            assert transfer.responses == [OKAY] * transfer.beats
            for i, (got, word) in enumerate(zip(transfer.data, want, strict=True)):
                assert got == word, (
                    f"read at {transfer.address:#x}, beat {i}: {got:#x}, not {word:#x}"
                )
        self.flying = left

    def add(self, address: int, beats: int, write: bool, strobes: str = "all") -> bool:
        """Queue a burst, if nothing in flight stands against it."""
        base = address - address % WIDTH
        if not self._free(base, beats * WIDTH, write):
            return False
        if write:
            data = [self.draw.getrandbits(8 * WIDTH) for _ in range(beats)]
            mask = [FULL] * beats
            if strobes == "random":
                mask = [self.draw.getrandbits(WIDTH) for _ in range(beats)]
            for i, (word, strobe) in enumerate(zip(data, mask, strict=True)):
                self.image.write(base + i * WIDTH, word.to_bytes(WIDTH, "little"), strobe)
            transfer = self.manager.write(address, data, mask, ident=self.draw.getrandbits(1))
            self.flying.append((transfer, []))
        else:
            raw = self.image.read(base, beats * WIDTH)
            want = [number(raw[i : i + WIDTH]) for i in range(0, len(raw), WIDTH)]
            transfer = self.manager.read(address, beats, ident=self.draw.getrandbits(1))
            self.flying.append((transfer, want))
        return True


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def random_traffic(dut):
    """Random bursts under random stalls, compared with a golden memory."""
    cover = Coverage(
        "one beat",
        "longest burst",
        "256 beats",
        "crosses a row",
        "last byte of the memory",
        "unaligned",
        "strobes",
        "write after read",
        "read after write",
        "waits for R",
        "idle",
    )
    for salt, (stall, run) in enumerate(((0.0, 1), (0.3, 1), (0.6, 40))):
        draw = rng("traffic", salt)
        manager = await begin(dut, rng=rng("stall", salt), stall=stall, run=run)
        golden = Golden(manager, draw)
        pages = [0, SIZE - PAGE, *(draw.randrange(SIZE // PAGE) * PAGE for _ in range(10))]
        sent, before = 0, None
        while sent < 250:
            page = draw.choice(pages)
            beats = draw.choice((1, 2, 3, 7, CONFIG.burst_beats, CONFIG.burst_beats))
            if draw.random() < 0.03:
                beats = min(256, PAGE // WIDTH)
            offset = draw.choice((0, PAGE - beats * WIDTH, ROW - WIDTH, draw.randrange(PAGE)))
            offset = min(offset, PAGE - beats * WIDTH)
            unaligned = draw.random() < 0.1
            offset = offset - offset % WIDTH + unaligned * draw.randrange(WIDTH)
            write = draw.random() < 0.5
            strobes = draw.choice(("all", "random"))
            if manager.pending < 24 and golden.add(page + offset, beats, write, strobes):
                sent += 1
                cover.hit("one beat", beats == 1)
                cover.hit("longest burst", beats == CONFIG.burst_beats)
                cover.hit("256 beats", beats == min(256, PAGE // WIDTH))
                cover.hit("crosses a row", offset // ROW != (offset + beats * WIDTH - 1) // ROW)
                end = page + offset - offset % WIDTH + beats * WIDTH
                cover.hit("last byte of the memory", end == SIZE)
                cover.hit("unaligned", offset % WIDTH != 0)
                cover.hit("strobes", write and strobes == "random")
                cover.hit("write after read", before is False and write)
                cover.hit("read after write", before is True and not write)
                before = write
                if draw.random() < 0.05:
                    cover.hit("idle")
                    await ClockCycles(dut.clk, draw.randrange(3 * TIMING.refresh_interval))
            else:
                await RisingEdge(dut.clk)
            cover.hit("waits for R", int(dut.axi__rvalid.value) and not int(dut.axi__rready.value))
            golden.settle()
        await manager.finish()
        golden.settle()
        assert not golden.flying
        # Everything that was written is there.
        for page in pages:
            for at in range(0, PAGE, CONFIG.burst_beats * WIDTH):
                golden.add(page + at, CONFIG.burst_beats, False)
        await manager.finish()
        golden.settle()
        manager._task.cancel()
    cover.assert_complete()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def errors(dut):
    """Errors on all beats of bad bursts; nothing is stored, nothing lost, order is kept."""
    cover = Coverage("DECERR read", "DECERR write", "SLVERR read", "SLVERR write")
    for salt, stall in enumerate((0.0, 0.4)):
        draw = rng("errors", salt)
        manager = await begin(dut, rng=rng("stall", salt), stall=stall)
        golden = Golden(manager, draw)
        bad: list[tuple[Transfer, int]] = []
        for at in range(0, PAGE, 32 * WIDTH):
            assert golden.add(at, 32, True)
        await manager.finish()
        golden.settle()
        for _ in range(150):
            while manager.pending > 16:
                await RisingEdge(dut.clk)
            kind = draw.choice(("good", "beyond", "fixed", "wrap", "narrow"))
            beats = draw.choice((1, 2, 5, CONFIG.burst_beats))
            at = draw.randrange(PAGE // WIDTH - beats) * WIDTH
            write = draw.random() < 0.5
            if kind == "good":
                golden.add(at, beats, write)
                golden.settle()
                continue
            how: dict[str, Any] = {}
            want = SLVERR
            if kind == "beyond":
                top = draw.choice((SIZE, 2 * SIZE, (1 << CONFIG.address_bits) - PAGE))
                at, want = top + at, DECERR
            elif kind == "narrow":
                how["size"] = draw.randrange((WIDTH - 1).bit_length())
            else:
                how["burst"] = {"fixed": 0, "wrap": 2}[kind]
            name = f"{'DECERR' if want == DECERR else 'SLVERR'} {'write' if write else 'read'}"
            cover.hit(name)
            if write:
                data = [draw.getrandbits(8 * WIDTH) for _ in range(beats)]
                bad.append((manager.write(at, data, ident=1, **how), want))
            else:
                bad.append((manager.read(at, beats, ident=1, **how), want))
        await manager.finish()
        golden.settle()
        for transfer, want in bad:
            count = 1 if transfer.write else transfer.beats
            assert transfer.responses == [want] * count, f"{transfer}"
            if not transfer.write:
                assert transfer.data == [0] * transfer.beats, "data with an error"
        for at in range(0, PAGE, 32 * WIDTH):
            golden.add(at, 32, False)
        await manager.finish()
        golden.settle()
        assert not golden.flying
        manager._task.cancel()
    cover.assert_complete()


async def measure(dut, name: str, bursts, *, outstanding: int = 8) -> float:
    """Share of the pin bandwidth that (address, beats, write) bursts reach, refresh and all."""
    manager = await begin(dut)
    transfers = []
    for address, beats, write in bursts:
        while manager.pending >= outstanding:
            await RisingEdge(dut.clk)
        if write:
            transfers.append(manager.write(address, [0] * beats))
            STORED.write(address, bytes(beats * WIDTH))
        else:
            transfers.append(manager.read(address, beats))
    await manager.finish()
    assert all(set(t.responses) == {OKAY} for t in transfers)
    data = sum(t.beats for t in transfers) * WIDTH
    cycles = max(t.ended for t in transfers) - min(t.asked for t in transfers)
    share = data / (PIN_BYTES * cycles)
    dut._log.info(
        "bandwidth %s: %.1f %% of the pins (%d bytes in %d cycles)", name, 100 * share, data, cycles
    )
    manager._task.cancel()
    return share


BURST = CONFIG.burst_beats * WIDTH
COUNT = 49_152 // BURST


def line(base: int, count: int = COUNT, write: bool = False):
    return [(base + i * BURST, CONFIG.burst_beats, write) for i in range(count)]


def braid(*streams):
    return [item for group in zip(*streams, strict=True) for item in group]


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def latency(dut):
    """From AR to the first beat: open row, closed row, another row of the bank."""
    manager = await begin(dut)
    cycles = []
    for address in (0, WIDTH, ROW, 4 * 4 * ROW + 2 * ROW):
        read = manager.read(address, 1)
        await manager.finish()
        cycles.append(read.ended - read.asked)
    dut._log.info("latency closed, open, closed, other: %s cycles", cycles)
    more = 2 * (WIDTH // 4 - 1)  # words of a beat
    assert cycles[1] <= 18 + more
    assert max(cycles) <= 28 + more


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def bandwidth(dut):
    """Sequential reads at over 96 % of the pins; the rest is logged and may not get much worse."""
    draw = rng("bandwidth")

    def anywhere(beats):
        return draw.randrange(SIZE // (beats * WIDTH)) * beats * WIDTH

    half = SIZE // 2
    reads = await measure(dut, "sequential reads", line(0))
    assert reads > 0.96
    if WIDTH > 4:
        return  # the pins are the same
    few = await measure(dut, "sequential reads, 2 outstanding", line(0), outstanding=2)
    assert few > 0.9
    assert await measure(dut, "sequential writes", line(0, write=True)) > 0.94
    assert await measure(dut, "two streams", braid(line(0), line(half))) > 0.9
    near = braid(line(0), line(PAGE * 5 + BURST))
    assert await measure(dut, "two streams, five pages apart", near) > 0.9
    copy = braid(line(0), line(half, write=True))
    assert await measure(dut, "reads and writes in turn", copy) > 0.8
    mix = [(a, b, i % 8 == 7) for i, (a, b, _) in enumerate(line(0, 2 * COUNT))]
    assert await measure(dut, "an eighth writes", mix) > 0.9
    beats = max(1, 128 // WIDTH)
    small = [(anywhere(beats), beats, False) for _ in range(384)]
    assert await measure(dut, "random 128-byte reads", small) > 0.85
    words = [(anywhere(1), 1, False) for _ in range(384)]
    await measure(dut, "random single beats", words)
