"""The RTL as a chip: the verilated accelerator behind its registers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import hdl
from hdl.accelerator import Accelerator
from hdl.config import Config
from hdl.control.dispatch import READ_AHEAD_WORDS
from hdl.emit import emit_verilog
from hdl.interfaces import READ_WINDOW_BITS
from hdl.isa import IDENTITY, Counter, HostRegister
from runtime.chip import DeviceFault, Progress
from runtime.fault_text import fault_text
from runtime.trace import TraceWriter
from sim.verilated.build import BuildConfig, build, cached_verilog
from sim.verilated.library import MemoryTiming, SimulatedChip

__all__ = ["RtlChip", "build_chip"]

_CHUNK_CYCLES = 50_000
_WATCHDOG_CYCLES = 1_000_000
_AHEAD_POLLS = 2000  # of STATUS, for the program's head; the step would wait for it all the same
TOP = "serrano"


def build_chip(
    config: Config, progress: Callable[[str, float], None] = lambda text, fraction: None
) -> Path:
    """The simulator of a chip as a shared library, built if it is not in the cache."""

    def make() -> str:
        return emit_verilog(Accelerator(config, trace=True), TOP)

    progress("writing Verilog", 0.0)
    text = cached_verilog(make, Path(hdl.__file__).parent, f"{config!r}, trace")
    return build(text, TOP, BuildConfig(), progress=progress)


class RtlChip:
    """A simulated chip with its memory.

    Parameters
    ----------
    config : of the chip the library was built from
    memory : uint8, shared with the host
    library : from :func:`build_chip`
    timing : of the memory model; 60 cycles of latency by default
    seed : of the memory's random stalls
    trace : gets every step
    """

    def __init__(
        self,
        config: Config,
        memory: np.ndarray,
        *,
        library: Path,
        timing: MemoryTiming | None = None,
        seed: int = 0,
        trace: TraceWriter | None = None,
    ):
        self.config = config
        self._trace = trace
        self.memory = memory
        self._head = (-1, b"")
        self._sim = SimulatedChip(library, memory, timing or MemoryTiming(), seed=seed)
        self._sim.reset()
        found = self._sim.read(HostRegister.IDENTITY.value)
        if found != IDENTITY:
            raise RuntimeError(f"the chip's identity register reads {found:#x}")
        self._write_pair("MEMORY_BASE", 0)
        self._write_pair("MEMORY_LIMIT", memory.size)
        self._write(HostRegister.WATCHDOG, _WATCHDOG_CYCLES)
        self._write(HostRegister.INTERRUPT_ENABLE, 1)
        window = (timing or MemoryTiming()).read_window(config.burst_beats)
        self._write(HostRegister.READ_WINDOW, min(window, (1 << READ_WINDOW_BITS) - 1))

    @property
    def cycles(self) -> int:
        """Cycles simulated since reset, register accesses included."""
        return self._sim.cycles

    def _write(self, register: HostRegister, value: int) -> None:
        self._sim.write(register.value, value)

    def _read(self, register: HostRegister) -> int:
        return self._sim.read(register.value)

    def _write_pair(self, name: str, value: int) -> None:
        self._write(HostRegister[f"{name}_LOW"], value & 0xFFFFFFFF)
        self._write(HostRegister[f"{name}_HIGH"], value >> 32)

    def _counter(self, counter: Counter) -> int:
        at = HostRegister.COUNTERS.value + 8 * counter.value
        return self._sim.read(at) | self._sim.read(at + 4) << 32

    def expect(self, result: slice) -> None:
        pass  # the memory is shared

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        # The chip has read the head of the last program already: say so if it is not this one.
        head = self.memory[program : program + 16 * READ_AHEAD_WORDS].tobytes()
        if (program, head) != self._head:
            self._write_pair("PROGRAM", program)
            self._head = (program, head)
            for _ in range(_AHEAD_POLLS):
                if self._read(HostRegister.STATUS) & 8:
                    break
        self._write_pair("DESCRIPTOR", descriptor)
        start = self._sim.cycles
        if self._trace:
            self._sim.record(self._trace.resolution, *self._trace.step_window)
        self._write(HostRegister.CONTROL, 1)
        while not self._sim.run(_CHUNK_CYCLES):
            if progress:
                progress(self._sim.cycles - start)
        status = self._read(HostRegister.STATUS)
        self._write(HostRegister.CONTROL, 2)
        counters = {c: self._counter(c) for c in Counter}
        if self._trace:
            log = self._sim.recorded()
            self._trace.add(self.config, log, self.memory, program, descriptor, counters)
        if status & 4:
            raise DeviceFault(fault_text(self._read))
        return counters

    def close(self) -> None:
        self._sim.close()
