"""Blocks that can be built alone, with the clock that each has to reach.

A block's ports go through registers (`fpga.boards.Shell`), so figures are those of its own paths.
Whole-chip routing costs 15 to 25 %, so a block alone has to be that much faster.
"""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.lib.wiring import Component

from hdl.config import Config
from hdl.control.controller import Controller
from hdl.fp import BlockTerm, FpAdd, FpMul, SpecialFunction
from hdl.kv import KVUnit
from hdl.link import Link
from hdl.matrix import MatrixUnit
from hdl.matrix.accumulator import BlockAccumulator
from hdl.matrix.array import SystolicArray
from hdl.memory import MemoryPort, RowLoader, TapeReader
from hdl.sdram import SdramPort, SdramTiming
from hdl.vector import VectorUnit
from hdl.vector.datapath import Datapath

__all__ = ["BLOCKS", "Block"]


@dataclass(frozen=True)
class Block:
    """A component by name.

    Attributes: `make`: the component for a configuration; `quick`: small enough for CI.
    """

    name: str
    make: Callable[[Config], Component]
    quick: bool = True


def _accumulator(config: Config) -> Component:
    return BlockAccumulator(config, SystolicArray(config).latency)


BLOCKS = {
    b.name: b
    for b in (
        Block("fp.add", lambda c: FpAdd()),
        Block("fp.mul", lambda c: FpMul()),
        Block("fp.function", lambda c: SpecialFunction()),
        Block("fp.term", lambda c: BlockTerm()),
        Block("matrix.array", SystolicArray),
        Block("matrix.accumulator", _accumulator),
        Block("matrix", MatrixUnit),
        Block("tape", TapeReader),
        Block("load", RowLoader),
        Block("port", MemoryPort),
        Block("link", Link),
        Block("sdram", lambda c: SdramPort(c, SdramTiming())),
        Block("kv", KVUnit, quick=False),
        Block("control", Controller, quick=False),
        Block("vector.datapath", Datapath, quick=False),
        Block("vector", VectorUnit, quick=False),
    )
}
"""By name, small ones first."""
