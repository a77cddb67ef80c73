"""`serrano fpga --blocks`: blocks built alone, against their accepted figures."""

import json as json_text
from pathlib import Path
from typing import Any

from rich.table import Table

from compiler.errors import UserError
from fpga.blocks import BLOCKS
from fpga.flow import Job, block_figures
from scripts import options
from scripts.console import bar, err, report_console
from scripts.fpga_records import FpgaRecords, compare_blocks
from sim.verilated.toolchain import cache_directory

__all__ = ["block_record", "blocks_command"]


def block_record(
    job: Job, place: bool, watch=lambda text, share: None, builds: Path | None = None
) -> dict[str, Any]:
    """Figures of a block, kept by content: equal RTL and tools give the kept ones."""

    def path(key: str) -> Path:
        return cache_directory() / "fpga" / f"{key}.json"

    def known(key: str) -> dict[str, Any] | None:
        return json_text.loads(path(key).read_text()) if path(key).exists() else None

    key, record, fresh = block_figures(job, place, known, watch, builds)
    if fresh:
        path(key).parent.mkdir(parents=True, exist_ok=True)
        part = path(key).with_suffix(f".{job.name}.part")
        part.write_text(json_text.dumps(record))
        part.replace(path(key))
    return record


def blocks_command(
    job: Job, names: list[str], place: bool, accept: str | None, json: Path | None
) -> int:
    """Build the named blocks (all by default); exit code 1 if one has grown."""
    for name in names:
        if name not in BLOCKS:
            raise UserError(f"--blocks {name}: no such block; choose from {', '.join(BLOCKS)}")
    chosen = names or list(BLOCKS)
    records: dict[str, dict[str, Any]] = {}
    with bar("blocks") as progress:
        for number, name in enumerate(chosen):
            block = Job(job.board, name, job.config, job.mhz, job.seeds, job.jobs)

            def watch(text: str, share: float, name: str = name, number: int = number) -> None:
                progress(f"{name}: {text}", (number + share) / len(chosen))

            records[f"{job.config.name}/{name}"] = block_record(block, place, watch)
    store = FpgaRecords()
    changes = compare_blocks(records, store.blocks())
    _report(records, store.blocks())
    if accept is not None:
        store.accept_blocks(records, accept)
    refused = [c for c in changes if c.refused and accept is None]
    for change in refused:
        err.print(f"to be accepted: {change}", style="red", soft_wrap=True)
    if refused:
        err.print(
            "Accept with ./serrano fpga --blocks NAMES --accept 'REASON' (and --preset as here): "
            "rewrites benchmarks/fpga_blocks.json, adds to benchmarks/fpga_history.jsonl",
            soft_wrap=True,
        )
    options.write_json(json, {"records": records, "refused": [str(c) for c in refused]})
    return 1 if refused else 0


def _report(records: dict[str, dict[str, Any]], accepted: dict[str, dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("block", "LUT4", "LUT RAM", "FF", "BRAM", "multipliers", "Fmax MHz", "LUT change"):
        table.add_column(name, justify="left" if name == "block" else "right")
    for name, r in records.items():
        before = accepted.get(name, {}).get("luts")
        table.add_row(
            name,
            *(f"{r[key]:,}" for key in ("luts", "lut_ram", "ffs", "brams", "multipliers")),
            f"{r['fmax_mhz']:.1f}" if r.get("fmax_mhz") else "-",
            f"{r['luts'] / before - 1:+.1%}" if before else "new",
        )
    report_console().print(table)
