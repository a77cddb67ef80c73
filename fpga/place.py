"""Placement and routing of a netlist with several seeds, and the bitstream of the best."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from compiler.errors import UserError
from fpga.family import Device
from fpga.tools import Runner, ToolError

__all__ = ["SeedResult", "best", "pack", "place"]

STAGES = {
    "Info: Packing": (0.0, "packing"),
    "Info: Creating initial": (0.02, "placing"),
    "Info: Running Static": (0.02, "placing"),
    "Info: Running simulated": (0.5, "refining the placement"),
    "Info: Routing..": (0.6, "routing"),
    "Info: Routing complete": (0.95, "timing"),
}
"""Lines of nextpnr's log: the share of the time gone when they come, and what begins."""


@dataclass(frozen=True)
class SeedResult:
    """A placement. Attributes: `fmax_mhz` of clock `sync`; `seconds` it took; `folder`."""

    seed: int
    fmax_mhz: float
    seconds: float
    folder: str


def place(
    runner: Runner,
    device: Device,
    netlist: Path,
    constraints: str,
    key: str,
    mhz: float,
    seeds: list[int],
    jobs: int,
    folder: Path,
    watch: Callable[[str, float], None],
) -> list[SeedResult]:
    """Place and route with each seed, in `folder`/seed<n>; what is there for ``key`` is kept.

    Raises
    ------
    UserError
        If no seed could be placed and routed: the first one's message.
    """
    shares = dict.fromkeys(seeds, 0.0)
    results: dict[int, SeedResult] = {}
    failures: dict[int, str] = {}

    def one(seed: int) -> SeedResult:
        def said(text: str, share: float) -> None:
            shares[seed] = share
            watch(f"seed {seed}: {text}", sum(shares.values()) / len(seeds))

        return _place_one(runner, device, netlist, constraints, key, mhz, seed, folder, said)

    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(one, seed): seed for seed in seeds}
        try:
            for done in as_completed(running):
                seed = running[done]
                shares[seed] = 1.0
                try:
                    results[seed] = done.result()
                except ToolError as error:
                    failures[seed] = str(error)
                    text = "could not be placed and routed"
                else:
                    text = f"{results[seed].fmax_mhz:.1f} MHz"
                watch(f"seed {seed}: {text}", sum(shares.values()) / len(seeds))
        except BaseException:
            runner.end()
            pool.shutdown(cancel_futures=True)
            raise
    if not results:
        raise UserError(failures[min(failures)])
    return [results[s] for s in seeds if s in results]


def best(results: list[SeedResult]) -> SeedResult:
    """The fastest; of equals the first."""
    return max(results, key=lambda r: r.fmax_mhz)


def _place_one(
    runner: Runner,
    device: Device,
    netlist: Path,
    constraints: str,
    key: str,
    mhz: float,
    seed: int,
    parent: Path,
    watch: Callable[[str, float], None],
) -> SeedResult:
    folder = parent / f"seed{seed}"
    done = folder / "done.json"
    key = f"{key} {mhz:g}"
    if done.exists():
        kept = json.loads(done.read_text())
        if kept.pop("key") == key:
            return SeedResult(**kept)
        done.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    # The WASM build sees its working folder only.
    local = folder / "netlist.json"
    local.unlink(missing_ok=True)
    local.hardlink_to(netlist)
    start = time.monotonic()

    def line(text: str) -> None:
        for prefix, (share, what) in STAGES.items():
            if text.startswith(prefix):
                watch(what, share)

    arguments = ["--json", "netlist.json", "--seed", str(seed), "--freq", f"{mhz:g}"]
    arguments += ["--report", "report.json", "--timing-allow-fail", *device.arguments]
    arguments += device.family.placement
    if device.family.name == "ecp5":
        (folder / "pins.lpf").write_text(constraints)
        arguments += ["--lpf", "pins.lpf", "--textcfg", "placed.config"]
        tool = "nextpnr-ecp5"
    else:
        (folder / "pins.cst").write_text(constraints)
        arguments += ["--vopt", "cst=pins.cst", "--write", "placed.json"]
        tool = "nextpnr-gowin"
    watch("loading", 0.0)
    runner.tool(tool, arguments, folder, "place.log", line)
    local.unlink()
    report = json.loads((folder / "report.json").read_text())
    fmax = sync_fmax(report)
    result = SeedResult(seed, fmax, round(time.monotonic() - start, 1), folder.name)
    part = done.with_suffix(".part")
    part.write_text(json.dumps(asdict(result) | {"key": key}))
    part.rename(done)
    return result


def clock_name(net: str) -> str:
    """The domain of a clock net: the global buffer's prefix is nextpnr's, `clk` Amaranth's."""
    name = net.removeprefix("$glbnet$").rpartition(".")[2]
    return "sync" if name == "clk" else name.removesuffix("_clk")


def sync_fmax(report: dict) -> float:
    """MHz of domain `sync`, of nextpnr's report; ``UserError`` if it has no such clock."""
    for net, found in report["fmax"].items():
        if clock_name(net) == "sync":
            return found["achieved"]
    raise UserError(f"the placer's report has no clock sync, only {', '.join(report['fmax'])}")


def pack(runner: Runner, device: Device, folder: Path, output: Path) -> None:
    """Make the bitstream of a placement; the file is there whole or not at all."""
    if device.family.name == "ecp5":
        tool, made = "ecppack", "packed.bit"
        arguments = [*device.pack_arguments, "--input", "placed.config", "--bit", made]
    else:
        tool, made = "gowin_pack", "packed.fs"
        arguments = [*device.pack_arguments, "-o", made, "placed.json"]
    runner.tool(tool, arguments, folder, "pack.log")
    (folder / made).replace(output)
