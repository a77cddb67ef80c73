"""An AXI4 manager with random stalls, for memories and interconnect."""

from collections import deque
from dataclasses import dataclass, field

import cocotb
from cocotb.triggers import RisingEdge

from sim.bench.streams import Stall

__all__ = ["AxiManager", "Transfer"]


@dataclass
class Transfer:
    """One burst: what was asked, and what came of it."""

    address: int
    beats: int
    write: bool = False
    ident: int = 0
    burst: int = 1
    size: int = 0
    data: list[int] = field(default_factory=list)  # a number a beat
    strobes: list[int] = field(default_factory=list)
    responses: list[int] = field(default_factory=list)
    asked: int = -1  # cycle of the address handshake
    ended: int = -1  # cycle of the last beat, or of the response

    @property
    def done(self) -> bool:
        return self.ended >= 0


class AxiManager:
    """Drives the AXI4 port ``<prefix>__*`` of the design; checks order, ids and RLAST.

    :meth:`read` and :meth:`write` queue bursts and return at once; every channel has stalls of its
    own. W runs independently of AW (earlier or later).

    Parameters
    ----------
    rng, stall, run
        As :class:`Stall`, on all five channels.
    """

    def __init__(self, dut, *, prefix: str = "axi", rng=None, stall: float = 0.0, run: float = 1.0):
        self._dut, self._prefix = dut, prefix
        self.width = len(self._port("wdata")) // 8
        self._stalls = {name: Stall(rng, stall, run) for name in ("ar", "aw", "w", "r", "b")}
        self._ar: deque[Transfer] = deque()
        self._aw: deque[Transfer] = deque()
        self._w: deque[tuple[int, int, int]] = deque()
        self._reads: deque[Transfer] = deque()
        self._writes: deque[Transfer] = deque()
        self.cycle = 0
        self.beats = 0  # read beats taken
        self._task = cocotb.start_soon(self._run())

    def _port(self, name: str):
        return getattr(self._dut, f"{self._prefix}__{name}")

    @property
    def pending(self) -> int:
        """Bursts that have no answer yet."""
        return len(self._ar) + len(self._aw) + len(self._reads) + len(self._writes)

    def _transfer(self, address: int, beats: int, **other) -> Transfer:
        size = other.pop("size", None)
        size = (self.width - 1).bit_length() if size is None else size
        return Transfer(address, beats, size=size, **other)

    def read(self, address: int, beats: int, **other) -> Transfer:
        transfer = self._transfer(address, beats, **other)
        self._ar.append(transfer)
        return transfer

    def write(
        self, address: int, data: list[int], strobes: list[int] | None = None, **other
    ) -> Transfer:
        transfer = self._transfer(address, len(data), write=True, **other)
        transfer.data = list(data)
        transfer.strobes = list(strobes or [(1 << self.width) - 1] * len(data))
        self._aw.append(transfer)
        last = len(data) - 1
        self._w.extend(
            (word, strobe, int(i == last))
            for i, (word, strobe) in enumerate(zip(data, transfer.strobes, strict=True))
        )
        return transfer

    async def finish(self) -> None:
        """Until every burst is answered."""
        edge = RisingEdge(self._dut.clk)
        while self.pending:
            await edge

    def _address(self, name: str, queue: deque[Transfer], shown: bool) -> bool:
        """Show the next burst on AR or AW, if there is one."""
        if shown:
            return True
        if not queue or self._stalls[name].step():
            self._port(f"{name}valid").value = 0
            return False
        head = queue[0]
        self._port(f"{name}addr").value = head.address
        self._port(f"{name}len").value = head.beats - 1
        self._port(f"{name}id").value = head.ident
        self._port(f"{name}burst").value = head.burst
        self._port(f"{name}size").value = head.size
        self._port(f"{name}valid").value = 1
        return True

    async def _run(self) -> None:
        port, edge = self._port, RisingEdge(self._dut.clk)
        names = ("arready", "awready", "wready", "bvalid", "bresp", "bid")
        see = {name: port(name) for name in (*names, "rvalid", "rdata", "rresp", "rlast", "rid")}
        ar = aw = w = r = b = False
        held = None  # R while stalled
        while True:
            await edge
            self.cycle += 1
            if ar and int(see["arready"].value):
                burst = self._ar.popleft()
                burst.asked = self.cycle
                self._reads.append(burst)
                ar = False
            if aw and int(see["awready"].value):
                burst = self._aw.popleft()
                burst.asked = self.cycle
                self._writes.append(burst)
                aw = False
            if w and int(see["wready"].value):
                self._w.popleft()
                w = False
            if int(see["rvalid"].value):
                beat = [int(see[n].value) for n in ("rdata", "rresp", "rlast", "rid")]
                assert held in (None, beat), "R changed while stalled"
                held = beat
                if r:
                    held = None
                    self._beat(*beat)
            else:
                assert held is None, "R withdrawn before ready"
            if b and int(see["bvalid"].value):
                assert self._writes, "write response without a burst"
                burst = self._writes.popleft()
                assert int(see["bid"].value) == burst.ident, "BID"
                burst.responses.append(int(see["bresp"].value))
                burst.ended = self.cycle
            ar = self._address("ar", self._ar, ar)
            aw = self._address("aw", self._aw, aw)
            if not w:
                w = bool(self._w) and not self._stalls["w"].step()
                port("wvalid").value = int(w)
                if w:
                    data, strobe, last = self._w[0]
                    port("wdata").value = data
                    port("wstrb").value = strobe
                    port("wlast").value = last
            r = not self._stalls["r"].step()
            b = not self._stalls["b"].step()
            port("rready").value = int(r)
            port("bready").value = int(b)

    def _beat(self, data: int, response: int, last: int, ident: int) -> None:
        assert self._reads, "read beat without a burst"
        burst = self._reads[0]
        burst.data.append(data)
        burst.responses.append(response)
        self.beats += 1
        count = len(burst.data)
        assert ident == burst.ident, "RID"
        assert last == (count == burst.beats), f"RLAST={last} at beat {count} of {burst}"
        if last:
            burst.ended = self.cycle
            self._reads.popleft()
