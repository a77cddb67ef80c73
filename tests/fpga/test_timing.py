"""Slowest paths in the RTL's terms."""

from __future__ import annotations

import pytest

from compiler.errors import UserError
from fpga.netlist import Netlist
from fpga.place import SeedResult, best, clock_name, sync_fmax
from fpga.timing import clocks
from tests.fpga.test_netlist import cell, flip_flop, lut, net, netlist

STEPS = [
    ("clk-to-q", 0.5, ("start", "Q"), ("start", "Q")),
    ("routing", 1.0, ("start", "Q"), ("middle", "A")),
    ("logic", 0.25, ("middle", "A"), ("middle", "F")),
    ("routing", 0.75, ("middle", "F"), ("sum$CCU2_COMB0", "A")),
    ("logic", 0.45, ("sum$CCU2_COMB0", "A"), ("sum$CCU2_COMB0", "FCO")),
    ("routing", 0.0, ("sum$CCU2_COMB0", "FCO"), ("sum$CCU2_COMB1", "FCI")),
    ("logic", 0.07, ("sum$CCU2_COMB1", "FCI"), ("sum$CCU2_COMB1", "FCO")),
    ("routing", 0.0, ("sum$CCU2_COMB1", "FCO"), ("top$CCU2_COMB0", "FCI")),
    ("logic", 0.45, ("top$CCU2_COMB0", "FCI"), ("top$CCU2_COMB0", "F")),
    ("routing", 0.5, ("top$CCU2_COMB0", "F"), ("stop", "CE")),
    ("setup", 0.1, ("stop", "CE"), ("stop", "CE")),
]


def design() -> Netlist:
    return netlist(
        {
            "start": flip_flop(9, 10, scopename="dut kv", src="hdl/kv/walk.py:12|x/cells_map.v:3"),
            "middle": lut([10], 11),
            "sum": cell("CCU2C", {"A0": [11]}, {"S0": [12], "COUT": [13]}),
            "top": cell("CCU2C", {"CIN": [13]}, {"S0": [14]}),
            "stop": flip_flop(14, 15, scopename="dut tape"),
            "dut.kv.table.0.1": cell("DP16KD", {"ADA0": [15]}, {"DOA0": [16]}),
        },
        {
            "a": net([7, 10], "dut kv count", "hdl/kv/walk.py:5"),
            "b": net([11], "dut kv more"),
            "c": net([15], "dut tape left", "hdl/tape.py:3"),
        },
    )


def report(steps: list[tuple]) -> dict:
    def end(point: tuple[str, str]) -> dict:
        return {"cell": point[0], "loc": [1, 1], "port": point[1]}

    path = [{"type": k, "delay": d, "from": end(a), "to": end(b)} for k, d, a, b in steps]
    net = "posedge $glbnet$clk"
    outside = {"from": "<async>", "to": net, "path": path[:1]}
    return {
        "fmax": {"$glbnet$clk": {"achieved": 81.234, "constraint": 100}},
        "critical_paths": [outside, {"from": net, "to": net, "path": path}],
    }


def test_a_path_in_rtl_terms() -> None:
    found = clocks(report(STEPS), design(), {})
    assert list(found) == ["sync"]
    assert (found["sync"]["fmax_mhz"], found["sync"]["met"]) == (81.23, False)
    path = found["sync"]["path"]
    start = {"signal": "kv.count[1]", "port": "Q", "source": "hdl/kv/walk.py:12"}
    assert path["from"] == start | {"kind": "register"}
    # No source of its own: that of the signal.
    assert path["to"] == {
        "signal": "tape.left",
        "port": "CE",
        "source": "hdl/tape.py:3",
        "kind": "register",
    }
    assert path["through"] == ["kv.count[1]", "kv.more"]
    assert path["levels"] == 2  # a LUT; a carry chain over two cells
    assert (path["logic_ns"], path["routing_ns"], path["total_ns"]) == (1.82, 2.25, 4.07)


def test_a_path_from_a_memory() -> None:
    first = ("dut.kv.table.0.1", "DOA0")
    steps = [("clk-to-q", 5.8, first, first), *STEPS[1:]]
    found = clocks(report(steps), design(), {"dut.kv.table": "hdl/kv/walk.py:9"})
    assert found["sync"]["path"]["from"] == {
        "signal": "kv.table (read data)",
        "port": "DOA0",
        "source": "hdl/kv/walk.py:9",
        "kind": "memory",
    }


def test_clocks_by_domain() -> None:
    assert [clock_name(n) for n in ("$glbnet$clk", "clk", "dut.a.sdram_clk")] == [
        "sync",
        "sync",
        "sdram",
    ]
    assert sync_fmax(report(STEPS)) == 81.234
    with pytest.raises(UserError, match="no clock sync, only other"):
        sync_fmax({"fmax": {"other": {"achieved": 1}}})


def test_the_best_seed() -> None:
    results = [SeedResult(s, f, 1.0, f"seed{s}") for s, f in ((1, 80.0), (2, 95.0), (3, 95.0))]
    assert best(results).seed == 2
