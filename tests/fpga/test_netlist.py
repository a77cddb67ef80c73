"""Which block a cell belongs to, what it costs, and what must not be in a netlist."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga.family import FAMILIES, RESOURCES
from fpga.netlist import Netlist, block_name, input_ports, own_source

ECP5 = FAMILIES["ecp5"]
LIBRARY = "pyosys/share/lattice/cells_map.v:1.1-2.2"


def lut(inputs: list[int], output: int) -> dict[str, Any]:
    ports = dict(zip("ABCD", inputs, strict=False))
    return cell("LUT4", {p: [b] for p, b in ports.items()}, {"Z": [output]})


def flip_flop(d: int, q: int, **attributes: str) -> dict[str, Any]:
    return cell("TRELLIS_FF", {"DI": [d], "CLK": [1]}, {"Q": [q]}, **attributes)


def cell(kind: str, inputs: dict, outputs: dict, parameters: Any = None, **attributes: str) -> dict:
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    return {
        "type": kind,
        "port_directions": directions,
        "connections": inputs | outputs,
        "attributes": attributes,
        "parameters": parameters or {},
    }


def net(bits: list[int], path: str, source: str = "hdl/x.py:1", offset: int = 0) -> dict:
    return {
        "bits": bits,
        "hide_name": 0,
        "offset": offset,
        "attributes": {"hdlname": path, "src": source} if " " in path else {"src": source},
    }


def netlist(cells: dict, nets: dict | None = None, inputs: set | None = None) -> Netlist:
    top = {"cells": cells, "netnames": nets or {}}
    return Netlist(top, ECP5, inputs or set())


@pytest.mark.parametrize(
    ("scope", "block"),
    [
        ((), "top"),
        (("dut",), "top"),
        (("dut", "tape", "scales"), "tape"),
        (("dut", "accelerator", "matrix", "array"), "matrix.array"),
        (("dut", "matrix", "accumulator", "add_1"), "matrix.accumulator"),
        (("dut", "memory", "requests"), "sdram"),
        (("led_0",), "top"),
        (("dut", "matrix"), "matrix.rest"),
        (("dut", "matrix", "feeder"), "matrix.rest"),
        (("dut", "rows"), "memories"),
        (("dut", "kv", "rows"), "kv"),
        (("dut", "link$3", "uart"), "link"),
    ],
)
def test_blocks_of_scopes(scope: tuple[str, ...], block: str) -> None:
    assert block_name(scope) == block


def test_cells_find_their_blocks() -> None:
    found = netlist(
        {
            "r": flip_flop(20, 10, scopename="dut tape"),
            "s": flip_flop(21, 11, scopename="dut kv units"),
            "named": lut([10], 20),
            "unnamed": lut([10, 11], 30),  # two readers in kv, one in tape
            "a": lut([30], 31),
            "b": lut([30], 32),
            "c": lut([30], 33),
            "dut.rows.memory.0.1": cell("DP16KD", {"CLKA": [1]}, {"DOA0": [40]}),
            "dead": lut([10], 99),
        },
        {
            "x": net([20], "dut tape next"),
            "y": net([31], "dut kv a"),
            "z": net([32], "dut kv b"),
            "w": net([33], "dut tape c"),
        },
    )
    assert found.blocks == {
        "r": "tape",
        "s": "kv",
        "named": "tape",
        "unnamed": "kv",
        "a": "kv",
        "b": "kv",
        "c": "tape",
        "dut.rows.memory.0.1": "memories",
        "dead": "top",
    }
    by_block = found.by_block()
    assert by_block["kv"] == {"luts": 3, "lut_ram": 0, "ffs": 1, "brams": 0, "multipliers": 0}
    assert by_block["memories"]["brams"] == 1


def test_a_net_belongs_to_its_driver() -> None:
    """Of `tape.out`, the parent's wire and the reader's port `kv.in`, the driver's name counts."""
    nets = {
        "p": net([5], "dut out"),
        "r": net([5], "dut kv fetch in"),
        "d": net([5], "dut tape out", "hdl/tape.py:7"),
    }
    found = netlist({"l": lut([1], 5)}, nets, {(("dut", "kv", "fetch"), "in")})
    assert str(found.names[5]) == "tape.out"
    assert found.names[5].source == "hdl/tape.py:7"
    assert found.blocks == {"l": "tape"}
    only_ports = netlist({"l": lut([1], 5)}, {"r": nets["r"]}, {(("dut", "kv", "fetch"), "in")})
    assert str(only_ports.names[5]) == "kv.fetch.in"


def test_input_ports_of_rtlil() -> None:
    text = "module \\top\n  wire input 0 \\clk\nend\nmodule \\top.dut.kv\n"
    text += (
        "  wire width 3 input 12 \\limit\n  wire width 3 output 4 \\sum\n  wire signed \\w\nend\n"
    )
    assert input_ports(text) == {((), "clk"), (("dut", "kv"), "limit")}


def test_names_have_their_bit() -> None:
    found = netlist({}, {"v": net([7, 8], "dut v", offset=4), "one": net([9], "dut one")})
    assert [str(found.names[b]) for b in (7, 8, 9)] == ["v[4]", "v[5]", "one"]


def test_sources_are_the_projects_own() -> None:
    assert own_source(f"{LIBRARY}|amaranth/lib/fifo.py:9|hdl/kv/fetch.py:3") == "hdl/kv/fetch.py:3"
    assert own_source(f"amaranth/lib/fifo.py:9|{LIBRARY}") == "amaranth/lib/fifo.py:9"
    assert own_source(LIBRARY) == own_source("contextlib.py:144") == ""


def test_registers_without_a_source_have_their_modules() -> None:
    scope = {"hdlname": "dut kv", "module_src": "hdl/kv/unit.py:9"}
    found = netlist(
        {
            "dut.kv": cell("$scopeinfo", {}, {}, **scope),
            "fsm": flip_flop(1, 10, scopename="dut kv", src="contextlib.py:144"),
            "signal": flip_flop(1, 11, scopename="dut kv", src=LIBRARY),
            "own": flip_flop(1, 12, scopename="dut kv", src=f"hdl/kv/walk.py:3|{LIBRARY}"),
            "top_LUT4_A": lut([12], 13),
        },
        {
            "state": net([10], "dut kv state", "contextlib.py:144"),
            "count": net([11], "dut kv count", "hdl/kv/walk.py:2"),
            "x_LUT4_A_Z": net([13], "x_LUT4_A_Z", "hdl/kv/walk.py:1"),
            "x": net([1], "x", "hdl/kv/walk.py:1"),
        },
    )
    sources = [found.register_source(found.cells[n]) for n in ("fsm", "signal", "own")]
    assert sources == ["hdl/kv/unit.py:9", "hdl/kv/walk.py:2", "hdl/kv/walk.py:3"]
    # A net that Yosys named after a cell is not declared.
    assert str(found.names[1]) == "x"
    assert 13 not in found.names


@given(st.data())
def test_the_blocks_sum_to_the_whole(data: st.DataObject) -> None:
    """Any netlist without loops: each cell counts once."""
    cells: dict[str, dict] = {}
    nets: dict[str, dict] = {}
    for i in range(data.draw(st.integers(1, 25))):
        inputs = data.draw(st.lists(st.integers(2, i + 2), min_size=1, max_size=4, unique=True))
        kind = data.draw(st.sampled_from(["LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4"]))
        scope = data.draw(st.sampled_from(["", "dut tape", "dut kv walk", "dut matrix array"]))
        attributes = {"scopename": scope} if kind == "TRELLIS_FF" and scope else {}
        pins = dict(zip("ABCD", ([b] for b in inputs), strict=False))
        cells[f"c{i}.0"] = cell(kind, pins, {"Z": [i + 3]}, **attributes)
        if scope and data.draw(st.booleans()):
            nets[f"n{i}"] = net([i + 3], f"{scope} n{i}")
    found = netlist(cells, nets)
    total = found.total()
    assert total["luts"] == sum(
        {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4}.get(c["type"], 0) for c in cells.values()
    )
    for resource in RESOURCES:
        assert sum(block[resource] for block in found.by_block().values()) == total[resource]
    assert found.loops() == []


def test_combinational_loops() -> None:
    ring = {"a": lut([12], 10), "b": lut([10], 11), "c": lut([11], 12), "d": lut([12], 13)}
    assert netlist(ring).loops() == [["a", "b", "c"]]
    assert netlist({"a": lut([10], 10)}).loops() == [["a"]]
    broken = {**ring, "c": flip_flop(11, 12)}
    assert netlist(broken).loops() == []


def test_what_is_written_to_lut_ram_is_no_loop() -> None:
    def ring(port: str) -> Netlist:
        ram = cell("TRELLIS_DPR16X4", {port: [11]}, {"DO": [10]})
        return netlist({"ram": ram, "l": lut([10], 11)})

    assert ring("DI").loops() == []
    assert ring("RAD").loops() == [["l", "ram"]]


def test_latches_and_registered_multipliers() -> None:
    registers = dict.fromkeys(ECP5.multiplier_registers, "CLK0")
    partly = registers | {"REG_OUTPUT_CLK": "NONE"}
    found = netlist(
        {
            "l": cell("$_DLATCH_P_", {"D": [2]}, {"Q": [3]}),
            "m0": cell("MULT18X18D", {"A0": [4]}, {"P0": [5]}, registers),
            "m1": cell("MULT18X18D", {"A0": [5]}, {"P0": [6]}, partly),
            "m2": cell("MULT18X18D", {"A0": [6]}, {"P0": [7]}),
        }
    )
    assert found.latches() == ["l"]
    assert found.registered_multipliers() == 1
    assert found.total()["multipliers"] == 3
