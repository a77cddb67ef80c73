"""Chips that the RTL can't be built as today: projections, and the rules they stand on.

``hdl/config.py`` builds arrays up to 32 x 32, ports up to 64 bytes, 32 lanes and 64 rows a step. A
projected machine goes on from there like this:

* array rows a multiple of 32: a column gives a block sum every 32 rows; the sums of a tile are
  added in FP32 in ascending block order, one adder pass each (results stay what they are);
* array columns a multiple of 32: as many panels are made at once, each a place in the ring;
* a visit of attention takes as many pages as the array has panels across and blocks down, and the
  running maximum moves once a visit (the rounding of P then differs from the RTL's);
* lanes a multiple of 32: as many row blocks in a cycle;
* ``port_bytes`` is the sum of the memory ports, addresses interleaved, a beat one beat of each;
* matrices are padded on the tape to whole array tiles;
* rows of a step past 64 cost what rows cost.
"""

import json
from fractions import Fraction
from pathlib import Path

from hdl.config import PRESETS
from sim.cycle_model.machine import Machine

__all__ = ["CLOCKS", "MACHINES"]

_NOTE = (
    "a projection: the RTL builds arrays up to 32 x 32, ports up to 64 bytes, 32 lanes and 64 rows "
    "a step today"
)

_ASSUMED = {"tiny": 50e6, "ulx3s": 50e6, "edge": 200e6}
_BUILDS = Path(__file__).resolve().parents[2] / "benchmarks" / "fpga.json"


def _clocks(builds: Path = _BUILDS) -> dict[str, float]:
    """The assumed clocks, and in place of ulx3s' the one that its recorded build reaches."""
    try:
        build = json.loads(builds.read_text())["ulx3s-ulx3s"]
        return _ASSUMED | {"ulx3s": 1e6 * min(build["fmax_mhz"], build["target_mhz"])}
    except (OSError, ValueError, KeyError, TypeError):  # no record, or one that did not fit
        return _ASSUMED


CLOCKS = _clocks()
"""Clocks of the presets in Hz: `ulx3s` as placed and routed, of the others nothing is known."""

MACHINES: dict[str, Machine] = {
    **{name: Machine.of(config, CLOCKS[name]) for name, config in PRESETS.items()},
    # 1024 bytes at 1 GHz is about one HBM stack (1 TB/s); a tile of 128 x 128 then loads in 16.5
    # cycles, so 16 rows ride free. 128 lanes keep SwiGLU, softmax and NORM behind the array at
    # dim >= 1024. The tape FIFO holds 512 cycles of memory, four times its latency of 120 ns.
    "server": Machine(
        name="server",
        rows=128,
        cols=128,
        port_bytes=1024,
        lanes=128,
        row_capacity=256,
        max_head_dim=256,
        activation_blocks=1 << 19,
        row_blocks=1 << 16,
        constant_blocks=1 << 13,
        panel_ring=16,
        page_slots=8,
        tape_beats=512,
        burst_beats=16,
        outstanding_reads=64,
        latency=120,
        bandwidth=Fraction(1),
        clock_hz=1e9,
        projection=_NOTE,
    ),
}
"""Machines by name: the presets, and what is projected."""
