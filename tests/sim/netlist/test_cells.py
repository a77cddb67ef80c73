"""The models of ECP5 cells: what Yosys's mapping assumes of them, and what they refuse."""

import re

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from sim.bench import run
from sim.bench.build import build
from sim.bench.netlist_cells import first_word
from sim.netlist import synthesize
from sim.netlist.cells import models_for, own_models

SHAPES = [(1, 1 << 14), (2, 1 << 13), (4, 1 << 12), (9, 1 << 11), (18, 1 << 10), (36, 1 << 9)]


class Cells(Component):
    """A memory of each width, products of 18 x 18 bits, a register without reset."""

    def __init__(self):
        inputs = {"read_address": 14, "write_address": 14, "data": 36, "read": 1, "write": 4}
        inputs |= {"a": 18, "b": 18, "keep": 1}
        outputs = {f"memory_{width}": width for width, _ in SHAPES}
        outputs |= {"signed_product": 36, "unsigned_product": 36, "held": 32}
        super().__init__(
            {name: In(width) for name, width in inputs.items()}
            | {name: Out(width) for name, width in outputs.items()}
        )

    def elaborate(self, platform):
        m = Module()
        for width, depth in SHAPES:
            words = [first_word(width, a) for a in range(depth)]
            memory = Memory(shape=width, depth=depth, init=words, attrs={"no_rw_check": 1})
            m.submodules[f"memory_{width}"] = memory
            parts = 4 if width == 36 else 2 if width == 18 else 1
            size = width // parts
            write, read = memory.write_port(granularity=size), memory.read_port()
            m.d.comb += [
                read.addr.eq(self.read_address),
                read.en.eq(self.read),
                write.addr.eq(self.write_address),
                write.data.eq(self.data),
                write.en.eq(self.write),
                getattr(self, f"memory_{width}").eq(read.data),
            ]
            if parts == 1:
                m.d.comb += write.en.eq(self.write.any())
        a, b = Signal(18), Signal(18)
        m.d.sync += [a.eq(self.a), b.eq(self.b)]
        m.d.comb += [
            self.unsigned_product.eq(a * b),
            self.signed_product.eq(a.as_signed() * b.as_signed()),
        ]
        held = Signal(32, reset_less=True)
        with m.If(self.keep):
            m.d.sync += held.eq(self.data)
        m.d.comb += self.held.eq(held)
        return m


def test_modes():
    """Memories of every width with part writes, products, a register that starts anywhere."""
    component = Cells()
    netlist = synthesize(component)
    cells = netlist.cells()
    assert cells["DP16KD"] == len(SHAPES)
    assert cells["MULT18X18D"] == 2
    text = netlist.verilog.read_text()
    assert set(re.findall(r"DATA_WIDTH_B\(32'd(\d+)\)", text)) == {str(w) for w, _ in SHAPES}
    starts = set()
    for seed in (1, 2):
        output = run(
            component,
            "sim.bench.netlist_cells",
            name="netlist-cells",
            parameters={"shapes": SHAPES},
            netlist=text,
            models=models_for(text),
            start=seed,
        )
        starts |= set(re.findall(r"START (0x\w+)", output))
    assert len(starts) == 2, starts


@pytest.mark.parametrize(
    ("cell", "setting"),
    [
        ("DP16KD", 'REGMODE_A("OUTREG")'),
        ("DP16KD", 'CLKBMUX("INV")'),
        ("DP16KD", 'CSDECODE_B("0b001")'),
        ("DP16KD", "DATA_WIDTH_A(12)"),
        ("MULT18X18D", 'REG_PIPELINE_CLK("CLK0")'),
        ("MULT18X18D", 'REG_INPUTC_CLK("CLK0")'),
        ("MULT18X18D", 'RESETMODE("ASYNC")'),
        ("MULT18X18D", 'REG_OUTPUT_CLK("CLK4")'),
    ],
)
def test_refusals(cell, setting):
    """A setting that isn't modelled does not build."""
    clock = "CLKA" if cell == "DP16KD" else "CLK0"
    top = f"module top(input clk, rst);\n  {cell} #(.{setting}) it (.{clock}(clk));\nendmodule\n"
    with pytest.raises(RuntimeError, match=rf"USERERROR.*{cell}: "):
        build(top + own_models(), [], netlist=True)


def test_unknown_cell():
    with pytest.raises(ValueError, match="no model of EHXPLLL"):
        models_for("module top(input clk);\n  EHXPLLL pll (.CLKI(clk));\nendmodule\n")
