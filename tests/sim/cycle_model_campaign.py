"""Prediction against RTL over many steps, as a table.

    python -m tests.sim.cycle_model_campaign --seeds 0-99        random shapes
    python -m tests.sim.cycle_model_campaign --bench             the bench shapes of README.md

``--json FILE`` keeps every counter.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import process_time

from hdl.config import PRESETS
from hdl.isa import Counter
from sim.cycle_model import predict
from tests.sim.cycle_model_rtl import Case, rtl_counters
from tests.sim.cycle_model_shapes import bench_cases, grid_cases, random_case

__all__ = ["Comparison", "compare"]

BYTES = tuple(c for c in Counter if c.name.endswith("_BEATS"))
STATES = tuple(c for c in Counter if c.name.endswith(("_BUSY", "_STARVED", "_BLOCKED")))


@dataclass(frozen=True)
class Comparison:
    """Counters of the RTL and of the model, and how long each took."""

    case: Case
    rtl: dict[Counter, int]
    model: dict[Counter, int]
    rtl_seconds: float
    model_seconds: float

    @property
    def error(self) -> float:
        """Of the cycles, in percent."""
        cycles = self.rtl[Counter.CYCLES]
        return 100 * (self.model[Counter.CYCLES] - cycles) / cycles

    def points(self, counter: Counter) -> float:
        """Error of a counter in percent of the step's cycles."""
        return 100 * (self.model[counter] - self.rtl[counter]) / self.rtl[Counter.CYCLES]


def compare(case: Case) -> Comparison:
    """Both, for one step; the model's time is the best of three."""
    words, steps = case.words(), case.step()
    start = process_time()
    rtl = rtl_counters(case)
    rtl_seconds = process_time() - start
    seconds = float("inf")
    for _ in range(3):  # the first of a process pays for its tables
        start = process_time()
        prediction = predict(words, case.config, steps, case.timing, store_logits=case.logits)
        seconds = min(seconds, process_time() - start)
    return Comparison(case, rtl, prediction.counters(case.config.port_bytes), rtl_seconds, seconds)


def _numbers(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _summary(found: list[Comparison]) -> None:
    def line(what: str, some: list[Comparison]) -> None:
        errors = sorted(abs(c.error) for c in some)
        if errors:
            print(
                f"{what:24s} {len(errors):4d} steps, mean {sum(errors) / len(errors):.2f} %, "
                f"90 % within {errors[int(0.9 * (len(errors) - 1))]:.2f} %, "
                f"worst {errors[-1]:.2f} %, {sum(e > 2 for e in errors)} over 2 %"
            )

    print()
    line("all", found)
    for preset in PRESETS:
        for kind in ("gemm", "layer or model"):
            line(
                f"{preset}, {kind}",
                [
                    c
                    for c in found
                    if c.case.preset == preset and (c.case.gemm is None) == (kind != "gemm")
                ],
            )
    for latency in sorted({c.case.latency for c in found}):
        line(f"latency {latency}", [c for c in found if c.case.latency == latency])
    line("bandwidth below 1", [c for c in found if c.case.bandwidth < Fraction(1)])
    wrong = [c for c in found if any(c.rtl[b] != c.model[b] for b in BYTES)]
    print(f"beats by cause differ in {len(wrong)} steps")
    for counter in STATES:
        errors = [abs(c.points(counter)) for c in found]
        print(
            f"  {counter.name.lower():16s} mean {sum(errors) / len(errors):5.2f}, "
            f"worst {max(errors):5.2f} points"
        )
    rtl = sum(c.rtl_seconds for c in found)
    model = sum(c.model_seconds for c in found)
    print(f"RTL {rtl:.1f} s, model {model:.2f} s: {rtl / model:,.0f} times")


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 if a step is off by more than ``--limit`` percent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=_numbers, default=range(0), help="random steps, as 0-99")
    parser.add_argument("--bench", action="store_true", help="the bench shapes of README.md")
    parser.add_argument("--grid", action="store_true", help="small shapes x latencies x presets")
    parser.add_argument("--limit", type=float, default=2.0, help="percent (2)")
    parser.add_argument("--json", type=Path, help="write every counter")
    options = parser.parse_args(arguments)
    cases = [random_case(seed) for seed in options.seeds]
    cases += bench_cases() if options.bench else []
    cases += grid_cases() if options.grid else []
    if not cases:
        parser.error("nothing to compare: give --seeds, --bench or --grid")
    found = []
    print("   error         RTL       model   times  step")
    for case in cases:
        c = compare(case)
        found.append(c)
        print(
            f"{c.error:+7.2f} % {c.rtl[Counter.CYCLES]:11,d} {c.model[Counter.CYCLES]:11,d} "
            f"{c.rtl_seconds / c.model_seconds:7,.0f}  {case.text()}",
            flush=True,
        )
    _summary(found)
    if options.json:
        rows = [
            {
                "step": c.case.text(),
                "error_percent": c.error,
                "rtl": {k.name.lower(): v for k, v in c.rtl.items()},
                "model": {k.name.lower(): v for k, v in c.model.items()},
                "rtl_seconds": c.rtl_seconds,
                "model_seconds": c.model_seconds,
            }
            for c in found
        ]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(abs(c.error) > options.limit for c in found))


if __name__ == "__main__":
    sys.exit(main())
