"""`serrano fpga`: a bitstream for a board, its report, and blocks alone."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from compiler.errors import UserError
from fpga.blocks import BLOCKS
from fpga.boards import BOARDS, find_board
from fpga.design import default_target, targets
from fpga.flow import Job, build, emitted_hash, last_report, sources_hash
from fpga.report import check_lines, path_lines, resource_rows
from scripts import options
from scripts.console import bar, err, report_console
from scripts.fpga_blocks import blocks_command
from scripts.fpga_projection import SDRAM_EFFICIENCY, project
from scripts.fpga_projection import show as show_projection
from scripts.fpga_records import FpgaRecords

__all__ = ["fpga", "parse_seeds"]

MOST_SEEDS = 64


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds of ``"3"`` (1, 2, 3) or ``"4,7,9"``; ``UserError`` for anything else."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: give a number of seeds, or seeds as 4,7,9") from None
    if len(numbers) == 1 and "," not in text:
        options.whole("--seeds", numbers[0], 1, MOST_SEEDS)
        return tuple(range(1, numbers[0] + 1))
    if len(numbers) > MOST_SEEDS or min(numbers) < 0 or max(numbers) >= 1 << 31:
        raise UserError(f"--seeds {text}: give at most {MOST_SEEDS} numbers from 0 to 2147483647")
    return tuple(dict.fromkeys(numbers))


def fpga(
    names: Annotated[
        list[str] | None, typer.Argument(help="Blocks for --blocks; all by default.")
    ] = None,
    board: Annotated[str, typer.Option(help=f"Board: {', '.join(BOARDS)}.")] = "ulx3s",
    preset: Annotated[
        str | None, typer.Option("--preset", help="Chip; by default the board's own.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="board, chip (the accelerator, no memory behind it) or a block's name."),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Placements to try: how many, or which (4,7,9); the best is kept.")
    ] = "3",
    jobs: Annotated[int, typer.Option(help="Placements at a time.")] = 2,
    freq: Annotated[
        float | None, typer.Option(help="Clock in MHz: what the PLL makes, and the target.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Only show the last build; builds nothing.")
    ] = False,
    blocks: Annotated[
        bool, typer.Option("--blocks", help="Build blocks alone, each against its record.")
    ] = False,
    no_place: Annotated[
        bool, typer.Option("--no-place", help="With --blocks: only synthesis, areas without Fmax.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --blocks: the small blocks only, as CI does.")
    ] = False,
    accept: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Make what was found the accepted record."),
    ] = None,
    sdram_efficiency: Annotated[
        float, typer.Option(help="Share of the SDRAM's bandwidth that tokens/s are projected with.")
    ] = SDRAM_EFFICIENCY,
    json: options.JsonFile = None,
) -> int:
    """Build a bitstream with open tools and report area, clocks and what limits them.

    The build stands in build/fpga/ and is taken up where it was left. Exit code 1: a clock misses
    its target, or a block has grown.
    """
    options.output_file("--json", json)
    options.whole("--jobs", jobs, 1, 64)
    chosen = find_board(board)
    if accept is not None and not accept.strip():
        raise UserError("--accept: give the reason, as --accept 'adders have a stage more'")
    config = options.preset(preset or chosen.preset)
    if freq is not None and not 1 <= freq <= 400:
        raise UserError(f"--freq {freq:g}: give MHz from 1 to 400")
    if (no_place or quick) and not blocks:
        raise UserError("--no-place and --quick go with --blocks")
    if names and not blocks:
        raise UserError(f"{' '.join(names)}: names of blocks go with --blocks")
    if target is not None and target not in targets():
        raise UserError(f"--target {target}: choose from {', '.join(targets())}")
    job = Job(
        board=chosen,
        target=target or default_target(chosen),
        config=config,
        mhz=freq or chosen.target_mhz,
        seeds=parse_seeds(seeds),
        jobs=jobs,
    )
    if blocks:
        if quick and names:
            raise UserError("--quick: goes without names of blocks; it chooses the small ones")
        chosen_names = [b.name for b in BLOCKS.values() if b.quick] if quick else names or []
        return blocks_command(job, chosen_names, not no_place, accept, json)
    if report:
        found = _known(job)
    else:
        with bar("fpga") as progress:
            found = build(job, progress)
        found |= {"source": "build", "stale": False}
    return _show(found, sdram_efficiency, accept, json)


def _known(job: Job) -> dict[str, Any]:
    """The last build, else the recorded one; with `source` and `stale`."""
    found, source = last_report(job), "build"
    if found is None:
        found, source = FpgaRecords().builds().get(job.name), "record"
    if found is None:
        raise UserError(
            f"--report: no build of {job.name} yet, and none is recorded; build it: "
            f"./serrano fpga --board {job.board.name} --preset {job.config.name} "
            f"--target {job.target}"
        )
    stale = False
    if found["sources"] != sources_hash():
        err.print("the sources differ from the build's; looking whether the RTL does")
        stale = emitted_hash(job, found["target_mhz"]) != found["rtl"]
    if source == "record":
        err.print(f"no build here; this is the recorded one of commit {found['commit']}")
    if stale:
        err.print(
            "warning: the RTL has changed since; build again for figures of this tree",
            style="yellow",
        )
    return found | {"source": source, "stale": stale}


def _show(
    found: dict[str, Any], sdram_efficiency: float, accept: str | None, json: Path | None
) -> int:
    console = report_console()
    if found["fmax_mhz"] and found["target"] in ("board", "chip"):
        mhz = min(found["fmax_mhz"], found["target_mhz"])
        found["projection"] = project(found["preset"], mhz, sdram_efficiency)
    _summary(found, console)
    if "projection" in found:
        show_projection(found["projection"], console)
    if accept is not None:
        FpgaRecords().accept_build(_to_keep(found), accept)
        err.print(f"{found['name']}: recorded in benchmarks/fpga.json")
    options.write_json(json, found)
    return 0 if found["met"] or found["source"] == "record" else 1


def _to_keep(found: dict[str, Any]) -> dict[str, Any]:
    if found["stale"]:
        raise UserError("--accept: the RTL has changed since this build; build first")
    return {k: v for k, v in found.items() if k not in ("stale", "source", "projection")}


def _summary(found: dict[str, Any], console: Console) -> None:
    console.print(
        f"{found['board']} ({found['device']}), target {found['target']}, preset "
        f"{found['preset']}, {found['date']}, commit {found['commit']}"
    )
    if not found["fits"]:
        console.print(f"does not fit: {found['problem']}", style="red")
    table = Table(box=None, pad_edge=False)
    header, rows = resource_rows(found)
    for name in header:
        table.add_column(name, justify="left" if name == "block" else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"Blocks: {found['attribution']}", soft_wrap=True)
    for name, clock in found["clocks"].items():
        state = "met" if clock["met"] else "missed"
        console.print(
            f"Clock {name}: {clock['fmax_mhz']:.1f} MHz, target {clock['target_mhz']:g} {state}"
        )
        if clock["path"]:
            for line in path_lines(clock["path"]):
                console.print(f"  {line}", soft_wrap=True)
    if found["seeds"]:
        console.print(
            "Seeds: "
            + ", ".join(
                f"{s['seed']}: {s['fmax_mhz']:.1f} MHz{' (kept)' if s['best'] else ''}"
                for s in found["seeds"]
            )
        )
    for line in check_lines(found):
        console.print(line, soft_wrap=True)
    if found["bitstream"]:
        console.print(f"Bitstream: {found['bitstream']} ({found['bitstream_bytes']:,} bytes)")
