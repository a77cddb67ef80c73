"""A folder of finished builds: made once, by one process at a time, never seen half-made."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Entry", "claim"]

_KEEP = 40
"""Builds kept; the least recently used go first."""


class Entry:
    """A place in the cache, held by this process.

    Attributes: `path`: the finished folder; `scratch`: an empty folder to build in, or None if
    `path` is there already.
    """

    def __init__(self, path: Path, scratch: Path | None):
        self.path = path
        self.scratch = scratch


@contextlib.contextmanager
def claim(folder: Path, key: str, wait=lambda: None) -> Iterator[Entry]:
    """Holds the entry `key` of the cache `folder`.

    If it has to be made, the caller fills `Entry.scratch`, which takes its place when the block
    ends without an exception. Calls `wait` once if another process is making the same entry. A
    process that dies gives up its claim, and what it left is swept away by the next.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / key
    if path.is_dir():
        os.utime(path)
        yield Entry(path, None)
        return
    with open(folder / f"{key}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_dir():  # made while we waited
            yield Entry(path, None)
            return
        for left in folder.glob(f"{key}.*.part"):
            shutil.rmtree(left, ignore_errors=True)
        # A name of its own: compilers of a killed process may still be writing to the last one's.
        scratch = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".part", dir=folder))
        try:
            yield Entry(path, scratch)
            scratch.rename(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    _prune(folder)


def _prune(folder: Path) -> None:
    entries = [p for p in folder.iterdir() if p.is_dir() and not p.suffix]
    entries.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for path in entries[_KEEP:]:
        # An hour's grace, for whoever got the path and has not opened the library yet.
        if time.time() - path.stat().st_mtime > 3600:
            shutil.rmtree(path, ignore_errors=True)
            path.with_name(path.name + ".lock").unlink(missing_ok=True)
