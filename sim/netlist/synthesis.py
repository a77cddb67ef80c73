"""The ECP5 netlist of a component, as the FPGA flow makes it, from the cache or newly made."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from fpga.family import FAMILIES
from fpga.script import TOP, synthesis_steps
from hdl.emit import emit_rtlil
from sim.netlist import yosys
from sim.verilated.cache import claim
from sim.verilated.toolchain import cache_directory

__all__ = ["TOP", "Netlist", "synthesize"]

_SYNTHESIS = (
    "read_rtlil rtl.il",
    *(command for _, command in synthesis_steps(FAMILIES["ecp5"])),
    "design -save mapped",
    "delete =A:blackbox =A:whitebox",  # the library's modules
    "write_rtlil mapped.il",
    "design -load mapped",
    # Bits of a vector that depend on each other look like a loop to Verilator.
    "splitnets",
    "write_verilog -noattr mapped.v",
)


@dataclass(frozen=True)
class Netlist:
    """What synthesis made of a component.

    Attributes
    ----------
    folder : with ``rtl.il`` (what was synthesised), ``mapped.il`` and ``mapped.v``
    """

    folder: Path

    @property
    def rtl(self) -> Path:
        return self.folder / "rtl.il"

    @property
    def rtlil(self) -> Path:
        return self.folder / "mapped.il"

    @property
    def verilog(self) -> Path:
        """Module ``top`` of ECP5 cells; its ports are the component's."""
        return self.folder / "mapped.v"

    def cells(self) -> dict[str, int]:
        """How many there are of each kind of cell."""
        found = re.findall(r"(?m)^  cell \\(\w+) ", self.rtlil.read_text())
        return dict(sorted(Counter(found).items()))


def synthesize(
    component: Component,
    *,
    separator: str = "__",
    platform: Any = None,
    progress: Callable[[str, float], None] = lambda text, fraction: None,
) -> Netlist:
    """The netlist that Yosys's ``synth_ecp5`` makes of a component, kept by content.

    Parameters
    ----------
    component
        Top of the netlist, with the ports of ``hdl.emit.emit_verilog``.
    separator
        Between the parts of a port's name: as the benches have it, or ``_``.
    platform
        Of Amaranth: what its ``get_*`` methods replace. None: nothing.
    progress
        Told before long work.

    Raises
    ------
    YosysError
        Yosys refused the design.
    """
    text = emit_rtlil(component, TOP, separator=separator, platform=platform)
    key = hashlib.sha256(repr([text, _SYNTHESIS, yosys.identity()]).encode()).hexdigest()[:32]
    with claim(cache_directory() / "netlist", key) as entry:
        if entry.scratch is not None:
            progress("synthesis", 0.0)
            (entry.scratch / "rtl.il").write_text(text)
            yosys.run(_SYNTHESIS, entry.scratch)
        return Netlist(entry.path)
