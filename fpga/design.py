"""What is built: a target's RTL for a board, as RTLIL text with the constraints of its pins."""

import gc
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.build.run import BuildPlan
from amaranth.lib.wiring import Component

from compiler.errors import UserError
from fpga.blocks import BLOCKS
from fpga.boards import Board, Shell
from fpga.bringup import BringUp
from fpga.pll import Ecp5Pll, GowinPll
from fpga.script import TOP
from hdl.accelerator import Accelerator
from hdl.board import Board as BoardTop
from hdl.config import Config
from hdl.emit import collisions_undefined, memories_without_zeros, relative_sources, without_sources
from hdl.sdram import SdramTiming

__all__ = [
    "ROOT",
    "Design",
    "default_target",
    "emit_design",
    "sources_hash",
    "targets",
]

ROOT = Path(__file__).resolve().parent.parent
WITH_PINS = ("board", "bringup")
"""Targets that use the board's pins by their meaning; others are folded to two."""

BAUD = 3_000_000
"""Of the host link: what the FTDI chips on these boards do at the most."""


@dataclass(frozen=True)
class Design:
    """RTLIL of a whole bitstream, module `top`, and its constraint file.

    Attributes
    ----------
    rtlil : source locations in it are relative to the repository
    constraints : text of the LPF or CST file
    hash : of both, source locations left out: a comment more makes no other chip
    mhz : clock of the domain `sync`
    """

    rtlil: str
    constraints: str
    hash: str
    mhz: float


def targets() -> tuple[str, ...]:
    """What can be built for a board, the whole first."""
    return (*WITH_PINS, "chip", *BLOCKS)


def default_target(board: Board) -> str:
    """The whole board, or a part where no more fits."""
    return board.target or "board"


def _component(target: str, config: Config, board: Board, mhz: float) -> Component:
    if target in WITH_PINS:
        if not board.sdram:
            raise UserError(
                f"--target {target}: {board.title} has {board.memory}; "
                "choose --target chip or a block"
            )
        top = BringUp if target == "bringup" else BoardTop
        return top(config, timing=SdramTiming(clock_hz=round(mhz * 1e6)), baud=BAUD)
    if target == "chip":
        return Accelerator(config)
    if target not in BLOCKS:
        raise UserError(f"--target {target}: choose from {', '.join(targets())}")
    return BLOCKS[target].make(config)


def emit_design(board: Board, target: str, config: Config, mhz: float) -> Design:
    """Elaborate a target; ``UserError`` for one that there is not, or a clock that can't be."""
    pll = board.pll(mhz)
    platform = board.platform()
    with memories_without_zeros(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # amaranth-boards' own, and of parts of a refused design
        try:
            plan = _plan(board, target, config, mhz, pll, platform)
        except ValueError as error:  # a clock too slow for the SDRAM or the serial line
            error.__traceback__ = None
            gc.collect()
            raise UserError(f"target {target} at {mhz:g} MHz: {error}") from None
    text = collisions_undefined(relative_sources(_text(plan.files[f"{TOP}.il"])))
    suffix = next(s for s in (".lpf", ".cst") if f"{TOP}{s}" in plan.files)
    constraints = _text(plan.files[f"{TOP}{suffix}"])
    digest = hashlib.sha256((without_sources(text) + constraints).encode())
    return Design(text, constraints, digest.hexdigest()[:16], pll.output_mhz)


def _plan(
    board: Board, target: str, config: Config, mhz: float, pll: Ecp5Pll | GowinPll, platform: Any
) -> BuildPlan:
    component = _component(target, config, board, mhz)
    shell = Shell(board, component, pll, pins=target in WITH_PINS)
    return platform.prepare(shell, TOP, emit_src=True)


def _text(content: str | bytes) -> str:
    return content.decode() if isinstance(content, bytes) else content


def sources_hash() -> str:
    """Hash of the files that make the RTL: equal hashes, equal RTL; quick to have."""
    digest = hashlib.sha256()
    for folder in ("hdl", "fpga"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]
