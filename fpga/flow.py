"""The whole way: design, synthesis, placement with several seeds, bitstream, report.

A build lives in `build/fpga/<name>/` and is taken up where it was left: synthesis by a hash of the
RTL, the constraints and the tools' versions, each placement by that hash and its seed.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from compiler.errors import UserError
from fpga.boards import Board
from fpga.design import ROOT, Design, default_target, emit_design, sources_hash
from fpga.family import RESOURCES
from fpga.floorplan import array_sites
from fpga.netlist import Netlist
from fpga.place import SeedResult, best, pack, place
from fpga.report import fit_problem, markdown, netlist_figures, placed_figures
from fpga.script import MEMORIES
from fpga.synthesis import LOG, NETLIST, read_memories, synthesise
from fpga.tools import Runner, ToolError, versions
from hdl.config import Config

__all__ = [
    "BUILDS",
    "Job",
    "block_figures",
    "build",
    "commit",
    "emitted_hash",
    "last_report",
    "sources_hash",
    "synthesis_figures",
]

BUILDS = ROOT / "build" / "fpga"
VERSION = 2
"""Of what this package makes of equal RTL; a new one builds everything again."""

Watch = Callable[[str, float], None]


@dataclass(frozen=True)
class Job:
    """What to build. Attributes: `mhz`: clock of the design, which is the target too."""

    board: Board
    target: str
    config: Config
    mhz: float
    seeds: tuple[int, ...] = (1,)
    jobs: int = 1

    @property
    def name(self) -> str:
        """Of its folder and of its record: the target only where it is not the board's own."""
        own = default_target(self.board)
        target = "" if self.target == own else f"-{self.target}"
        return f"{self.board.name}-{self.config.name}{target}"

    def folder(self, builds: Path | None = None) -> Path:
        return (builds or BUILDS) / self.name

    def design(self) -> Design:
        return emit_design(self.board, self.target, self.config, self.mhz)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One build at a time in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: another build is running there; wait for it") from None
        yield


def commit() -> str:
    """Short hash of the tree's commit, `+` behind it if files differ; "unknown" outside git."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def key_of(design: Design, board: Board) -> tuple[str, dict[str, str]]:
    """Hash of all that a netlist depends on, and the versions of the tools."""
    found = versions(board.device.family.tools)
    text = f"{VERSION} {design.hash} {board.device.name} {sorted(found.items())}"
    return sha256(text.encode()).hexdigest()[:16], found


def _synthesis(
    runner: Runner, job: Job, design: Design, key: str, folder: Path, watch: Watch
) -> tuple[Netlist, list, dict[str, Any]]:
    """Netlist, memories and figures; kept files are used if they are this design's."""
    done = folder / "synthesis.json"
    kept = json.loads(done.read_text()) if done.exists() else {}
    seconds = kept.get("seconds", 0.0)
    family = job.board.device.family
    if kept.get("key") != key or not (folder / NETLIST).exists():
        done.unlink(missing_ok=True)
        start = time.monotonic()
        try:
            device = job.board.device
            sites = array_sites(job.config) if device.sites else {}
            synthesise(runner, family, design, folder, watch, sites)
        except ToolError as error:
            raise UserError(str(error)) from None
        seconds = round(time.monotonic() - start, 1)
        _write(done, json.dumps({"key": key, "seconds": seconds}))
    watch("reading the netlist", 1.0)
    # Names and sources come from the design that was synthesised, not from one that equals it.
    netlist = Netlist.read(folder / NETLIST, family, (folder / "design.il").read_text())
    memories = read_memories((folder / MEMORIES).read_text())
    figures = netlist_figures(netlist, memories) | {"synthesis_seconds": seconds}
    if not figures["luts"]:
        raise UserError(f"synthesis left nothing of the design; log: {folder / LOG}")
    return netlist, memories, figures


def synthesis_figures(runner: Runner, job: Job, folder: Path, watch: Watch) -> dict[str, Any]:
    """Only synthesise, in ``folder``; resources and checks."""
    design = job.design()
    key, _ = key_of(design, job.board)
    with _locked(folder):
        return _synthesis(runner, job, design, key, folder, watch)[2]


def build(job: Job, watch: Watch, builds: Path | None = None) -> dict[str, Any]:
    """Build a job and write its report; the report.

    Parameters: `watch` is told what is going on and how much of it is done.

    Raises
    ------
    UserError
        If it can't be built. A design that is too large leaves a report too, with `fits` false.
    """
    folder = job.folder(builds)
    watch("emitting the RTL", 0.0)
    key_sources = sources_hash()
    design = job.design()
    key, tools = key_of(design, job.board)
    with _locked(folder), Runner.block() as runner:

        def synthesis_watch(text: str, share: float) -> None:
            watch(f"synthesis: {text}", 0.02 + 0.2 * share)

        netlist, memories, figures = _synthesis(runner, job, design, key, folder, synthesis_watch)
        report = {
            "name": job.name,
            "board": job.board.name,
            "device": job.board.device.name,
            "target": job.target,
            "preset": job.config.name,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "rtl": design.hash,
            "sources": key_sources,
            "tools": tools,
            "capacity": job.board.device.capacity,
            "target_mhz": design.mhz,
            "fmax_mhz": None,
            "met": False,
            "fits": False,
            "problem": fit_problem(figures, job.board),
            "clocks": {},
            "seeds": [],
            "bitstream": None,
            **figures,
        }
        if report["problem"]:
            _finish(report, folder)
            raise UserError(
                f"preset {job.config.name}, target {job.target}: {report['problem']}; "
                f"what takes the room: {folder / 'report.md'}"
            )

        def place_watch(text: str, share: float) -> None:
            watch(text, 0.25 + 0.7 * share)

        try:
            results = place(
                runner,
                job.board.device,
                folder / NETLIST,
                design.constraints,
                key,
                design.mhz,
                list(job.seeds),
                job.jobs,
                folder,
                place_watch,
            )
            chosen = best(results)
            watch("packing the bitstream", 0.97)
            suffix = "bit" if job.board.device.family.name == "ecp5" else "fs"
            bitstream = folder / f"{job.board.name}.{suffix}"
            pack(runner, job.board.device, folder / chosen.folder, bitstream)
        except (ToolError, UserError) as error:
            report["problem"] = str(error)
            _finish(report, folder)
            raise UserError(str(error)) from None
        _add_placement(report, results, chosen, netlist, memories, figures, folder)
        report["bitstream"] = _shown(bitstream)
        report["bitstream_bytes"] = bitstream.stat().st_size
        _finish(report, folder)
    return report


def _add_placement(
    report: dict[str, Any],
    results: list[SeedResult],
    chosen: SeedResult,
    netlist: Netlist,
    memories: list,
    figures: dict[str, Any],
    folder: Path,
) -> None:
    placed = json.loads((folder / chosen.folder / "report.json").read_text())
    report.update(placed_figures(placed, netlist, memories, figures))
    report["fits"] = True
    report["fmax_mhz"] = report["clocks"]["sync"]["fmax_mhz"]
    report["met"] = all(clock["met"] for clock in report["clocks"].values())
    report["seeds"] = [
        {k: v for k, v in asdict(r).items() if k != "folder"} | {"best": r is chosen}
        for r in results
    ]


def _shown(path: Path) -> str:
    """A path from the repository's root if it is there, so that reports do not name machines."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _finish(report: dict[str, Any], folder: Path) -> None:
    assert all(r in report for r in RESOURCES)
    _write(folder / "report.md", markdown(report))
    _write(folder / "report.json", json.dumps(report, indent=1) + "\n")


def last_report(job: Job, builds: Path | None = None) -> dict[str, Any] | None:
    """The report of the last build of a job that ended, or None."""
    path = job.folder(builds) / "report.json"
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error}); build again") from None


def emitted_hash(job: Job, mhz: float) -> str:
    """Hash of the RTL that this tree would build."""
    return emit_design(job.board, job.target, job.config, mhz).hash


def block_figures(
    job: Job,
    place_too: bool,
    known: Callable[[str], dict[str, Any] | None],
    watch: Watch,
    builds: Path | None = None,
) -> tuple[str, dict[str, Any], bool]:
    """Key of a block's build, its figures, and whether they are new.

    Parameters: `place_too`: Fmax too, the best of the job's seeds; `known`: figures by key, if any.
    """
    watch("emitting the RTL", 0.0)
    design = job.design()
    key, tools = key_of(design, job.board)
    if place_too:
        key = f"{key}-{job.mhz:g}-{'.'.join(map(str, job.seeds))}"
    if (record := known(key)) is not None:
        return key, record, False
    record = {
        "board": job.board.name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "rtl": design.hash,
        "tools": tools,
    }
    figures: dict[str, Any]
    if place_too:
        figures = build(job, watch, builds)
        record["fmax_mhz"] = figures["fmax_mhz"]
        record["seeds"] = {s["seed"]: s["fmax_mhz"] for s in figures["seeds"]}
        record["path"] = figures["clocks"]["sync"]["path"]
    else:
        with Runner.block() as runner:
            figures = synthesis_figures(runner, job, job.folder(builds), watch)
    # Of synthesis in both cases: what the placer adds would make the two different.
    parts = {n: c for n, c in figures["blocks"].items() if n != "(placement)"}
    record |= {r: sum(c[r] for c in parts.values()) for r in RESOURCES}
    record["checks"] = figures["checks"]
    return key, record, True
