"""A simulated chip: the shared library of `build`, with its memory, as a Python object."""

import ctypes
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from compiler.errors import UserError
from sim.verilated.dram import DramTiming, _Dram

__all__ = [
    "RECORD",
    "BusError",
    "MemoryStats",
    "MemoryTiming",
    "SimulatedChip",
    "SimulationError",
]

_CHUNK_CYCLES = 20_000
"""Cycles between looks at Ctrl-C and calls of `progress`."""

_CHANNELS = ("ar", "r", "aw", "w", "b")


class SimulationError(Exception):
    """An assertion of the design failed, or it broke the AXI4 protocol; names it and the cycle."""


class BusError(Exception):
    """An AXI4-Lite access timed out or was answered with an error."""


@dataclass(frozen=True)
class MemoryTiming:
    """Timing of the memory model (see `memory.h` for the exact meaning).

    Parameters
    ----------
    latency : cycles from a read address to its first beat, and from the last write beat to its
        response; at least 1. With a DRAM: of a read whose row is open
    bandwidth : beats a cycle in each direction, above 0, at most 1
    outstanding_reads : read bursts accepted and not finished; no more addresses are taken
    outstanding_writes : write bursts accepted and not answered
    stall_probability : of a stall, every cycle, on each of the five channels
    stalls : of single channels ("ar", "r", "aw", "w", "b"), instead of `stall_probability`
    dram : what is behind the port; None: ideal, nothing but the above
    """

    latency: int = 60
    bandwidth: Fraction | float = Fraction(1)
    outstanding_reads: int = 16
    outstanding_writes: int = 16
    stall_probability: float = 0.0
    stalls: dict[str, float] = field(default_factory=dict)
    dram: DramTiming | None = None

    def __post_init__(self):
        for name in ("latency", "outstanding_reads", "outstanding_writes"):
            if not 1 <= getattr(self, name) < 1 << 31:
                raise UserError(f"memory {name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.bandwidth <= 1:
            raise UserError(
                f"memory bandwidth must be above 0 and at most 1 beat a cycle, not {self.bandwidth}"
            )
        for name, value in {"stall_probability": self.stall_probability, **self.stalls}.items():
            if name not in (*_CHANNELS, "stall_probability"):
                raise UserError(f"memory stalls: no channel {name!r}; there are {_CHANNELS}")
            if not 0 <= value < 1:
                raise UserError(f"memory stall probability must be in [0, 1), not {value}")
        if self.dram is not None and self.latency <= self.dram.cl:
            raise UserError(
                f"memory latency {self.latency}: {self.dram} alone takes {self.dram.cl}; "
                f"give at least {self.dram.cl + 1}"
            )

    @property
    def beats_per_cycle(self) -> Fraction:
        """`bandwidth` as the model has it: the nearest fraction with a denominator up to 1000."""
        return max(Fraction(self.bandwidth).limit_denominator(1000), Fraction(1, 1000))

    def read_window(self, burst_beats: int) -> int:
        """Beats that a chip should ask for ahead: enough to hide the latency, and half a burst.

        A DRAM opens rows for what it has been asked, so it must be asked as much earlier as
        that takes.
        """
        opening = self.dram.rp + self.dram.rcd if self.dram else 0
        return self.latency + opening + burst_beats // 2

    def __str__(self) -> str:
        """In a few words, for reports."""
        parts = [f"{'ideal' if self.dram is None else self.dram}, latency {self.latency}"]
        if self.beats_per_cycle != 1:
            parts.append(f"{float(self.beats_per_cycle):.3g} beats a cycle at most")
        stalls = {c: self.stalls.get(c, self.stall_probability) for c in _CHANNELS}
        if any(stalls.values()):
            low, high = min(stalls.values()), max(stalls.values())
            share = f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"
            parts.append(f"random stalls of {share} on each channel")
        return ", ".join(parts)

    def structure(self, seed: int) -> "_Timing":
        """For the model in C++."""
        rate = self.beats_per_cycle
        stalls = [self.stalls.get(c, self.stall_probability) for c in _CHANNELS]
        return _Timing(
            self.latency,
            rate.numerator,
            rate.denominator,
            self.outstanding_reads,
            self.outstanding_writes,
            (ctypes.c_uint32 * 5)(*(int(p * 2**32) for p in stalls)),
            seed & (2**64 - 1),
            _Dram() if self.dram is None else self.dram.structure(),
        )


@dataclass(frozen=True)
class MemoryStats:
    """Counters of the memory model since the chip was made.

    `read_busy_cycles`: at least one read burst accepted and not finished (`write_busy_cycles`
    alike); `read_blocked_cycles`: a beat was offered and the chip did not take it. The others are
    of a DRAM: column accesses that found their row open (`row_hits`), rows opened in a closed bank
    (`row_misses`) and in place of another (`row_conflicts`), changes of the data bus between reads
    and writes (`turnarounds`).
    """

    read_bursts: int
    read_beats: int
    write_bursts: int
    write_beats: int
    read_busy_cycles: int
    read_blocked_cycles: int
    write_busy_cycles: int
    row_hits: int
    row_misses: int
    row_conflicts: int
    refreshes: int
    turnarounds: int


class _Timing(ctypes.Structure):
    _fields_ = [
        ("latency", ctypes.c_uint32),
        ("bandwidth_numerator", ctypes.c_uint32),
        ("bandwidth_denominator", ctypes.c_uint32),
        ("outstanding_reads", ctypes.c_uint32),
        ("outstanding_writes", ctypes.c_uint32),
        ("stall", ctypes.c_uint32 * 5),
        ("seed", ctypes.c_uint64),
        ("dram", _Dram),
    ]


class _Stats(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in MemoryStats.__dataclass_fields__]


class _ErrorRange(ctypes.Structure):
    _fields_ = [("first", ctypes.c_uint64), ("last", ctypes.c_uint64)]


RECORD = np.dtype(
    [
        ("cycle", "<u8"),
        ("length", "<u4"),
        ("count", "<u4"),
        ("index", "<u4"),
        ("kind", "u1"),
        ("unit", "u1"),
        ("state", "u1"),
        ("cause", "u1"),
    ]
)
"""What `SimulatedChip.recorded` gives: `Record` in `recorder.h`."""


_OK, _IRQ, _TIMEOUT, _FAILED, _UNSUPPORTED = range(5)


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    chip, u32, u64, text = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p
    pointer = ctypes.POINTER
    response = pointer(ctypes.c_int)
    for name, result, arguments in (
        ("chip_open", chip, (pointer(_Timing), chip, u64)),
        ("chip_close", None, (chip,)),
        ("chip_reset", ctypes.c_int, (chip, u64)),
        ("chip_run", ctypes.c_int, (chip, u64)),
        ("chip_write", ctypes.c_int, (chip, u32, u32, u64, response)),
        ("chip_read", ctypes.c_int, (chip, u32, u64, pointer(u32), response)),
        ("chip_cycles", u64, (chip,)),
        ("chip_bus_bytes", u32, (chip,)),
        ("chip_stats", None, (chip, pointer(_Stats))),
        ("chip_set_errors", None, (chip, ctypes.c_int, pointer(_ErrorRange), u64)),
        ("chip_violation", text, (chip,)),
        ("chip_output", text, (chip,)),
        ("chip_clear_output", None, (chip,)),
        ("chip_record", ctypes.c_int, (chip, u32, u64, u64)),
        ("chip_recorded", chip, (chip, pointer(u64))),
        ("chip_trace", ctypes.c_int, (chip, text)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class SimulatedChip:
    """A verilated chip and its memory.

    The library runs without the interpreter lock, so other Python threads go on; one chip is for
    one thread at a time. Every cycle counts, those of register accesses and reset too.

    Parameters
    ----------
    library_path : from `build`
    memory : uint8 (bytes,), contiguous; the chip's memory from address 0 on, shared, not copied
    timing : of the memory
    seed : of the memory's random stalls
    """

    def __init__(
        self,
        library_path: Path,
        memory: np.ndarray,
        timing: MemoryTiming | None = None,
        seed: int = 0,
    ):
        self._handle = None
        timing = timing or MemoryTiming()
        if memory.dtype != np.uint8 or memory.ndim != 1 or not memory.flags.c_contiguous:
            raise ValueError("memory must be a contiguous one-dimensional uint8 array")
        if not memory.flags.writeable:
            raise ValueError("memory must be writeable")
        self.memory = memory
        self._library = _load(library_path)
        self._timing = timing.structure(seed)
        self._handle = self._library.chip_open(
            ctypes.byref(self._timing), memory.ctypes.data, memory.nbytes
        )
        self.bus_bytes: int = self._library.chip_bus_bytes(self._handle)

    # Registers

    def write(self, address: int, value: int, *, timeout_cycles: int = 1000) -> None:
        """One AXI4-Lite write. Raises `BusError` on an error response or after `timeout_cycles`."""
        response = ctypes.c_int()
        status = self._library.chip_write(
            self._open(), address, value & 0xFFFFFFFF, timeout_cycles, ctypes.byref(response)
        )
        self._check_access("write", address, status, response.value)

    def read(self, address: int, *, timeout_cycles: int = 1000) -> int:
        """One AXI4-Lite read: 32 bits. Raises `BusError` like `write`."""
        value, response = ctypes.c_uint32(), ctypes.c_int()
        status = self._library.chip_read(
            self._open(), address, timeout_cycles, ctypes.byref(value), ctypes.byref(response)
        )
        self._check_access("read", address, status, response.value)
        return value.value

    # Time

    @property
    def cycles(self) -> int:
        """Clock cycles since the chip was made."""
        return self._library.chip_cycles(self._open())

    def reset(self, cycles: int = 4) -> None:
        """Holds `rst` for some cycles and drops all bus traffic; the memory's data stay."""
        self._check(self._library.chip_reset(self._open(), cycles))

    def run(self, max_cycles: int, progress: Callable[[int], None] | None = None) -> bool:
        """Runs until `irq` is high, at most `max_cycles`; True if it is.

        `progress` is called now and then with the cycles run so far. Raises `SimulationError`.
        """
        start = self.cycles
        while True:
            done = self.cycles - start
            status = self._library.chip_run(self._open(), min(_CHUNK_CYCLES, max_cycles - done))
            self._check(status)
            if status == _IRQ:
                return True
            done = self.cycles - start
            if progress is not None:
                progress(done)
            if done >= max_cycles:
                return False

    # Memory

    def memory_stats(self) -> MemoryStats:
        stats = _Stats()
        self._library.chip_stats(self._open(), ctypes.byref(stats))
        return MemoryStats(*(getattr(stats, name) for name in MemoryStats.__dataclass_fields__))

    def inject_errors(
        self, reads: Iterable[tuple[int, int]] = (), writes: Iterable[tuple[int, int]] = ()
    ) -> None:
        """Beats that touch one of these ranges (first address, end) answer SLVERR from now on.

        Writes there change nothing. Outside the memory the answer is DECERR in any case.
        """
        for is_write, ranges in enumerate((list(reads), list(writes))):
            array = (_ErrorRange * len(ranges))(*(_ErrorRange(*r) for r in ranges))
            self._library.chip_set_errors(self._open(), is_write, array, len(ranges))

    # Looking in

    def output(self) -> str:
        """What the design has printed (`Print`) since the last call."""
        text = self._library.chip_output(self._open()).decode(errors="replace")
        self._library.chip_clear_output(self._handle)
        return text

    def record(self, resolution: int, first: int = 0, last: int = 2**63) -> None:
        """Records what the units do from now on, and forgets what was recorded; 0 ends it.

        Parameters: `resolution`: shortest run of a state that is kept whole, in cycles; `first`,
        `last`: cycles of a step, states and beats outside of which are left out. Needs a chip with
        the port of `hdl.trace`.
        """
        if self._library.chip_record(self._open(), resolution, first, last) == _UNSUPPORTED:
            raise UserError("this chip was built without a trace port")

    def recorded(self) -> np.ndarray:
        """Complete steps since `record`, each ended by a record of kind 0: a copy, of `RECORD`."""
        count = ctypes.c_uint64()
        address = self._library.chip_recorded(self._open(), ctypes.byref(count))
        return np.frombuffer(ctypes.string_at(address, count.value * RECORD.itemsize), RECORD)

    def trace(self, path: Path | None) -> None:
        """Writes a waveform from now on, to a new file; with None, ends it.

        Needs a library built with `BuildConfig(trace=...)`.
        """
        status = self._library.chip_trace(self._open(), None if path is None else bytes(path))
        if status == _UNSUPPORTED:
            raise UserError("this simulator was built without tracing")
        if status != _OK:
            raise UserError(f"cannot write the waveform {path}")

    def close(self) -> None:
        """Frees the model and ends the waveform; the memory stays the caller's."""
        if self._handle is not None:
            self._library.chip_close(self._handle)
            self._handle = None

    def __enter__(self) -> "SimulatedChip":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        self.close()

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the chip is closed")
        return self._handle

    def _check(self, status: int) -> None:
        if status != _FAILED:
            return
        violation = self._library.chip_violation(self._open()).decode()
        if violation:
            raise SimulationError(violation)
        text = self._library.chip_output(self._open()).decode(errors="replace").strip()
        match = re.search(r"%Error: \S+: (Assertion failed in .*)", text, re.DOTALL)
        what = match[1].strip() if match else text or "the model stopped without a message"
        raise SimulationError(f"at cycle {self.cycles - 1}: {what}")

    def _check_access(self, kind: str, address: int, status: int, response: int) -> None:
        self._check(status)
        if status == _TIMEOUT:
            raise BusError(f"AXI4-Lite {kind} of {address:#05x} timed out")
        if response:
            name = {1: "EXOKAY", 2: "SLVERR", 3: "DECERR"}[response]
            raise BusError(f"AXI4-Lite {kind} of {address:#05x} was answered with {name}")
