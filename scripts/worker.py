"""`./serrano worker`: lends this machine to a Dask cluster."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from compiler.errors import UserError
from scripts import options

__all__ = ["worker"]

_ROOT = Path(__file__).resolve().parents[1]


def worker(
    address: Annotated[str, typer.Argument(help="The Dask scheduler, tcp://HOST:PORT.")],
    jobs: Annotated[
        int | None, typer.Option(help="Worker processes (default: one a core).")
    ] = None,
) -> None:
    """Work for `--cluster ADDRESS` calls from other machines, until stopped.

    The scheduler is started once, with `.venv/bin/dask scheduler`. All machines need the same
    tree. Dask runs what it is sent: use a network that you trust.
    """
    if importlib.util.find_spec("distributed") is None:
        raise UserError(
            "worker needs the package `distributed`: call ./serrano, which installs it, or install "
            "the extra `cluster` of pyproject.toml"
        )
    count = jobs or len(os.sched_getaffinity(0))
    options.whole("--jobs", count, 1, 4096)
    command = [sys.executable, "-P", "-m", "distributed.cli.dask_worker", address]
    # One thread: the work is pure Python. No limit of memory: a job is small.
    command += ["--nworkers", str(count), "--nthreads", "1", "--memory-limit", "0"]
    # Jobs name functions of this tree.
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    os.execve(sys.executable, [*command, "--no-dashboard"], environment)
