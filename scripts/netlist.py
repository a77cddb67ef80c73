"""`serrano netlist`: what synthesis made, simulated and proven against the RTL."""

import time
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import typer

from compiler.compile import compile_checkpoint
from compiler.errors import UserError
from fpga.ecp5 import MultiplierBlocks
from hdl.config import Config
from hdl.isa import Counter
from runtime.device import Device, RowRequest
from runtime.rtl_chip import RtlChip, build_chip
from scripts import options
from scripts.console import bar
from scripts.devices import load_model
from sim.netlist import synthesize
from sim.netlist.blocks import BENCHES, PROOFS, simulate
from sim.netlist.chip import build_netlist_chip
from sim.netlist.equivalence import Equivalence, prove

__all__ = ["Step", "chip_steps", "netlist"]

Step = tuple[np.ndarray, dict[Counter, int], int]
"""Logits as bits, counters, cycles since reset."""


class Block(StrEnum):
    """What to compare."""

    array = "array"
    vector = "vector"
    kv = "kv"
    chip = "chip"
    proofs = "proofs"


def chip_steps(config: Config, library: Any, checkpoint: Any, tokens: int, seed: int) -> list[Step]:
    """Prefill of three tokens and ``tokens`` decode steps on a simulated chip."""
    chips: list[RtlChip] = []

    def make(config: Config, memory: np.ndarray) -> RtlChip:
        chips.append(RtlChip(config, memory, library=library, seed=seed))
        return chips[-1]

    device = Device(compile_checkpoint(checkpoint, config, context=32), make)
    sequence = device.open_sequence()
    steps: list[Step] = []
    following = [1, 2, 3]
    for _ in range(tokens + 1):
        result = device.step([RowRequest(sequence, following)])
        assert result.logits is not None
        steps.append((result.logits.view(np.uint32), result.counters, chips[0].cycles))
        following = [int(result.logits[-1].argmax())]
    return steps


def _same(one: Step, other: Step) -> bool:
    return np.array_equal(one[0], other[0]) and one[1:] == other[1:]


def _chip(config: Config, model: str, tokens: int, seeds: list[int], progress) -> dict[str, Any]:
    checkpoint = load_model(model, None)
    netlist = build_netlist_chip(config, progress, platform=MultiplierBlocks())
    rtl = build_chip(config, progress)
    progress("simulation", 0.9)
    expected = chip_steps(config, rtl, checkpoint, tokens, seeds[0])
    for seed in seeds:
        found = chip_steps(config, netlist, checkpoint, tokens, seed)
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            if not _same(one, other):
                raise UserError(f"netlist: step {number} differs from the RTL (start {seed})")
    return {"steps": len(expected), "cycles": expected[-1][2]}


def _proof(name: str, config: Config, timeout: float) -> Equivalence:
    proof = PROOFS[name]
    netlist = synthesize(proof.make(config), platform=MultiplierBlocks())
    return prove(netlist, timeout=timeout, multipliers=proof.multipliers)


def _proofs(config: Config, timeout: float, progress) -> dict[str, Any]:
    found = {}
    print("| block | bits matched | proven | seconds | left |\n|---|---|---|---|---|")
    for number, name in enumerate(PROOFS):
        progress(name, number / len(PROOFS))
        result = _proof(name, config, timeout)
        left = sorted({bit.partition("[")[0] for bit in result.unproven})
        note = result.reason.splitlines()[-1] if result.reason else ", ".join(left[:4])
        note += f" and {len(left) - 4} more" if len(left) > 4 and not result.reason else ""
        print(
            f"| {name} | {result.points} | {result.proven_points} | {result.seconds:.0f} | {note} |"
        )
        found[name] = {"points": result.points, "proven": result.proven_points, "left": left}
    return found


def netlist(
    block: Annotated[Block, typer.Option(help="What to compare; proofs: by SAT, block by block.")],
    preset: options.Preset = "tiny",
    seeds: Annotated[int, typer.Option(help="Random states to start from (1 to 100).")] = 2,
    model: Annotated[str, typer.Option(help="Model that the chip runs.")] = "demo",
    tokens: Annotated[int, typer.Option(help="Decode steps of the chip (1 to 100).")] = 1,
    timeout: Annotated[int, typer.Option(help="Seconds for each proof.")] = 600,
    json: options.JsonFile = None,
) -> None:
    """Compare the ECP5 netlist that Yosys makes with the RTL: by simulation or by proof."""
    config = options.preset(preset)
    options.output_file("--json", json)
    starts = list(range(1, options.whole("--seeds", seeds, 1, 100) + 1))
    options.whole("--tokens", tokens, 1, 100)
    options.whole("--timeout", timeout, 1, 100_000)
    begin = time.monotonic()
    figures: dict[str, Any]
    with bar(f"netlist of {block}") as progress:
        if block is Block.proofs:
            figures = _proofs(config, timeout, progress)
        elif block is Block.chip:
            figures = _chip(config, model, tokens, starts, progress)
        else:
            assert block in BENCHES
            figures = {}
            for start in starts:
                try:
                    cells = simulate(
                        block, config, start=start, platform=MultiplierBlocks(), progress=progress
                    )
                except AssertionError as error:
                    raise UserError(f"netlist differs from the RTL\n{error}") from None
                figures = {"cells": cells}
    figures |= {"block": str(block), "preset": config.name}
    figures["seconds"] = round(time.monotonic() - begin, 1)
    if block is not Block.proofs:
        print(
            f"{block}, {config.name}: netlist equals RTL from {seeds} random starts, "
            f"{figures['seconds']:.0f} s"
        )
    options.write_json(json, figures)
