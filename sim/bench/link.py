"""The whole link on its line: frames in and out, memory and registers behind it."""

import struct
from collections.abc import Callable
from zlib import crc32

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from hdl.link.protocol import BUFFER_BYTES, END, ESC, EVENT_DONE, Operation, Status, info_words
from runtime.link.codec import FrameDecoder, Reply, Request, encode_frame
from sim.bench import Coverage, Image, Stall, parameters, rng, start
from sim.bench.axi import AxiMemory
from sim.bench.serial_line import Byte, LineDriver, LineMonitor

CONFIG = parameters()["config"]
BIT = parameters()["bit_cycles"]
CLOCK = parameters()["clock_hz"]
MEMORY_BYTES = parameters()["memory_bytes"]
TIMEOUT = parameters()["timeout_cycles"]
STALLS = ((0.0, 1), (0.3, 1), (0.6, 20))
REGISTERS = 1 << 10
BAD_REGISTER = 0x7F0


class RegisterFile:
    """AXI4-Lite slave of 4 KiB with random stalls; ``BAD_REGISTER`` answers SLVERR."""

    def __init__(self, dut, generator, stall: float):
        self.words = [0] * REGISTERS
        self.log: list[tuple[int, int]] = []
        self._dut = dut
        self._stall = Stall(generator, stall, 3)
        cocotb.start_soon(self._writes())
        cocotb.start_soon(self._reads())

    def _port(self, name: str):
        return getattr(self._dut, f"registers__{name}")

    async def _channel(self, name: str) -> None:
        """Takes one transfer of a channel that the design drives."""
        edge = RisingEdge(self._dut.clk)
        while self._stall.step():
            await edge
        self._port(f"{name}ready").value = 1
        while True:
            await edge
            if int(self._port(f"{name}valid").value):
                break
        self._port(f"{name}ready").value = 0

    async def _answer(self, name: str) -> None:
        edge = RisingEdge(self._dut.clk)
        while self._stall.step():
            await edge
        self._port(f"{name}valid").value = 1
        while True:
            await edge
            if int(self._port(f"{name}ready").value):
                break
        self._port(f"{name}valid").value = 0

    async def _writes(self):
        while True:
            await self._channel("aw")
            address = int(self._port("awaddr").value)
            await self._channel("w")
            assert int(self._port("wstrb").value) == 0xF
            value = int(self._port("wdata").value)
            self.log.append((address, value))
            bad = address == BAD_REGISTER
            if not bad:
                self.words[address // 4] = value
            self._port("bresp").value = 2 * bad
            await self._answer("b")

    async def _reads(self):
        while True:
            await self._channel("ar")
            address = int(self._port("araddr").value)
            self._port("rdata").value = self.words[address // 4]
            self._port("rresp").value = 2 * (address == BAD_REGISTER)
            await self._answer("r")


class Board:
    """The design with everything around it, and its model."""

    def __init__(self, dut, stall: float = 0.0, run: float = 1.0):
        self.dut = dut
        self.image = Image(MEMORY_BYTES)
        draw = rng("memory")
        self.image.data[:] = draw.randbytes(MEMORY_BYTES)
        self.expected = bytearray(self.image.data)
        self.memory = AxiMemory(
            dut,
            self.image,
            prefix="memory",
            latency=(1, 30),
            rng=rng("axi", stall),
            stall=stall,
            run=run,
        )
        self.registers = RegisterFile(dut, rng("registers", stall), stall)
        self.line = LineDriver(dut, "rx", BIT)
        self.monitor = LineMonitor(dut, "tx", BIT)
        self.decoder = FrameDecoder()
        self.seen = 0
        self.last = (0, Status.OK)  # WRITE_REGISTERS: sequence, status
        self.replies: list[Reply] = []

    def collect(self) -> list[Reply]:
        for payload in self.decoder.feed(bytes(self.monitor.data[self.seen :])):
            reply = Reply.of(payload)
            assert reply is not None, payload.hex()
            self.replies.append(reply)
        self.seen = len(self.monitor.data)
        assert not self.decoder.dropped
        return self.replies

    async def reply(self, count: int = 1) -> list[Reply]:
        """The next replies."""
        while len(self.collect()) < count:
            await ClockCycles(self.dut.clk, 50)
        out, self.replies = self.replies[:count], self.replies[count:]
        return out

    async def quiet(self, cycles: int) -> None:
        """Nothing comes for so long."""
        await ClockCycles(self.dut.clk, cycles)
        assert not self.collect(), self.replies

    async def ask(self, request: Request, sequence: int) -> Reply:
        self.line.send(encode_frame(request.payload(sequence)))
        (reply,) = await self.reply()
        assert reply.sequence == sequence
        assert reply.answers(request)
        return reply


async def begin(dut, stall: float = 0.0, run: float = 1.0) -> Board:
    await start(dut, rx=1)
    return Board(dut, stall, run)


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def info(dut):
    board = await begin(dut)
    reply = await board.ask(Request(Operation.INFO), 9)
    words = struct.unpack(f"<{len(reply.data) // 4}I", reply.data)
    assert list(words) == info_words(CONFIG, CLOCK, MEMORY_BYTES)
    assert reply.status is Status.OK
    await board.ask(Request.registers([(0x14, 5)]), 77)
    reply = await board.ask(Request(Operation.INFO), 10)
    assert struct.unpack_from("<I", reply.data, 20) == (77,)


@cocotb.test(timeout_time=200, timeout_unit="ms")
@cocotb.parametrize(stalls=STALLS)
async def random_requests(dut, stalls):
    """All operations in random order, several under way, against a model."""
    cover = Coverage(
        *(o.name for o in Operation if o is not Operation.NONE),
        "memory error",
        "register error",
        "misaligned",
        "wrong length",
        "unknown",
        "special bytes",
    )
    stall, run = stalls
    board = await begin(dut, stall, run)
    draw = rng("requests", stall)
    width = CONFIG.port_bytes
    bad = {a for a in range(0, MEMORY_BYTES, width) if draw.random() < 0.01}
    board.memory.bad_reads = board.memory.bad_writes = bad
    registers = [0] * REGISTERS
    for turn in range(parameters()["turns"]):
        batch: list[tuple[Request, Callable]] = []
        under_way = 0
        while True:
            request, check = make(draw, board, registers, cover, bad)
            under_way += len(request.data) + 14
            if under_way > BUFFER_BYTES or len(batch) == 6:
                break
            batch.append((request, check))
            # A register write goes alone: two of them need different numbers.
            if request.operation is Operation.WRITE_REGISTERS:
                break
        first = draw.randrange(256)
        payloads = []
        for i, (request, _) in enumerate(batch):
            payload = request.payload((first + i) % 256)
            payloads.append(payload)
            frame = list(encode_frame(payload))
            board.line.send(Byte(b, gap=draw.choice([0] * 50 + [3])) for b in frame)
        for i, reply in enumerate(await board.reply(len(batch))):
            request, check = batch[i]
            where = f"stall {stall}, turn {turn}, {request}"
            assert reply.sequence == (first + i) % 256, where
            assert reply.answers(request), where
            check(reply, where, payloads[i][1])
    assert board.image.data == board.expected
    assert board.registers.words == registers
    cover.assert_complete()


def make(draw, board, registers, cover, bad):
    """A random request, and a function that checks its reply and moves the model on."""
    operation = draw.choice([o for o in Operation if o not in (Operation.NONE, Operation.INFO)])
    cover.hit("INFO")  # has a test of its own
    expected, width = board.expected, CONFIG.port_bytes
    count = draw.choice([0, 1, 1, 2, 3, 8, draw.randrange(1, 40)])
    is_register = operation in (Operation.WRITE_REGISTERS, Operation.READ_REGISTERS)
    space = 4 * REGISTERS if is_register else MEMORY_BYTES
    address = 4 * draw.randrange(space // 4 - count)
    data = b""
    if operation is Operation.WRITE_MEMORY:
        if draw.random() < 0.5:
            data = bytes(draw.choice([END, ESC, 0xDC, 0xDD]) for _ in range(4 * count))
            cover.hit("special bytes")
        else:
            data = draw.randbytes(4 * count)
    pairs = []
    if operation is Operation.WRITE_REGISTERS:
        count, address = count // 2, 0
        pairs = [(4 * draw.randrange(REGISTERS), draw.getrandbits(32)) for _ in range(count)]
        if draw.random() < 0.3:
            pairs.append((BAD_REGISTER, 1))
        if draw.random() < 0.2:
            pairs.append((1 << 12 | 4, 1))  # no such register
        request = Request.registers(pairs)
    else:
        request = Request(operation, address, count, data)
    wrong = draw.random()
    if wrong < 0.03:
        request = Request(operation, address + draw.randrange(1, 4), count, request.data)
        cover.hit("misaligned")
    elif wrong < 0.06:
        request = Request(operation, address, count, request.data + b"\0\0")
        cover.hit("wrong length")
    if wrong < 0.06:

        def refused(reply, where, sequence):
            assert (reply.status, reply.data) == (Status.BAD_REQUEST, b""), where

        return request, refused
    cover.hit(operation.name)
    cover.hit("unknown")  # has a test of its own
    words = range(address, address + 4 * count, 4)

    def check(reply, where, sequence):
        failed = False
        data_out = b""
        if operation is Operation.WRITE_REGISTERS:
            if sequence == board.last[0]:  # by chance: a repetition
                assert (reply.status, reply.data) == (board.last[1], b""), where
                return
            for at, value in pairs:
                if at == BAD_REGISTER or at >= 4 * REGISTERS:
                    failed = True
                    cover.hit("register error")
                else:
                    registers[at // 4] = value
        elif operation is Operation.READ_REGISTERS:
            failed = BAD_REGISTER in words
            data_out = struct.pack(f"<{count}I", *(registers[a // 4] for a in words))
        else:
            failed = any(a // width * width in bad for a in words)
            if failed:
                cover.hit("memory error")
            for i, at in enumerate(words):
                if operation is Operation.READ_MEMORY:
                    data_out += expected[at : at + 4]
                elif operation is Operation.WRITE_MEMORY:
                    expected[at : at + 4] = data[4 * i : 4 * i + 4]
                elif operation is Operation.FILL_MEMORY:
                    expected[at : at + 4] = bytes(4)
            if operation is Operation.CHECK_MEMORY:
                span = expected[address : address + 4 * count]
                data_out = crc32(bytes(span)).to_bytes(4, "little")
        assert reply.status is (Status.BUS_ERROR if failed else Status.OK), where
        assert reply.data == data_out, where
        if operation is Operation.WRITE_REGISTERS:
            board.last = (sequence, reply.status)

    return request, check


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def unknown_operations(dut):
    """Every number that is no operation is refused."""
    board = await begin(dut)
    known = {o.value for o in Operation if o is not Operation.NONE}
    for code in [0, 8, 15, 64, 127]:
        assert code not in known
        board.line.send(encode_frame(struct.pack("<BBHI", code, 3, 0, 0)))
        (reply,) = await board.reply()
        assert (reply.kind, reply.sequence, reply.status) == (code | 0x80, 3, Status.BAD_REQUEST)


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def repeated_register_writes(dut):
    """A repetition is answered as the first time, and not executed; nor is a number forgotten."""
    board = await begin(dut)
    request = Request.registers([(8, 1), (0x40, 2)])
    assert (await board.ask(request, 1)).status is Status.OK
    for _ in range(3):
        assert (await board.ask(request, 1)).status is Status.OK
        await board.ask(Request(Operation.READ_REGISTERS, 8, 1), 2)
    assert board.registers.log == [(8, 1), (0x40, 2)]
    bad = Request.registers([(BAD_REGISTER, 1)])
    for _ in range(2):
        assert (await board.ask(bad, 3)).status is Status.BUS_ERROR
    assert board.registers.log[2:] == [(BAD_REGISTER, 1)]
    assert (await board.ask(request, 4)).status is Status.OK
    assert board.registers.log[3:] == [(8, 1), (0x40, 2)]


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def damaged_frames(dut):
    """A frame with one byte dropped, changed or doubled changes nothing; the next one works."""
    board = await begin(dut)
    draw = rng("damage")
    kinds = ["drop", "change", "double", "stop bit", "cut", "noise"]
    cover = Coverage(*kinds)
    for turn in range(parameters()["turns"] * 3):
        data = draw.randbytes(4 * draw.randrange(1, 6))
        address = 4 * draw.randrange((MEMORY_BYTES - 64) // 4)
        request = Request(Operation.WRITE_MEMORY, address, len(data) // 4, data)
        frame = list(encode_frame(request.payload(turn % 256)))
        at = draw.randrange(1, len(frame) - 1)  # a delimiter may be lost or doubled
        kind = draw.choice(kinds)
        cover.hit(kind)
        bad: list[int | Byte] = list(frame)
        if kind == "drop":
            del bad[at]
        elif kind == "change":
            bad[at] = frame[at] ^ 1 << draw.randrange(8)
        elif kind == "double":
            bad.insert(at, frame[at])
        elif kind == "stop bit":
            bad.insert(at, Byte(0x55, stop=0, gap=1))  # the CRC alone would not tell
        elif kind == "cut":
            del bad[at:]
        else:
            bad = [draw.randrange(256) for _ in range(20)]
        before = bytes(board.image.data)
        board.line.send(bad)
        good = Request(Operation.READ_MEMORY, address, 1)
        board.line.send(encode_frame(good.payload((turn + 100) % 256)))
        (reply,) = await board.reply()
        assert (reply.sequence, reply.status) == ((turn + 100) % 256, Status.OK), kind
        assert reply.data == before[address : address + 4], kind
        assert board.image.data == before, kind
    cover.assert_complete()


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def overflow(dut):
    """More than the buffer holds: the frames that don't fit are lost, all others are executed."""
    board = await begin(dut)
    draw = rng("overflow")
    board.memory.frozen = True
    frames = 12
    size = 60  # words: eight frames and more fill the buffer
    contents = [draw.randbytes(4 * size) for _ in range(frames)]
    for i, data in enumerate(contents):
        request = Request(Operation.WRITE_MEMORY, 4 * size * i, size, data)
        board.line.send(encode_frame(request.payload(i)))
    await board.line.drained()
    await ClockCycles(dut.clk, 200)
    board.memory.frozen = False
    fitting = 1 + (BUFFER_BYTES - 14) // (4 * size + 10)
    answered = {r.sequence for r in await board.reply(fitting - 1)}
    await ClockCycles(dut.clk, int(BIT * 10 * 40))
    answered |= {r.sequence for r in board.collect()}
    board.replies.clear()
    assert fitting - 1 <= len(answered) <= fitting, f"{answered} of {frames}"
    for i, data in enumerate(contents):
        at = 4 * size * i
        stands = bytes(board.image.data[at : at + 4 * size]) == data
        assert stands == (i in answered), f"frame {i}"
    long = Request(Operation.WRITE_MEMORY, 0, 600, bytes(2400))
    board.line.send(encode_frame(long.payload(1)))
    await board.line.drained()
    await board.quiet(int(BIT * 10 * 20))
    assert (await board.ask(Request(Operation.READ_REGISTERS, 0, 1), 7)).status is Status.OK


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def half_frames(dut):
    """After a silence the rest of a frame is not waited for."""
    board = await begin(dut)
    frame = list(encode_frame(Request(Operation.READ_REGISTERS, 0, 1).payload(5)))
    board.line.send(frame[:7])
    await board.line.drained()
    assert int(dut.busy.value)
    await board.quiet(2 * TIMEOUT + 100)
    assert not int(dut.busy.value)
    board.line.send(frame[7:])  # the half alone is no frame, nor with the half before it
    await board.line.drained()
    await board.quiet(int(BIT * 10 * 20))
    assert (await board.ask(Request(Operation.READ_REGISTERS, 0, 1), 6)).status is Status.OK


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def events(dut):
    """A rising irq is told once, between replies, even while requests keep coming."""
    board = await begin(dut)
    for _ in range(3):
        dut.irq.value = 1
        (event,) = await board.reply()
        assert (event.kind, event.sequence, event.data) == (EVENT_DONE, 0, b"")
        await board.quiet(int(BIT * 10 * 12))
        dut.irq.value = 0
        await ClockCycles(dut.clk, 3)
    for i in range(4):
        board.line.send(encode_frame(Request(Operation.READ_REGISTERS, 0, 8).payload(i)))
    await ClockCycles(dut.clk, int(BIT * 10 * 30))
    dut.irq.value = 1
    kinds = [r.kind for r in await board.reply(5)]
    assert kinds.count(EVENT_DONE) == 1
    assert kinds.index(EVENT_DONE) < 4
