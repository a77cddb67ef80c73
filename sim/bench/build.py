"""Verilated cocotb executables, cached by the content of everything that makes them.

cocotb's own runner compiles with ``--public-flat-rw``: every signal becomes a VPI object, which
costs five to seven times in speed and minutes of C++. Here only the ports of the top are public.
Verilator's runtime library is compiled once a machine, the model's C++ as one unit, without make.
"""

import hashlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cocotb
import cocotb_tools.config

from sim.verilated.cache import claim
from sim.verilated.toolchain import (
    Compiler,
    Verilator,
    cache_directory,
    find_compiler,
    find_verilator,
)

__all__ = ["build"]

WAIVERS = Path(__file__).with_name("waivers.vlt")
RUNTIME = ("verilated.cpp", "verilated_vpi.cpp", "verilated_threads.cpp")
RUNTIME_TRACE = ("verilated_vcd_c.cpp",)
DEFINES = ("-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0")
OPTIMISE = "-O1"
RTL: tuple[str, ...] = ("-Wall", "--x-assign", "fast", "--x-initial", "0")
NETLIST = (
    *("-Wno-lint", "-Wno-style", "-Wno-UNOPTFLAT", "--output-split", "20000"),
    *("--x-assign", "unique", "--x-initial", "unique"),
)
LANGUAGE = ("-std=c++17", "-fPIC", "-w", "-faligned-new")
UNIT_BYTES = 2_000_000


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


def _compile(compiler: Compiler, sources: list[Path], out: Path, flags: list[str]) -> list[Path]:
    """Objects of ``sources`` in ``out``."""
    objects = [out / (source.stem + ".o") for source in sources]

    def one(source: Path, target: Path) -> None:
        command = [*compiler.command, *compiler.flags, "-c", str(source), "-o", str(target)]
        _run([*command, *flags], compiler.environment, "C++ compile")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, sources, objects))
    return objects


def _flags(verilator: Verilator, trace: bool) -> list[str]:
    return [
        *LANGUAGE,
        *DEFINES,
        f"-DVM_TRACE={int(trace)}",
        f"-DVM_TRACE_VCD={int(trace)}",
        "-DVM_TRACE_FST=0",
        "-DVM_TRACE_SAIF=0",
        f"-I{verilator.include}",
        f"-I{verilator.include / 'vltstd'}",
    ]


def _runtime(verilator: Verilator, compiler: Compiler, trace: bool) -> Path:
    """Folder with the objects of Verilator's runtime library."""
    flags = ["-O2", *_flags(verilator, trace)]
    key = _digest(verilator.identity, compiler.identity, *flags)
    with claim(cache_directory() / "bench_runtime", key) as entry:
        if entry.scratch is not None:
            names = RUNTIME + (RUNTIME_TRACE if trace else ())
            _compile(compiler, [verilator.include / n for n in names], entry.scratch, flags)
    return entry.path


def build(
    verilog: str,
    ports: list[str],
    *,
    top: str = "top",
    trace: bool = False,
    netlist: bool = False,
) -> Path:
    """Folder that holds the executable ``top`` for ``verilog``.

    Parameters
    ----------
    verilog
        Source text, one top module called ``top``.
    ports
        Ports of the top that the bench reads or drives.
    trace
        Build with VCD tracing.
    netlist
        The text is what synthesis made, with models of its cells: not linted, registers without
        initial value start at random (``+verilator+rand+reset+2 +verilator+seed+N``), compiled
        without optimisation, which takes longer than such a bench runs.

    Raises
    ------
    RuntimeError
        Verilator or the C++ compiler refused; the text has their output.
    """
    verilator, compiler = find_verilator(), find_compiler()
    libs = str(cocotb_tools.config.libs_dir)
    main = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    control = "`verilator_config\n" + "".join(
        f'public_flat_rw -module "{top}" -var "{port}"\n' for port in ["clk", "rst", *ports]
    )
    arguments = [
        *("--cc", "--vpi", "--assert", "--prefix", "Vtop", "--top-module", top),
        *(NETLIST if netlist else RTL),
        *("--timescale", "1ns/1ps"),
        *(["--trace-vcd"] if trace else []),
    ]
    key = _digest(
        verilog,
        control,
        WAIVERS.read_bytes(),
        Path(__file__).read_bytes(),
        *arguments,
        verilator.identity,
        compiler.identity,
        cocotb.__version__,
        libs,
    )
    runtime = _runtime(verilator, compiler, trace)
    with claim(cache_directory() / "bench", key) as entry:
        if entry.scratch is None:
            return entry.path
        scratch = entry.scratch
        (scratch / "top.v").write_text(verilog)
        (scratch / "ports.vlt").write_text(control)
        made = scratch / "model"
        files = [str(WAIVERS), str(scratch / "ports.vlt"), str(scratch / "top.v")]
        command = [str(verilator.binary), *arguments, "-Mdir", str(made), *files]
        _run(command, verilator.environment, "Verilator")
        sources = sorted(made.glob("*.cpp"))
        if sum(source.stat().st_size for source in sources) < UNIT_BYTES:
            whole = made / "whole.cc"
            whole.write_text("".join(f'#include "{s}"\n' for s in [*sources, main]))
            sources = [whole]
        else:
            sources.append(main)
        flags = ["-O0" if netlist else OPTIMISE, *_flags(verilator, trace), f"-I{made}"]
        objects = _compile(compiler, sources, scratch, flags)
        objects += sorted(runtime.glob("*.o"))
        command = [
            *(*compiler.command, *compiler.flags, *map(str, objects)),
            *("-o", str(scratch / top), f"-Wl,-rpath,{libs}", f"-L{libs}"),
            *("-lcocotbvpi_verilator", "-pthread"),
        ]
        _run(command, compiler.environment, "link")
        shutil.rmtree(made)
        for spare in scratch.glob("*.o"):
            spare.unlink()
    return entry.path
