"""Results of a sweep: a folder of Parquet parts, each written whole or not at all."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from compiler.errors import UserError
from scripts.sweep.point import FIGURES, IDENTITY

__all__ = ["Store", "read_results"]

_FLUSH_ROWS = 2000
_FLUSH_SECONDS = 5.0


def _arrow():
    """pyarrow, which only sweeps need and `./serrano sweep` installs."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "sweep needs the package `pyarrow`: call ./serrano, which installs it, or install the "
            "extra `sweep` of pyproject.toml"
        ) from None
    return pyarrow


def _schema():
    arrow = _arrow()
    types = {int: arrow.int64(), float: arrow.float64(), str: arrow.string(), bool: arrow.bool_()}
    columns = [(n, types[t], n in FIGURES) for n, t in {**IDENTITY, **FIGURES}.items()]
    return arrow.schema([arrow.field(n, t, nullable=null) for n, t, null in columns])


def _parts(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(path.glob("part-*.parquet"))


def read_results(path: Path) -> list[dict[str, Any]]:
    """Rows of a folder of results or of one Parquet file: of each point the one made last."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name the results of a sweep")
    arrow = _arrow()
    rows: dict[str, dict[str, Any]] = {}
    for part in _parts(path):
        try:
            table = arrow.parquet.read_table(part, partitioning=None)
        except (OSError, arrow.ArrowException):
            raise UserError(f"{part}: not a Parquet file; move it away and call again") from None
        missing = [n for n in _schema().names if n not in table.column_names]
        if missing:
            raise UserError(
                f"{part}: not results of this version's sweep (no column {missing[0]!r}); choose "
                "another folder"
            )
        for row in table.to_pylist():
            old = rows.get(row["point"])
            if old is None or old["made"] <= row["made"]:
                rows[row["point"]] = row
    return list(rows.values())


class Store:
    """A folder that one sweep at a time adds to.

    Rows are kept back until there are many or some seconds have passed, then written as a part of
    their own under a hidden name, flushed to disk and renamed. Whatever ends the process costs the
    rows kept back, never a part.

    Raises
    ------
    UserError
        For a folder that can't be written, another sweep at work there, or foreign files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._waiting: list[dict[str, Any]] = []
        self._written = time.monotonic()
        self._schema = _schema()

    @contextlib.contextmanager
    def open(self) -> Iterator["Store"]:
        """Holds the folder's lock; writes what is kept back at the end."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / ".lock", "w")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"--out {self.folder}: can't write there ({error.strerror})") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"--out {self.folder}: another sweep is writing there; wait or choose another"
                ) from None
            for unfinished in self.folder.glob(".part-*"):
                unfinished.unlink()
            try:
                yield self
            finally:
                self.flush()

    def done(self, code: str) -> dict[str, dict[str, Any]]:
        """Rows there are, by point, of this version of the code."""
        return {r["point"]: r for r in read_results(self.folder) if r["code"] == code}

    def add(self, row: dict[str, Any]) -> None:
        """Takes a row of `scripts.sweep.point.evaluate`."""
        self._waiting.append({**row, "made": time.time()})
        late = time.monotonic() - self._written > _FLUSH_SECONDS
        if late or len(self._waiting) >= _FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes what is kept back."""
        self._written = time.monotonic()
        if not self._waiting:
            return
        arrow = _arrow()
        name = f"part-{time.time_ns():020}-{uuid4().hex[:8]}.parquet"
        aside = self.folder / f".{name}"
        table = arrow.Table.from_pylist(self._waiting, schema=self._schema)
        try:
            with open(aside, "wb") as file:
                arrow.parquet.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self.folder / name)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise UserError(f"--out {self.folder}: can't write ({error.strerror})") from None
        self._waiting = []
