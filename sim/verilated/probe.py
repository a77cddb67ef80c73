"""The memory model alone: what it does cycle by cycle, and what it sustains.

A manager that asks as fast as the port allows and always has room stands where the chip would; what
it gets is the most that any chip can get. The library is compiled from the same `memory.h` and
`dram.h` as the simulated chip's, in some seconds, once.
"""

import ctypes
import functools
import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.verilated.build import BuildError
from sim.verilated.cache import claim
from sim.verilated.library import MemoryStats, MemoryTiming, _Stats
from sim.verilated.toolchain import cache_directory, find_compiler

__all__ = ["COMMANDS", "Burst", "ProbeResult", "Sustained", "probe", "sustained"]

COMMANDS = ("activate", "precharge", "read", "write", "precharge all", "refresh")
"""Kinds of DRAM commands by number."""

_HERE = Path(__file__).parent
_SOURCES = ("probe.cpp", "memory.h", "dram.h")
_MEMORY_BYTES = 1 << 20
_FAILED = 2**64 - 1


@dataclass(frozen=True)
class Burst:
    """One AXI burst. `cycle`: its address is not offered before."""

    address: int
    beats: int
    is_write: bool = False
    cycle: int = 0


@dataclass(frozen=True)
class ProbeResult:
    """What happened.

    Attributes
    ----------
    cycles : until everything was done
    accepted : by burst, the cycle in which its address was taken
    done : by burst, the cycle of its last read beat or of its response
    beat_cycles : by read beat, in order, the cycle in which it was taken
    data : uint8 (read beats, port bytes)
    commands : (cycle, kind as in `COMMANDS`, bank, row) of the DRAM, if they were asked for
    stats : the model's counters
    """

    cycles: int
    accepted: list[int]
    done: list[int]
    beat_cycles: np.ndarray
    data: np.ndarray
    commands: list[tuple[int, int, int, int]]
    stats: MemoryStats


@dataclass(frozen=True)
class Sustained:
    """Most beats a cycle that a chip can get from a memory, reads and writes together.

    Attributes: `stream`: sequential reads; `mixed`: the same with every eighth burst a write to a
    region of its own (above 1 where reads and writes have a bus each); `scattered`: reads of whole
    bursts at random places.
    """

    stream: float
    mixed: float
    scattered: float


class _Request(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("cycle", "address", "is_write", "beats", "accepted", "done")
    ]


class _Command(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("cycle", "kind", "bank", "row")]


@functools.cache
def _library() -> ctypes.CDLL:
    compiler = find_compiler()
    texts = [(_HERE / name).read_text() for name in _SOURCES]
    key = hashlib.sha256(repr([compiler.identity, compiler.command, texts]).encode()).hexdigest()
    with claim(cache_directory() / "probe", key[:32]) as entry:
        if entry.scratch is not None:
            flags = ("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-w", "-shared")
            command = [*compiler.command, *compiler.flags, *flags, str(_HERE / "probe.cpp")]
            done = subprocess.run(
                [*command, "-o", str(entry.scratch / "probe.so")],
                env=compiler.environment,
                capture_output=True,
                text=True,
                errors="replace",
            )
            if done.returncode:
                raise BuildError(f"{compiler.name} failed:\n{done.stderr.strip()[-4000:]}")
        path = entry.path / "probe.so"
    library = ctypes.CDLL(str(path))
    library.probe_run.restype = ctypes.c_uint64
    pointer, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    library.probe_run.argtypes = [pointer, u32, pointer, u64, pointer, u64, pointer, pointer]
    library.probe_run.argtypes += [pointer, u32, u64, pointer, pointer, pointer]
    return library


def probe(
    timing: MemoryTiming,
    port_bytes: int,
    bursts: Sequence[Burst],
    *,
    memory: np.ndarray | None = None,
    written: np.ndarray | None = None,
    ready_every: int = 1,
    seed: int = 0,
    log: bool = False,
    max_cycles: int = 10_000_000,
) -> ProbeResult:
    """Runs bursts against the memory model, reads and writes each in the order given.

    Parameters
    ----------
    port_bytes : of the data bus: 4, 8, 16, 32 or 64
    memory : uint8, changed by writes; some of its own by default
    written : uint8, data of all writes in order; zeros by default
    ready_every : the manager takes read beats in every so many cycles
    seed : of random stalls
    log : keep the DRAM's commands

    Raises
    ------
    RuntimeError
        After `max_cycles`, or when the manager broke the protocol (a burst across 4 KiB).
    """
    memory = np.zeros(_MEMORY_BYTES, np.uint8) if memory is None else memory
    requests = (_Request * len(bursts))(
        *(_Request(b.cycle, b.address, b.is_write, b.beats) for b in bursts)
    )
    reads = sum(b.beats for b in bursts if not b.is_write)
    writes = sum(b.beats for b in bursts if b.is_write)
    data = np.zeros((reads, port_bytes), np.uint8)
    beat_cycles = np.zeros(reads, np.uint64)
    if written is None:
        written = np.zeros(writes * port_bytes, np.uint8)
    if written.nbytes != writes * port_bytes:
        raise ValueError(f"{written.nbytes} bytes for {writes} beats of {port_bytes}")
    log_size = ctypes.c_uint64((16 * (reads + writes + len(bursts)) + 10_000) * log)
    commands = (_Command * log_size.value)()
    stats, structure = _Stats(), timing.structure(seed)
    cycles = _library().probe_run(
        ctypes.byref(structure),
        port_bytes,
        memory.ctypes.data,
        memory.nbytes,
        requests,
        len(bursts),
        written.ctypes.data,
        data.ctypes.data,
        beat_cycles.ctypes.data,
        ready_every,
        max_cycles,
        ctypes.byref(stats),
        commands if log else None,
        ctypes.byref(log_size),
    )
    if cycles == _FAILED:
        raise RuntimeError("the probe broke the AXI4 protocol")
    if cycles >= max_cycles:
        raise RuntimeError(f"not done after {max_cycles} cycles")
    return ProbeResult(
        cycles,
        [r.accepted for r in requests],
        [r.done for r in requests],
        beat_cycles.astype(np.int64),
        data,
        [(c.cycle, c.kind, c.bank, c.row) for c in commands[: log_size.value]],
        MemoryStats(*(getattr(stats, name) for name in MemoryStats.__dataclass_fields__)),
    )


_measured: dict[tuple, "Sustained"] = {}


def sustained(
    timing: MemoryTiming, port_bytes: int, burst_beats: int = 64, seed: int = 0
) -> Sustained:
    """What the memory sustains, measured on the model in bursts of `burst_beats`.

    Some tens of milliseconds for a DRAM; kept for the life of the process.
    """
    key = (bytes(timing.structure(seed)), port_bytes, burst_beats)
    if key not in _measured:
        _measured[key] = _measure(timing, port_bytes, burst_beats, seed)
    return _measured[key]


def _measure(timing: MemoryTiming, port_bytes: int, burst_beats: int, seed: int) -> Sustained:
    count = 1000 if timing.dram is None else 6000
    size = burst_beats * port_bytes

    def rate(bursts: list[Burst]) -> float:
        # Places past the end of the probe's small memory answer with an error, but no later.
        result = probe(timing, port_bytes, bursts, seed=seed)
        return sum(b.beats for b in bursts) / (result.cycles - timing.latency)

    other = count * size  # past the end of the stream
    places = np.random.default_rng(0).integers(0, (1 << 30) // size, count)
    return Sustained(
        stream=rate([Burst(i * size, burst_beats) for i in range(count)]),
        mixed=rate(
            [Burst(i * size + (i % 8 == 7) * other, burst_beats, i % 8 == 7) for i in range(count)]
        ),
        scattered=rate([Burst(int(p) * size, burst_beats) for p in places]),
    )
