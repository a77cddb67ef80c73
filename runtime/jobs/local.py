"""Jobs on processes of this machine.

Not `concurrent.futures`: its pool is broken as a whole when one worker dies, and does not say
over which job.
"""

import contextlib
import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from runtime.jobs.outcome import ATTEMPTS, Outcome, WorkerDied, answer, attempt

__all__ = ["run_here", "run_in_processes"]

_CONTEXT = multiprocessing.get_context("spawn")  # a fork copies locks that threads hold


def run_here(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
    """In this process, one after the other."""
    for item in items:
        yield attempt(function, item)


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """A worker: answers items until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send_bytes(answer(function, item))
        except BrokenPipeError:
            return


@dataclass
class _Job:
    item: Any
    deaths: int = 0


class _Worker:
    def __init__(self, function: Callable[[Any], Any]):
        self.pipe, theirs = _CONTEXT.Pipe()
        # daemon: ends with this process. If that is killed, the pipe closes.
        self.process: BaseProcess = _CONTEXT.Process(
            target=_serve, args=(theirs, function), daemon=True
        )
        self.process.start()
        theirs.close()
        self.job: _Job | None = None

    def give(self, job: _Job) -> None:
        self.job = job
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # reading says so
            self.pipe.send(job.item)

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()
        self.process.close()


def run_in_processes(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    count: int,
    report: Callable[[str], None],
) -> Iterator[Outcome]:
    """On ``count`` processes; a dead one is replaced and its job run again."""
    source = iter(items)
    again: deque[_Job] = deque()
    workers: list[_Worker] = []

    def next_job() -> _Job | None:
        if again:
            return again.popleft()
        for item in source:
            return _Job(item)
        return None

    try:
        while True:
            for worker in workers:
                if worker.job is None and (job := next_job()):
                    worker.give(job)
            while len(workers) < count and (job := next_job()):
                workers.append(_Worker(function))
                workers[-1].give(job)
            busy = {w.pipe: w for w in workers if w.job}
            if not busy:
                return
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                job = worker.job
                assert job is not None
                try:
                    value, error = pickle.loads(worker.pipe.recv_bytes())
                except (EOFError, ConnectionResetError):
                    workers.remove(worker)
                    worker.process.join()
                    code = worker.process.exitcode
                    worker.end()
                    job.deaths += 1
                    if job.deaths < ATTEMPTS:
                        report(f"a worker died (exit code {code}); its job runs again")
                        again.append(job)
                    else:
                        text = f"its worker died {ATTEMPTS} times (exit code {code})"
                        yield Outcome(job.item, error=WorkerDied(text))
                else:
                    worker.job = None
                    yield Outcome(job.item, value, error)
    finally:
        for worker in workers:
            worker.end()
