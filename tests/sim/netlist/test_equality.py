"""Netlists against their RTL: benches of blocks, the whole chip, proofs, broken netlists."""

import re
from pathlib import Path

import pytest

from fpga.ecp5 import MultiplierBlocks
from hdl import fp
from hdl.config import PRESETS
from runtime.rtl_chip import build_chip
from scripts.netlist import chip_steps
from sim.bench import run
from sim.netlist import Netlist, synthesize
from sim.netlist.blocks import simulate
from sim.netlist.cells import models_for
from sim.netlist.chip import build_netlist_chip
from sim.netlist.equivalence import prove
from tests.models import random_checkpoint

TINY = PRESETS["tiny"]
BLOCKS = MultiplierBlocks()


@pytest.mark.parametrize("start", [1, 2])
def test_array(start):
    cells = simulate("array", TINY, start=start, platform=BLOCKS, tiles=20)
    assert cells["MULT18X18D"] == TINY.rows * TINY.cols


@pytest.mark.slow
@pytest.mark.parametrize("start", [1, 2])
@pytest.mark.parametrize("preset", ["tiny", "ulx3s"])
@pytest.mark.parametrize("block", ["array", "kv", "vector"])
def test_benches(block, preset, start):
    """The whole bench of each block on its netlist."""
    simulate(block, PRESETS[preset], start=start, platform=BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny", "ulx3s"])
def test_chip(preset):
    """A model's steps: logits, every counter and the cycle of every step's end equal the RTL's."""
    config = PRESETS[preset]
    checkpoint = random_checkpoint(3, heads=4, kv_heads=2, head_dim=10)
    expected = chip_steps(config, build_chip(config), checkpoint, 2, 1)
    library = build_netlist_chip(config, platform=BLOCKS)
    for start in (1, 2):
        found = chip_steps(config, library, checkpoint, 2, start)
        for one, other in zip(expected, found, strict=True):
            assert (one[0] == other[0]).all()
            assert one[1:] == other[1:]


def _adder(component: fp.FpAdd, verilog: str) -> None:
    run(
        component,
        "sim.bench.fp_pipeline",
        name="netlist-add",
        testcase="add",
        netlist=verilog,
        models=models_for(verilog),
    )


def _broken(text: str, pattern: str) -> str:
    """One bit of the first lookup table turned."""

    def turned(found: re.Match) -> str:
        digits = found[2]
        base = 2 if set(digits) <= set("01") and len(digits) == 16 else 16
        value = int(digits, base) ^ 1
        return found[1] + (f"{value:016b}" if base == 2 else f"{value:04x}")

    changed, number = re.subn(pattern, turned, text, count=1)
    assert number == 1
    return changed


def test_adder():
    """Simulated and proven; with one bit of one lookup table changed, found by both."""
    component = fp.FpAdd()
    verilog = synthesize(component).verilog.read_text()
    _adder(component, verilog)
    with pytest.raises(AssertionError, match="tests failed"):
        _adder(component, _broken(verilog, r"(LUT4 #\(\s*\.INIT\(16'h)(\w{4})"))


def test_proof(tmp_path: Path):
    netlist = synthesize(fp.FpAdd())
    result = prove(netlist)
    assert result.proven, result
    assert result.points > 200
    (tmp_path / "rtl.il").write_text(netlist.rtl.read_text())
    text = _broken(
        netlist.rtlil.read_text(), r"(cell \\LUT4 \S+\n    parameter \\INIT 16')([01]{16})"
    )
    (tmp_path / "mapped.il").write_text(text)
    broken = prove(Netlist(tmp_path))
    assert not broken.proven
    assert 0 < len(broken.unproven) < broken.points
