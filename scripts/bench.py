"""`serrano bench`: one matrix product, or one transformer layer, on the RTL."""

from functools import partial
from time import perf_counter
from typing import Annotated

import numpy as np
import typer

from hdl.config import Config
from runtime.chip import DeviceFault
from runtime.gemm import run_gemm
from runtime.layer import LayerShape, run_layer
from scripts import bench_all, options
from scripts.console import err, report_console
from scripts.devices import chip_maker, measured_limit
from scripts.report import breakdown, phase_table
from scripts.simulators import simulators
from scripts.tracing import TraceCycles, TraceFile, TraceResolution, tracing

__all__ = ["app"]

app = typer.Typer(
    help="Measure matrix products and layers on the RTL, checked bit for bit.",
    no_args_is_help=True,
)
app.command("all")(bench_all.bench_all)
app.command("page")(bench_all.page)
app.command()(simulators)


def _finish(figures: dict, config: Config, json) -> int:
    console = report_console()
    phase_table(config, [figures], console)
    breakdown([figures], console)
    if figures.get("sustained"):
        console.print(
            f"Back to back, from the first row (cycle {figures['first_row_cycle']:,}) to the last "
            f"({figures['tail_cycles']:,} before the end): {figures['sustained']:.1%} of the "
            f"padded roofline of {figures['padded_roofline_cycles']:,}; the whole takes "
            f"{figures['overhead_cycles']:,} cycles more"
        )
    speed = figures["simulated_cycles_per_second"]
    if speed:
        console.print(f"{speed / 1000:.0f} k simulated cycles/s")
    exact = figures["bit_exact"]
    console.print("bit-exact against the golden model" if exact else "NOT bit-exact")
    options.write_json(json, figures)
    return 0 if exact else 1


@app.command()
def gemm(
    m: Annotated[int, typer.Option(help="Rows of activations.")],
    k: Annotated[int, typer.Option(help="Reduction length.")],
    n: Annotated[int, typer.Option(help="Outputs.")],
    repeat: Annotated[int, typer.Option(help="Products back to back.")] = 1,
    preset: options.Preset = "edge",
    seed: options.Seed = 0,
    latency: options.Latency = 60,
    stalls: options.StallPercent = 0,
    memory: options.Memory = "ideal",
    bandwidth: options.Bandwidth = 1.0,
    trace: TraceFile = None,
    trace_cycles: TraceCycles = None,
    trace_resolution: TraceResolution = 16,
    json: options.JsonFile = None,
) -> int:
    """One matrix product: activations on chip, weights from the tape."""
    config = options.preset(preset)
    for name, value in (("--m", m), ("--k", k), ("--n", n), ("--repeat", repeat)):
        options.whole(name, value, 1, 1 << 20)
    options.output_file("--json", json)
    traced = tracing(trace, trace_cycles, trace_resolution)
    timing = options.memory_timing(config, latency, stalls, memory, bandwidth)
    limit = partial(measured_limit, config, timing, seed)
    try:
        with traced as writer:
            make = chip_maker(options.DeviceName.rtl, config, timing, seed, writer)
            rng = np.random.default_rng(seed)
            figures = run_gemm(config, make, m, k, n, repeat, rng, limit)
    except DeviceFault as fault:
        err.print(f"the chip stopped: {fault}")
        return 1
    figures |= {"preset": preset, "seed": seed, "latency": latency, "stalls": stalls}
    return _finish(figures, config, json)


@app.command()
def layer(
    dim: Annotated[int, typer.Option(help="Width of the residual stream.")],
    hidden: Annotated[int, typer.Option(help="Width of the feed-forward part.")],
    heads: Annotated[int, typer.Option(help="Query heads.")],
    kv_heads: Annotated[int, typer.Option(help="Key/value heads.")],
    head_dim: Annotated[int, typer.Option(help="Elements of a head.")],
    context: Annotated[int, typer.Option(help="Tokens of each sequence in the cache.")],
    layers: Annotated[int, typer.Option(help="Equal layers, one behind the other.")] = 1,
    rows: Annotated[int | None, typer.Option(help="Decode rows, each of another sequence.")] = None,
    chunk: Annotated[int | None, typer.Option(help="Prefill rows of one sequence.")] = None,
    preset: options.Preset = "edge",
    seed: options.Seed = 0,
    latency: options.Latency = 60,
    stalls: options.StallPercent = 0,
    memory: options.Memory = "ideal",
    bandwidth: options.Bandwidth = 1.0,
    trace: TraceFile = None,
    trace_cycles: TraceCycles = None,
    trace_resolution: TraceResolution = 16,
    json: options.JsonFile = None,
) -> int:
    """Transformer layers with random weights: decode rows or a prefill chunk."""
    config = options.preset(preset)
    if (rows is None) == (chunk is None):
        raise typer.BadParameter("give either --rows or --chunk")
    options.whole("--context", context, 0, (1 << 20) - 1024)
    shape = LayerShape(dim, hidden, heads, kv_heads, head_dim)
    options.output_file("--json", json)
    traced = tracing(trace, trace_cycles, trace_resolution)
    timing = options.memory_timing(config, latency, stalls, memory, bandwidth)
    limit = partial(measured_limit, config, timing, seed)
    start = perf_counter()

    def progress(cycles: int) -> None:
        if perf_counter() - start > 2 and err.is_terminal:
            err.print(f"simulating: {cycles:,} cycles", end="\r")

    try:
        with traced as writer:
            figures = run_layer(
                config,
                chip_maker(options.DeviceName.rtl, config, timing, seed, writer),
                shape,
                context=context,
                sequences=rows or 1,
                chunk=chunk or 1,
                rng=np.random.default_rng(seed),
                progress=progress,
                limit=limit,
                layers=options.whole("--layers", layers, 1, 1024),
            )
    except DeviceFault as fault:
        err.print(f"the chip stopped: {fault}")
        return 1
    figures |= {"preset": preset, "seed": seed, "latency": latency, "stalls": stalls}
    return _finish(figures, config, json)
