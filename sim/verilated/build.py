"""Builds the shared library of a simulated chip: Verilog -> C++ (Verilator) -> compiled and linked.

Nothing but Verilator and a C++ compiler is needed. A build is found again by the content of all that
goes into it.
"""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from compiler.errors import UserError
from sim.verilated.cache import claim
from sim.verilated.netlist import prepare
from sim.verilated.toolchain import (
    Compiler,
    Verilator,
    cache_directory,
    find_compiler,
    find_verilator,
)

__all__ = ["BuildConfig", "BuildError", "Progress", "build"]

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of the whole build that is done."""

_HARNESS = ("harness.cpp", "memory.h", "messages.h")
_HERE = Path(__file__).parent
_VERILATE_SHARE = 0.1
"""Part of a build's time that Verilator takes; the rest is the C++ compiler."""


@dataclass(frozen=True)
class BuildConfig:
    """How to build.

    Parameters: `assertions`: the design's own assertions stop the simulation; `trace`: kind of
    waveform that `SimulatedChip.trace` can write (slower, even when it is off; "fst" needs the
    headers and libraries of lz4 and zlib); `threads`: of the model itself; `optimize`: of the
    C++ compiler, 0 to 3; `jobs`: compilers at a time, all processors by default (no part of the
    result).
    """

    assertions: bool = True
    trace: Literal["vcd", "fst"] | None = None
    threads: int = 1
    optimize: int = 2
    jobs: int | None = None


class BuildError(Exception):
    """Verilator or the C++ compiler refused: a defect of the design or of this package."""


def build(
    verilog: str,
    top: str,
    config: BuildConfig | None = None,
    progress: Progress = lambda stage, fraction: None,
) -> Path:
    """The shared library of module `top` with its memory model, from the cache or newly built.

    Parameters: `verilog`: text of `amaranth.back.verilog.convert`; `progress`: called from this
    thread. Raises `UserError` if a tool is missing, `BuildError` if one fails.
    """
    config = config or BuildConfig()
    verilator, compiler = find_verilator(), find_compiler()
    folder = cache_directory() / "verilated"
    key = _key(verilog, top, config, verilator, compiler)
    waiting = lambda: progress("waiting for another process's build", 0.0)  # noqa: E731
    with claim(folder, key, waiting) as entry:
        if entry.scratch is not None:
            start = time.monotonic()
            _Build(entry.scratch, config, verilator, compiler, progress).run(verilog, top)
            record = {
                "top": top,
                **asdict(config),
                "verilator": verilator.identity,
                "compiler": compiler.identity.splitlines()[0],
                "build_seconds": round(time.monotonic() - start, 1),
            }
            (entry.scratch / "build.json").write_text(json.dumps(record, indent=2) + "\n")
        progress("ready", 1.0)
        return entry.path / "chip.so"


def _key(
    verilog: str, top: str, config: BuildConfig, verilator: Verilator, compiler: Compiler
) -> str:
    digest = hashlib.sha256()
    sources = [path.read_bytes() for path in sorted(_HERE.glob("*.py"))]
    sources += [(_HERE / name).read_bytes() for name in _HARNESS]
    flags = repr([top, sorted(asdict(config).items())[:-1]])
    tools = repr([verilator.identity, compiler.command, compiler.flags, compiler.identity])
    for part in (verilog.encode(), *sources, flags.encode(), tools.encode()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]
