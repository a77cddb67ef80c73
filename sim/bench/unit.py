"""The controller's side of a unit: instructions, semaphores, fault and activity."""

import cocotb
from cocotb.triggers import ReadWrite, RisingEdge

from hdl.interfaces import instruction_signature
from hdl.isa import SEMAPHORES
from sim.bench.layouts import pack
from sim.bench.streams import Source, Stall

__all__ = ["Instructions", "Semaphores", "UnitMonitor", "drive_struct"]


def drive_struct(dut, name: str, layout, **fields: int) -> None:
    """Set a struct input (``model``, ``step``); fields not named are 0."""
    values = {field: fields.pop(field, 0) for field in layout.members}
    if fields:
        raise ValueError(f"{name} has no field {', '.join(fields)}")
    getattr(dut, name).value = pack(layout, values)


class Instructions(Source):
    """The unit's instruction queue; :meth:`issue` numbers the instructions."""

    def __init__(self, dut, prefix: str = "instruction", **stalls):
        layout = instruction_signature().members["payload"].shape
        super().__init__(dut, prefix, layout=layout, **stalls)
        self.index = 0

    def issue(self, word: int, index: int | None = None) -> int:
        """Queue an encoded instruction; gives its index in the program."""
        if index is not None:
            self.index = index
        self.send({"word": word, "index": self.index})
        self.index += 1
        return self.index - 1


class Semaphores:
    """The semaphores of the chip as one unit sees them.

    ``counts`` is the present count of each; :meth:`give` adds (another unit signalling). The grant
    comes in the cycle of the request, or random cycles later with ``stall``. ``given`` counts the
    unit's own signals, which also go to ``counts`` unless ``loop`` is false.
    """

    def __init__(self, dut, prefix: str = "semaphore", *, rng=None, stall=0.0, loop=True):
        self._clock = dut.clk
        self._valid = getattr(dut, f"{prefix}__wait_valid")
        self._mask = getattr(dut, f"{prefix}__wait_mask")
        self._ready = getattr(dut, f"{prefix}__wait_ready")
        self._signal = getattr(dut, f"{prefix}__signal")
        self._stall = Stall(rng, stall)
        self._loop = loop
        self.counts = [0] * SEMAPHORES
        self.given = [0] * SEMAPHORES
        self.taken = [0] * SEMAPHORES
        self._task = cocotb.start_soon(self._run())

    def give(self, mask: int) -> None:
        """Add 1 to every semaphore in ``mask``."""
        for s in range(SEMAPHORES):
            self.counts[s] += mask >> s & 1

    async def _run(self) -> None:
        edge, settle = RisingEdge(self._clock), ReadWrite()
        granted = 0
        self._ready.value = 0
        while True:
            await edge
            signal = int(self._signal.value)
            for s in range(SEMAPHORES):
                one = signal >> s & 1
                self.given[s] += one
                self.counts[s] += one if self._loop else 0
            if granted:
                self._ready.value = 0
                granted = 0
            await settle
            if int(self._valid.value) and not self._stall.step():
                mask = int(self._mask.value)
                wanted = [s for s in range(SEMAPHORES) if mask >> s & 1]
                if all(self.counts[s] for s in wanted):
                    for s in wanted:
                        self.counts[s] -= 1
                        self.taken[s] += 1
                    self._ready.value = 1
                    granted = 1


class UnitMonitor:
    """Watches ``activity`` (at most one high) and ``fault`` (none, unless ``expect_fault``).

    ``busy``, ``starved``, ``blocked`` count cycles; ``fault`` is the report as a dict, or None.
    """

    def __init__(self, dut, *, expect_fault: bool = False):
        self._dut = dut
        self._expect = expect_fault
        self.busy = self.starved = self.blocked = self.cycles = 0
        self.fault: dict[str, int] | None = None
        self._task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        dut, edge = self._dut, RisingEdge(self._dut.clk)
        names = ("busy", "starved", "blocked")
        ports = [getattr(dut, f"activity__{name}") for name in names]
        while True:
            await edge
            if int(dut.rst.value):
                continue
            self.cycles += 1
            levels = [int(port.value) for port in ports]
            assert sum(levels) <= 1, f"activity: {dict(zip(names, levels, strict=True))}"
            self.busy += levels[0]
            self.starved += levels[1]
            self.blocked += levels[2]
            if int(dut.fault__valid.value):
                report = {
                    name: int(getattr(dut, f"fault__{name}").value)
                    for name in ("cause", "detail", "address", "index")
                }
                assert self._expect, f"unexpected fault {report}"
                assert self.fault in (None, report), f"fault changed: {self.fault} to {report}"
                self.fault = report
            else:
                assert self.fault is None, "fault withdrawn without reset"
