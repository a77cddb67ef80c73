"""The whole chip through Verilator's linter at every preset, waivers in one file."""

import subprocess

import pytest

from hdl.accelerator import Accelerator
from hdl.board import Board
from hdl.config import PRESETS
from hdl.emit import emit_verilog
from sim.bench.build import WAIVERS
from sim.verilated.toolchain import find_verilator


def lint(component, tmp_path):
    """``verilator --lint-only -Wall`` says nothing."""
    source = tmp_path / "serrano.v"
    source.write_text(emit_verilog(component, "serrano"))
    verilator = find_verilator()
    options = ["--lint-only", "-Wall", "--assert", "--top-module", "serrano"]
    done = subprocess.run(
        [verilator.binary, *options, WAIVERS, source],
        env=verilator.environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert not done.stderr.strip(), done.stderr[-5000:]


@pytest.mark.parametrize("preset", PRESETS)
def test_accelerator_lint(preset, tmp_path):
    lint(Accelerator(PRESETS[preset]), tmp_path)


def test_board_lint(tmp_path):
    lint(Board(PRESETS["ulx3s"]), tmp_path)
