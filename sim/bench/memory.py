"""The memory behind a unit's ``read_client`` and ``write_client``."""

from collections import deque
from dataclasses import dataclass, field

import cocotb
from amaranth.lib import data
from cocotb.triggers import RisingEdge

from sim.bench.layouts import unpack
from sim.bench.streams import Stall

__all__ = ["Image", "MemoryReader", "MemoryWriter"]

REQUEST = data.StructLayout({"address": 40, "beats": 9})


class Image:
    """Bytes of a memory window starting at ``base``; shared by readers and writers of a bench."""

    def __init__(self, size: int, base: int = 0):
        self.base = base
        self.data = bytearray(size)

    def _at(self, address: int, length: int) -> int:
        offset = address - self.base
        assert 0 <= offset <= len(self.data) - length, (
            f"access of {length} bytes at {address:#x} is outside the memory "
            f"[{self.base:#x}, {self.base + len(self.data):#x})"
        )
        return offset

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a byte address."""
        offset = self._at(address, length)
        return bytes(self.data[offset : offset + length])

    def write(self, address: int, content: bytes, strobe: int | None = None) -> None:
        """Put bytes; bit i of ``strobe`` enables byte i."""
        offset = self._at(address, len(content))
        if strobe is None:
            self.data[offset : offset + len(content)] = content
        else:
            for i, byte in enumerate(content):
                if strobe >> i & 1:
                    self.data[offset + i] = byte


@dataclass
class Request:
    """One request seen: byte address, beats, cycle it was taken."""

    address: int
    beats: int
    cycle: int
    done: bool = field(default=False)


def _check(request: dict, width: int, prefix: str) -> None:
    assert request["beats"] in range(1, 257), f"{prefix}: {request['beats']} beats asked"
    assert request["address"] % width == 0, f"{prefix}: address {request['address']:#x} not aligned"


class MemoryReader:
    """Answers a ``read_client`` port of the design, in order.

    Parameters
    ----------
    dut, prefix
        Design and name of the port (``<prefix>__request__payload`` ...).
    image
        Contents. Read when the beat is given, as a memory would at the latest.
    latency
        Cycles from a request to its first beat, or a (lowest, highest) pair.
    stall, run, rng
        Random gaps between beats (``stall``) and random stalls of the request stream.
    outstanding
        Requests taken before their data is finished, at most.

    ``requests`` logs every request, ``beats`` counts beats given.
    """

    def __init__(
        self,
        dut,
        prefix: str,
        image: Image,
        *,
        latency: int | tuple[int, int] = 10,
        rng=None,
        stall: float = 0.0,
        run: float = 1.0,
        outstanding: int = 16,
    ):
        self._dut, self._prefix = dut, prefix
        self._port = {
            name: getattr(dut, f"{prefix}__{name}")
            for name in (
                "request__payload",
                "request__valid",
                "request__ready",
                "data__payload",
                "data__valid",
            )
        }
        self._width = len(self._port["data__payload"]) // 8
        self._latency = (latency, latency) if isinstance(latency, int) else latency
        self._rng = rng
        self._gap, self._hesitate = Stall(rng, stall, run), Stall(rng, stall, run)
        self._outstanding = outstanding
        self.image = image
        self.requests: list[Request] = []
        self.beats = 0
        self.cycle = 0
        self._task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge, port, width = RisingEdge(self._dut.clk), self._port, self._width
        queue: deque[tuple[int, int, int]] = deque()  # (ready at cycle, next address, beats left)
        earliest = 0
        taking = False
        port["request__ready"].value = 0
        port["data__valid"].value = 0
        showing = False
        while True:
            await edge
            self.cycle += 1
            if int(self._dut.rst.value):
                queue.clear()
            elif taking and int(port["request__valid"].value):
                request = unpack(REQUEST, int(port["request__payload"].value))
                _check(request, width, self._prefix)
                low, high = self._latency
                wait = low if low == high else self._rng.randint(low, high)
                earliest = max(earliest, self.cycle + wait)
                queue.append((earliest, request["address"], request["beats"]))
                self.requests.append(Request(request["address"], request["beats"], self.cycle))
            want = len(queue) < self._outstanding and not self._hesitate.step()
            if want != taking:
                port["request__ready"].value = int(want)
                taking = want
            gap = self._gap.step()
            if queue and queue[0][0] <= self.cycle and not gap:
                when, address, beats = queue.popleft()
                beat = self.image.read(address, width)
                port["data__payload"].value = int.from_bytes(beat, "little")
                port["data__valid"].value = 1
                showing = True
                self.beats += 1
                if beats > 1:
                    queue.appendleft((when, address + width, beats - 1))
            elif showing:
                port["data__valid"].value = 0
                showing = False


class MemoryWriter:
    """Takes a ``write_client`` port of the design; data reaches the image when ``done`` pulses.

    Parameters as :class:`MemoryReader`; ``latency`` is from a request's last beat to ``done``.
    Beats wait until their request was taken.
    """

    def __init__(
        self,
        dut,
        prefix: str,
        image: Image,
        *,
        latency: int | tuple[int, int] = 10,
        rng=None,
        stall: float = 0.0,
        run: float = 1.0,
        outstanding: int = 4,
    ):
        self._dut, self._prefix = dut, prefix
        self._port = {
            name: getattr(dut, f"{prefix}__{name}")
            for name in (
                "request__payload",
                "request__valid",
                "request__ready",
                "data__payload",
                "data__valid",
                "data__ready",
                "done",
            )
        }
        self._width = len(self._port["data__payload"]) // 9
        self._latency = (latency, latency) if isinstance(latency, int) else latency
        self._rng = rng
        self._slow, self._hesitate = Stall(rng, stall, run), Stall(rng, stall, run)
        self._outstanding = outstanding
        self.image = image
        self.requests: list[Request] = []
        self.beats = 0
        self.done = 0
        self.cycle = 0
        self._task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge, port, width = RisingEdge(self._dut.clk), self._port, self._width
        open_: deque[tuple[Request, list[tuple[int, int]]]] = deque()
        waiting: deque[tuple[int, Request, list[tuple[int, int]]]] = deque()
        taking = accepting = pulsing = False
        earliest = 0
        for name in ("request__ready", "data__ready", "done"):
            port[name].value = 0
        while True:
            await edge
            self.cycle += 1
            if int(self._dut.rst.value):
                open_.clear()
                waiting.clear()
            else:
                if taking and int(port["request__valid"].value):
                    fields = unpack(REQUEST, int(port["request__payload"].value))
                    _check(fields, width, self._prefix)
                    request = Request(fields["address"], fields["beats"], self.cycle)
                    self.requests.append(request)
                    open_.append((request, []))
                if accepting and int(port["data__valid"].value):
                    bits = int(port["data__payload"].value)
                    request, beats = open_[0]
                    beats.append((bits & (1 << 8 * width) - 1, bits >> 8 * width))
                    self.beats += 1
                    if len(beats) == request.beats:
                        open_.popleft()
                        low, high = self._latency
                        wait = low if low == high else self._rng.randint(low, high)
                        earliest = max(earliest + 1, self.cycle + wait)
                        waiting.append((earliest, request, beats))
            finish = bool(waiting) and waiting[0][0] <= self.cycle
            if finish:
                _, request, beats = waiting.popleft()
                for i, (word, strobe) in enumerate(beats):
                    content = word.to_bytes(width, "little")
                    self.image.write(request.address + i * width, content, strobe)
                request.done = True
                self.done += 1
            if finish != pulsing:
                port["done"].value = int(finish)
                pulsing = finish
            want = len(open_) + len(waiting) < self._outstanding and not self._hesitate.step()
            if want != taking:
                port["request__ready"].value = int(want)
                taking = want
            # A beat may come in the cycle after its request was taken at the earliest.
            accept = bool(open_) and not self._slow.step()
            if accept != accepting:
                port["data__ready"].value = int(accept)
                accepting = accept
