"""Accepted FPGA builds on disk: whole boards, and blocks alone with the growth that is refused.

Files, in `benchmarks/`: `fpga.json` (the accepted report of each build, by its name),
`fpga_blocks.json` (accepted figures by `preset/block`), `fpga_history.jsonl` (a record a line,
oldest first, with the reason for which it was accepted).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.errors import UserError
from scripts.measure import ROOT
from scripts.records import Records

__all__ = ["FMAX_NOISE", "TOLERANCE", "BlockChange", "FpgaRecords", "compare_blocks"]

TOLERANCE = 0.03
"""Growth of an area that has to be accepted by somebody."""

FMAX_NOISE = 0.08
"""Loss of a clock that has to be: seeds alone make 5 %, best of some seeds less."""

AREAS = ("luts", "brams", "multipliers")
KEPT = ("luts", "lut_ram", "ffs", "brams", "multipliers", "fmax_mhz")


@dataclass(frozen=True)
class BlockChange:
    """A figure of a block against the accepted one (None: there is none)."""

    name: str
    figure: str
    found: float
    accepted: float | None

    @property
    def change(self) -> float:
        """Share of the accepted figure; 0 if there is none, infinite if that was zero."""
        if self.accepted is None or self.found == self.accepted:
            return 0.0
        return self.found / self.accepted - 1 if self.accepted else float("inf")

    @property
    def refused(self) -> bool:
        """New blocks, growth of an area, loss of a clock beyond its noise."""
        if self.accepted is None:
            return True
        if self.figure == "fmax_mhz":
            return self.found < self.accepted * (1 - FMAX_NOISE)
        return self.found > self.accepted * (1 + TOLERANCE)

    def __str__(self) -> str:
        if self.accepted is None:
            return f"{self.name}: no accepted figures ({self.found:,g} {self.figure})"
        return f"{self.name}: {self.accepted:,g} to {self.found:,g} {self.figure} " + (
            f"({self.change:+.1%})" if self.accepted else "(there were none)"
        )


def compare_blocks(
    records: dict[str, dict[str, Any]], accepted: dict[str, dict[str, Any]]
) -> list[BlockChange]:
    """Changes of areas and clocks, in the records' order; a clock only where both have one.

    A block without accepted figures is one change.
    """
    changes = []
    for name, record in records.items():
        known = accepted.get(name)
        if known is None:
            changes.append(BlockChange(name, "luts", record["luts"], None))
            continue
        for figure in AREAS:
            changes.append(BlockChange(name, figure, record[figure], known[figure]))
        if record.get("fmax_mhz") and known.get("fmax_mhz"):
            changes.append(BlockChange(name, "fmax_mhz", record["fmax_mhz"], known["fmax_mhz"]))
    return changes


class FpgaRecords(Records):
    """The files of a folder; each is read when it is asked for and may be absent."""

    history_name = "fpga_history.jsonl"

    def __init__(self, folder: Path = ROOT / "benchmarks"):
        super().__init__(folder)

    def builds(self) -> dict[str, dict[str, Any]]:
        """Accepted reports by name."""
        return self._read("fpga.json")

    def blocks(self) -> dict[str, dict[str, Any]]:
        """Accepted figures by `preset/block`."""
        return self._read("fpga_blocks.json")

    def accept_build(self, report: dict[str, Any], reason: str) -> None:
        """Make a report the accepted one, and say why in the history."""
        _need(reason)
        self._write("fpga.json", dict(sorted((self.builds() | {report["name"]: report}).items())))
        left_out = ("blocks", "attribution", "clocks", "capacity", "checks")
        self._log({k: v for k, v in report.items() if k not in left_out} | {"accepted": reason})

    def accept_blocks(self, records: dict[str, dict[str, Any]], reason: str) -> None:
        """Make these figures the accepted ones; a clock that was not measured stays as it was."""
        _need(reason)
        accepted = self.blocks()
        for name, record in records.items():
            old = accepted.get(name, {})
            accepted[name] = old | {k: record[k] for k in KEPT if record.get(k) is not None}
            self._log({"name": name} | record | {"accepted": reason})
        self._write("fpga_blocks.json", dict(sorted(accepted.items())))

    def _log(self, record: dict[str, Any]) -> None:
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / self.history_name, "a") as file:
            file.write(json.dumps(record) + "\n")


def _need(reason: str) -> None:
    if not reason.strip():
        raise UserError("--accept: give the reason, as --accept 'adders have a stage more'")
