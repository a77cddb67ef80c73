"""What the jobs of `test_jobs.py` do; workers import it."""

import os
import signal
import time
from pathlib import Path

__all__ = ["Awkward", "die", "die_once", "refuse", "slow_square", "square", "strange"]


class Awkward(Exception):
    """Can't be made again from what pickle keeps of it."""

    def __init__(self, one: int, two: int):
        super().__init__(f"{one} {two}")


def square(x: int) -> int:
    return x * x


def slow_square(item: tuple[int, str]) -> tuple[int, int]:
    """Leaves a file with its process id in a folder, so that a test can end it meanwhile."""
    x, folder = item
    (Path(folder) / f"{x}-{os.getpid()}").touch()
    time.sleep(0.15)
    return x * x, os.getpid()


def refuse(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


def strange(x: int) -> object:
    """An exception, and an answer, that can't travel."""
    if x == 0:
        raise Awkward(1, 2)
    return lambda: x


def die(item: tuple[int, str]) -> int:
    """Ends its process for 3, each time; leaves a file a try."""
    x, folder = item
    if x == 3:
        (Path(folder) / f"try-{time.time_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def die_once(item: tuple[int, str]) -> int:
    """Ends its process at the first try of each multiple of 4."""
    x, folder = item
    mark = Path(folder) / str(x)
    if x % 4 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x
