"""Jobs on a Dask cluster (https://distributed.dask.org), which runs lost jobs again by itself."""

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from compiler.errors import UserError
from runtime.jobs.outcome import Outcome, WorkerDied, answer

__all__ = ["run_on_cluster"]

_CONNECT_SECONDS = 10
_FIRST_WORKER_SECONDS = 60
_LOOK_SECONDS = 1
"""Between looks whether the scheduler is still there."""
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
        from distributed import Client
        from distributed.client import ClosedClientError
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
    under_way: dict[Any, tuple[Any, Any]] = {}  # future and item by the future's key
    ended: SimpleQueue = SimpleQueue()
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

        def submit_more() -> None:
            threads = max(1, sum(client.nthreads().values()))
            for item in islice(source, max(0, _JOBS_A_THREAD * threads - len(under_way))):
                job = pickle.dumps(partial(answer, function, item))
                # pure: the key would be a hash of the item, and an old answer be taken for it
                future = client.submit(call, job, pure=False)
                under_way[future.key] = future, item
                future.add_done_callback(ended.put)

        try:
            submit_more()
            while under_way:
                try:
                    future = ended.get(timeout=_LOOK_SECONDS)
                except Empty:
                    # A job sent between the scheduler's end and the client's notice never ends.
                    if client.status != "running":
                        raise _lost(address) from None
                    continue
                _, item = under_way.pop(future.key)
                outcome = _outcome(address, future, item)
                del future  # the cluster forgets a result when its future is gone
                yield outcome
                submit_more()
        # distributed's CommClosedError is an OSError, its ClosedClientError a RuntimeError
        except (OSError, TimeoutError, CancelledError, ClosedClientError):
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


def _outcome(address: str, future: Any, item: Any) -> Outcome:
    """What a future that is over ended as."""
    from distributed.scheduler import KilledWorker

    if future.status == "error":
        error = future.exception()
        died = isinstance(error, KilledWorker)
        return Outcome(item, error=WorkerDied("its worker died too often") if died else error)
    if future.status != "finished":
        raise _lost(address)
    result = future.result()
    if not isinstance(result, bytes):
        raise UserError(
            f"--cluster {address}: a worker can't import Serrano ({result}); start workers with "
            f"./serrano worker {address}"
        )
    value, error = pickle.loads(result)
    return Outcome(item, value, error)


def _lost(address: str) -> UserError:
    return UserError(
        f"--cluster {address}: the scheduler is gone; what was done is kept, the same command "
        "goes on from there"
    )
