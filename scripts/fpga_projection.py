"""Tokens a second on a board: the cycle model at the clock and the memory that the board has."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

from rich.console import Console
from rich.table import Table

from compiler.checkpoint.model import LlamaConfig
from compiler.errors import UserError
from scripts.estimate import model_config
from sim.cycle_model import MACHINES, Machine, estimate

__all__ = ["SDRAM_BYTES_PER_CYCLE", "SDRAM_EFFICIENCY", "TINYSTORIES_15M", "project", "show"]

SDRAM_BYTES_PER_CYCLE = 2
"""A 16-bit SDRAM on the accelerator's clock."""

SDRAM_EFFICIENCY = 0.99
"""Share of the pins' bandwidth that sequential reads get, which nearly all of a token's bytes are:
measured on the RTL (``pytest tests/hdl/sdram/test_port.py -s``). Random 128 bytes: 0.956."""

SDRAM_LATENCY = 20
"""Cycles from a read address to its first beat, row open or not."""

TINYSTORIES_15M = LlamaConfig(
    dim=288,
    hidden=768,
    layers=6,
    heads=6,
    kv_heads=6,
    head_dim=48,
    vocab=32000,
    context=256,
    norm_eps=1e-5,
    tied=True,
)
"""github.com/karpathy/llama2.c, stories15M."""


def project(
    preset: str, clock_mhz: float, efficiency: float = SDRAM_EFFICIENCY
) -> list[dict[str, Any]]:
    """Decode of one sequence, half of its context in the cache, for the demo and a 15 M model.

    Returns, for each model: ``model``, ``tokens_per_second``, ``cycles_per_token``, ``bound``
    (memory, macs, vector or latency), ``shares`` of the cycles, ``bytes_per_token``, ``fits``.

    Raises
    ------
    UserError
        For an efficiency outside 0 .. 1.
    """
    if not 0 < efficiency <= 1:
        raise UserError(f"--sdram-efficiency {efficiency}: give a share above 0, at most 1")
    machine = _machine(MACHINES[preset], clock_mhz, efficiency)
    found = []
    for name, config in (("demo", model_config("demo")), ("TinyStories-15M", TINYSTORIES_15M)):
        step = estimate(machine, config, 1, config.context // 2)
        found.append(
            {
                "model": name,
                "context": step.context,
                "clock_mhz": clock_mhz,
                "memory_mb_per_second": SDRAM_BYTES_PER_CYCLE * clock_mhz * efficiency,
                "tokens_per_second": step.tokens_per_second,
                "cycles_per_token": step.cycles_per_token,
                "bytes_per_token": sum(step.bytes.values()),
                "bound": step.bound,
                "shares": step.shares,
                "fits": step.fits,
                "remedy": step.remedy,
            }
        )
    return found


def _machine(machine: Machine, clock_mhz: float, efficiency: float) -> Machine:
    share = min(1.0, SDRAM_BYTES_PER_CYCLE * efficiency / machine.port_bytes)
    return replace(
        machine,
        clock_hz=clock_mhz * 1e6,
        latency=SDRAM_LATENCY,
        bandwidth=Fraction(share).limit_denominator(1000),
    )


def show(projections: list[dict[str, Any]], console: Console) -> None:
    """A table of them."""
    first = projections[0]
    table = Table(
        title=f"Projected decode at {first['clock_mhz']:.1f} MHz, "
        f"{first['memory_mb_per_second']:.0f} MB/s of SDRAM (cycle model)",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("model", "context", "tokens/s", "cycles/token", "bytes/token", "bound", "busy"):
        table.add_column(name, justify="left" if name in ("model", "bound", "busy") else "right")
    for p in projections:
        table.add_row(
            p["model"],
            f"{p['context']:,}",
            f"{p['tokens_per_second']:,.1f}",
            f"{p['cycles_per_token']:,.0f}",
            f"{p['bytes_per_token']:,}",
            p["bound"],
            ", ".join(f"{k} {100 * v:.0f} %" for k, v in p["shares"].items()),
        )
    console.print(table)
    for p in projections:
        if not p["fits"]:
            console.print(f"{p['model']}: {p['remedy']}")
