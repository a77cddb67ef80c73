"""Which blocks are simulated as netlists, by which bench, and which are proven."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.lib.wiring import Component

from hdl import fp
from hdl.config import Config
from hdl.control.controller import Controller
from hdl.kv import KVUnit
from hdl.matrix import MatrixUnit, SystolicArray
from hdl.memory import MemoryPort, RowLoader, TapeReader
from hdl.vector import VectorUnit
from sim.bench import run
from sim.netlist.cells import models_for
from sim.netlist.synthesis import synthesize

__all__ = ["BENCHES", "PROOFS", "Bench", "Proof", "simulate"]


@dataclass(frozen=True)
class Bench:
    """A bench of the RTL that runs on a netlist too.

    Attributes
    ----------
    make : the block
    module : with its cocotb tests
    parameters : of the bench, besides ``config``
    """

    make: Callable[[Config], Component]
    module: str
    parameters: dict[str, Any]


BENCHES = {
    "array": Bench(SystolicArray, "sim.bench.array_tiles", {"tiles": 40}),
    "vector": Bench(VectorUnit, "sim.bench.vector_unit", {"programs": 8, "attentions": 6}),
    "kv": Bench(KVUnit, "sim.bench.kv_unit", {"worlds": 5}),
}


def simulate(
    block: str,
    config: Config,
    *,
    start: int = 1,
    platform: Any = None,
    progress: Callable[[str, float], None] = lambda text, fraction: None,
    timeout: float = 7200,
    **parameters: Any,
) -> dict[str, int]:
    """Run a block's bench on its netlist; gives the netlist's cells.

    Parameters
    ----------
    block : one of ``BENCHES``
    start : seed of the state in which registers and memories start
    platform : of the synthesis
    parameters : of the bench, instead of those in ``BENCHES``

    Raises
    ------
    AssertionError
        The netlist does not do what the bench expects of the RTL.
    """
    bench = BENCHES[block]
    component = bench.make(config)
    netlist = synthesize(component, platform=platform, progress=progress)
    verilog = netlist.verilog.read_text()
    progress("simulation", 0.5)
    run(
        component,
        bench.module,
        name=f"netlist-{block}-{config.name}-{start}",
        parameters={"config": config, **bench.parameters, **parameters},
        netlist=verilog,
        models=models_for(verilog),
        start=start,
        timeout=timeout,
    )
    return netlist.cells()


@dataclass(frozen=True)
class Proof:
    """A block whose netlist is compared with its RTL by SAT.

    ``multipliers``: whether what hangs on its multipliers is tried (``sim.netlist.equivalence``).
    """

    make: Callable[[Config], Component]
    multipliers: bool = True


PROOFS = {
    "FP32 add": Proof(lambda config: fp.FpAdd()),
    "FP32 multiply": Proof(lambda config: fp.FpMul()),
    "block-scale term": Proof(lambda config: fp.BlockTerm()),
    "systolic array": Proof(SystolicArray),
    "tape reader": Proof(TapeReader),
    "memory port": Proof(MemoryPort),
    "row loader": Proof(RowLoader, multipliers=False),
    "controller": Proof(Controller, multipliers=False),
    "KV cache": Proof(KVUnit, multipliers=False),
    "matrix unit": Proof(MatrixUnit, multipliers=False),
    "vector unit": Proof(VectorUnit, multipliers=False),
}
