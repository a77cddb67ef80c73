"""A Dask cluster of processes of its own for tests."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ROOT", "dask_cluster", "running", "scheduler", "worker_pids"]

ROOT = Path(__file__).resolve().parents[1]
_SECONDS = 60
_GRACE_SECONDS = 5


@contextlib.contextmanager
def running(
    command: list[str], log: Path, folder: Path | None = None
) -> Iterator[subprocess.Popen]:
    """A Python process, ended with the block; warnings there are none of ours.

    Now and then a Dask worker whose scheduler was killed does not end when told to, so that is not
    waited for without end. Its own processes see it go and end too.
    """
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    with open(log, "w") as file:
        with subprocess.Popen(
            [sys.executable, *command],
            cwd=folder or ROOT,
            env=environment,
            stdout=file,
            stderr=file,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_SECONDS)
                process.kill()


@contextlib.contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A scheduler: its address and its process."""
    log = folder / "scheduler.log"
    command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    with running([*command, "--no-dashboard"], log) as process:
        deadline = time.monotonic() + _SECONDS
        while "Scheduler at:" not in (text := log.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        line = next(x for x in text.splitlines() if "Scheduler at:" in x)
        yield line.split("Scheduler at:")[1].strip(), process


@contextlib.contextmanager
def dask_cluster(folder: Path, workers: int = 2) -> Iterator[str]:
    """A scheduler and workers started as users do, `./serrano worker`: the address."""
    log = folder / "workers.log"
    with scheduler(folder) as (address, _):
        command = ["-m", "scripts.main", "worker", address, "--jobs", str(workers)]
        with running(command, log) as process:
            deadline = time.monotonic() + _SECONDS
            while len(worker_pids(address)) < workers:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield address


def worker_pids(address: str) -> list[int]:
    """Process ids of the workers (not of the nannies that start them again)."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        return list(client.run(os.getpid).values())
