"""Builds a component and runs a cocotb module on it."""

import dataclasses
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import cocotb_tools.config
import find_libpython
from amaranth.lib.wiring import Component
from cocotb_tools.check_results import get_results

from hdl.config import Config
from sim.bench.build import build
from sim.bench.emit import emit, port_names
from sim.verilated.toolchain import cache_directory

__all__ = ["run"]

ROOT = Path(__file__).resolve().parents[2]


def _environment(module: str, work: Path, seed: int, parameters: str) -> dict[str, str]:
    """What cocotb's libraries want to find, as its own runner sets it."""
    library = os.environ.get("LIBPYTHON_LOC") or find_libpython.find_libpython()
    if library is None:
        raise RuntimeError("libpython is missing: install Python's shared library")
    path = dict.fromkeys([str(ROOT), *filter(None, sys.path)])
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{library};{cocotb_tools.config.pygpi_entry_point()}",
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_TOPLEVEL": "top",
        "COCOTB_TEST_MODULES": module,
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_RESULTS_FILE": str(work / "results.xml"),
        "COCOTB_ANSI_OUTPUT": "0",
        "SERRANO_BENCH": parameters,
        "SERRANO_BENCH_SEED": str(seed),
    }
    env.pop("PYTEST_CURRENT_TEST", None)
    return env


def _simulate(command: list[str], work: Path, env: dict[str, str], timeout: float):
    """Output and exit code."""
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
        return done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode(errors="replace")
        return text + f"\nstopped: no result within {timeout} s of wall time\n", -1


def _seed(name: str, seed: int | None) -> int:
    """``SERRANO_SEED`` (a number, or ``random``), else ``seed``, else one that ``name`` gives."""
    if own := os.environ.get("SERRANO_SEED"):
        return random.SystemRandom().getrandbits(31) if own == "random" else int(own, 0)
    return zlib.crc32(name.encode()) & 0x7FFFFFFF if seed is None else seed


def _replay(seed: int) -> str:
    test = os.environ.get("PYTEST_CURRENT_TEST")
    what = ["-m", "pytest", test.rpartition(" ")[0]] if test else sys.argv
    return f"SERRANO_SEED={seed} SERRANO_WAVES=1 {shlex.join(['python', *what])}"


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return {"__config__": dataclasses.asdict(value)}
    raise TypeError(f"bench parameter {value!r} can't be written as JSON")


def run(
    component: Component,
    module: str,
    *,
    name: str,
    parameters: dict[str, Any] | None = None,
    seed: int | None = None,
    timeout: float = 300,
    testcase: str | list[str] | None = None,
    models: str = "",
    netlist: str | None = None,
    start: int = 1,
) -> str:
    """Run every cocotb test of a module on a component.

    Parameters
    ----------
    component
        Top of the simulation; its ports get the names of its signature joined by ``__``.
    module
        Python module with the cocotb tests, as ``sim.bench.memory_port``.
    name
        Names the run: output folder, messages, default seed.
    parameters
        What ``sim.bench.parameters()`` gives inside the bench: JSON values and ``Config``.
    seed
        For every random choice (``sim.bench.rng()``). ``SERRANO_SEED`` goes before it.
    timeout
        Seconds of wall time for the simulation (the build not counted).
    testcase
        Only these tests of the module.
    models
        Verilog of modules that the component (an ``Instance``), or the netlist, only names.
    netlist
        Verilog that stands in for the component's own: what synthesis made of it, with the same
        ports (``sim.netlist``). Registers start at random.
    start
        Seed of that random start.

    Returns
    -------
    str
        What the simulation printed.

    Raises
    ------
    AssertionError
        A test failed, an RTL assertion fired, or time ran out. The message has the seed, the end
        of the output and one command to run it again with waveforms.
    RuntimeError
        It could not be built.

    Environment: ``SERRANO_WAVES=1`` writes a VCD, ``SERRANO_SEED`` sets the seed,
    ``SERRANO_CACHE`` moves the cache.
    """
    waves = os.environ.get("SERRANO_WAVES", "") not in ("", "0")
    seed = _seed(name, seed)
    verilog = (emit(component) if netlist is None else netlist) + models
    folder = build(verilog, port_names(component), trace=waves, netlist=netlist is not None)
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))
    env = _environment(module, work, seed, json.dumps(parameters or {}, default=_plain))
    env["SERRANO_BENCH_INPUTS"] = " ".join(port_names(component, inputs_only=True))
    if testcase:
        names = [testcase] if isinstance(testcase, str) else testcase
        env["COCOTB_TEST_FILTER"] = r"\.(" + "|".join(map(re.escape, names)) + ")$"
    command = [str(folder / "top"), *(["--trace"] if waves else [])]
    if netlist is not None:
        command += ["+verilator+rand+reset+2", f"+verilator+seed+{start}"]
    output, code = _simulate(command, work, env, timeout)
    problem = ""
    try:
        tests, failed = get_results(work / "results.xml")
        if not tests:
            problem = f"{module} has no test"
        elif failed:
            problem = f"{failed} of {tests} tests failed"
        elif code:
            problem = f"the simulation ended with code {code}"
    except RuntimeError:
        problem = "the simulation stopped before its end (RTL assertion, timeout or crash)"
    if problem:
        dump = work / "dump.vcd"
        raise AssertionError(
            f"bench {name}: {problem}; seed {seed}\n{output[-8000:]}\n"
            f"bench {name}: {problem}; seed {seed}; replay:\n  {_replay(seed)}"
            + (f"\nwaves: {dump}" if dump.exists() else "")
        )
    if waves:
        print(f"bench {name}: waves in {work / 'dump.vcd'}")
    else:
        shutil.rmtree(work, ignore_errors=True)
    return output
