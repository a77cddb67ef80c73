"""`serrano fpga`: its options, its records, blocks against their accepted figures, projections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compiler.errors import UserError
from fpga import flow
from fpga.blocks import BLOCKS
from fpga.boards import find_board
from fpga.flow import Job
from fpga.report import markdown
from hdl.config import PRESETS
from scripts import fpga as fpga_command
from scripts import fpga_blocks
from scripts.fpga import parse_seeds
from scripts.fpga_blocks import block_record
from scripts.fpga_projection import project
from scripts.fpga_records import BlockChange, FpgaRecords, compare_blocks
from scripts.main import main
from sim.cycle_model.projection import _clocks

QUICK = [b.name for b in BLOCKS.values() if b.quick]


def job(block: str) -> Job:
    board = find_board("ulx3s")
    return Job(board, block, PRESETS["tiny"], board.target_mhz)


@pytest.mark.parametrize("block", QUICK)
def test_blocks_have_not_grown(block: str, tmp_path: Path) -> None:
    """Synthesis only: an area is the same on every machine, a clock is not."""
    record = block_record(job(block), place=False, builds=tmp_path)
    changes = compare_blocks({f"tiny/{block}": record}, FpgaRecords().blocks())
    for change in changes:
        print(change)  # an improvement shows with -rP
        assert not change.refused, (
            f"{change}. If it is meant: ./serrano fpga --blocks {block} --preset tiny --no-place "
            f"--accept 'REASON' rewrites benchmarks/fpga_blocks.json and adds the reason to "
            f"benchmarks/fpga_history.jsonl"
        )
    assert record["checks"]["latches"] == record["checks"]["combinational_loops"] == 0


def test_the_accepted_blocks_are_those_that_there_are() -> None:
    known = {name.partition("/")[2] for name in FpgaRecords().blocks()}
    assert set(QUICK) <= known <= set(BLOCKS)


# Records ------------------------------------------------------------------------------------------
def figures(luts: int = 1000, **more: Any) -> dict[str, Any]:
    zero = {"lut_ram": 0, "ffs": 10, "brams": 0, "multipliers": 4}
    return {"luts": luts, **zero, **more}


def test_growth_is_refused_from_three_percent_on() -> None:
    assert not BlockChange("a", "luts", 1030, 1000).refused
    assert BlockChange("a", "luts", 1031, 1000).refused
    assert not BlockChange("a", "luts", 10, 1000).refused
    assert BlockChange("a", "luts", 10, None).refused
    assert BlockChange("a", "brams", 1, 0).refused
    assert not BlockChange("a", "brams", 0, 0).refused
    assert not BlockChange("a", "fmax_mhz", 92.1, 100.0).refused
    assert BlockChange("a", "fmax_mhz", 91.9, 100.0).refused
    assert not BlockChange("a", "fmax_mhz", 200.0, 100.0).refused
    assert str(BlockChange("a", "luts", 1500, 1000)) == "a: 1,000 to 1,500 luts (+50.0%)"
    assert str(BlockChange("a", "brams", 1, 0)) == "a: 0 to 1 brams (there were none)"
    assert "no accepted figures" in str(BlockChange("a", "luts", 5, None))


def test_records_on_disk(tmp_path: Path) -> None:
    store = FpgaRecords(tmp_path / "made")
    assert (store.builds(), store.blocks()) == ({}, {})
    store.accept_blocks({"tiny/a": figures(fmax_mhz=120.0)}, "first of all")
    store.accept_blocks({"tiny/a": figures(1100), "tiny/b": figures(5)}, "larger")
    # What was not measured this time stays.
    assert store.blocks()["tiny/a"] == figures(1100, fmax_mhz=120.0)
    assert store.blocks()["tiny/b"] == figures(5)
    changes = compare_blocks({"tiny/a": figures(1200, fmax_mhz=100.0)}, store.blocks())
    assert [c.figure for c in changes if c.refused] == ["luts", "fmax_mhz"]
    assert compare_blocks({"tiny/c": figures()}, store.blocks())[0].accepted is None
    with pytest.raises(UserError, match="give the reason"):
        store.accept_blocks({}, " ")
    store.accept_build({"name": "x-y", "fmax_mhz": 99.0, "blocks": {}}, "a build")
    assert store.builds() == {"x-y": {"name": "x-y", "fmax_mhz": 99.0, "blocks": {}}}
    lines = (store.folder / "fpga_history.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [(r["name"], r["accepted"]) for r in found] == [
        ("tiny/a", "first of all"),
        ("tiny/a", "larger"),
        ("tiny/b", "larger"),
        ("x-y", "a build"),
    ]
    assert "blocks" not in found[-1]


def test_a_block_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERRANO_CACHE", str(tmp_path / "cache"))
    first = block_record(job("fp.term"), place=False, builds=tmp_path)
    monkeypatch.setattr(flow, "synthesis_figures", None)
    assert block_record(job("fp.term"), place=False, builds=tmp_path) == first


def test_the_command_refuses_growth_until_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FpgaRecords(tmp_path)
    monkeypatch.setattr(fpga_blocks, "FpgaRecords", lambda: store)
    monkeypatch.setattr(flow, "BUILDS", tmp_path / "builds")
    arguments = ["fpga", "--blocks", "fp.term", "--preset", "tiny", "--no-place"]
    assert main(arguments) == 1
    assert "to be accepted: tiny/fp.term" in capsys.readouterr().err
    assert main([*arguments, "--accept", "the first"]) == 0
    assert main([*arguments, "--json", str(tmp_path / "f.json")]) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    luts = found["records"]["tiny/fp.term"]["luts"]
    assert store.blocks()["tiny/fp.term"]["luts"] == luts
    store._write("fpga_blocks.json", {"tiny/fp.term": figures(luts // 2, multipliers=0)})
    assert main(arguments) == 1
    assert f"{luts // 2:,} to {luts:,} luts" in capsys.readouterr().err


# Options ------------------------------------------------------------------------------------------
def test_seeds() -> None:
    assert parse_seeds("3") == (1, 2, 3)
    assert parse_seeds("7,4,7") == (7, 4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--board", "icebreaker"], "--board icebreaker: no such board; choose from ulx3s, tang"),
        (["--preset", "huge"], "--preset huge: no such preset"),
        (["--target", "fp.div"], "--target fp.div: choose from"),
        (["--seeds", "0"], "--seeds 0"),
        (["--seeds", "1,x"], "--seeds 1,x: give a number of seeds"),
        (["--seeds", "-3,4"], "--seeds -3,4"),
        (["--jobs", "0"], "--jobs 0"),
        (["--freq", "1000"], "--freq 1000: give MHz from 1 to 400"),
        (["--freq", "100.123"], "--freq 100.123: the PLL can't make this"),
        (["--accept", " "], "--accept: give the reason"),
        (["fp.add"], "fp.add: names of blocks go with --blocks"),
        (["--blocks", "fp.div"], "--blocks fp.div: no such block"),
        (["--json", "/nowhere/x.json"], "--json /nowhere/x.json: there is no folder"),
        (["--report", "--preset", "edge"], "--report: no build of ulx3s-edge"),
        (["--quick"], "--no-place and --quick go with --blocks"),
        (["--blocks", "--quick", "kv"], "--quick: goes without names"),
    ],
)
def test_refusals(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line that names the option, and code 2."""
    monkeypatch.setattr(flow, "BUILDS", tmp_path)
    assert main(["fpga", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    message = err.strip().splitlines()[-1]
    assert text in message
    assert message.startswith("serrano: ")


def recorded(**more: Any) -> dict[str, Any]:
    """An accepted report."""
    path = {
        "from": {"signal": "kv.count[1]", "port": "Q", "source": "hdl/kv/walk.py:1", "kind": "r"},
        "to": {"signal": "tape.left", "port": "CE", "source": "", "kind": "register"},
        "through": ["kv.more"],
        "levels": 3,
        "logic_ns": 2.0,
        "routing_ns": 6.0,
        "total_ns": 8.0,
    }
    clock = {"fmax_mhz": 81.25, "target_mhz": 100.0, "met": False, "path": path}
    board = find_board("ulx3s")
    checks = {"latches": 0, "combinational_loops": 0, "loop_example": []}
    checks |= {"multipliers_with_registers": 4, "collision_logic": ["dut.kv.table"]}
    return {
        "name": Job(board, "chip", PRESETS["ulx3s"], 100.0).name,
        "board": "ulx3s",
        "device": "LFE5U-85F-6",
        "target": "chip",
        "preset": "ulx3s",
        "date": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789",
        "rtl": "r",
        "sources": "s",
        "tools": {"yosys": "pyosys 0"},
        "capacity": board.device.capacity,
        "target_mhz": 100.0,
        "fmax_mhz": 81.25,
        "met": False,
        "fits": True,
        "problem": "",
        "clocks": {"sync": clock},
        "seeds": [{"seed": 1, "fmax_mhz": 81.25, "seconds": 9.0, "best": True}],
        "bitstream": None,
        "blocks": {"kv": figures()},
        "attribution": "by name",
        "checks": checks,
        **figures(),
        **more,
    }


def test_the_record_is_shown_where_there_is_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh clone: the committed record, and that it is one; the code is that of having it."""
    store = FpgaRecords(tmp_path)
    monkeypatch.setattr(fpga_command, "FpgaRecords", lambda: store)
    monkeypatch.setattr(fpga_command, "emitted_hash", lambda job, mhz: "another")
    monkeypatch.setattr(flow, "BUILDS", tmp_path / "builds")
    file = tmp_path / "report.json"
    arguments = ["fpga", "--target", "chip", "--report", "--json", str(file)]
    assert main(arguments) == 2
    assert "no build of ulx3s-ulx3s" in capsys.readouterr().err
    store.accept_build(recorded(), "the first")
    assert main(arguments) == 0
    found = json.loads(file.read_text())
    assert (found["source"], found["stale"]) == ("record", True)
    assert {k: found[k] for k in recorded()} == recorded()
    out, err = capsys.readouterr()
    assert "this is the recorded one of commit 0123456789" in err
    assert "the RTL has changed since" in err
    assert "Clock sync: 81.2 MHz, target 100 missed" in out
    assert "tokens/s" in out
    assert "block RAM with collision logic: dut.kv.table" in out
    text = markdown(recorded())
    assert "Target 100 MHz: **missed**" in text
    assert "from kv.count[1] (r, hdl/kv/walk.py:1)" in text
    assert "| kv | 1,000 |" in text


def test_the_recorded_clock_is_the_cycle_models(tmp_path: Path) -> None:
    path = tmp_path / "fpga.json"
    assumed = _clocks(path)
    assert assumed["ulx3s"] == 50e6
    for fmax, clock in ((81.25, 81.25e6), (131.0, 100e6)):
        build = {"fmax_mhz": fmax, "target_mhz": 100.0}
        path.write_text(json.dumps({"ulx3s-ulx3s": build}))
        assert _clocks(path) == assumed | {"ulx3s": clock}
    path.write_text(json.dumps({"ulx3s-ulx3s": {"fmax_mhz": None, "target_mhz": 100.0}}))
    assert _clocks(path) == assumed


# Projection ---------------------------------------------------------------------------------------
def test_tokens_follow_clock_and_memory() -> None:
    full, half, slow = (project("ulx3s", *a) for a in ((100.0,), (50.0,), (100.0, 0.495)))
    assert [p["model"] for p in full] == ["demo", "TinyStories-15M"]
    for a, b, c in zip(full, half, slow, strict=True):
        assert a["bound"] == "memory"
        assert a["tokens_per_second"] == pytest.approx(2 * b["tokens_per_second"], rel=1e-6)
        assert a["tokens_per_second"] == pytest.approx(2 * c["tokens_per_second"], rel=0.05)
        # No faster than its bytes.
        limit = 1e6 * a["memory_mb_per_second"] / a["bytes_per_token"]
        assert 0.9 * limit < a["tokens_per_second"] <= 1.01 * limit
    with pytest.raises(UserError, match="--sdram-efficiency 0"):
        project("ulx3s", 100.0, 0)
