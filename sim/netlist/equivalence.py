"""Proof that a netlist does what its RTL does, by Yosys's SAT equivalence checker.

Registers are matched by name, and so are all other signals that still have theirs. For each matched
bit it is proven that RTL and netlist compute the same from the matched bits of this cycle and of up
to two before it (``equiv_simple``, then ``equiv_induct``). So registers that are equal stay equal,
and the outputs with them; that reset makes them equal where it matters is what the simulations from
a random start show.

Memories are mapped to the device's cells on both sides and cut out: what goes into each is proven
equal, what comes out is taken as equal, settings and contents are compared. So the mapping itself
(``memory_libmap``) is left to the simulation. Registers that this mapping adds, where a word
may be read in the cycle in which it is written, have no names in the RTL: what hangs on them stays
unproven. Products of 8 x 8 bits are proven equal as well; larger ones are out of reach of SAT,
and with ``multipliers=False`` what hangs on a multiplier is not tried.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sim.netlist import yosys
from sim.netlist.cells import own_models, yosys_models
from sim.netlist.synthesis import TOP, Netlist

__all__ = ["Equivalence", "prove"]

_MAPPED = ("LUT4", "TRELLIS_FF", "CCU2C", "PFUMX", "L6MUX21", "MULT18X18D", "DP16KD")
_MEMORIES = ("DP16KD", "TRELLIS_DPR16X4")


@dataclass(frozen=True)
class Equivalence:
    """Result of :func:`prove`.

    Attributes
    ----------
    points : bits that RTL and netlist share by name (0 if it did not get that far)
    proven_points : of these, proven equal
    unproven : names of those that were not, if it came to an end
    seconds : of wall time
    reason : why it did not come to an end, or can't be a proof; otherwise empty
    """

    points: int
    proven_points: int
    unproven: tuple[str, ...]
    seconds: float
    reason: str = ""

    @property
    def proven(self) -> bool:
        return 0 < self.points == self.proven_points and not self.reason


def _script(multipliers: bool) -> Sequence[str]:
    share = "+/lattice"
    memories = (
        "opt_expr",
        "opt_clean",
        "memory -nomap",
        "opt_clean",
        f"memory_libmap -lib {share}/lutrams_trellis.txt -lib {share}/brams_16kd.txt",
        f"techmap -map {share}/lutrams_map_trellis.v -map {share}/brams_map_16kd.v",
        "memory_map",
    )
    library = f"read_verilog -lib {share}/cells_sim_ecp5.v {share}/cells_bb_ecp5.v"
    cut = [f"{side}/t:{cell}" for side in ("gold", "gate") for cell in _MEMORIES]
    return (
        # RTL
        library,
        "read_rtlil rtl.il",
        "read_verilog -overwrite -sv models.v",
        "chformal -remove",
        r"rename -hide w:*\[*",
        f"hierarchy -top {TOP}",
        f"rename {TOP} gold",
        "proc",
        "flatten -noscopeinfo",
        *memories,
        "opt_expr",
        "dffunmap",
        "opt_clean",
        "design -stash gold",
        # netlist
        "read_rtlil mapped.il",
        f"rename {TOP} gate",
        # Only names of the RTL count; those that Yosys made up, and of cells, could hide them.
        "rename -hide gate/c:* gate/t:DP16KD %d gate/t:TRELLIS_DPR16X4 %d",
        *(f"rename -hide gate/w:*_{cell}_*" for cell in _MAPPED),
        library,
        "read_verilog -overwrite -sv models.v",
        "hierarchy -top gate",
        "proc",
        "chformal -remove",
        "flatten -noscopeinfo",
        "dffunmap",
        "opt_expr",
        "opt_clean",
        "design -stash gate",
        "design -copy-from gold -as gold gold",
        "design -copy-from gate -as gate gate",
        "select " + " ".join(cut),
        "write_rtlil -selected memories.il",
        "select -clear",
        library,
        "expose -evert " + " ".join(cut),
        "equiv_make gold gate equiv",
        "hierarchy -top equiv",
        "opt_clean",
        "cd equiv",
        # What a multiplier drives, through registers too, up to the next matched signal.
        "select -set hard " + ("none" if multipliers else "t:$mul %co*:-$equiv[Y]"),
        "equiv_simple -seq 2 t:$equiv @hard %d",
        *(["equiv_induct -seq 2"] if multipliers else []),
        "tee -o status.txt equiv_status",
    )


def _memories(rtlil: str) -> dict[str, dict[str, str]]:
    """Settings and contents of the memory cells of both sides: side -> cell -> text."""
    found: dict[str, dict[str, str]] = {"gold": {}, "gate": {}}
    for side, body in re.findall(r"(?ms)^module \\(gold|gate)$(.*?)^end$", rtlil):
        for kind, name, cell in re.findall(r"(?ms)^  cell \\(\w+) (\S+)$(.*?)^  end$", body):
            if kind in _MEMORIES:
                settings = re.findall(r"(?m)^    parameter (.*)$", cell)
                # Synthesis turns the global reset off; no design here has one.
                kept = sorted(s for s in settings if not s.startswith("\\GSR "))
                found[side][name] = "\n".join([kind, *kept])
    return found


def prove(netlist: Netlist, *, timeout: float = 600, multipliers: bool = True) -> Equivalence:
    """Prove the netlist of a component equal to its RTL, for at most ``timeout`` seconds.

    ``multipliers``: try what hangs on a multiplier too.
    """
    start = time.monotonic()
    with TemporaryDirectory(prefix="serrano-equivalence-") as name:
        folder = Path(name)
        (folder / "rtl.il").write_text(netlist.rtl.read_text())
        (folder / "mapped.il").write_text(netlist.rtlil.read_text())
        models = yosys_models(_MEMORIES) + own_models(_MEMORIES)
        (folder / "models.v").write_text(models)
        reason = ""
        try:
            yosys.run(_script(multipliers), folder, timeout=timeout)
        except yosys.YosysError as error:
            reason = str(error).strip()[-300:]
        log = (folder / "yosys.log").read_text(errors="replace")
        status = folder / "status.txt"
        text = status.read_text() if status.exists() else ""
        cells = folder / "memories.il"
        memories = _memories(cells.read_text() if cells.exists() else "")
    if memories["gold"] != memories["gate"]:
        reason = reason or "memories are mapped otherwise than in the RTL alone"
    seconds = time.monotonic() - start
    if not text:  # ended early: what was proven until then
        total = re.search(r"Found (\d+) unproven \$equiv cells", log)
        tried = log.count("\n success!\n")
        return Equivalence(int(total[1]) if total else 0, tried, (), seconds, reason)
    found = re.search(r"Found (\d+) \$equiv cells", text)
    points = int(found[1]) if found else 0
    unproven = re.findall(r"Unproven \$equiv \S+ (\S+?)_gold(?: \[(\d+)\])?", text)
    names = tuple(f"{name.lstrip(chr(92))}[{bit or 0}]" for name, bit in unproven)
    return Equivalence(points, points - len(names), names, seconds, reason)
