"""Jobs on a Dask cluster (https://distributed.dask.org), which runs lost jobs again by itself."""

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from compiler.errors import UserError
from runtime.jobs.outcome import Outcome, WorkerDied, answer

__all__ = ["run_on_cluster"]

_CONNECT_SECONDS = 10
_FIRST_WORKER_SECONDS = 60
_JOBS_A_THREAD = 3
"""Jobs handed over for each thread of the cluster: enough that none waits for this process."""


def run_on_cluster(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    address: str,
    report: Callable[[str], None],
) -> Iterator[Outcome]:
    """On the workers of the scheduler at ``address``, as they come and go."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise UserError(
            "--cluster needs the package `distributed`: call ./serrano, which installs it, or "
            "install the extra `cluster` of pyproject.toml"
        ) from None
    for name in ("distributed", "distributed.client"):  # what matters is reported below
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError):
        raise UserError(
            f"--cluster {address}: no Dask scheduler answers there; give tcp://HOST:PORT as "
            "`dask scheduler` prints it"
        ) from None
    source = iter(items)
    call = _call()
    under_way: dict[Any, Any] = {}  # item by the future's key
    with client:
        try:
            if not client.nthreads():
                report(f"waiting for a worker to join {address}")
                client.wait_for_workers(1, timeout=_FIRST_WORKER_SECONDS)
        except TimeoutError:
            raise UserError(
                f"--cluster {address}: no worker joined within {_FIRST_WORKER_SECONDS} s; start "
                f"one with ./serrano worker {address}"
            ) from None

        def more() -> list:
            threads = max(1, sum(client.nthreads().values()))
            futures = []
            for item in islice(source, max(0, _JOBS_A_THREAD * threads - len(under_way))):
                job = pickle.dumps(partial(answer, function, item))
                # pure: the key would be a hash of the item, and an old answer be taken for it
                future = client.submit(call, job, pure=False)
                under_way[future.key] = item
                futures.append(future)
            return futures

        try:
            done = as_completed(more(), loop=client.loop, with_results=True, raise_errors=False)
            for batch in done.batches():
                for future, result in batch:
                    yield _outcome(address, future.status, under_way.pop(future.key), result)
                del batch, future  # the cluster forgets a result when its future is gone
                done.update(more())
        except (OSError, TimeoutError):  # distributed's CommClosedError is an OSError
            raise _lost(address) from None


def _call() -> Callable[[bytes], Any]:
    """What workers are sent: a function inside a function goes by value, not by its module.

    A Dask worker that can't import what a message names ends, and the job would wait for ever.
    """

    def call(job: bytes) -> bytes | str:
        import pickle

        try:
            run = pickle.loads(job)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return run()

    return call


def _outcome(address: str, status: str, item: Any, result: Any) -> Outcome:
    """What a future ended as; ``result`` of a failed one is the exception as `sys.exc_info`."""
    from distributed.scheduler import KilledWorker

    if status == "finished" and isinstance(result, bytes):
        value, error = pickle.loads(result)
        return Outcome(item, value, error)
    if status == "finished":
        raise UserError(
            f"--cluster {address}: a worker can't import Serrano ({result}); start workers with "
            f"./serrano worker {address}"
        )
    if status != "error":
        raise _lost(address)
    died = isinstance(result[1], KilledWorker)
    return Outcome(item, error=WorkerDied("its worker died too often") if died else result[1])


def _lost(address: str) -> UserError:
    return UserError(
        f"--cluster {address}: the scheduler is gone; what was done is kept, the same command "
        "goes on from there"
    )
