"""The whole way from RTL to a bitstream on small targets: resumed, interrupted, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compiler.errors import UserError
from fpga import flow
from fpga.boards import BOARDS, find_board
from fpga.family import RESOURCES
from fpga.flow import ROOT, Job, build
from fpga.tools import Runner
from hdl.config import PRESETS
from scripts.main import main

ULX3S = find_board("ulx3s")


def job(board: str = "ulx3s", target: str = "fp.term", seeds: tuple[int, ...] = (1,)) -> Job:
    chosen = find_board(board)
    return Job(chosen, target, PRESETS["tiny"], chosen.target_mhz, seeds, 2)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("builds")


@pytest.fixture(scope="module")
def report(builds: Path) -> dict[str, Any]:
    """A build of a small target with two seeds."""
    said: list[tuple[str, float]] = []
    found = build(job(seeds=(1, 2)), lambda text, share: said.append((text, share)), builds)
    shares = [share for _, share in said]
    assert min(shares) == 0
    assert max(shares) <= 1
    assert any("seed 2: routing" in text for text, _ in said)
    return found


def test_a_bitstream_and_its_report(report: dict[str, Any], builds: Path) -> None:
    folder = builds / "ulx3s-tiny-fp.term"
    bitstream = (folder / "ulx3s.bit").read_bytes()
    assert b"LFE5U-85F" in bitstream[:200]
    assert len(bitstream) > 100_000
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["fits"] is True
    assert [s["seed"] for s in report["seeds"]] == [1, 2]
    assert report["fmax_mhz"] == pytest.approx(
        max(s["fmax_mhz"] for s in report["seeds"]), abs=0.01
    )
    assert report["met"] == (report["fmax_mhz"] >= 100)
    for resource in RESOURCES:
        assert sum(b[resource] for b in report["blocks"].values()) == report[resource]
    assert report["luts"] > 100
    path = report["clocks"]["sync"]["path"]
    assert path["to"]["source"].startswith(("hdl/fp/", "fpga/boards.py"))
    assert path["total_ns"] == pytest.approx(1000 / report["fmax_mhz"], rel=0.05)
    assert report["checks"]["latches"] == report["checks"]["combinational_loops"] == 0
    text = (folder / "report.md").read_text()
    assert f"{report['fmax_mhz']:.1f} MHz" in text
    assert str(ROOT) not in text + json.dumps(report)


def test_a_build_is_taken_up(
    report: dict[str, Any], builds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but packing runs again for the same design, only a further seed for one more."""
    ran: list[str] = []
    run = Runner._run

    def watched(self: Runner, tool: str, *arguments: Any) -> None:
        ran.append(tool)
        run(self, tool, *arguments)

    monkeypatch.setattr(Runner, "_run", watched)
    again = build(job(seeds=(1, 2)), lambda text, share: None, builds)
    assert ran == ["ecppack"]
    assert {k: v for k, v in again.items() if k != "date"} == {
        k: v for k, v in report.items() if k != "date"
    }
    ran.clear()
    build(job(seeds=(2, 3)), lambda text, share: None, builds)
    assert ran == ["nextpnr-ecp5", "ecppack"]
    ran.clear()
    other = replace(job(seeds=(1,)), mhz=50.0)
    assert build(other, lambda text, share: None, builds)["met"] is True
    assert ran == ["yosys", "nextpnr-ecp5", "ecppack"]  # the PLL is part of the design


def test_a_second_family(builds: Path) -> None:
    found = build(job("tangprimer20k", "fp.mul"), lambda text, share: None, builds)
    assert found["fits"] is True
    assert found["multipliers"] > 0
    assert found["clocks"]["sync"]["path"]["levels"] > 0
    bitstream = builds / "tangprimer20k-tiny-fp.mul" / "tangprimer20k.fs"
    assert set(bitstream.read_text()[-200:]) <= set("01\n")


def test_the_small_board_on_its_pins(builds: Path) -> None:
    """Link and SDRAM: serial line, LEDs, memory with registers in its pads, shifted clock."""
    found = build(job(target="bringup"), lambda text, share: None, builds)
    assert found["met"] is True
    assert set(found["clocks"]) == {"sync", "sdram", "pll"}  # sync: behind the gate of pll
    assert {"link", "sdram"} <= set(found["blocks"])
    # 38 registers of outputs, 16 of inputs, 16 of enables and more leave the fabric.
    assert found["blocks"]["(placement)"]["ffs"] < -60
    assert found["checks"]["collision_logic"] == []


def test_too_large_is_said_with_numbers(builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(ULX3S.device, capacity={**ULX3S.device.capacity, "luts": 100})
    monkeypatch.setitem(BOARDS, "ulx3s", replace(ULX3S, device=small))
    with pytest.raises(UserError, match=r"LFE5U-85F-6 is too small: needs \d+ LUT4s of 100;"):
        build(job(), lambda text, share: None, builds)
    found = json.loads((builds / "ulx3s-tiny-fp.term" / "report.json").read_text())
    assert (found["fits"], found["fmax_mhz"]) == (False, None)
    assert "**Does not fit**" in (builds / "ulx3s-tiny-fp.term" / "report.md").read_text()


def test_one_build_at_a_time(builds: Path) -> None:
    with (
        flow._locked(job().folder(builds)),
        pytest.raises(UserError, match=r"another build is running there"),
    ):
        build(job(), lambda text, share: None, builds)


@pytest.mark.parametrize(
    ("kind", "stage"), [(signal.SIGINT, "mapping logic"), (signal.SIGTERM, "seed 2: placing")]
)
def test_an_interrupt_ends_the_tools(tmp_path: Path, kind: signal.Signals, stage: str) -> None:
    """No tool outlives the command; what is left can be taken up."""
    code = (  # a suite in the background of a shell ignores SIGINT, and its children with it
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import sys; from pathlib import Path; from fpga import flow; "
        "flow.BUILDS = Path(sys.argv[1]); from scripts.main import main; "
        "sys.exit(main(['fpga', '--preset', 'tiny', '--target', 'fp.function']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if stage in line:
                break
        children = _children(process.pid)
        assert children
        process.send_signal(kind)
        rest = process.stderr.read()
        assert process.wait(30) == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest
    time.sleep(0.2)
    assert not [pid for pid in children if _runs(pid)]
    folder = tmp_path / "ulx3s-tiny-fp.function"
    assert (folder / "synthesis.json").exists() == ("seed" in stage)
    assert not list(folder.glob("seed*/done.json"))


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# The command --------------------------------------------------------------------------------------
@pytest.fixture
def here(builds: Path, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command works on the module's builds; the small target's report is the whole one."""
    monkeypatch.setattr(flow, "BUILDS", builds)
    folder = builds / "ulx3s-tiny-fp.term"
    (folder / "report.json").write_text(json.dumps(report))
    return builds


ARGUMENTS = ["fpga", "--preset", "tiny", "--target", "fp.term"]


def test_the_last_build_is_shown_without_building(
    here: Path,
    report: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def nothing(*arguments: Any) -> None:
        raise AssertionError("a tool was run")

    monkeypatch.setattr(Runner, "_run", nothing)
    file = tmp_path / "found.json"
    code = main([*ARGUMENTS, "--report", "--json", str(file)])
    assert code == (0 if report["met"] else 1)
    found = json.loads(file.read_text())
    assert {k: found[k] for k in report} == report
    assert (found["source"], found["stale"]) == ("build", False)
    out = capsys.readouterr().out
    assert "Clock sync" in out
    for name in ("whole", "(placement)", "latches: none"):
        assert name in out


def test_a_stale_build_is_said_to_be(
    here: Path, report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = here / "ulx3s-tiny-fp.term" / "report.json"
    file = tmp_path / "found.json"
    arguments = [*ARGUMENTS, "--report", "--json", str(file)]
    path.write_text(json.dumps(report | {"sources": "others"}))  # a comment changed
    main(arguments)
    assert json.loads(file.read_text())["stale"] is False
    path.write_text(json.dumps(report | {"sources": "others", "rtl": "another"}))
    main(arguments)
    assert json.loads(file.read_text())["stale"] is True
    assert "the RTL has changed since" in capsys.readouterr().err
    assert main([*ARGUMENTS, "--report", "--accept", "why not"]) == 2
    assert "build first" in capsys.readouterr().err
