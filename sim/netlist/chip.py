"""The netlist of a whole chip in the place of the RTL, behind the same registers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hdl.accelerator import Accelerator
from hdl.config import Config
from sim.netlist.cells import models_for
from sim.netlist.synthesis import TOP, synthesize
from sim.verilated.build import BuildConfig, build

__all__ = ["build_netlist_chip"]


def build_netlist_chip(
    config: Config,
    progress: Callable[[str, float], None] = lambda text, fraction: None,
    *,
    platform: Any = None,
) -> Path:
    """Shared library of a chip's netlist, for ``runtime.rtl_chip.RtlChip``.

    It is the chip that goes into the device: without the port ``trace``. The seed of the chip's
    memory is also that of the random state in which its registers start.
    """
    netlist = synthesize(Accelerator(config), separator="_", platform=platform, progress=progress)
    text = netlist.verilog.read_text()
    text += models_for(text)
    return build(text, TOP, BuildConfig(netlist=True, optimize=1), progress=progress)
