"""What is built: a target's RTL for a board, as RTLIL text with the constraints of its pins."""

import gc
import hashlib
import re
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
from hdl.accelerator import Accelerator
from hdl.board import Board as BoardTop
from hdl.config import Config
from hdl.emit import memories_without_zeros
from hdl.sdram import SdramTiming

__all__ = [
    "ROOT",
    "TOP",
    "Design",
    "collisions_undefined",
    "default_target",
    "emit_design",
    "sources_hash",
    "targets",
]

ROOT = Path(__file__).resolve().parent.parent
TOP = "top"
WITH_PINS = ("board", "bringup")
"""Targets that use the board's pins by their meaning; others are folded to two."""

BAUD = 3_000_000
"""Of the host link: what the FTDI chips on these boards do at the most."""

_SOURCE = re.compile(r"^\s*attribute \\src .*\n", re.MULTILINE)


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
    text = collisions_undefined(_relative(_text(plan.files[f"{TOP}.il"])))
    suffix = next(s for s in (".lpf", ".cst") if f"{TOP}{s}" in plan.files)
    constraints = _text(plan.files[f"{TOP}{suffix}"])
    digest = hashlib.sha256((_SOURCE.sub("", text) + constraints).encode())
    return Design(text, constraints, digest.hexdigest()[:16], pll.output_mhz)


def _plan(
    board: Board, target: str, config: Config, mhz: float, pll: Ecp5Pll | GowinPll, platform: Any
) -> BuildPlan:
    component = _component(target, config, board, mhz)
    shell = Shell(board, component, pll, pins=target in WITH_PINS)
    return platform.prepare(shell, TOP, emit_src=True)


def _text(content: str | bytes) -> str:
    return content.decode() if isinstance(content, bytes) else content


def _relative(rtlil: str) -> str:
    """Source paths from the repository's root, those of packages from their own."""
    rtlil = re.sub(r'(\\src "|\|)[^"|]*/(?:site-packages|python3\.\d+)/', r"\1", rtlil)
    return rtlil.replace(f"{ROOT}/", "")


def collisions_undefined(rtlil: str) -> str:
    """RTLIL in which reading a word while it is written gives anything, for marked memories.

    The mark is the attribute ``no_rw_check``; Amaranth's FIFOs count as marked, for they read no
    place before it is written and write none before it has been read. Yosys heeds the mark where it
    makes a read port itself, not for Amaranth's, which come with a mask that says that the old word
    is read; block RAM then gets registers and multiplexers that see to it.
    """
    lines = rtlil.split("\n")
    marked: set[str] = set()
    reader, is_marked, mask = "", False, 0
    for number, line in enumerate(lines):
        words = line.split()
        if words[:1] == ["module"]:
            marked = set()
        elif words[:2] == ["attribute", "\\no_rw_check"]:
            is_marked = words[2] != "0"
        elif words[:2] == ["attribute", "\\src"]:
            is_marked |= words[2].startswith('"amaranth/lib/fifo.py:')
        elif words[:1] in (["memory"], ["wire"], ["cell"]):
            if is_marked and words[0] == "memory":
                marked.add(words[-1])
            is_marked, reader = False, words[1] if words[0] == "cell" else ""
        elif reader == "$memrd_v2" and words[:2] == ["parameter", "\\MEMID"]:
            reader = words[2].strip('"').replace("\\\\", "\\")
        elif reader in marked and words[:2] == ["parameter", "\\COLLISION_X_MASK"]:
            mask = number
        elif reader in marked and words == ["parameter", "\\CLK_ENABLE", "1"]:
            head, _, bits = lines[mask].rpartition("'")
            lines[mask] = f"{head}'{'1' * len(bits)}"
    return "\n".join(lines)


def sources_hash() -> str:
    """Hash of the files that make the RTL: equal hashes, equal RTL; quick to have."""
    digest = hashlib.sha256()
    for folder in ("hdl", "fpga"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]
