"""Drivers and monitors for streams, pulses and synchronous memory ports, by port name."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Event, RisingEdge

from sim.bench.layouts import pack, unpack
from sim.bench.settings import input_ports

__all__ = ["Pulses", "ReadPort", "Sink", "Source", "Stall", "WritePort", "pulse", "start"]

PERIOD_NS = 10


def _port(dut, name: str):
    """Handle of a port, or ``None`` if the design has none (constant ``ready``)."""
    return getattr(dut, name, None)


async def start(dut, *, cycles: int = 2, **inputs: int) -> None:
    """Start the clock, drive ``inputs``, hold reset for ``cycles``; returns after a rising edge.

    Inputs not named start at 0, also those that an earlier test of the module left high.
    """
    for name in input_ports():
        getattr(dut, name).value = inputs.pop(name, 0)
    if inputs:
        raise ValueError(f"the design has no input {', '.join(inputs)}")
    dut.rst.value = 1
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    for _ in range(cycles):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


class Stall:
    """Random stalls: each call of :meth:`step` says whether to stall in the next cycle.

    Parameters
    ----------
    rng
        Source of randomness; ``None`` with probability 0.
    probability
        Share of cycles stalled.
    run
        Mean length of a run of stalled cycles. Long runs fill and drain FIFOs.
    """

    def __init__(self, rng: random.Random | None, probability: float = 0.0, run: float = 1.0):
        if probability and rng is None:
            raise ValueError("a stall probability needs rng")
        if not 0 <= probability < 1:
            raise ValueError("stall probability: 0 <= p < 1")
        self._rng = rng
        self._leave = 1 / max(run, 1.0)
        self._enter = min(1.0, self._leave * probability / (1 - probability))
        self._stalled = False

    def step(self) -> bool:
        if not self._enter or self._rng is None:
            return False
        chance = self._leave if self._stalled else self._enter
        if self._rng.random() < chance:
            self._stalled = not self._stalled
        return self._stalled


class Source:
    """Feeds a stream that the design takes (``<prefix>__payload``, ``__valid``, ``__ready``).

    Parameters
    ----------
    dut, prefix
        Design and name of the stream's port.
    layout
        Layout of the payload; then values may be mappings (see :func:`sim.bench.layouts.pack`).
    stall, run, rng
        Random gaps, as in :class:`Stall`.
    may
        Whether value ``n``, counted from 0, may be shown.
    """

    def __init__(
        self,
        dut,
        prefix: str,
        *,
        layout=None,
        rng=None,
        stall=0.0,
        run=1.0,
        may: Callable[[int], bool] | None = None,
    ):
        self._clock = dut.clk
        self._may = may or (lambda number: True)
        self._payload = _port(dut, f"{prefix}__payload")
        self._valid = getattr(dut, f"{prefix}__valid")
        self._ready = _port(dut, f"{prefix}__ready")
        self._layout = layout
        self._queue: deque[int] = deque()
        self._idle = Event()
        self.sent = 0
        self.shown = 0  # and what stands there
        self.stall = Stall(rng, stall, run)
        self._task = cocotb.start_soon(self._run())

    def send(self, value: int | Mapping | Sequence) -> None:
        """Queue one value."""
        self._queue.append(value if isinstance(value, int) else pack(self._layout, value))
        self._idle.clear()

    def extend(self, values: Iterable) -> None:
        """Queue several values."""
        for value in values:
            self.send(value)

    @property
    def pending(self) -> int:
        """Values not yet taken by the design."""
        return len(self._queue)

    async def drained(self) -> None:
        """Wait until the design has taken everything queued."""
        if self._queue:
            await self._idle.wait()

    async def _run(self) -> None:
        edge = RisingEdge(self._clock)
        queue, ready, valid = self._queue, self._ready, self._valid
        valid.value = 0
        driven = False
        while True:
            await edge
            if driven and (ready is None or int(ready.value)):
                queue.popleft()
                self.sent += 1
                driven = False
                valid.value = 0
                if not queue:
                    self._idle.set()
            if not driven and not self.stall.step() and queue and self._may(self.sent):
                self.shown += 1
                if self._payload is not None:
                    self._payload.value = queue[0]
                valid.value = 1
                driven = True


class Sink:
    """Takes what a stream of the design gives, with random stalls.

    ``values`` holds what came (ints, or with ``layout`` what :func:`sim.bench.layouts.unpack`
    gives) and ``times`` the cycle number of each. ``check`` is called with each value as it comes.
    It also checks the stream rules: valid stays until the transfer, with the payload held.
    """

    def __init__(
        self,
        dut,
        prefix: str,
        *,
        layout=None,
        rng=None,
        stall=0.0,
        run=1.0,
        check: Callable[[Any], None] | None = None,
    ):
        self._clock = dut.clk
        self._reset = dut.rst
        self._prefix = prefix
        self._payload = _port(dut, f"{prefix}__payload")
        self._valid = getattr(dut, f"{prefix}__valid")
        self._ready = _port(dut, f"{prefix}__ready")
        self._layout = layout
        self._check = check
        self._more = Event()
        self.values: list[Any] = []
        self.times: list[int] = []
        self.cycle = 0
        self.stall = Stall(rng, stall, run)
        self.hold = False
        self._task = cocotb.start_soon(self._run())

    async def count(self, number: int) -> list:
        """Wait until ``number`` values in all have come; gives all of them."""
        while len(self.values) < number:
            self._more.clear()
            await self._more.wait()
        return self.values

    def clear(self) -> None:
        """Forget the values."""
        self.values.clear()
        self.times.clear()

    async def _run(self) -> None:
        edge = RisingEdge(self._clock)
        valid, payload, ready = self._valid, self._payload, self._ready
        taking = ready is None
        held: int | None = None
        while True:
            if ready is not None:
                now = not (self.hold or self.stall.step())
                if now != taking or self.cycle == 0:
                    ready.value = int(now)
                taking = now
            await edge
            self.cycle += 1
            if not int(valid.value):
                if held is not None and not int(self._reset.value):
                    raise AssertionError(f"{self._prefix}: valid withdrawn before its transfer")
                held = None
                continue
            if int(self._reset.value):
                held = None
                continue
            value = 0 if payload is None else int(payload.value)
            if held is not None and held != value:
                raise AssertionError(f"{self._prefix}: payload changed while it was stalled")
            held = None if taking else value
            if taking:
                result = value if self._layout is None else unpack(self._layout, value)
                self.values.append(result)
                self.times.append(self.cycle)
                self._more.set()
                if self._check is not None:
                    self._check(result)


class ReadPort:
    """A memory behind a read port (``<prefix>__address``, ``__data``): data a cycle later.

    ``contents`` is a sequence or mapping of ints, or a function of the address. An address outside
    gives ``outside`` (a design may look at any address as long as it does not use the data).
    """

    def __init__(self, dut, prefix: str, contents, *, outside: int = 0):
        self._clock = dut.clk
        self._address = _port(dut, f"{prefix}__address")
        self._data = getattr(dut, f"{prefix}__data")
        self._outside = outside
        self.contents = contents
        self._task = cocotb.start_soon(self._run())

    def _look(self, address: int) -> int:
        contents = self.contents
        if callable(contents):
            return contents(address)
        if isinstance(contents, Mapping):
            return contents.get(address, self._outside)
        return int(contents[address]) if address < len(contents) else self._outside

    async def _run(self) -> None:
        edge = RisingEdge(self._clock)
        address_port, data_port = self._address, self._data
        last = None
        while True:
            await edge
            address = 0 if address_port is None else int(address_port.value)
            data = self._look(address)
            if data != last:
                data_port.value = last = data


class WritePort:
    """Records a write port of the design (``<prefix>__enable``, ``__address``, ``__data``).

    ``contents`` maps address to data and ``log`` lists (cycle, address, data).
    """

    def __init__(self, dut, prefix: str, contents: MutableMapping[int, int] | list | None = None):
        self._clock = dut.clk
        self._enable = getattr(dut, f"{prefix}__enable")
        self._address = _port(dut, f"{prefix}__address")
        self._data = getattr(dut, f"{prefix}__data")
        self.contents: Any = {} if contents is None else contents
        self.log: list[tuple[int, int, int]] = []
        self._task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self._clock)
        enable = self._enable
        cycle = 0
        while True:
            await edge
            cycle += 1
            if int(enable.value):
                address = 0 if self._address is None else int(self._address.value)
                data = int(self._data.value)
                self.contents[address] = data
                self.log.append((cycle, address, data))


async def pulse(dut, name: str, times: int = 1) -> None:
    """Hold an input high for ``times`` cycles (that many events)."""
    handle = getattr(dut, name)
    handle.value = 1
    for _ in range(times):
        await RisingEdge(dut.clk)
    handle.value = 0


class Pulses:
    """Counts the cycles in which an output of the design is high."""

    def __init__(self, dut, name: str):
        self._clock = dut.clk
        self._handle = getattr(dut, name)
        self._more = Event()
        self.count = 0
        self._task = cocotb.start_soon(self._run())

    async def reach(self, number: int) -> None:
        """Wait until ``number`` pulses in all have come."""
        while self.count < number:
            self._more.clear()
            await self._more.wait()

    async def _run(self) -> None:
        edge = RisingEdge(self._clock)
        while True:
            await edge
            if int(self._handle.value):
                self.count += 1
                self._more.set()
