"""An AXI4 memory with latency, stalls, error responses and protocol checks, for the memory port."""

from collections import deque
from dataclasses import dataclass

import cocotb
from cocotb.triggers import RisingEdge

from sim.bench.memory import Image
from sim.bench.streams import Stall

__all__ = ["AxiMemory", "Burst"]

PAGE = 4096
SLVERR = 2


@dataclass
class Burst:
    """One burst seen on AR or AW."""

    address: int
    beats: int
    cycle: int


class _Channel:
    """One AXI channel that the design drives: handshake sampled, payload held, random stalls."""

    def __init__(self, dut, prefix: str, name: str, fields: tuple[str, ...], stall: Stall):
        self.name = name
        self._valid = getattr(dut, f"{prefix}__{name}valid")
        self._ready = getattr(dut, f"{prefix}__{name}ready")
        self._fields = [getattr(dut, f"{prefix}__{name}{field}") for field in fields]
        self._stall = stall
        self._taking = False
        self._held: list[int] | None = None
        self._ready.value = 0

    def sample(self) -> list[int] | None:
        """What was transferred at this edge, if anything."""
        if not int(self._valid.value):
            assert self._held is None, f"{self.name}: valid withdrawn before ready"
            return None
        values = [int(field.value) for field in self._fields]
        assert self._held in (None, values), f"{self.name}: payload changed while stalled"
        self._held = None if self._taking else values
        return values if self._taking else None

    def drive(self, allow: bool = True) -> None:
        """Ready for the next cycle."""
        want = allow and not self._stall.step()
        if want != self._taking:
            self._ready.value = int(want)
            self._taking = want


class AxiMemory:
    """Subordinate on the AXI4 port ``<prefix>__*`` of the design.

    Parameters
    ----------
    image
        Contents. Reads look when the beat is given, writes land with the response.
    latency
        Cycles from AR taken (WLAST taken) to the first beat (the response).
    rng, stall, run
        Random stalls on all five channels, as :class:`Stall`.
    outstanding
        Read and write bursts taken at most before their data or response.

    ``bad_reads`` / ``bad_writes`` are sets of beat addresses that answer SLVERR. ``read_bursts``,
    ``write_bursts`` log bursts; ``beats`` counts read beats given, ``strobes`` lists (address,
    strobe) of write beats.
    """

    def __init__(
        self,
        dut,
        image: Image,
        *,
        prefix: str = "axi",
        latency: int | tuple[int, int] = 10,
        rng=None,
        stall: float = 0.0,
        run: float = 1.0,
        outstanding: int = 64,
    ):
        self._dut, self.image = dut, image
        self._width = len(getattr(dut, f"{prefix}__rdata")) // 8
        self._latency = (latency, latency) if isinstance(latency, int) else latency
        self._rng, self._outstanding = rng, outstanding

        def stalls() -> Stall:
            return Stall(rng, stall, run)

        burst = ("addr", "len", "size", "burst", "id", "lock", "prot")
        self._ar = _Channel(dut, prefix, "ar", burst, stalls())
        self._aw = _Channel(dut, prefix, "aw", burst, stalls())
        self._w = _Channel(dut, prefix, "w", ("data", "strb", "last"), stalls())
        self._r_gap, self._b_gap = stalls(), stalls()
        self._out = {
            name: getattr(dut, f"{prefix}__{name}")
            for name in ("rvalid", "rdata", "rresp", "rlast", "rready", "bvalid", "bresp", "bready")
        }
        self.bad_reads: set[int] = set()
        self.bad_writes: set[int] = set()
        self.read_bursts: list[Burst] = []
        self.write_bursts: list[Burst] = []
        self.strobes: list[tuple[int, int]] = []
        self.beats = 0
        self.cycle = 0
        self.frozen = False  # stop answering altogether
        self._task = cocotb.start_soon(self._run())

    def _burst(self, values: list[int], name: str) -> Burst:
        address, length, size, kind, ident, lock, prot = values
        beats = length + 1
        assert kind == 1, f"{name}: burst type {kind}"
        assert 1 << size == self._width, f"{name}: size {size}"
        assert (ident, lock, prot) == (0, 0, 0)
        assert address % self._width == 0, f"{name}: {address:#x} not aligned"
        last = address + beats * self._width - 1
        assert address // PAGE == last // PAGE, f"{name}: {address:#x} + {beats} crosses 4 KiB"
        return Burst(address, beats, self.cycle)

    def _wait(self) -> int:
        low, high = self._latency
        return low if low == high else self._rng.randint(low, high)

    async def _run(self) -> None:
        dut, out, width = self._dut, self._out, self._width
        edge = RisingEdge(dut.clk)
        reads: deque[list[int]] = deque()  # [ready at, address, beats left]
        writes: deque[Burst] = deque()
        data: deque[list[int]] = deque()
        replies: deque[tuple[int, Burst, list[list[int]]]] = deque()
        read_at = reply_at = 0
        giving = replying = False
        out["rvalid"].value = 0
        out["bvalid"].value = 0
        while True:
            await edge
            self.cycle += 1
            if giving and int(out["rready"].value):
                giving = False
            if replying and int(out["bready"].value):
                replying = False
            if (values := self._ar.sample()) is not None:
                burst = self._burst(values, "AR")
                self.read_bursts.append(burst)
                read_at = max(read_at, self.cycle + self._wait())
                reads.append([read_at, burst.address, burst.beats])
            if (values := self._aw.sample()) is not None:
                burst = self._burst(values, "AW")
                self.write_bursts.append(burst)
                writes.append(burst)
            if (values := self._w.sample()) is not None:
                data.append(values)
            while writes and len(data) >= writes[0].beats:
                burst = writes.popleft()
                beats = [data.popleft() for _ in range(burst.beats)]
                ends = [last for _, _, last in beats]
                assert ends == [0] * (burst.beats - 1) + [1], f"WLAST {ends} of {burst}"
                reply_at = max(reply_at + 1, self.cycle + self._wait())
                replies.append((reply_at, burst, beats))

            if not giving:
                ready = reads and reads[0][0] <= self.cycle and not self.frozen
                if ready and not self._r_gap.step():
                    when, address, beats_left = reads[0]
                    bad = address in self.bad_reads
                    word = self.image.read(address, width)
                    out["rdata"].value = int.from_bytes(word, "little")
                    out["rresp"].value = SLVERR if bad else 0
                    out["rlast"].value = int(beats_left == 1)
                    out["rvalid"].value = 1
                    giving = True
                    self.beats += 1
                    reads[0] = [when, address + width, beats_left - 1]
                    if beats_left == 1:
                        reads.popleft()
                else:
                    out["rvalid"].value = 0
            if not replying:
                answer = replies and replies[0][0] <= self.cycle and not self.frozen
                if answer and not self._b_gap.step():
                    _, burst, beats = replies.popleft()
                    addresses = range(burst.address, burst.address + PAGE, width)
                    bad = False
                    for address, (value, strobe, _) in zip(addresses, beats, strict=False):
                        bad |= address in self.bad_writes
                        self.strobes.append((address, strobe))
                        self.image.write(address, value.to_bytes(width, "little"), strobe)
                    out["bresp"].value = SLVERR if bad else 0
                    out["bvalid"].value = 1
                    replying = True
                else:
                    out["bvalid"].value = 0
            self._ar.drive(len(reads) < self._outstanding)
            self._aw.drive(len(writes) + len(replies) < self._outstanding)
            self._w.drive()
