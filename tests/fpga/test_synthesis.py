"""Memories before they are mapped, and the RTL's hash."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from compiler.errors import UserError
from fpga import tools
from fpga.boards import find_board
from fpga.design import Design, emit_design, sources_hash
from fpga.family import FAMILIES
from fpga.netlist import Netlist
from fpga.synthesis import memories_with_collision_logic, read_memories, synthesise
from fpga.tools import Runner, ToolError
from hdl.config import PRESETS
from hdl.emit import collisions_undefined, ports_of


class Table(Component):
    """A block RAM with a write and a read port, whose collision is defined or not."""

    def __init__(self, **attributes: int):
        self.attributes = attributes
        ports = {"address": In(10), "write": In(16), "enable": In(1)}
        super().__init__(ports | {"read": Out(16), "product": Out(16)})

    def elaborate(self, platform):
        m = Module()
        memory = Memory(shape=16, depth=1024, init=[], attrs=self.attributes)
        m.submodules.table = memory
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [write.addr.eq(self.address), write.data.eq(self.write)]
        m.d.comb += [write.en.eq(self.enable), read.addr.eq(self.address ^ 1)]
        m.d.comb += self.read.eq(read.data)
        operand = Signal(8)
        m.d.sync += [operand.eq(self.write[:8]), self.product.eq(operand * operand)]
        return m


def synthesised(component: Component, folder: Path) -> tuple[Netlist, list]:
    from amaranth.back import rtlil

    text = collisions_undefined(rtlil.convert(component, name="top", ports=ports_of(component)))
    family = FAMILIES["ecp5"]
    said: list[str] = []
    with Runner.block() as runner:
        design = Design(text, "", "", 100.0)
        synthesise(runner, family, design, folder, lambda text, share: said.append(text))
    assert said[0] == "reading"
    assert "mapping logic" in said
    memories = read_memories((folder / "memories.il").read_text())
    return Netlist.read(folder / "netlist.json", family, text), memories


@pytest.mark.parametrize("attributes", [{}, {"no_rw_check": 1}], ids=["defined", "undefined"])
def test_collision_logic_is_found(tmp_path: Path, attributes: dict[str, int]) -> None:
    netlist, (memory,) = synthesised(Table(**attributes), tmp_path)
    total = netlist.total()
    assert (total["brams"], total["multipliers"]) == (1, 1)
    assert (memory.name, memory.collisions) == ("table", 0 if attributes else 1)
    brams = {n for n, c in netlist.cells.items() if c["type"] == "DP16KD"}
    expected = [] if attributes else ["table"]
    assert memories_with_collision_logic([memory], brams) == expected
    # What the finding means: registers and logic for the word that is being written.
    assert (total["ffs"] > 8 + 16) == (not attributes)
    assert memories_with_collision_logic([memory], set()) == []


def test_masks_by_port() -> None:
    text = """
  attribute \\src "hdl/a.py:3|hdl/b.py:4"
  cell $mem_v2 \\dut.a.table
    parameter \\RD_PORTS 2
    parameter \\WR_PORTS 2
    parameter \\RD_CLK_ENABLE 2'01
    parameter \\RD_COLLISION_X_MASK 4'0010
    parameter \\MEMID "\\\\dut.a.table"
    connect \\RD_ADDR { 2'00 \\x }
  end
"""
    (memory,) = read_memories(text)
    # Port 0 is clocked: undefined with writer 1, defined with writer 0; port 1 is not clocked.
    assert (memory.name, memory.source, memory.collisions) == ("dut.a.table", "hdl/a.py:3", 1)


def test_a_failing_tool_says_why(tmp_path: Path) -> None:
    design = Design("module \\other\nend\n", "", "", 100.0)
    with Runner.block() as runner, pytest.raises(ToolError, match=r"yosys failed .*`top'"):
        synthesise(runner, FAMILIES["ecp5"], design, tmp_path, lambda text, share: None)
    assert not (tmp_path / "netlist.json").exists()


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tools.TOOLS, "yosys", ("pyosys", "no_such_module", ""))
    with pytest.raises(UserError, match=r"pyosys is not installed.*run this through \./serrano"):
        tools.versions(("yosys",))


def test_the_hash_is_of_the_rtl(monkeypatch: pytest.MonkeyPatch) -> None:
    board = find_board("ulx3s")
    first = emit_design(board, "fp.mul", PRESETS["tiny"], 100.0)
    assert 'attribute \\src "hdl/fp/mul.py:' in first.rtlil
    assert 'src "/' not in first.rtlil
    assert emit_design(board, "fp.mul", PRESETS["tiny"], 100.0).hash == first.hash
    assert emit_design(board, "fp.mul", PRESETS["tiny"], 50.0).hash != first.hash
    assert emit_design(board, "fp.add", PRESETS["tiny"], 100.0).hash != first.hash
    assert 'SITE "G2"' in first.constraints
    assert sources_hash() == sources_hash()


def test_targets_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"--target no: choose from .*fp\.add"):
        emit_design(find_board("ulx3s"), "no", PRESETS["tiny"], 100.0)
    with pytest.raises(UserError, match=r"--board no: no such board; choose from ulx3s, tang"):
        find_board("no")
