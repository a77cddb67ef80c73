"""`runtime.jobs`: every job's outcome once, whatever happens to workers."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compiler.errors import UserError
from runtime.jobs import Outcome, WorkerDied, cluster, run_jobs
from tests.dask_cluster import dask_cluster, running, scheduler
from tests.runtime.job_functions import die, die_once, refuse, slow_square, square, strange


@pytest.mark.parametrize("jobs", [1, 3])
def test_each_item_once(jobs: int) -> None:
    outcomes = list(run_jobs(square, iter(range(40)), jobs=jobs))
    assert sorted((o.item, o.value) for o in outcomes) == [(x, x * x) for x in range(40)]
    assert list(run_jobs(square, [], jobs=jobs)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_exceptions_are_outcomes(jobs: int) -> None:
    outcomes = {o.item: o for o in run_jobs(refuse, range(6), jobs=jobs)}
    assert {x: outcomes[x].value for x in (0, 2, 4)} == {0: 0, 2: 2, 4: 4}
    for x in (1, 3, 5):
        assert isinstance(outcomes[x].error, ValueError)
        assert str(outcomes[x].error) == f"{x} is odd"


def test_what_cannot_be_pickled_is_told() -> None:
    errors = {o.item: str(o.error) for o in run_jobs(strange, range(2), jobs=2)}
    assert "Awkward: 1 2" in errors[0]
    assert "pickle" in errors[1]


def test_dead_worker_is_replaced(tmp_path: Path) -> None:
    said: list[str] = []
    items = [(x, str(tmp_path)) for x in range(10)]
    outcomes = list(run_jobs(die_once, items, jobs=2, report=said.append))
    assert sorted(o.value for o in outcomes) == list(range(10))
    assert len(said) == 3  # 0, 4, 8
    assert "exit code -9" in said[0]


def test_deadly_job_is_given_up(tmp_path: Path) -> None:
    """The others are done; the deadly one was tried three times."""
    outcomes = {o.item[0]: o for o in run_jobs(die, [(x, str(tmp_path)) for x in range(6)], jobs=2)}
    assert isinstance(outcomes.pop(3).error, WorkerDied)
    assert sorted(o.value for o in outcomes.values()) == [0, 1, 2, 4, 5]
    assert len(list(tmp_path.glob("try-*"))) == 3


@contextlib.contextmanager
def killed_meanwhile(folder: Path) -> Iterator[Callable[[], int]]:
    """Kills the process that runs the fifth job that starts; gives its id."""
    victims: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            started = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns)
            if len(started) >= 5:
                victims.append(int(started[-1].name.split("-")[1]))
                os.kill(victims[0], signal.SIGKILL)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    yield lambda: victims[0]
    thread.join()
    assert victims


def check_squares(outcomes: list[Outcome], count: int) -> None:
    """Nothing lost, nothing twice."""
    assert sorted(o.item[0] for o in outcomes) == list(range(count))
    assert not [o for o in outcomes if o.error]
    assert all(o.value[0] == o.item[0] ** 2 for o in outcomes)


def test_kill_9_from_outside(tmp_path: Path) -> None:
    items = [(x, str(tmp_path)) for x in range(24)]
    with killed_meanwhile(tmp_path) as victim:
        outcomes = list(run_jobs(slow_square, items, jobs=2))
    check_squares(outcomes, 24)
    assert len({o.value[1] for o in outcomes} - {victim()}) == 2  # the other and a new one


def test_leaving_early_ends_the_workers(tmp_path: Path) -> None:
    running = run_jobs(slow_square, [(x, str(tmp_path)) for x in range(100)], jobs=2)
    next(running)
    running.close()  # type: ignore[attr-defined]
    pids = {int(p.name.split("-")[1]) for p in tmp_path.iterdir()}
    assert len(pids) >= 1
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_dask_worker_killed(tmp_path: Path) -> None:
    """On a scheduler and two `./serrano worker` processes, one killed with -9."""
    marks, other = tmp_path / "marks", tmp_path / "other"
    marks.mkdir()
    other.mkdir()
    items = [(x, str(marks)) for x in range(40)]
    with dask_cluster(tmp_path) as address:
        with killed_meanwhile(marks) as victim:
            outcomes = list(run_jobs(slow_square, iter(items), cluster=address))
        check_squares(outcomes, 40)
        assert len({o.value[1] for o in outcomes} - {victim()}) >= 1
        errors = {o.item: o.error for o in run_jobs(refuse, range(4), cluster=address)}
        assert str(errors[1]) == "1 is odd"
        assert errors[2] is None
        dead = {o.item[0]: o for o in run_jobs(die, [(3, str(other))], cluster=address)}
        assert isinstance(dead[3].error, WorkerDied)


def test_scheduler_gone(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with scheduler(tmp_path) as (address, process):
        worker = ["-m", "scripts.main", "worker", address, "--jobs", "1"]
        with running(worker, tmp_path / "worker.log"):
            outcomes = run_jobs(slow_square, [(x, str(marks)) for x in range(50)], cluster=address)
            next(outcomes)
            process.kill()
            with pytest.raises(UserError, match="the scheduler is gone; what was done is kept"):
                list(outcomes)


@pytest.mark.parametrize("seconds", [0, 1, 4])
def test_scheduler_gone_before_all_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Jobs sent before the client notices, while it looks for the scheduler, when it gave up."""
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 2)
    with scheduler(tmp_path) as (address, process):
        with running(["-m", "scripts.main", "worker", address], tmp_path / "worker.log"):

            def items() -> Iterator[int]:
                yield 1
                process.kill()
                time.sleep(seconds)
                yield from range(2, 9)

            with pytest.raises(UserError, match="the scheduler is gone"):
                list(run_jobs(square, items(), cluster=address))


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1)
    for address in ("tcp://127.0.0.1:9", "nowhere", "zip://x"):
        with pytest.raises(UserError, match=f"--cluster {address}: no Dask scheduler answers"):
            list(run_jobs(square, [1], cluster=address))


def test_worker_without_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    worker = ["-P", "-m", "distributed.cli.dask_worker", "--no-dashboard"]
    with scheduler(tmp_path) as (address, _):
        with running([*worker, address], tmp_path / "worker.log", tmp_path):
            with pytest.raises(UserError, match=r"can't import Serrano .* \./serrano worker"):
                list(run_jobs(square, range(3), cluster=address))


def test_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_FIRST_WORKER_SECONDS", 1)
    said: list[str] = []
    with scheduler(tmp_path) as (address, _):
        with pytest.raises(UserError, match="no worker joined within 1 s"):
            list(run_jobs(square, [1], cluster=address, report=said.append))
    assert said == [f"waiting for a worker to join {address}"]
