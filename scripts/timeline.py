"""`serrano timeline`: a picture and a table of a trace, for reading without Perfetto."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from compiler.errors import UserError
from runtime.trace import Timeline, read_trace
from runtime.trace.summary import shares
from scripts import options
from scripts.console import bar, err, report_console

__all__ = ["timeline"]


def timeline(
    file: Annotated[Path, typer.Argument(help="Trace written by --trace.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="A .png or .html; by default an .html beside the file."
        ),
    ] = None,
    first: Annotated[int, typer.Option("--from", help="First cycle to show.")] = 0,
    last: Annotated[int | None, typer.Option("--to", help="Cycle after the last.")] = None,
    step: Annotated[
        int | None, typer.Option(help="Show this step, in place of --from and --to.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Above the picture.")] = None,
    json: options.JsonFile = None,
) -> int:
    """Draw a trace: instructions and stalls of every unit, memory beats, and where cycles went."""
    if output is None:
        output = file.with_name(f"{file.name.removesuffix('.gz').removesuffix('.json')}.html")
    if output.suffix not in (".png", ".html"):
        raise UserError(f"-o {output}: name a file that ends in .png or .html")
    options.output_file("-o", output)
    options.output_file("--json", json)
    with bar("timeline") as progress:
        progress("reading", 0.0)
        trace = read_trace(file)
        first, last = _range(trace, first, last, step)
        progress("drawing", 0.5)
        _draw(trace, output, first, last, title or _title(trace, first, last))
    table = _table(trace, first, last)
    options.write_json(json, table)
    console = report_console()
    rows = Table(
        title=f"Where cycles {first:,} to {last:,} went",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in ("unit", "state", "cycles", "share"):
        rows.add_column(column, justify="left" if column in ("unit", "state") else "right")
    for unit, states in table["units"].items():
        for i, (name, cycles) in enumerate(states.items()):
            share = f"{100 * cycles / (last - first):.1f} %"
            rows.add_row("" if i else unit, name, f"{cycles:,}", share)
    console.print(rows)
    err.print(f"timeline: {output}")
    return 0


def _range(trace: Timeline, first: int, last: int | None, step: int | None) -> tuple[int, int]:
    """Cycles to show."""
    steps, cycles = trace.about["steps"], trace.cycles
    if not cycles:
        raise UserError("the trace holds no step: the run ended before its first")
    if step is not None:
        options.whole("--step", step, 0, len(steps) - 1)
        return steps[step]["start"], steps[step]["start"] + steps[step]["cycles"]
    if last is None:
        last = cycles
    options.whole("--from", first, 0, cycles - 1)
    options.whole("--to", last, first + 1, cycles)
    return first, last


def _title(trace: Timeline, first: int, last: int) -> str:
    shown = [
        s["name"]
        for s in trace.about["steps"]
        if s["start"] < last and s["start"] + s["cycles"] > first
    ]
    what = shown[0] if len(shown) == 1 else f"{len(shown)} steps"
    return f"{trace.about['chip']['name']}, cycles {first:,} to {last:,}: {what}"


def _draw(trace: Timeline, output: Path, first: int, last: int, title: str) -> None:
    # Here, because matplotlib takes half a second to import.
    from runtime.trace.page import write_page
    from runtime.trace.picture import write_png

    draw = write_png if output.suffix == ".png" else write_page
    try:
        draw(trace, output, first, last, title)
    except OSError as error:
        raise UserError(f"-o {output}: can't write it ({error.strerror})") from None


def _table(trace: Timeline, first: int, last: int) -> dict:
    """The table as JSON-able data; sums are exact where the range ends with steps or segments."""
    return {
        "steps": trace.about["steps"],
        "from": first,
        "to": last,
        "units": {
            unit.name.lower(): {share.name: share.cycles for share in some}
            for unit, some in shares(trace.clip(first, last), last - first).items()
        },
    }
