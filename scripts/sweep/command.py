"""`./serrano sweep` and `./serrano sweep plot`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from compiler.errors import UserError
from runtime.jobs import run_jobs
from scripts import options
from scripts.console import bar, err, report_console
from scripts.sweep.axes import AXES
from scripts.sweep.pareto import COSTS, Refusals, Workload, text_of, thinned, varying, workloads
from scripts.sweep.picture import write_html, write_png
from scripts.sweep.point import Point, evaluate
from scripts.sweep.space import MEMORIES, Space, space_of
from scripts.sweep.store import Store, read_results

__all__ = ["app"]

app = typer.Typer(
    help="Evaluate a space of chips and workloads with the cycle model; Pareto plots.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_MOST_LISTED = 5


def _axis(name: str) -> Any:
    return typer.Option(metavar="VALUES", help=AXES[name].help + ".", rich_help_panel="Axes")


Given = str | None


@app.callback(invoke_without_command=True)
def sweep(
    call: typer.Context,
    model: Annotated[Given, _axis("model")] = None,
    preset: Annotated[Given, _axis("preset")] = None,
    rows: Annotated[Given, _axis("rows")] = None,
    cols: Annotated[Given, _axis("cols")] = None,
    port_bytes: Annotated[Given, _axis("port_bytes")] = None,
    lanes: Annotated[Given, _axis("lanes")] = None,
    row_capacity: Annotated[Given, _axis("row_capacity")] = None,
    max_head_dim: Annotated[Given, _axis("max_head_dim")] = None,
    panel_ring: Annotated[Given, _axis("panel_ring")] = None,
    page_slots: Annotated[Given, _axis("page_slots")] = None,
    tape_beats: Annotated[Given, _axis("tape_beats")] = None,
    burst_beats: Annotated[Given, _axis("burst_beats")] = None,
    outstanding_reads: Annotated[Given, _axis("outstanding_reads")] = None,
    activation_blocks: Annotated[Given, _axis("activation_blocks")] = None,
    row_blocks: Annotated[Given, _axis("row_blocks")] = None,
    constant_blocks: Annotated[Given, _axis("constant_blocks")] = None,
    clock: Annotated[Given, _axis("clock")] = None,
    memory_bandwidth: Annotated[Given, _axis("memory_bandwidth")] = None,
    latency: Annotated[Given, _axis("latency")] = None,
    batch: Annotated[Given, _axis("batch")] = None,
    context: Annotated[Given, _axis("context")] = None,
    chunk: Annotated[Given, _axis("chunk")] = None,
    space: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Axes from a TOML file; options go first.")
    ] = None,
    memories: Annotated[
        str | None,
        typer.Option(
            help=f"{' or '.join(MEMORIES)} (the default): scratchpads of the preset, or as large "
            "as each step needs."
        ),
    ] = None,
    projected: Annotated[
        bool, typer.Option("--projected", help="Also machines that the RTL can't be built as.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option(metavar="N", help="N combinations at random, not all.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of --sample (default 0).")] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Results, in Parquet parts; added to.")
    ] = Path("sweep-results"),
    jobs: Annotated[
        int | None, typer.Option(help="Worker processes (default: one a core).")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler, tcp://HOST:PORT.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Plots too, beside the folder.")] = False,
    json: options.JsonFile = None,
) -> int:
    """Cycles, tokens/s, area and power proxies over a space of chips and workloads.

    VALUES: 8,16,32, or a range FIRST:LAST:xFACTOR or FIRST:LAST:STEP. Axes that are not given
    stand as the preset has them; with no axis at all, a small grid of array, port and lanes.
    Points that the folder has already are not evaluated again.
    """
    if call.invoked_subcommand:
        return 0
    options.output_file("--json", json)
    if jobs is not None:
        options.whole("--jobs", jobs, 1, 4096)
    chosen = space_of(
        {name: call.params[name] for name in AXES if call.params[name] is not None},
        space,
        memories=memories,
        projected=projected or None,
        sample=sample,
        seed=seed,
    )
    return _run(chosen, out, jobs, cluster, plot, json)


@app.command("plot")
def plot_results(
    results: Annotated[Path, typer.Argument(help="Folder of a sweep, or one Parquet file.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PREFIX", help="Writes PREFIX.html, PREFIX.png."),
    ] = None,
) -> int:
    """Pareto plots of all results in a folder: tokens/s against the area and power proxies."""
    works = workloads(read_results(results))
    if not works:
        raise UserError(f"{results}: no points with figures in there; run a sweep first")
    _plots(works, output or (results if results.is_dir() else results.with_suffix("")))
    return 0


def _run(
    space: Space,
    out: Path,
    jobs: int | None,
    cluster: str | None,
    plot: bool,
    json: Path | None,
) -> int:
    """Evaluates what is not there yet, and reports; 1 if points failed."""
    impossible, refused = Refusals(), Refusals()
    points: dict[str, Point] = {}
    repeated = 0
    with Store(out).open() as store:
        with bar("sweep") as tell:
            tell("reading the space", 0)
            for n, point in enumerate(space.points()):
                if isinstance(point, str):
                    impossible.add(point)
                elif point.key in points:
                    repeated += 1
                else:
                    points[point.key] = point
                if n % 1000 == 0:
                    tell("reading the space", n / space.size)
        code = next(iter(points.values())).code if points else ""
        there = store.done(code)
        rows = {key: there[key] for key in points if key in there}
        resumed = len(rows)
        waiting = [p for key, p in points.items() if key not in rows]
        failed: list[str] = []
        start = time.monotonic()
        with bar("sweep") as tell:
            tell(f"{len(waiting):,} points to evaluate, {resumed:,} are there", 0)
            # A process starts in the time that some points take.
            jobs = 1 if jobs is None and len(waiting) < 32 else jobs
            outcomes = run_jobs(evaluate, waiting, jobs=jobs, cluster=cluster, report=err.print)
            for n, outcome in enumerate(outcomes, 1):
                if isinstance(outcome.error, UserError):
                    raise outcome.error
                if outcome.error:
                    what = f"{type(outcome.error).__name__}: {outcome.error}"
                    failed.append(f"{outcome.item.machine}: {what}")
                    continue
                store.add(outcome.value)
                rows[outcome.value["point"]] = outcome.value
                if n % 20 == 0 and err.is_terminal:
                    tell(f"{n:,} of {len(waiting):,}", n / len(waiting))
        seconds = time.monotonic() - start
    for row in rows.values():
        if row["refusal"] is not None:
            refused.add(row["refusal"])
    works = workloads(rows.values())
    console = report_console()
    console.print(
        f"{space.size:,} of {space.total:,} combinations: {len(points):,} points, of them "
        f"{resumed:,} there already, {len(waiting) - len(failed):,} evaluated in {seconds:.1f} s; "
        f"results in {out}"
    )
    _list_refusals("that no chip can be built as (see --projected)", impossible, console)
    _list_refusals("refused by the model", refused, console)
    if repeated:
        console.print(f"{repeated:,} combinations are the same machine and work as another")
    for line in failed[:_MOST_LISTED]:
        console.print(f"failed: {line}", markup=False)
    for work in works[:_MOST_LISTED]:
        _front_table(work, console)
    if len(works) > _MOST_LISTED:
        console.print(f"{len(works) - _MOST_LISTED} more workloads: see --json or --plot")
    if plot and works:
        _plots(works, out)
    options.write_json(
        json,
        {
            "axes": space.axes,
            "memories": space.memories,
            "combinations": space.total,
            "sample": space.sample,
            "seed": space.seed,
            "points": len(points),
            "resumed": resumed,
            "evaluated": len(waiting) - len(failed),
            "repeated": repeated,
            "seconds": seconds,
            "results": str(out),
            "impossible": impossible.as_list(),
            "refused": refused.as_list(),
            "failed": failed,
            "fronts": [
                {"workload": w.title, **{name: w.front(name) for name in COSTS}} for w in works
            ],
        },
    )
    return 1 if failed else 0


def _list_refusals(what: str, refusals: Refusals, console: Console) -> None:
    if not refusals.total:
        return
    console.print(f"{refusals.total:,} combinations {what}:")
    kinds = refusals.as_list()
    for kind in kinds[:_MOST_LISTED]:
        console.print(f"  {kind['count']:,} as: {kind['example']}", markup=False)
    if len(kinds) > _MOST_LISTED:
        console.print(f"  and {len(kinds) - _MOST_LISTED} more kinds: see --json")


def _front_table(work: Workload, console: Console) -> None:
    """The front by area, without the points that gain less than 2 %."""
    best = thinned(work.front("area"))
    axes = varying(work.rows)
    title = f"Most tokens/s for the area (of {len(work.rows):,} points): {work.title}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in (*axes, "tokens/s", "mm2", "W", "bound", "of roofline"):
        table.add_column(name.replace("_", " "), justify="right")
    for row in best:
        table.add_row(
            *[text_of(name, row[name]) for name in axes],
            f"{row['tokens_per_second']:,.1f}",
            f"{row['area_mm2']:,.2f}",
            f"{row['watts']:,.3f}",
            row["bound"],
            f"{100 * row['efficiency']:.1f} %",
        )
    console.print(table)


def _plots(works: list[Workload], prefix: Path) -> None:
    page, picture = (prefix.with_name(f"{prefix.name}.{kind}") for kind in ("html", "png"))
    try:
        with bar("plot") as tell:
            tell("drawing", 0)
            write_html(page, works, f"Design space: {prefix.name}")
            write_png(picture, works)
    except OSError as error:
        raise UserError(f"{error.filename}: can't write it ({error.strerror})") from None
    report_console().print(f"plots: {page}, {picture}")
