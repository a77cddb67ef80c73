"""Runs Yosys scripts, each in a process of its own: an error there ends only that process."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from compiler.errors import UserError

__all__ = ["YosysError", "cell_library", "identity", "run"]

_PROGRAM = """
import sys
from pyosys import libyosys
design = libyosys.Design()
libyosys.run_pass("script " + sys.argv[1], design)
"""


class YosysError(Exception):
    """A command failed or took too long; the message has the end of what Yosys printed."""


def identity() -> str:
    """Changes when the program does."""
    try:
        return f"pyosys {version('pyosys')}"
    except PackageNotFoundError:
        raise UserError(
            "Yosys is missing from this Python environment; run ./serrano, which installs it"
        ) from None


def cell_library() -> Path:
    """Folder of Yosys's own models of Lattice cells."""
    identity()
    spec = find_spec("pyosys")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "share" / "lattice"


def run(commands: Sequence[str], folder: Path, *, timeout: float = 3600) -> str:
    """Run commands in ``folder``; what Yosys printed, also kept there as ``yosys.log``.

    Raises
    ------
    YosysError
        A command failed, or all of them together took longer than ``timeout`` seconds.
    """
    identity()
    (folder / "script.ys").write_text("\n".join(commands) + "\n")
    log = folder / "yosys.log"
    command = [sys.executable, "-c", _PROGRAM, "script.ys"]
    with log.open("w") as out:
        try:
            done = subprocess.run(
                command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise YosysError(f"Yosys had not finished after {timeout:.0f} s") from None
    text = log.read_text(errors="replace")
    if done.returncode:
        raise YosysError(f"Yosys failed (exit code {done.returncode}):\n{text[-3000:]}")
    return text
