"""Runs a benchmark workload as a user would, and keeps what it gave."""

import hashlib
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from hdl.config import PRESETS
from runtime.rtl_chip import build_chip
from scripts.console import bar
from scripts.workloads import Workload

__all__ = [
    "ROOT",
    "MeasurementError",
    "commit",
    "inputs_hash",
    "measure",
    "prepare",
    "rtl_hash",
    "summary",
]

ROOT = Path(__file__).resolve().parents[1]
_INPUTS = ("hdl", "compiler", "runtime", "sim/verilated", "models/demo")
"""What cycle counts depend on, beside the command."""

_SUFFIXES = {".py", ".h", ".cpp", ".json", ".bin", ".safetensors"}
_MEANS = ("mac_utilization", "array_fed", "bandwidth_utilization", "sustained_beats_per_cycle")
_PRODUCTS = (
    *("padded_roofline_cycles", "overhead_cycles", "first_row_cycle", "tail_cycles", "sustained"),
)
"""Of matrix products alone."""

_SUMS = ("cycles", "roofline_cycles", "sustained_roofline_cycles")


class MeasurementError(Exception):
    """A workload did not run to its end; the text says which and what it said last."""


@cache
def _digest(*folders: str) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def rtl_hash() -> str:
    """Content of `hdl/`."""
    return _digest("hdl")


def inputs_hash(workload: Workload) -> str:
    """All that decides the workload's cycles: the same hash, the same count."""
    text = f"{_digest(*_INPUTS)} {workload.command}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def commit() -> str | None:
    """Commit of the tree, with "+" if what counts depend on has changed since; None if unknown."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    found = git("rev-parse", "--short=10", "HEAD")
    changes = git("status", "--porcelain", "--", *_INPUTS)
    return found and found + ("+" if changes else "")


def summary(figures: dict) -> dict:
    """Figures of one measurement from a command's JSON; of `run`, those of its decode steps.

    Sums are of all steps, shares are means weighted by cycles.
    """
    steps = [s for s in figures.get("steps", [figures]) if s["phase"] == "decode"]
    steps = steps or [figures]
    cycles = sum(s["cycles"] for s in steps)

    def mean(get) -> float:
        return sum(get(s) * s["cycles"] for s in steps) / cycles

    sums = {name: sum(s[name] for s in steps) for name in _SUMS}
    first = steps[0]
    return {
        **sums,
        "steps": len(steps),
        "rows": sum(s["rows"] for s in steps),
        "efficiency": sums["roofline_cycles"] / cycles,
        "sustained_efficiency": sums["sustained_roofline_cycles"] / cycles,
        **{name: mean(lambda s, name=name: s[name]) for name in _MEANS},
        "array": {name: mean(lambda s, name=name: s["array"][name]) for name in first["array"]},
        "bound": first["bound"],
        "memory": first["memory"],
        "bit_exact": figures["bit_exact"],
        **{name: figures[name] for name in _PRODUCTS if name in figures},
    }


def prepare() -> None:
    """Build the simulator of all workloads, with progress, if it is not there."""
    config = PRESETS["edge"]
    with bar(f"simulator for preset {config.name}") as progress:
        build_chip(config, progress)


def measure(workload: Workload, timeout_seconds: float = 7200) -> dict:
    """Runs the workload in a process of its own; its record.

    Returns
    -------
    :func:`summary`, ``name``, ``command``, ``date`` (UTC), ``commit``, ``rtl`` (:func:`rtl_hash`)
    and ``inputs`` (:func:`inputs_hash`).

    Raises
    ------
    MeasurementError
        If the command fails, stops the chip, or takes longer than the timeout. A result that is not
        bit-exact is a record, with ``bit_exact`` false.
    """
    with tempfile.TemporaryDirectory(prefix="serrano-bench-") as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "scripts.main", *workload.arguments, "--json", str(out)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_seconds
            )
        except subprocess.TimeoutExpired:
            raise MeasurementError(
                f"{workload.name}: not done after {timeout_seconds:.0f} s ({workload.command})"
            ) from None
        if not out.exists():
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise MeasurementError(
                f"{workload.name}: {said[-1] if said else 'no message'} ({workload.command})"
            )
        figures = json.loads(out.read_text())
    return {
        "name": workload.name,
        "command": workload.command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "rtl": rtl_hash(),
        "inputs": inputs_hash(workload),
        **summary(figures),
    }
