"""The board's end of the link in Python, on the golden model: what the RTL does, without cycles."""

from __future__ import annotations

import struct
from zlib import crc32

import numpy as np

from hdl.config import Config
from hdl.isa import IDENTITY, Counter, HostRegister
from hdl.link.protocol import (
    BUFFER_BYTES,
    EVENT_DONE,
    HEADER_BYTES,
    REPLY,
    Operation,
    Status,
    info_words,
)
from runtime.chip import DeviceFault
from runtime.golden_chip import GoldenChip
from runtime.link.codec import FrameDecoder, encode_frame
from sim.board.noise import LineNoise

__all__ = ["ModelBoard"]

REGISTERS = 1 << 10


class ModelBoard:
    """A ``runtime.link.Port`` with a board behind it; answers when it is read.

    Attributes: ``executed``: register writes in order; ``loses_events``: says nothing of a step's
    end; ``answers``: False is a dead board.
    """

    name = "model"
    baud = 10**9

    def __init__(
        self,
        config: Config,
        memory_bytes: int = 1 << 16,
        noise: tuple[LineNoise, LineNoise] | None = None,
    ):
        self.config = config
        self.memory = np.random.default_rng(0).integers(0, 256, memory_bytes, np.uint8)
        self.info = info_words(config, 100_000_000, memory_bytes)
        self.registers = [0] * REGISTERS
        self.registers[HostRegister.IDENTITY.value // 4] = IDENTITY
        self.executed: list[tuple[int, int]] = []
        self.loses_events = False
        self.answers = True
        self.closed = False
        self.written = bytearray()
        self._noise = noise
        self._decoder = FrameDecoder()
        self._last = (0, Status.OK)
        self._requests: list[bytes] = []
        self._out = bytearray()

    # Port

    def write(self, data: bytes) -> None:
        self.written += data
        if self._noise:
            data = self._noise[0].apply(data)
        for payload in self._decoder.feed(data):
            room = sum(len(p) + 2 for p in self._requests) + len(payload) + 6
            if len(payload) >= HEADER_BYTES and room <= BUFFER_BYTES:
                self._requests.append(payload)

    def read(self, timeout_s: float) -> bytes:
        for payload in self._requests:
            if self.answers:
                self._execute(payload)
        self._requests.clear()
        out, self._out = bytes(self._out), bytearray()
        return self._noise[1].apply(out) if self._noise else out

    def close(self) -> None:
        self.closed = True

    # Board

    def _execute(self, payload: bytes) -> None:
        code, sequence, count, address = struct.unpack_from("<BBHI", payload)
        data = payload[HEADER_BYTES:]
        expected = {Operation.WRITE_MEMORY.value: 4, Operation.WRITE_REGISTERS.value: 8}
        known = code in [o.value for o in Operation if o is not Operation.NONE]
        if not known or address % 4 or len(data) != count * expected.get(code, 0):
            self._reply(code, sequence, b"", Status.BAD_REQUEST)
            return
        operation = Operation(code)
        if operation is Operation.WRITE_REGISTERS and sequence == self._last[0]:
            self._reply(code, sequence, b"", self._last[1])
            return
        out, status = self._run(operation, address, count, data, sequence)
        self._reply(code, sequence, out, status)

    def _run(self, operation, address, count, data, sequence) -> tuple[bytes, Status]:
        span = slice(address, address + 4 * count)
        inside = address + 4 * count <= self.memory.size
        status = Status.OK if inside else Status.BUS_ERROR
        match operation:
            case Operation.INFO:
                words = list(self.info)
                words[5] = self._last[0]
                return struct.pack(f"<{len(words)}I", *words), Status.OK
            case Operation.WRITE_MEMORY if inside:
                self.memory[span] = np.frombuffer(data, np.uint8)
            case Operation.FILL_MEMORY if inside:
                self.memory[span] = 0
            case Operation.READ_MEMORY if inside:
                return self.memory[span].tobytes(), status
            case Operation.CHECK_MEMORY if inside:
                return crc32(self.memory[span].tobytes()).to_bytes(4, "little"), status
            case Operation.READ_REGISTERS:
                words = self.registers[address // 4 : address // 4 + count]
                return struct.pack(f"<{count}I", *words), Status.OK
            case Operation.WRITE_REGISTERS:
                for at in range(0, len(data), 8):
                    self._write_register(*struct.unpack_from("<II", data, at))
                self._last = (sequence, Status.OK)
                return b"", Status.OK
        return b"", status

    def _reply(self, code: int, sequence: int, data: bytes, status: Status) -> None:
        payload = bytes([code | REPLY, sequence]) + data + bytes([status.value])
        self._out += encode_frame(payload)

    def _write_register(self, address: int, value: int) -> None:
        self.executed.append((address, value))
        self.registers[address // 4] = value
        if address == HostRegister.CONTROL.value:
            if value & 1:
                self._step()
            if value & 4:
                self._status(2)

    def _status(self, value: int) -> None:
        self.registers[HostRegister.STATUS.value // 4] = value

    def _step(self) -> None:
        limit = self.registers[HostRegister.MEMORY_LIMIT_LOW.value // 4]
        chip = GoldenChip(self.config, self.memory[:limit])
        program = self.registers[HostRegister.PROGRAM_LOW.value // 4]
        descriptor = self.registers[HostRegister.DESCRIPTOR_LOW.value // 4]
        self._status(2)
        try:
            chip.run(program, descriptor)
        except DeviceFault:
            self._status(2 | 4)
            self.registers[HostRegister.FAULT_CAUSE.value // 4] = 1
        counter = HostRegister.COUNTERS.value // 4 + 2 * Counter.CYCLES.value
        self.registers[counter : counter + 2] = [12345, 1]
        if not self.loses_events:
            self._out += encode_frame(bytes([EVENT_DONE, 0, 0]))
