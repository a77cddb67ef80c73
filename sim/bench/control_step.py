"""Controller bench: registers, descriptors, dispatch under random stalls, faults and recovery."""

import logging
import random

import cocotb
from cocotb.triggers import ReadOnly, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from hdl.config import Config
from hdl.interfaces import row_entry, segment_entry
from hdl.isa import (
    INSTRUCTION_BITS,
    SEMAPHORES,
    TABLE,
    Counter,
    DescriptorError,
    Fault,
    HostRegister,
    LoadSource,
    ModelRegister,
    Opcode,
    RowSelect,
    Unit,
    encode,
)
from runtime.descriptor import StepSegment, encode_descriptor
from sim.bench import Coverage, Image, MemoryReader, Stall, parameters, rng, start, unpack

QUEUES = (Unit.TAPE, Unit.LOAD, Unit.MATRIX, Unit.VECTOR, Unit.KV)
PROGRAM, DESCRIPTOR = 0x1000, 0x8000
VOCABULARY, CONTEXT = 1000, 4096


class UnitModel:
    """Takes instructions of one unit: waits, works for random cycles, signals."""

    def __init__(self, bench: "Bench", unit: Unit, draw: random.Random, longest: int):
        self.name = unit.name.lower()
        self.bit = QUEUES.index(unit)
        self.log: list[tuple[int, int]] = []  # (index, word)
        self._bench, self._draw, self._longest = bench, draw, longest
        self.active = False
        cocotb.start_soon(self._run())

    def _port(self, name: str):
        return getattr(self._bench.dut, f"{self.name}__{name}")

    def _semaphore(self, name: str):
        return getattr(self._bench.dut, f"semaphore_{self.name}__{name}")

    async def _cycles(self, count: int) -> bool:
        """Waits; False if a reset came."""
        edge = RisingEdge(self._bench.dut.clk)
        for _ in range(count):
            await edge
            if int(self._bench.dut.unit_reset.value):
                return False
        return True

    async def _run(self) -> None:
        dut, edge = self._bench.dut, RisingEdge(self._bench.dut.clk)
        while True:
            self.active = False
            self._port("ready").value = 0
            self._semaphore("wait_valid").value = 0
            self._semaphore("signal").value = 0
            for _ in range(self._draw.randrange(4)):
                await edge
            self._port("ready").value = 1
            while True:
                await edge
                if int(self._port("valid").value) and not int(dut.unit_reset.value):
                    break
            payload = self._port("payload").value.to_unsigned()
            self._port("ready").value = 0
            self.active = True
            word = payload & (1 << INSTRUCTION_BITS) - 1
            self.log.append((payload >> INSTRUCTION_BITS, word))
            wait, signal = word >> 8 & 0xFF, word >> 16 & 0xFF
            self._semaphore("wait_mask").value = wait
            self._semaphore("wait_valid").value = 1
            granted = False
            while not granted:
                await ReadOnly()
                granted = bool(int(self._semaphore("wait_ready").value))
                await edge
                if int(dut.unit_reset.value):
                    break
            self._semaphore("wait_valid").value = 0
            if not granted:
                continue
            self._bench.took(wait)
            if not await self._cycles(self._draw.randrange(self._longest)):
                continue
            self._bench.gave(signal)
            self._semaphore("signal").value = signal
            await edge


class Bench:
    """The controller with models of everything around it."""

    def __init__(self, dut, *, longest: int = 30, stall: float = 0.2):
        self.dut = dut
        self.config: Config = parameters()["config"]
        draw = rng("units")
        self.image = Image(1 << 16)
        self.readers = [
            MemoryReader(dut, name, self.image, latency=(3, 40), stall=stall, rng=rng(name))
            for name in ("descriptor", "program")
        ]
        self.counts = [0] * SEMAPHORES
        self.hold_port = self.stuck = False
        self.changed = True  # the program, since PROGRAM was written
        self.units = {u: UnitModel(self, u, random.Random(draw.random()), longest) for u in QUEUES}
        self.bus = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst, reset_active_level=True
        )
        for channel in (self.bus.write_if, self.bus.read_if):
            channel.log.setLevel(logging.WARNING)
        cocotb.start_soon(self._wires())

    def took(self, mask: int) -> None:
        for s in range(SEMAPHORES):
            if mask >> s & 1:
                self.counts[s] -= 1
                assert self.counts[s] >= 0, f"semaphore {s} taken before it was given"

    def gave(self, mask: int) -> None:
        for s in range(SEMAPHORES):
            self.counts[s] += mask >> s & 1

    async def _wires(self) -> None:
        edge = RisingEdge(self.dut.clk)
        while True:
            await edge
            active = 0
            for unit in self.units.values():
                active |= unit.active << unit.bit
            self.dut.active.value = active
            self.dut.progress.value = active != 0 and not self.stuck
            asked = sum(r.beats for reader in self.readers for r in reader.requests)
            waits = int(self.dut.descriptor__request__valid.value)
            waits |= int(self.dut.program__request__valid.value)
            drained = asked == sum(reader.beats for reader in self.readers) and not waits
            self.dut.port_idle.value = drained and not self.hold_port

    async def write(self, register: HostRegister, value: int) -> AxiResp:
        return (await self.bus.write(register.value, value.to_bytes(4, "little"))).resp

    async def read(self, address: int) -> int:
        return int.from_bytes((await self.bus.read(address, 4)).data, "little")

    async def begin(self) -> None:
        await start(self.dut, port_idle=1)
        await self.write(HostRegister.DESCRIPTOR_LOW, DESCRIPTOR)
        await self.write(HostRegister.INTERRUPT_ENABLE, 1)

    def program(self, words: list[int]) -> None:
        code = b"".join(w.to_bytes(16, "little") for w in words)
        self.image.write(PROGRAM, code)
        self.changed = True

    def descriptor(self, words) -> None:
        self.image.write(DESCRIPTOR, b"".join(int(w).to_bytes(4, "little") for w in words))

    async def step(self, cycles: int = 20_000) -> int:
        """Doorbell to interrupt; STATUS. Writes PROGRAM if the program has changed."""
        if self.changed:
            await self.write(HostRegister.PROGRAM_LOW, PROGRAM)
            self.changed = False
        self.counts = [0] * SEMAPHORES
        for unit in self.units.values():
            unit.log.clear()
        await self.write(HostRegister.CONTROL, 1)
        edge = RisingEdge(self.dut.clk)
        for _ in range(cycles):
            await edge
            if int(self.dut.irq.value):
                status = await self.read(HostRegister.STATUS.value)
                await self.write(HostRegister.CONTROL, 2)
                return status
        raise AssertionError("no interrupt")


def random_descriptor(config: Config, draw: random.Random):
    """Segments of a legal step."""
    full = draw.random() < 0.3
    left = config.row_capacity if full else draw.randint(1, config.row_capacity)
    segments = []
    while left:
        n = draw.randint(1, left)
        left -= n
        position = draw.randrange(CONTEXT - n)
        outputs = sorted(draw.sample(range(n), draw.randint(0, n)))
        segments.append(
            StepSegment(
                [draw.randrange(VOCABULARY) for _ in range(n)],
                position,
                draw.getrandbits(32),
                (position + n - 1) // 32 + 1 + draw.randrange(3),
                draw.randrange(1 << 20) * 64,
                outputs,
            )
        )
    return segments


def prologue() -> list[int]:
    return [
        encode(Opcode.SET, register=ModelRegister.VOCABULARY, value=VOCABULARY),
        encode(Opcode.SET, register=ModelRegister.CONTEXT, value=CONTEXT),
    ]


def random_program(draw: random.Random, length: int) -> list[int]:
    """Legal instructions; semaphores are given before, in program order, they are taken, and
    by one unit to one other, so that no order of execution can hang."""
    words, balance = prologue(), [0] * SEMAPHORES
    for _ in range(length):
        opcode = draw.choice([o for o in TABLE if o not in (Opcode.END, Opcode.SET)])
        units = TABLE[opcode].units
        operands = {f.name: draw.getrandbits(f.bits) for f in TABLE[opcode].operands}
        wait = signal = 0
        if len(units) == 1:
            giver = QUEUES.index(units[0])
            signal = 1 << giver if draw.random() < 0.5 else 0
            taker = (giver - 1) % len(QUEUES)
            if balance[taker] and draw.random() < 0.7:
                wait = 1 << taker
                balance[taker] -= 1
            balance[giver] += bool(signal)
        words.append(encode(opcode, wait=wait, signal=signal, **operands))
    return [*words, encode(Opcode.END)]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def random_programs(dut):
    """Every instruction reaches the right queues, in order; tables hold what was sent."""
    bench, draw = Bench(dut), rng("programs")
    await bench.begin()
    cover = Coverage(*(o.name for o in TABLE if o not in (Opcode.END, Opcode.SET)), "full rows")
    for _ in range(12):
        segments = random_descriptor(bench.config, draw)
        result, store = draw.randrange(1 << 20) * 64, draw.random() < 0.5
        bench.descriptor(encode_descriptor(segments, result=result, store_logits=store))
        words = random_program(draw, draw.randint(1, 60))
        bench.program(words)
        assert await bench.step() & 7 == 2
        wanted: dict[Unit, list[tuple[int, int]]] = {u: [] for u in QUEUES}
        for index, word in enumerate(words):
            opcode = Opcode(word & 0xFF)
            for unit in TABLE[opcode].units:
                if unit in wanted:
                    wanted[unit].append((index, word))
                    cover.hit(opcode.name)
        for unit, model in bench.units.items():
            assert model.log == wanted[unit], unit
        assert await bench.read(counter(Counter.INSTRUCTIONS)) == len(words)
        rows = sum(len(s.tokens) for s in segments)
        if rows == bench.config.row_capacity:
            cover.hit("full rows")
    await tables(bench, draw)
    cover.assert_complete()


async def tables(bench: Bench, draw: random.Random) -> None:
    """Tables and step header, read while a program runs."""
    dut = bench.dut
    segments = random_descriptor(bench.config, draw)
    bench.descriptor(encode_descriptor(segments, result=0x4440, store_logits=True))
    filler = [encode(Opcode.PREPARE, signal=1)] * 1 + [encode(Opcode.PREPARE, wait=2)]
    bench.program([*prologue(), *filler, encode(Opcode.END)])  # the second never gets its wait
    await bench.write(HostRegister.PROGRAM_LOW, PROGRAM)
    bench.changed = False
    await bench.write(HostRegister.CONTROL, 1)
    edge = RisingEdge(dut.clk)
    for _ in range(3000):
        await edge
    row = 0
    for s, segment in enumerate(segments):
        dut.segments__address.value = s
        await edge
        await edge
        found = unpack(segment_entry(), dut.segments__data.value.to_unsigned())
        assert found == {
            "row": row,
            "rows": len(segment.tokens),
            "position": segment.position,
            "owner": segment.owner,
            "pages": segment.pages,
            "table": segment.table,
        }, f"segment {s}"
        for i, token in enumerate(segment.tokens):
            dut.rows__address.value = row + i
            await edge
            await edge
            entry = unpack(row_entry(), dut.rows__data.value.to_unsigned())
            assert entry == {"token": token, "position": segment.position + i}
        row += len(segment.tokens)
    await bench.write(HostRegister.CONTROL, 4)  # abort
    for _ in range(200):
        await edge
    assert await bench.read(HostRegister.STATUS.value) & 7 == 6
    assert await bench.read(HostRegister.FAULT_CAUSE.value) == Fault.WATCHDOG.value
    assert await bench.read(HostRegister.FAULT_DETAIL.value) == 1
    await bench.write(HostRegister.CONTROL, 2)


def counter(which: Counter, high: int = 0) -> int:
    return HostRegister.COUNTERS.value + 8 * which.value + 4 * high


def good_segments() -> list[StepSegment]:
    return [StepSegment([3, 4], 30, 7, 1, 0x4000, [1]), StepSegment([5], 0, 8, 1, 0x4100, [0])]


async def good_step(bench: Bench) -> None:
    """A step that must run, whatever came before it."""
    bench.descriptor(encode_descriptor(good_segments(), result=0, store_logits=False))
    bench.program([*prologue(), encode(Opcode.PREPARE), encode(Opcode.END)])
    for again in range(2):
        if again:  # with the program's head on chip
            while not await bench.read(HostRegister.STATUS.value) & 8:
                pass
        assert await bench.step() & 7 == 2
        assert await bench.read(HostRegister.FAULT_CAUSE.value) == 0
        assert len(bench.units[Unit.KV].log) == 1


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def bad_descriptors(dut):
    """Each error of a descriptor is refused by name, and the next good step runs."""
    bench = Bench(dut)
    await bench.begin()
    e = DescriptorError
    # 8 header words, segments at 8 and 16, tokens 24-26, outputs 27-28
    changes = [
        ({0: 1}, e.MAGIC),
        ({1: 0}, e.ROWS),
        ({1: bench.config.row_capacity + 1}, e.ROWS),
        ({2: 0}, e.SEGMENTS),
        ({2: 4}, e.SEGMENTS),
        ({3: 4}, e.OUTPUTS),
        ({4: 2}, e.RESERVED),
        ({6: 1}, e.ALIGNMENT),
        ({7: 256}, e.ALIGNMENT),
        ({27: 3}, e.OUTPUT_ROW),
        ({28: 1}, e.OUTPUT_ROW),
        ({24: VOCABULARY}, e.TOKEN),
        ({9: CONTEXT - 1, 11: 200}, e.POSITION),
        ({9: 31}, e.POSITION),
        ({11: 1 << 16}, e.POSITION),
        ({8: 0}, e.SEGMENT_ROWS),
        ({8: 4}, e.SEGMENT_ROWS),
        ({8: 1}, e.SEGMENT_ROWS),
        ({12: 2}, e.ALIGNMENT),
        ({13: 256}, e.ALIGNMENT),
        ({14: 1}, e.RESERVED),
        ({23: 1}, e.RESERVED),
        (None, e.CHECKSUM),
    ]
    for change, error in changes:
        words = encode_descriptor(good_segments(), result=0, store_logits=False)
        if change is None:
            words[9] ^= 1
        else:
            for at, value in change.items():
                words[5] = (int(words[5]) + int(words[at]) - value) & 0xFFFFFFFF
                words[at] = value
        bench.descriptor(words)
        bench.program([*prologue(), encode(Opcode.PREPARE), encode(Opcode.END)])
        assert await bench.step() & 7 == 6, (change, error)
        found = DescriptorError(await bench.read(HostRegister.FAULT_DETAIL.value))
        assert found is error, f"{change}: {found.name}, not {error.name}"
        assert await bench.read(HostRegister.FAULT_CAUSE.value) == Fault.BAD_DESCRIPTOR.value
        await good_step(bench)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def before_the_descriptor(dut):
    """Only what does not depend on the step goes out before the descriptor is found good."""
    bench = Bench(dut)
    await bench.begin()
    load = {"target": 0, "destination": 0, "blocks": 1, "address": 0}
    early = [
        encode(Opcode.TAPE, address=0, block_tiles=1),
        encode(Opcode.LOAD, source=LoadSource.CONSTANT, **load),
        *prologue(),
    ]
    product = {"activations": 0, "blocks": 1, "panels": 1}
    early += [
        encode(Opcode.MATMUL, rows=RowSelect.ALL, **product),
        encode(Opcode.ADD, destination=0, panels=1),
    ]
    late = [encode(Opcode.LOAD, source=source, **load) for source in (1, 2, 3)]
    late += [
        encode(Opcode.MATMUL, rows=RowSelect.OUTPUT, **product),
        encode(Opcode.STORE, source=0, blocks=1, address=0),
        encode(Opcode.PREPARE),
        encode(Opcode.END),
    ]
    most: dict[int, set[int]] = {}
    for wrong in (1, 5):  # rows, in the header; the checksum, found out at the very end
        most[wrong] = set()
        for word in late:
            words = encode_descriptor(good_segments(), result=0, store_logits=False)
            words[wrong] ^= 1 << 20
            bench.descriptor(words)
            bench.program([*early, word, encode(Opcode.END)])
            assert await bench.step() & 7 == 6
            cause = await bench.read(HostRegister.FAULT_CAUSE.value)
            assert cause == Fault.BAD_DESCRIPTOR.value
            taken = {index for unit in bench.units.values() for index, _ in unit.log}
            most[wrong] |= taken
            assert taken <= {0, 1} | ({4, 5} if wrong == 5 else set()), hex(word)
    assert most == {1: {0, 1}, 5: {0, 1, 4, 5}}, "the descriptor came first every time"
    await good_step(bench)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def faults(dut):
    """Illegal words, unit faults, watchdog, unread tape: recorded, and the next step runs."""
    bench, edge = Bench(dut), RisingEdge(dut.clk)
    await bench.begin()
    await bench.write(HostRegister.WATCHDOG, 500)
    illegal = [0, 0xFF, encode(Opcode.END) | 1 << 100, encode(Opcode.PREPARE) | 1 << 127]
    illegal += [
        encode(Opcode.SET, register=31, value=0),
        encode(Opcode.ADD, destination=1, panels=2) | 1 << 70,
    ]
    good = encode_descriptor(good_segments(), result=0, store_logits=False)
    for word in illegal:
        bench.descriptor(good)
        bench.program([*prologue(), encode(Opcode.PREPARE), word, encode(Opcode.END)])
        assert await bench.step() & 7 == 6, hex(word)
        assert await bench.read(HostRegister.FAULT_CAUSE.value) == Fault.ILLEGAL_INSTRUCTION.value
        assert await bench.read(HostRegister.FAULT_INDEX.value) == 3
        await good_step(bench)

    # A wait that nobody answers
    waiting = encode(Opcode.TAPE, address=0, block_tiles=1, wait=1)
    bench.program([*prologue(), waiting, encode(Opcode.END)])
    bench.stuck = True
    assert await bench.step() & 7 == 6
    assert await bench.read(HostRegister.FAULT_CAUSE.value) == Fault.WATCHDOG.value
    bench.stuck = False
    await good_step(bench)

    # Unread tape at END
    dut.tape_left.value = 1
    bench.program([*prologue(), encode(Opcode.END)])
    assert await bench.step() & 7 == 6
    assert await bench.read(HostRegister.FAULT_CAUSE.value) == Fault.TAPE_LEFT.value
    dut.tape_left.value = 0
    await good_step(bench)

    # Every unit's report, with the port busy for a while
    names = ("port", *(u.name.lower() for u in QUEUES))
    for number, name in enumerate(names):
        bench.program([*prologue(), *[encode(Opcode.PREPARE)] * 24, encode(Opcode.END)])
        step = cocotb.start_soon(bench.step())
        for _ in range(150):
            await edge
        bench.hold_port = True
        fields = {"cause": number + 2, "detail": 0x1234, "address": 0x12_3456_7890, "index": 5}
        for field, value in fields.items():
            getattr(dut, f"fault_{name}__{field}").value = value
        getattr(dut, f"fault_{name}__valid").value = 1
        while not int(dut.port_abort.value):
            await edge
        assert int(dut.unit_reset.value)
        getattr(dut, f"fault_{name}__valid").value = 0
        for _ in range(20):
            await edge
            assert int(dut.unit_reset.value), "reset until the port has drained"
        bench.hold_port = False
        assert await step & 7 == 6
        unit = Unit.CONTROL if name == "port" else Unit[name.upper()]
        expect = {
            HostRegister.FAULT_CAUSE: number + 2,
            HostRegister.FAULT_DETAIL: 0x1234,
            HostRegister.FAULT_UNIT: unit.value,
            HostRegister.FAULT_INDEX: 5,
            HostRegister.FAULT_ADDRESS_LOW: 0x3456_7890,
            HostRegister.FAULT_ADDRESS_HIGH: 0x12,
        }
        for register, value in expect.items():
            assert await bench.read(register.value) == value, (name, register.name)
        await good_step(bench)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def registers_and_counters(dut):
    """Read-back, refused addresses, counters against a model."""
    bench, edge, draw = Bench(dut), RisingEdge(dut.clk), rng("registers")
    await bench.begin()
    assert await bench.read(HostRegister.IDENTITY.value) == 0x53524E31
    c = bench.config
    shape = c.rows | c.cols << 8 | c.port_bytes << 16 | c.lanes << 24
    assert await bench.read(HostRegister.CONFIG_ARRAY.value) == shape
    for register in (HostRegister.MEMORY_BASE_LOW, HostRegister.WATCHDOG):
        value = draw.getrandbits(32)
        assert await bench.write(register, value) == AxiResp.OKAY
        assert await bench.read(register.value) == value
    await bench.write(HostRegister.WATCHDOG, 0)
    assert await bench.write(HostRegister.STATUS, 1) == AxiResp.SLVERR
    for address in (0x100, 0x3FC, HostRegister.COUNTERS.value + 8 * len(Counter)):
        assert (await bench.bus.read(address, 4)).resp == AxiResp.SLVERR

    bench.descriptor(encode_descriptor(good_segments(), result=0, store_logits=False))
    bench.program([*prologue(), *[encode(Opcode.PREPARE)] * 5, encode(Opcode.END)])
    words: list[int] = []  # of every cycle up to the step's last
    stall = Stall(rng("events"), 0.5)

    async def events() -> None:
        started = False
        while True:
            word = sum((not stall.step()) << i for i in range(len(Counter)))
            dut.events.value = word
            await edge
            ends = started and int(dut.unit_reset.value)
            started = not int(dut.unit_reset.value)
            if ends:
                return
            words.append(word)

    task = cocotb.start_soon(events())
    assert await bench.step() & 7 == 2
    await task
    words = words[-await bench.read(counter(Counter.CYCLES)) :]
    totals = [sum(word >> i & 1 for word in words) for i in range(len(Counter))]
    own = (Counter.CYCLES, Counter.INSTRUCTIONS, Counter.ARRAY_FIRST, Counter.ARRAY_LAST)
    for which in Counter:
        if which in own:
            continue
        found = await bench.read(counter(which))
        assert found == totals[which.value], f"{which.name}: {found}, {totals[which.value]}"
        assert await bench.read(counter(which, 1)) == 0
