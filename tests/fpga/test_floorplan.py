"""Places of the array's multipliers, and registers that synthesis must not merge."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

from fpga.boards import find_board
from fpga.design import emit_design
from fpga.family import FAMILIES
from fpga.floorplan import array_sites
from fpga.flow import Job, synthesis_figures
from fpga.script import synthesis_steps
from fpga.tools import Runner
from hdl.config import PRESETS
from hdl.emit import emit_rtlil
from hdl.replica import replica


def place(site: str) -> tuple[int, int]:
    found = re.fullmatch(r"X(\d+)/Y(\d+)/MULT18_[0145]", site)
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("preset", ["tiny", "ulx3s"])
def test_every_multiplier_has_a_place_beside_its_cluster(preset: str) -> None:
    config = PRESETS[preset]
    sites = array_sites(config)
    assert len(sites) == len(set(sites.values())) == config.rows * config.cols
    clusters: dict[int, list[tuple[int, int]]] = {}
    for name, site in sites.items():
        row = int(name.removeprefix("row_").partition("_")[0])
        clusters.setdefault(row // config.row_group, []).append(place(site))
    for number, cluster in clusters.items():
        xs, ys = zip(*cluster, strict=True)
        assert len(set(ys)) == 1
        assert max(xs) - min(xs) < 12 * len(cluster) / 4
        if number:  # beside the one before, or below it
            before = clusters[number - 1]
            assert min(abs(x - bx) for x in xs for bx, _ in before) < 12


def test_an_array_that_does_not_fit_is_left_to_the_placer() -> None:
    assert array_sites(PRESETS["edge"]) == {}


def test_places_are_in_the_netlist(tmp_path: Path) -> None:
    config = PRESETS["tiny"]
    job = Job(find_board("ulx3s"), "matrix.array", config, 100.0)
    with Runner.block() as runner:
        synthesis_figures(runner, job, tmp_path, lambda text, share: None)
    cells = json.loads((tmp_path / "netlist.json").read_text())["modules"]["top"]["cells"]
    found = {
        name.removeprefix("dut."): cell["attributes"].get("BEL")
        for name, cell in cells.items()
        if cell["type"] == "MULT18X18D"
    }
    assert found == array_sites(config)


class Copies(Component):
    """A register, and two that follow it."""

    def __init__(self, apart: bool):
        self.apart = apart
        super().__init__({"i": In(1), "a": Out(1), "b": Out(1)})

    def elaborate(self, platform):
        m = Module()
        for name in ("a", "b"):
            if self.apart:
                copy = replica(m, self.i, f"{name}_copy")
            else:
                copy = Signal(name=f"{name}_copy")
                m.d.sync += copy.eq(self.i)
            m.d.comb += getattr(self, name).eq(copy)
        return m


@pytest.mark.parametrize(("apart", "registers"), [(False, 1), (True, 2)])
def test_replicas_are_kept_apart(tmp_path: Path, apart: bool, registers: int) -> None:
    (tmp_path / "design.il").write_text(emit_rtlil(Copies(apart), "top"))
    steps = [("", "read_rtlil design.il"), *synthesis_steps(FAMILIES["ecp5"])]
    with Runner.block() as runner:
        runner.yosys([*steps, ("", "write_json out.json")], tmp_path, "log", lambda text: None)
    cells = json.loads((tmp_path / "out.json").read_text())["modules"]["top"]["cells"]
    assert sum(cell["type"] == "TRELLIS_FF" for cell in cells.values()) == registers


def test_nothing_on_ecp5_is_reset_by_a_pin_of_its_own() -> None:
    """The clock waits for the PLL instead."""
    rtlil = emit_design(find_board("ulx3s"), "fp.add", PRESETS["tiny"], 100.0).rtlil
    assert "cell \\DCCA" in rtlil
    assert "\\rst" not in rtlil
    gowin = emit_design(find_board("tangprimer20k"), "fp.add", PRESETS["tiny"], 54.0).rtlil
    assert "\\rst" in gowin
