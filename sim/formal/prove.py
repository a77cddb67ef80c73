"""Proofs and covers of a component's assertions, with ABC."""

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

import pyosys
from amaranth.lib.wiring import Component

from sim.formal.netlist import Netlist, aiger, rtlil_text, waves
from sim.verilated.cache import claim
from sim.verilated.toolchain import cache_directory

__all__ = ["Failure", "Result", "cover", "prove"]

ABC = Path(pyosys.__file__).with_name("yosys-abc")

SMALLER = ("scleanup", "dc2", "scorr")
"""Drops what no property needs, rewrites, merges registers that are equal in every state."""


@dataclass
class Failure:
    """A violated assertion: its message, the cycle (0 is the first), a VCD of the way there."""

    message: str
    cycle: int
    waves: str


@dataclass
class Result:
    """What is known of a component's assertions.

    Attributes: `proved`: messages that hold for ever; `bounded`: messages that hold for `depth`
    cycles from reset, no more is known; `failure`: the first that does not hold (then the lists
    are empty), or None; `seconds` it took. A message used for several assertions is proved if all
    of them are.
    """

    proved: list[str] = field(default_factory=list)
    bounded: list[str] = field(default_factory=list)
    failure: Failure | None = None
    depth: int = 0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Everything holds for ever."""
        return self.failure is None and not self.bounded


def _abc(folder: Path, commands: list[str], seconds: float) -> str:
    script = "; ".join(["read_aiger top.aig", "fold", "strash", *commands])
    done = subprocess.run(
        [str(ABC), "-c", script],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 60,
    )
    (folder / "abc.log").write_text(done.stdout)
    if done.returncode or "cmd error" in done.stdout:
        raise RuntimeError(f"ABC failed:\n{done.stdout[-2000:]}")
    return done.stdout


@contextmanager
def _workshop() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="formal-") as folder:
        yield Path(folder)


def _bounded(netlist: Netlist, depth: int, seconds: float) -> tuple[int, Failure | None]:
    """Cycles in which nothing fails, and what fails first."""
    search = f"bmc3 -F {depth} -T {seconds:.0f}"
    text = _abc(netlist.folder, [*SMALLER, search], seconds)
    if re.search(r"Output \d+ of miter .* was asserted in frame", text):
        # Once more on the netlist as it was, for a trace in its own names.
        text = _abc(netlist.folder, [search, "write_cex -a cex.aiw"], seconds)
    if found := re.search(r"Output (\d+) of miter .* was asserted in frame (\d+)", text):
        message = netlist.properties[int(found[1])]
        return int(found[2]), Failure(message, int(found[2]), waves(netlist.folder))
    reached = re.findall(r"No output .*asserted in (\d+) frames", text)
    return int(reached[-1]) if reached else 0, None


def _unbounded(netlist: Netlist, seconds: float) -> tuple[set[int], int | None]:
    """Numbers of the properties that PDR proves, and of one that it finds violated."""
    share = 1000 * seconds / 2
    search = f"pdr -a -T {seconds:.0f} -H {share:.0f}"
    text = _abc(netlist.folder, [*SMALLER, search], seconds)
    proved = {int(n) for n in re.findall(r"Proved output +(\d+) in", text)}
    if "Property proved" in text:  # what it says when there is one
        proved = set(range(len(netlist.properties)))
    failed = re.search(r"Output +(\d+) (?:of miter \S+ )?was asserted in", text)
    return proved, int(failed[1]) if failed else None


def prove(
    component: Component, *, depth: int = 60, seconds: float = 60, unbounded: bool = True
) -> Result:
    """Check every assertion of a component and of all in it, from reset, for any inputs.

    First by bounded model checking (which finds a shortest way to a violation), then by property
    directed reachability (A. Bradley, "SAT-based model checking without unrolling", 2011), which
    proves an assertion for all time without being told an invariant. Assumptions hold in every
    cycle. Memories become registers with any contents, so keep them small; one clock, ``rst`` low.
    The result is kept in the cache by content.

    Parameters
    ----------
    depth
        Cycles of the bounded search.
    seconds
        Time for each of the two searches, at most.
    unbounded
        Do the second one.

    Raises
    ------
    RuntimeError
        Yosys or ABC refused.
    """
    text = rtlil_text(component)
    tools = "".join(p.read_text() for p in sorted(Path(__file__).parent.glob("*.py")))
    key = sha256(f"{text}{depth}/{seconds}/{unbounded}{tools}".encode()).hexdigest()[:24]
    with claim(cache_directory() / "formal", key) as entry:
        kept = (entry.scratch or entry.path) / "result.json"
        if entry.scratch is None:
            known = json.loads(kept.read_text())
            failure = known.pop("failure")
            return Result(**known, failure=Failure(**failure) if failure else None)
        start = time.monotonic()
        result = Result()
        with _workshop() as folder:
            netlist = aiger(text, folder)
            result.depth, result.failure = _bounded(netlist, depth, seconds)
            if result.failure is None:
                numbers, failed = _unbounded(netlist, seconds) if unbounded else (set(), None)
                if failed is not None:
                    message = netlist.properties[failed]
                    result.failure = Failure(message, -1, "")
                else:
                    open_ = {m for i, m in enumerate(netlist.properties) if i not in numbers}
                    result.bounded = sorted(open_)
                    result.proved = sorted(set(netlist.properties) - open_)
        result.seconds = round(time.monotonic() - start, 1)
        kept.write_text(json.dumps(asdict(result), indent=1))
    return result


def cover(component: Component, *, depth: int = 60, seconds: float = 60) -> dict[str, int | None]:
    """Cycle in which each ``Cover`` of a component is first reached; None within neither bound.

    Parameters and errors as of :func:`prove`; ``seconds`` for each cover.
    """
    reached: dict[str, int | None] = {}
    with _workshop() as folder:
        netlist = aiger(rtlil_text(component), folder, covers=True)
        for number, message in enumerate(netlist.properties):
            search = f"bmc3 -F {depth} -T {seconds:.0f}"
            text = _abc(folder, [f"cone -O {number}", *SMALLER, search], seconds)
            found = re.search(r"was asserted in frame (\d+)", text)
            reached[message] = int(found[1]) if found else None
    return reached
