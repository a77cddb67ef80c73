"""`serrano bench simulators`: the same steps of the same chip in three simulators."""

import json as json_module
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from compiler.errors import UserError
from hdl.accelerator import Accelerator
from hdl.config import Config
from hdl.emit import emit_verilog
from runtime.replay import RecordedStep, record_gemm
from runtime.rtl_chip import TOP, RtlChip
from scripts import options
from scripts.console import err, report_console
from sim.verilated.build import build
from sim.verilated.toolchain import cache_directory

__all__ = ["simulators"]

_RUNTIMES = ("verilator-runtime", "bench_runtime", "compilers")


@dataclass(frozen=True)
class Figures:
    """One simulator: wall seconds to build, CPU seconds to simulate; `exact`: None if cut short."""

    simulator: str
    emit_seconds: float | None
    build_seconds: float
    cycles: int
    cpu_seconds: float
    exact: bool | None


@contextmanager
def _empty_cache() -> Iterator[None]:
    """A cache without designs; Verilator's own library, the same for all of them, is in it."""
    real = cache_directory()
    before = os.environ.get("SERRANO_CACHE")
    with TemporaryDirectory(prefix="serrano-simulators-") as folder:
        for name in _RUNTIMES:
            (real / name).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).symlink_to(real / name)
        os.environ["SERRANO_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["SERRANO_CACHE"]
            if before is not None:
                os.environ["SERRANO_CACHE"] = before


def _replay(steps: list[RecordedStep], memory: np.ndarray, chip) -> tuple[float, bool | None]:
    """CPU seconds of the steps, and whether memory was right after each (None: cut short)."""
    seconds, exact = 0.0, True
    for step in steps:
        memory[:] = step.before
        start = process_time()
        try:
            chip.run(step.program, step.descriptor)
        except TimeoutError:
            return seconds + process_time() - start, None
        seconds += process_time() - start
        exact = exact and bool(np.array_equal(memory, step.after))
    return seconds, exact


def _library(config: Config, steps: list[RecordedStep], seconds: float) -> Figures:
    clock = perf_counter()
    text = emit_verilog(Accelerator(config), TOP)
    emitted = perf_counter()
    library = build(text, TOP)
    built = perf_counter()
    memory = steps[0].before.copy()
    chip = RtlChip(config, memory, library=library)
    before = chip.cycles
    spent, exact = _replay(steps, memory, chip)
    figures = Figures(
        "verilated library", emitted - clock, built - emitted, chip.cycles - before, spent, exact
    )
    chip.close()
    return figures


def _cocotb(config: Config, steps: list[RecordedStep], seconds: float) -> Figures:
    # Imported here: every start of the command line would pay for it.
    from sim.bench import run as run_bench
    from sim.bench.build import build as build_bench
    from sim.bench.emit import emit, port_names

    design = Accelerator(config)
    clock = perf_counter()
    text = emit(design)
    emitted = perf_counter()
    build_bench(text, port_names(design))
    built = perf_counter()
    with TemporaryDirectory() as folder:
        recorded = Path(folder) / "steps.npz"
        np.savez(
            recorded,
            registers=np.array([(s.program, s.descriptor) for s in steps]),
            before=np.array([s.before for s in steps]),
            after=np.array([s.after for s in steps]),
        )
        output = run_bench(
            Accelerator(config),
            "sim.bench.accelerator_speed",
            name=f"accelerator-speed-{config.name}",
            parameters={"config": config, "steps": str(recorded)},
            timeout=max(300.0, 20 * seconds),
        )
    line = next(text for text in output.splitlines() if text.startswith("SPEED "))
    found = json_module.loads(line.removeprefix("SPEED "))
    return Figures(
        "cocotb", emitted - clock, built - emitted, found["cycles"], found["seconds"], True
    )


def _amaranth(config: Config, steps: list[RecordedStep], seconds: float) -> Figures:
    from sim.python_chip import PythonChip  # as above

    memory = steps[0].before.copy()
    clock = perf_counter()
    chip = PythonChip(config, memory, seconds)
    built = perf_counter()
    spent, exact = _replay(steps, memory, chip)
    return Figures("Amaranth simulator", None, built - clock, chip.cycles, spent, exact)


_SIMULATORS: dict[str, Callable[[Config, list[RecordedStep], float], Figures]] = {
    "library": _library,
    "cocotb": _cocotb,
    "amaranth": _amaranth,
}


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def simulators(
    m: Annotated[int, typer.Option(help="Rows of activations.")] = 64,
    k: Annotated[int, typer.Option(help="Reduction length.")] = 128,
    n: Annotated[int, typer.Option(help="Outputs.")] = 128,
    only: Annotated[
        list[str] | None, typer.Option("--only", help=f"One of {', '.join(_SIMULATORS)}; repeat.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="CPU seconds after which the Amaranth simulator is cut short.")
    ] = 60.0,
    cached: Annotated[bool, typer.Option("--cached", help="Do not measure builds.")] = False,
    preset: options.Preset = "edge",
    seed: options.Seed = 0,
    json: options.JsonFile = None,
) -> int:
    """Cycles a second and build time of each simulator of the chip, on one matrix product.

    The library is what every command runs; cocotb runs the same RTL in Verilator behind a Python
    bench; Amaranth's simulator is Python. Each must leave the memory that the golden model left.
    """
    config = options.preset(preset)
    for name, value in (("--m", m), ("--k", k), ("--n", n)):
        options.whole(name, value, 1, 1 << 14)
    names = only or list(_SIMULATORS)
    for name in names:
        if name not in _SIMULATORS:
            raise UserError(f"--only {name}: choose from {', '.join(_SIMULATORS)}")
    if not seconds > 0:
        raise UserError(f"--seconds {seconds}: give a number above 0")
    options.output_file("--json", json)
    steps = record_gemm(config, m, k, n, seed)
    found = []
    for name in names:
        err.print(f"{name}: building and simulating preset {preset}")
        if cached:
            found.append(_SIMULATORS[name](config, steps, seconds))
        else:
            with _empty_cache():
                found.append(_SIMULATORS[name](config, steps, seconds))

    table = Table(title=f"Simulators, preset {preset}, GEMM {m}x{k}x{n}", title_justify="left")
    for column in ("simulator", "Verilog s", "build s", "cycles", "CPU s", "cycles/s", "result"):
        table.add_column(column, justify="left" if column in ("simulator", "result") else "right")
    for f in found:
        result = "cut short" if f.exact is None else "bit-exact" if f.exact else "WRONG"
        speed = f"{f.cycles / f.cpu_seconds:,.0f}"
        times = (_seconds(f.emit_seconds), _seconds(f.build_seconds))
        table.add_row(f.simulator, *times, f"{f.cycles:,}", _seconds(f.cpu_seconds), speed, result)
    report_console().print(table)
    figures = {
        "preset": preset,
        "workload": f"gemm {m}x{k}x{n}",
        "seed": seed,
        "builds_measured": not cached,
        "simulators": [asdict(f) | {"cycles_per_second": f.cycles / f.cpu_seconds} for f in found],
    }
    options.write_json(json, figures)
    return 1 if any(f.exact is False for f in found) else 0
