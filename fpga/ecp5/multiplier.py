"""`hdl.multiplier.Multiplier` as one MULT18X18D with its own registers.

Sources: Lattice FPGA-TN-02205 (sysDSP); Yosys (techlibs/lattice/cells_bb_ecp5.v); nextpnr-ecp5,
which takes a block as clocked by CLK0 and without a path through it if REG_INPUTA_CLK,
REG_INPUTB_CLK and REG_OUTPUT_CLK all are not NONE (it does not look at REG_PIPELINE_CLK);
nextpnr's pull request 1076 on shared control signals; the bits of Project Trellis.
"""

from pathlib import Path

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value

from hdl.multiplier import Multiplier

__all__ = ["BLOCK_MODEL", "MultiplierBlocks", "multiplier_block"]

BLOCK_MODEL = Path(__file__).with_name("mult18x18d.v")
"""Verilog model of the block for simulation: the modes used here, others stop it."""

BITS = 18


def multiplier_block(multiplier: Multiplier) -> Module:
    """One MULT18X18D in the place of a multiplier, its registers in the block.

    Operands stand at the upper end of the block's inputs and their product at the upper end of its
    output: zeros below need no routing, a sign in many places would.

    The enables are not used, as `Multiplier` allows. The four multipliers of a DSP block share the
    wires of CE0 ... CE3, so that every enable narrows the placer's choice (with eight sets of them
    on 128 of 156 multipliers it found no place within minutes), one that reaches all of them takes
    11 ns, and Project Trellis knows no bits for REG_OUTPUT_CE.
    """
    m = Module()
    a, b = Value.cast(multiplier.a), Value.cast(multiplier.b)
    product = Signal(2 * BITS)
    inputs: dict[str, Value] = {
        "CLK0": ClockSignal("sync"),
        "SIGNEDA": Const(multiplier.signed, 1),
        "SIGNEDB": Const(multiplier.signed, 1),
    }
    unused = ("SOURCEA", "SOURCEB", "CLK1", "CLK2", "CLK3", "RST0", "RST1", "RST2", "RST3")
    inputs |= dict.fromkeys(unused, Const(0, 1))
    inputs |= {f"CE{i}": Const(1, 1) for i in range(4)}
    for name, value in (("A", a), ("B", b), ("C", Const(0, 1))):
        aligned = Cat(Const(0, BITS - len(value)), value)
        inputs |= {f"{name}{i}": aligned[i] for i in range(BITS)}
    parameters = {"REG_PIPELINE_CLK": "NONE", "REG_INPUTC_CLK": "NONE", "GSR": "DISABLED"}
    parameters |= {f"REG_{name}_CLK": "CLK0" for name in ("INPUTA", "INPUTB", "OUTPUT")}
    m.submodules.block = Instance(
        "MULT18X18D",
        *(("p", name, value) for name, value in parameters.items()),
        *(("i", name, value) for name, value in inputs.items()),
        *(("o", f"P{i}", product[i]) for i in range(2 * BITS)),
    )
    m.d.comb += multiplier.p.eq(product[2 * BITS - len(multiplier.p) :])
    return m


class MultiplierBlocks:
    """Mixin of an Amaranth platform: multipliers become blocks of the device."""

    def get_multiplier(self, multiplier: Multiplier) -> Module:
        return multiplier_block(multiplier)
