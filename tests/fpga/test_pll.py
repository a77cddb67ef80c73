"""PLL dividers against the tools' own calculators."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compiler.errors import UserError
from fpga.pll import ecp5_pll, gowin_pll
from fpga.tools import Runner


@pytest.mark.parametrize(("mhz", "phase"), [(100, 240), (60, 90), (75, 180)])
def test_ecp5_divides_as_ecppll_does(tmp_path: Path, mhz: int, phase: int) -> None:
    arguments = ["-i", "25", "-o", str(mhz), "--clkout1", str(mhz), "--phase1", str(phase)]
    with Runner.block() as runner:
        runner.tool("ecppll", [*arguments, "-f", "pll.v"], tmp_path, "log")
    text = (tmp_path / "pll.v").read_text()
    theirs = {k: int(v) for k, v in re.findall(r"\.(CLK\w+_\w+)\((\d+)\)", text)}
    pll = ecp5_pll(25, mhz, phase)
    assert pll.output_mhz == mhz
    assert pll.output_divider == theirs["CLKOP_DIV"] == theirs["CLKOS_DIV"]
    ratio = theirs["CLKFB_DIV"] / theirs["CLKI_DIV"]
    assert pll.feedback_divider / pll.input_divider == pytest.approx(ratio)
    primary, coarse, fine = pll.phases
    # Only the distance of the two counts; ecppll's own start depends on how it rounds.
    distance = 8 * (theirs["CLKOS_CPHASE"] - theirs["CLKOP_CPHASE"]) + theirs["CLKOS_FPHASE"]
    assert 8 * (coarse - primary) + fine == distance
    assert distance == 8 * pll.output_divider * phase / 360


@pytest.mark.parametrize("mhz", [12.5, 40, 50, 75, 100, 110, 133.3333])
def test_ecp5_limits(mhz: float) -> None:
    pll = ecp5_pll(25, mhz)
    assert pll.output_mhz == pytest.approx(mhz, rel=1e-4)
    assert pll.output_mhz == 25 * pll.feedback_divider / pll.input_divider
    assert 400 <= pll.output_mhz * pll.output_divider <= 800
    assert 3.125 <= 25 / pll.input_divider <= 400


@pytest.mark.parametrize("mhz", [27, 54, 94.5, 108])
def test_gowin_limits(mhz: float) -> None:
    pll = gowin_pll(27, mhz)
    assert pll.output_mhz == pytest.approx(mhz, rel=1e-4)
    assert 500 < pll.output_mhz * pll.vco_divider < 1250
    assert 3 <= 27 / pll.divider <= 500
    assert pll.feedback <= 64


def test_what_can_not_be_made_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"--freq 100\.123: the PLL can't make this from 25 MHz; 100 MHz would do"
    ):
        ecp5_pll(25, 100.123)
    with pytest.raises(UserError, match=r"MHz would do"):
        gowin_pll(27, 100.7)
