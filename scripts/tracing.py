"""`--trace` of `run` and `bench`: options, and the file while a command runs."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from compiler.errors import UserError
from runtime.trace import TraceWriter
from scripts import options
from scripts.console import err

__all__ = ["TraceCycles", "TraceFile", "TraceResolution", "cycle_range", "tracing"]

TraceFile = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Write a timeline for Perfetto and `timeline`: .json, or .json.gz.",
    ),
]
TraceCycles = Annotated[
    str | None,
    typer.Option(
        "--trace-cycles",
        metavar="FROM:TO",
        help="Cycles of the trace to keep states and beats of; by default all.",
    ),
]
TraceResolution = Annotated[
    int,
    typer.Option(
        "--trace-resolution",
        help="Shortest state kept as it is, in cycles; shorter ones are summed up. 1 keeps all.",
    ),
]


def cycle_range(option: str, text: str | None) -> tuple[int, int] | None:
    """FROM:TO as two numbers; either may be left out. ``UserError`` for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d*):(\d*)", text)
    first, last = (int(match[1] or 0), int(match[2] or 1 << 62)) if match else (0, 0)
    if not first < last:
        raise UserError(f"{option} {text}: give two whole numbers, as 20000:90000, the larger last")
    return first, last


def tracing(
    path: Path | None,
    cycles: str | None,
    resolution: int,
    device: options.DeviceName = options.DeviceName.rtl,
) -> AbstractContextManager[TraceWriter | None]:
    """The trace file, complete when the block ends; None if none is asked for.

    What is wrong with the options is said at once (``UserError``), not when the block begins.
    """
    window = cycle_range("--trace-cycles", cycles)
    options.whole("--trace-resolution", resolution, 1, 1 << 20)
    if path is None:
        if window:
            raise UserError("--trace-cycles: name the file too, with --trace FILE")
        return nullcontext()
    if not path.name.endswith((".json", ".json.gz")):
        raise UserError(f"--trace {path}: name a file that ends in .json or .json.gz")
    if device is not options.DeviceName.rtl:
        raise UserError(f"--trace: the {device.value} device shows no states; take --device rtl")
    options.output_file("--trace", path)
    return _file(path, resolution, window)


@contextmanager
def _file(
    path: Path, resolution: int, window: tuple[int, int] | None
) -> Iterator[TraceWriter | None]:
    with TraceWriter(path, resolution=resolution, window=window) as writer:
        yield writer
    err.print(
        f"trace: {path} (https://ui.perfetto.dev opens it, or: timeline {path})", soft_wrap=True
    )
