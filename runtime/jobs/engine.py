"""One way to run a function over many items, wherever the work is done."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from runtime.jobs.cluster import run_on_cluster
from runtime.jobs.local import run_here, run_in_processes
from runtime.jobs.outcome import Outcome

__all__ = ["run_jobs"]


def run_jobs(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    jobs: int | None = None,
    cluster: str | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Iterator[Outcome]:
    """Calls ``function`` on every item; yields one `Outcome` an item, in the order they end.

    An item whose worker dies (killed, out of memory) is run again on another; after the third
    death its outcome is a `WorkerDied`. What the function raises is the outcome's ``error`` and is
    not tried again. Leaving the loop early ends what is under way.

    Parameters
    ----------
    function
        Of the top level of a module: workers import it. It may be called twice on an item when a
        worker dies, so what it leaves behind must bear that.
    items
        Taken as workers come free: a generator over a large space is fine. They are pickled.
    jobs
        Worker processes on this machine, by default one a core. With 1 the function runs in this
        process, which a crash then takes along.
    cluster
        Address of a Dask scheduler, ``tcp://host:port``; ``jobs`` then plays no part.
    report
        Called with a line on what the engine does of itself (a worker died, ...).

    Raises
    ------
    UserError
        For a cluster that can't be reached or is lost, or whose workers can't import the function.
    """
    if cluster is not None:
        return run_on_cluster(function, items, cluster, report)
    count = jobs or len(os.sched_getaffinity(0))
    if count == 1:
        return run_here(function, items)
    return run_in_processes(function, items, count, report)
