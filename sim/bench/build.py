"""Verilated cocotb executables, cached by the content of everything that makes them.

cocotb's own runner compiles with ``--public-flat-rw``: every signal becomes a VPI object, which
costs five to seven times in speed and minutes of C++. Here only the ports of the top are public. The
Verilator runtime is compiled once a machine, the model's C++ as one unit, without make.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cocotb
import cocotb_tools.config

from sim.bench.toolchain import Toolchain, find_toolchain

__all__ = ["build", "cache_dir"]

WAIVERS = Path(__file__).with_name("waivers.vlt")
RUNTIME = ("verilated.cpp", "verilated_vpi.cpp", "verilated_threads.cpp")
RUNTIME_TRACE = ("verilated_vcd_c.cpp",)
DEFINES = ("-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0")
OPTIMISE = "-O1"
LANGUAGE = ("-std=c++17", "-fPIC", "-w", "-faligned-new")
UNIT_BYTES = 2_000_000


def cache_dir() -> Path:
    """Where builds are kept: ``SERRANO_CACHE``, else the user's cache directory."""
    if own := os.environ.get("SERRANO_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "serrano"


@contextlib.contextmanager
def _made_once(path: Path) -> Iterator[Path | None]:
    """A scratch folder to make ``path`` in, or ``None`` if it is there; one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_dir():
            yield None
            return
        scratch = Path(tempfile.mkdtemp(prefix=path.name + ".", dir=path.parent))
        try:
            yield scratch
            scratch.rename(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _run(command: list[str], env: dict[str, str], what: str) -> None:
    __tracebackhide__ = True
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{what} failed ({' '.join(command[:3])} ...):\n{done.stdout[-6000:]}")


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:24]


def _compile(tools: Toolchain, sources: list[Path], out: Path, flags: list[str], workers: int):
    """Objects of ``sources`` in ``out``."""
    objects = [out / (source.stem + ".o") for source in sources]

    def one(source: Path, target: Path) -> None:
        command = [*tools.compiler, "-c", str(source), "-o", str(target), *flags]
        _run(command, tools.env, "C++ compile")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, sources, objects))
    return objects


def _flags(tools: Toolchain, trace: bool) -> list[str]:
    include = tools.root / "include"
    return [
        *LANGUAGE,
        *DEFINES,
        f"-DVM_TRACE={int(trace)}",
        f"-DVM_TRACE_VCD={int(trace)}",
        "-DVM_TRACE_FST=0",
        "-DVM_TRACE_SAIF=0",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
    ]


def _runtime(tools: Toolchain, trace: bool) -> Path:
    """Folder with the Verilator runtime's objects."""
    flags = ["-O2", *_flags(tools, trace)]
    path = cache_dir() / "runtime" / _digest(tools.version, *flags)
    with _made_once(path) as scratch:
        if scratch is not None:
            names = RUNTIME + (RUNTIME_TRACE if trace else ())
            sources = [tools.root / "include" / name for name in names]
            _compile(tools, sources, scratch, flags, workers=2)
    return path


def build(verilog: str, ports: list[str], *, top: str = "top", trace: bool = False) -> Path:
    """Folder that holds the executable ``top`` for ``verilog``.

    Parameters
    ----------
    verilog
        Source text, one top module called ``top``.
    ports
        Ports of the top that the bench reads or drives.
    trace
        Build with VCD tracing.

    Raises
    ------
    RuntimeError
        Verilator or the C++ compiler refused; the text has their output.
    """
    tools = find_toolchain()
    libs = str(cocotb_tools.config.libs_dir)
    main = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    control = "`verilator_config\n" + "".join(
        f'public_flat_rw -module "{top}" -var "{port}"\n' for port in ["clk", "rst", *ports]
    )
    arguments = [
        *("--cc", "--vpi", "--assert", "-Wall", "--prefix", "Vtop", "--top-module", top),
        *("--x-assign", "fast", "--x-initial", "0", "--timescale", "1ns/1ps"),
        *(["--trace-vcd"] if trace else []),
    ]
    key = _digest(
        verilog,
        control,
        WAIVERS.read_bytes(),
        Path(__file__).read_bytes(),
        *arguments,
        tools.version,
        cocotb.__version__,
        libs,
        OPTIMISE,
    )
    path = cache_dir() / "bench" / key
    runtime = _runtime(tools, trace)
    with _made_once(path) as scratch:
        if scratch is None:
            return path
        (scratch / "top.v").write_text(verilog)
        (scratch / "ports.vlt").write_text(control)
        made = scratch / "model"
        files = [str(WAIVERS), str(scratch / "ports.vlt"), str(scratch / "top.v")]
        _run([*tools.verilator, *arguments, "-Mdir", str(made), *files], tools.env, "Verilator")
        sources = sorted(made.glob("*.cpp"))
        if sum(source.stat().st_size for source in sources) < UNIT_BYTES:
            whole = made / "whole.cc"
            whole.write_text("".join(f'#include "{s}"\n' for s in [*sources, main]))
            sources = [whole]
        else:
            sources.append(main)
        flags = [OPTIMISE, *_flags(tools, trace), f"-I{made}"]
        objects = _compile(tools, sources, scratch, flags, workers=2)
        objects += sorted(runtime.glob("*.o"))
        _run(
            [
                *tools.compiler,
                *map(str, objects),
                *("-o", str(scratch / top), f"-Wl,-rpath,{libs}", f"-L{libs}"),
                *("-lcocotbvpi_verilator", "-pthread", "-latomic"),
            ],
            tools.env,
            "link",
        )
        shutil.rmtree(made)
        for spare in scratch.glob("*.o"):
            spare.unlink()
    return path
