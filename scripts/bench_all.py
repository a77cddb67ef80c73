"""`serrano bench all`: the benchmark suite, against the accepted cycle counts."""

from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from compiler.errors import UserError
from scripts import options
from scripts.console import bar, err, report_console
from scripts.measure import MeasurementError, inputs_hash, measure, prepare
from scripts.performance import write_page
from scripts.records import TOLERANCE, Change, Records, compare
from scripts.workloads import WORKLOADS, Workload

__all__ = ["bench_all", "page"]


def bench_all(
    full: Annotated[bool, typer.Option("--full", help="All workloads, not only CI's.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Of all workloads, those with this text in the name.")
    ] = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Measure again what is known for this tree.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Simulations at a time.")] = 2,
    record: Annotated[bool, typer.Option("--record", help="Write a line each to history.")] = False,
    accept: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Make these cycle counts the accepted ones."),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show the workloads and stop.")] = False,
    json: options.JsonFile = None,
) -> int:
    """Run the benchmark suite; exit code 1 if a cycle count grew by over 1 % or a bit is wrong.

    Finished workloads are kept in benchmarks/results.json and not run again for the same tree.
    """
    options.whole("--jobs", jobs, 1, 64)
    options.output_file("--json", json)
    if accept is not None and not accept.strip():
        raise UserError("--accept: give the reason, as --accept 'KV pages are read twice'")
    chosen = _chosen(full, only)
    if listing:
        for workload in chosen:
            print(f"{workload.name:45} {workload.command}")
        return 0
    store = Records()
    known = {} if rerun else store.results()
    todo = [w for w in chosen if known.get(w.name, {}).get("inputs") != inputs_hash(w)]
    failures = _measure_all(todo, store, jobs)
    results = store.results()
    records = {w.name: results[w.name] for w in chosen if w.name not in failures}
    changes = compare(records, store.baseline())
    wrong = [name for name, r in records.items() if r["bit_exact"] is False]
    if accept is not None and not wrong:
        store.accept(records, accept)
    elif record:
        store.append(records)
    _report(records, changes)
    for failure in failures.values():
        err.print(failure, style="red", soft_wrap=True)
    for name in wrong:
        err.print(f"{name}: NOT bit-exact", style="red")
    refused = [c for c in changes if c.refused and accept is None]
    _say_changes(changes, refused)
    options.write_json(json, {"records": records, "failures": failures})
    return 1 if failures or wrong or refused else 0


def _chosen(full: bool, only: list[str] | None) -> list[Workload]:
    if only:
        chosen = [w for w in WORKLOADS.values() if any(text in w.name for text in only)]
        if not chosen:
            raise UserError(f"--only {' '.join(only)}: no such workload; --list shows them")
        return chosen
    return [w for w in WORKLOADS.values() if full or w.quick]


def _measure_all(todo: list[Workload], store: Records, jobs: int) -> dict[str, str]:
    """Measures and keeps one after the other; what went wrong, by workload."""
    failures: dict[str, str] = {}
    if not todo:
        return failures
    prepare()
    with bar("benchmarks") as progress, ThreadPoolExecutor(jobs) as pool:
        progress(f"{len(todo)} workloads to run", 0.0)
        running = {pool.submit(measure, w): w for w in todo}
        try:
            for number, done in enumerate(as_completed(running), 1):
                try:
                    found = done.result()
                except MeasurementError as error:
                    failures[running[done].name] = str(error)
                    text = f"{running[done].name}: failed"
                else:
                    store.keep(found)
                    text = f"{found['name']}: {found['cycles']:,} cycles"
                progress(f"{number} of {len(todo)}, {text}", number / len(todo))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return failures


def _report(records: dict[str, dict], changes: list[Change]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("workload", overflow="fold")
    for name in ("cycles", "change", "roofline", "efficiency", "under limit", "MACs", "array fed"):
        table.add_column(name, justify="right")
    for change in changes:
        r = records[change.name]
        table.add_row(
            change.name,
            f"{r['cycles']:,}",
            "new" if change.accepted is None else f"{change.growth:+.2%}",
            f"{r['roofline_cycles']:,}",
            *(f"{100 * r[key]:.1f} %" for key in
              ("efficiency", "sustained_efficiency", "mac_utilization", "array_fed")),
        )  # fmt: skip
    report_console().print(table)


def _say_changes(changes: list[Change], refused: list[Change]) -> None:
    better = [c for c in changes if c.growth < -TOLERANCE]
    for change in better:
        err.print(f"faster: {change}", soft_wrap=True)
    for change in refused:
        err.print(f"to be accepted: {change}", style="red", soft_wrap=True)
    if refused:
        err.print(
            "Accept with ./serrano bench all --accept 'REASON' (and --full or --only as here): "
            "rewrites benchmarks/baseline.json and adds the reason to benchmarks/history.jsonl",
            soft_wrap=True,
        )


def page(
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the page is up to date.")
    ] = False,
    path: Annotated[
        Path | None, typer.Option(help="Another page than docs/performance.md.")
    ] = None,
) -> int:
    """Write the tables of docs/performance.md from benchmarks/results.json."""
    changed = write_page(Records(), path, check=check)
    if check and changed:
        err.print("docs/performance.md is not what ./serrano bench page would write")
        return 1
    return 0
