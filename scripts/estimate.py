"""`serrano estimate`: what a model costs on a chip, from its configuration alone."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from compiler.catalog import CATALOG, resolve
from compiler.checkpoint import load_config
from compiler.checkpoint.model import LlamaConfig
from compiler.errors import UserError
from scripts import options
from scripts.console import err, report_console
from sim.cycle_model import MACHINES, Estimate, Machine, estimate, most_rows

__all__ = ["estimate_model", "machine", "model_config", "timed"]


def machine(
    name: str, clock_mhz: float | None, bandwidth_gbs: float | None, latency: int | None
) -> Machine:
    """A machine by name, timed; ``UserError`` for what can't be."""
    found = MACHINES.get(name)
    if found is None:
        raise UserError(f"--preset {name}: no such preset; choose from {', '.join(MACHINES)}")
    return timed(found, clock_mhz, bandwidth_gbs, latency)


def timed(
    found: Machine, clock_mhz: float | None, bandwidth_gbs: float | None, latency: int | None
) -> Machine:
    """A machine with another clock or memory; ``UserError`` for what can't be."""
    if clock_mhz is not None:
        if not 0 < clock_mhz <= 100_000:
            raise UserError(f"--clock {clock_mhz}: give MHz above 0, at most 100000")
        # Memory is as far away in time as it was
        found = replace(
            found,
            clock_hz=clock_mhz * 1e6,
            latency=max(1, round(found.latency * clock_mhz * 1e6 / found.clock_hz)),
        )
    if bandwidth_gbs is not None:
        if not 0 < bandwidth_gbs <= 1_000_000:
            raise UserError(f"--memory-bandwidth {bandwidth_gbs}: give GB/s above 0")
        beats = bandwidth_gbs * 1e9 / (found.port_bytes * found.clock_hz)
        share = Fraction(min(beats, 1.0)).limit_denominator(1000)
        found = replace(found, bandwidth=max(share, Fraction(1, 1000)))
    if latency is not None:
        found = replace(found, latency=options.whole("--latency", latency, 1, 100_000))
    return found


def model_config(name: str) -> LlamaConfig:
    """A model's shape by catalogue name or path; nothing is downloaded for a path."""
    path = resolve(name, report=lambda text: err.print(text)) if name in CATALOG else Path(name)
    return load_config(path)


def _bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


def _weights(count: int) -> str:
    return f"{count / 1e9:,.2f} G" if count >= 1e9 else f"{count / 1e6:,.2f} M"


def _step_table(steps: dict[str, Estimate], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in steps:
        table.add_column(name, justify="right")
    rows = {
        "rows of the step": lambda e: f"{e.rows} ({e.batch} x {e.chunk})",
        "tokens in the cache": lambda e: f"{e.context:,}",
        "cycles": lambda e: f"{e.cycles:,}",
        "cycles a token": lambda e: f"{e.cycles_per_token:,.0f}",
        "milliseconds": lambda e: f"{1e3 * e.seconds:,.3f}",
        "tokens/s in all": lambda e: f"{e.tokens_per_second:,.2f}",
        "tokens/s a user": lambda e: f"{e.tokens_per_second_per_user:,.2f}",
        "of the roofline": lambda e: f"{100 * e.efficiency:.1f} %",
        "bound": lambda e: e.bound,
        "  memory busy": lambda e: f"{100 * e.shares['memory']:.1f} %",
        "  array fed": lambda e: f"{100 * e.shares['macs']:.1f} %",
        "  vector unit busy": lambda e: f"{100 * e.shares['vector']:.1f} %",
        "  latency (none of them)": lambda e: f"{100 * e.shares['latency']:.1f} %",
        "MACs useful": lambda e: f"{100 * e.utilisation['macs']:.1f} %",
        "bytes: weights": lambda e: _bytes(e.bytes["tape"]),
        "bytes: KV read": lambda e: _bytes(e.bytes["kv"]),
        "bytes: KV written": lambda e: _bytes(e.bytes["kv_write"]),
        "bytes: rows, tables, program": lambda e: _bytes(
            e.bytes["rows"] + e.bytes["walk"] + e.bytes["program"] + e.bytes["rows_write"]
        ),
        "energy a token (proxy)": lambda e: f"{1e3 * e.energy_joules / e.rows:,.3f} mJ",
    }
    for name, show in rows.items():
        table.add_row(name, *(show(e) for e in steps.values()))
    console.print(table)


def _memory_table(e: Estimate, console: Console) -> None:
    table = Table(title="On chip", title_justify="left", box=None, pad_edge=False)
    for name in ("memory", "needs", "has", ""):
        table.add_column(name, justify="right" if name in ("needs", "has") else "left")
    for need in e.needs:
        table.add_row(
            need.name,
            f"{need.need:,} {need.unit}",
            f"{need.have:,}",
            "" if need.fits else "does not fit",
        )
    console.print(table)


def estimate_model(
    model: Annotated[
        str,
        typer.Option(help="config.json, a model's folder, a GGUF or llama2.c file, or a name."),
    ],
    preset: Annotated[
        str, typer.Option("--preset", help=f"Chip: {', '.join(MACHINES)} (server: projected).")
    ] = "edge",
    batch: Annotated[int, typer.Option(help="Sequences decoded together.")] = 1,
    context: Annotated[
        int | None,
        typer.Option(help="Tokens of each sequence in the cache (512, or half of what it takes)."),
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(help="Rows of a prefill step; by default as many as fit.")
    ] = None,
    clock: Annotated[float | None, typer.Option(help="Clock in MHz.")] = None,
    memory_bandwidth: Annotated[
        float | None, typer.Option(help="Sustained memory bandwidth in GB/s.")
    ] = None,
    latency: Annotated[int | None, typer.Option(help="Memory latency in cycles.")] = None,
    json: options.JsonFile = None,
) -> int:
    """Cycles, tokens/s, bounds and memories of a model, without weights and without simulation."""
    options.output_file("--json", json)
    options.whole("--batch", batch, 1, 1 << 16)
    if context is not None:
        options.whole("--context", context, 0, (1 << 20) - 1)
    if chunk is not None:
        options.whole("--chunk", chunk, 1, 1 << 16)
    chip = machine(preset, clock, memory_bandwidth, latency)
    config = model_config(model)
    context = min(512, config.context // 2) if context is None else context
    decode = estimate(chip, config, batch, context)
    rows = chunk or max(1, min(most_rows(chip, config), config.context - context))
    steps = {"decode": decode, "prefill": estimate(chip, config, 1, context, rows)}
    prompt = _prompt_seconds(chip, config, context, rows)

    console = report_console()
    console.print(
        f"{model} on {preset}: {config.layers} layers of {config.dim}, "
        f"{_weights(config.parameters)} weights; {chip.clock_hz / 1e6:,.0f} MHz, "
        f"{chip.port_bytes * chip.clock_hz * float(chip.bandwidth) / 1e9:,.1f} GB/s, "
        f"latency {chip.latency} cycles"
    )
    _step_table(steps, console)
    if context:
        console.print(f"a prompt of {context:,} tokens in steps of {rows}: {1e3 * prompt:,.1f} ms")
    _memory_table(max(steps.values(), key=lambda e: e.rows), console)
    console.print(
        f"KV cache of {batch} x {context + 1:,} tokens: {_bytes(decode.kv_bytes)}; "
        f"area proxy {decode.area.proxy_mm2:,.1f} mm2 (45 nm), "
        f"{decode.area.sram_bits / 8e6:,.2f} MB on chip"
    )
    if clock is None and preset == "ulx3s":
        console.print("the clock is the recorded FPGA build's (./serrano fpga --report)")
    elif clock is None:
        console.print("the clock is an assumption; give --clock")
    for note in dict.fromkeys(n for e in steps.values() for n in e.notes):
        console.print(f"note: {note}")
    options.write_json(
        json,
        {
            "model": model,
            "preset": preset,
            "clock_hz": chip.clock_hz,
            "latency": chip.latency,
            "beats_a_cycle": float(chip.bandwidth),
            "prompt_seconds": prompt,
            **{name: e.as_dict() for name, e in steps.items()},
        },
    )
    return 0


def _prompt_seconds(chip: Machine, config: LlamaConfig, tokens: int, rows: int) -> float:
    """Prefill of a whole prompt: its steps grow evenly from the first to the last."""
    steps = -(-tokens // rows)
    if not steps:
        return 0.0
    rows = min(rows, tokens)
    first = estimate(chip, config, 1, 0, rows).seconds
    last = estimate(chip, config, 1, tokens - rows, rows).seconds
    return steps * (first + last) / 2
