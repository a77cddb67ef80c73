"""What became of a job."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["ATTEMPTS", "Outcome", "WorkerDied", "answer", "attempt"]

ATTEMPTS = 3
"""Workers that may die over one job before it counts as failed."""


class WorkerDied(Exception):
    """The process that ran a job ended without an answer, `ATTEMPTS` times."""


@dataclass(frozen=True)
class Outcome:
    """A job that is over: ``value`` is what the function gave, unless ``error`` says it raised."""

    item: Any
    value: Any = None
    error: BaseException | None = None


def attempt(function: Callable[[Any], Any], item: Any) -> Outcome:
    """Runs a job here."""
    try:
        return Outcome(item, function(item))
    except Exception as error:
        return Outcome(item, error=error)


def answer(function: Callable[[Any], Any], item: Any) -> bytes:
    """Runs a job in a worker: its value and its error, pickled so that they can be read."""
    outcome = attempt(function, item)
    try:
        data = pickle.dumps((outcome.value, outcome.error))
        if outcome.error:  # some exceptions pickle well and can't be made again from that
            pickle.loads(data)
        return data
    except Exception as error:
        told = outcome.error or error
        return pickle.dumps((None, RuntimeError(f"{type(told).__name__}: {told}")))
