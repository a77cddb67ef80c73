"""Benchmark records on disk: the last results, the accepted cycle counts, the history.

Files, in `benchmarks/`: `results.json` (the last record of every workload, by name),
`baseline.json` (accepted cycles by name), `history.jsonl` (a record a line, oldest first).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from compiler.errors import UserError
from scripts.measure import ROOT

__all__ = ["TOLERANCE", "Change", "Records", "compare"]

TOLERANCE = 0.01
"""Growth of a cycle count that has to be accepted by somebody."""


@dataclass(frozen=True)
class Change:
    """A workload's cycles against the accepted ones (None: there are none)."""

    name: str
    cycles: int
    accepted: int | None

    @property
    def growth(self) -> float:
        """Share of the accepted count; 0 if there is none."""
        return self.cycles / self.accepted - 1 if self.accepted else 0.0

    @property
    def refused(self) -> bool:
        """New workloads and growth past `TOLERANCE` have to be accepted."""
        return self.accepted is None or self.cycles > self.accepted * (1 + TOLERANCE)

    def __str__(self) -> str:
        if self.accepted is None:
            return f"{self.name}: {self.cycles:,} cycles, no accepted count"
        return f"{self.name}: {self.accepted:,} to {self.cycles:,} cycles ({self.growth:+.2%})"


def compare(records: dict[str, dict], baseline: dict[str, int]) -> list[Change]:
    """One change a record, in the records' order."""
    return [Change(n, r["cycles"], baseline.get(n)) for n, r in records.items()]


class Records:
    """The files of a folder; each is read when it is asked for and may be absent."""

    def __init__(self, folder: Path = ROOT / "benchmarks"):
        self.folder = folder

    def results(self) -> dict[str, dict]:
        return self._read("results.json")

    def baseline(self) -> dict[str, int]:
        return self._read("baseline.json")

    def history(self) -> list[dict]:
        path = self.folder / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def keep(self, record: dict) -> None:
        """Put a record among the results; a process that dies leaves the file as it was."""
        self._write("results.json", self.results() | {record["name"]: record})

    def accept(self, records: dict[str, dict], reason: str) -> None:
        """Make these cycle counts the accepted ones, and say why in the history."""
        if not reason.strip():
            raise UserError("--accept: give the reason, as --accept 'KV pages are read twice'")
        cycles = {name: record["cycles"] for name, record in records.items()}
        self._write("baseline.json", dict(sorted((self.baseline() | cycles).items())))
        self.append(records, reason)

    def append(self, records: dict[str, dict], reason: str | None = None) -> None:
        """Write records into the history."""
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / "history.jsonl", "a") as file:
            for record in records.values():
                file.write(json.dumps(record | ({"accepted": reason} if reason else {})) + "\n")

    def _read(self, name: str) -> dict:
        path = self.folder / name
        try:
            return json.loads(path.read_text()) if path.exists() else {}
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: not JSON ({error}); restore it from the repository") from None

    def _write(self, name: str, content: dict) -> None:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{name}.new"
        path.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(path, self.folder / name)
