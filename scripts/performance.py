"""Writes the tables of docs/performance.md from benchmark results; text between them is by hand.

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; NAME is a key of the workload
groups, or one of `measured`, `memories`, `targets` and `array`.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compiler.errors import UserError
from hdl.config import PRESETS
from hdl.matrix import array_latency
from scripts.measure import ROOT
from scripts.records import Records
from scripts.workloads import GROUPS, WORKLOADS

__all__ = ["PAGE", "TARGETS", "Target", "render", "write_page"]

_EDGE = PRESETS["edge"]
_DEPTH = array_latency(_EDGE)
"""Pipeline stages of the array."""

PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Target:
    """A figure to reach on all of some workloads.

    Parameters: `text`; `chosen`: a pattern for their names; `figure`: of a record, a share or
    cycles; `bound`: the smallest share, or with `cycles` the largest count, that will do.
    """

    text: str
    chosen: str
    figure: Callable[[dict], float]
    bound: float
    cycles: bool = False

    def met(self, record: dict) -> bool:
        found = self.figure(record)
        return found <= self.bound if self.cycles else found >= self.bound

    def worst(self, records: list[dict]) -> dict:
        return (max if self.cycles else min)(records, key=self.figure)


def _efficiency(record: dict) -> float:
    return record["efficiency"]


TARGETS = (
    Target("decode, 1 row: 99 % of the roofline", "^decode/.*, 1 rows", _efficiency, 0.99),
    Target("decode, 4 to 32 rows: 95 %", "^decode/.*, (4|8|16|32) rows", _efficiency, 0.95),
    Target(
        "prefill of real layers: 95 % of MACs busy",
        "^prefill/(tinyllama|llama1b|qwen06b)",
        lambda r: r["mac_utilization"],
        0.95,
    ),
    Target(
        "GEMM 64^3 and larger, back to back, sustained: 99 % of MACs busy",
        r"^gemm/\d+\^3 x 16",
        lambda r: r["sustained"],
        0.99,
    ),
    Target(
        "ragged GEMM: within 5 % of its padded roofline, doorbell to done",
        "^gemm/100x77x45 x 16",
        lambda r: r["padded_roofline_cycles"] / r["cycles"],
        1 / 1.05,
    ),
    Target(
        "short reductions, sustained: 99 % of MACs busy",
        "^short/",
        lambda r: r["sustained"],
        0.99,
    ),
    Target(
        "cold start: the first row within latency + one tile + array depth + 64 cycles",
        r"^gemm/\d+\^3 x 1$",
        lambda r: r["first_row_cycle"],
        60 + _EDGE.block_tile_beats + _DEPTH + 64,
        cycles=True,
    ),
    Target("small models, decode: 90 %", "^small/", _efficiency, 0.90),
    Target("8192 tokens of context at dim 2048: 95 %", "^long/", _efficiency, 0.95),
    Target(
        "latency 200, decode of 1 row: 96 %", "^latency/200: llama1b.* 1 rows", _efficiency, 0.96
    ),
    Target("latency 200, 8 rows: 92 %", "^latency/200: llama1b.* 8 rows", _efficiency, 0.92),
    Target(
        "latency 200, prefill: 92 % of MACs busy",
        "^latency/200: llama1b.* chunk",
        lambda r: r["mac_utilization"],
        0.92,
    ),
    Target(
        "DRAM, real layers: 95 % of its own limit",
        "^dram/.*llama1b",
        lambda r: r["sustained_efficiency"],
        0.95,
    ),
)


def _percent(value: float) -> str:
    """Rounded down: what is short of 100 % never reads 100."""
    return f"{math.floor(1000 * value + 1e-9) / 10:.1f} %"


def _table(header: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "Not measured yet."
    lines = [header, ["---", *["---:"] * (len(header) - 2), "---"], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _bound(record: dict) -> str:
    """What most of the cycles are explained by: bytes, multiplications, or neither: latency."""
    padded = record.get("padded_roofline_cycles", 0) / record["cycles"]
    fed = max(padded, record["array_fed"])
    if max(fed, record["sustained_efficiency"]) < 0.9:
        return "latency"
    if fed > record["sustained_efficiency"] + 0.03:
        return "MACs with padding"
    return record["bound"]


def _group(records: list[dict]) -> str:
    products = all("sustained" in r for r in records)
    header = ["workload", "cycles", "roofline", "bound", "efficiency", "under the memory's limit"]
    header += ["MACs useful", "array fed"]
    if products:
        header += ["padded roofline", "overhead", "first row at", "tail", "sustained"]
    rows = []
    for r in records:
        row = [
            r["name"].split("/", 1)[1],
            f"{r['cycles']:,}",
            f"{r['roofline_cycles']:,}",
            _bound(r),
            *map(_percent, (r["efficiency"], r["sustained_efficiency"])),
            *map(_percent, (r["mac_utilization"], r["array_fed"])),
        ]
        if products:
            row += [f"{r['padded_roofline_cycles']:,}", f"{r['overhead_cycles']:,}"]
            row += [f"{r['first_row_cycle']:,}", f"{r['tail_cycles']:,}"]
            row += [_percent(r["sustained"])]
        rows.append([*row, f"`{r['command']}`"])
    return _table([*header, "command"], rows)


def _array(records: list[dict]) -> str:
    names = ("active", "useful_macs", "unused_macs", "weight_stall", "weight_shift", "other")
    header = ["workload", *(n.replace("_", " ") for n in names), "command"]
    rows = [
        [r["name"], *(_percent(r["array"][n]) for n in names), f"`{r['command']}`"] for r in records
    ]
    return _table(header, rows)


def _measured(records: list[dict]) -> str:
    trees: dict[tuple[str, str], list[dict]] = {}
    for r in records:
        trees.setdefault((r["commit"] or "no repository", r["rtl"]), []).append(r)
    lines = []
    for (commit, rtl), some in trees.items():
        days = sorted({r["date"][:10] for r in some})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        exact = sum(r["bit_exact"] is True for r in some)
        lines.append(
            f"- {len(some)} workloads at commit `{commit}` (content of `hdl/`: `{rtl}`), {when}; "
            f"{exact} of them bit-exact against the golden model."
        )
    absent = [n for n in WORKLOADS if n not in {r["name"] for r in records}]
    if absent:
        lines.append(f"- Not measured yet: {len(absent)} of {len(WORKLOADS)}.")
    return "\n".join(lines)


def _memories(records: list[dict]) -> str:
    return "\n".join(f"- {text}." for text in dict.fromkeys(r["memory"] for r in records))


def _targets(records: list[dict]) -> str:
    rows = []
    for target in TARGETS:
        some = [r for r in records if re.search(target.chosen, r["name"])]
        count = sum(bool(re.search(target.chosen, name)) for name in WORKLOADS)
        if not some:
            rows.append([target.text, f"0 of {count}", "", "", "not measured"])
            continue
        worst = target.worst(some)
        met = "met" if len(some) == count else "met so far"
        verdict = met if target.met(worst) else "missed"
        found = target.figure(worst)
        shown = f"{found:,} cycles" if target.cycles else _percent(found)
        rows.append([target.text, f"{len(some)} of {count}", shown, worst["name"], verdict])
    return _table(["target", "measured", "worst", "at", "verdict"], rows)


def render(text: str, results: dict[str, dict]) -> str:
    """The page with its tables made new.

    Raises ``UserError`` for a mark of no table, one without its end, or a table without a mark.
    """
    records = [results[name] for name in WORKLOADS if name in results]
    makers: dict[str, Callable[[], str]] = {
        "measured": lambda: _measured(records),
        "memories": lambda: _memories(records),
        "targets": lambda: _targets(records),
        "array": lambda: _array(records),
    }
    for group in GROUPS:
        some = [r for r in records if WORKLOADS[r["name"]].group == group]
        makers[group] = partial(_group, some)
    found = re.findall(r"<!-- begin (\w+) -->", text)
    if sorted(found) != sorted(makers):
        wrong = sorted(set(found) ^ set(makers)) or found
        raise UserError(f"performance page: tables {', '.join(wrong)} missing, unknown or doubled")
    for name, make in makers.items():
        pattern = rf"(?<=<!-- begin {name} -->\n).*?(?=<!-- end {name} -->)"
        content = make().replace("\\", r"\\") + "\n"
        text, count = re.subn(pattern, content, text, flags=re.DOTALL)
        if count != 1:
            raise UserError(f"performance page: table {name} has no end mark")
    return text


def write_page(records: Records, path: Path | None = None, *, check: bool = False) -> bool:
    """Bring the page up to date, or with ``check`` only look; whether it differs."""
    path = path or PAGE
    try:
        old = path.read_text()
    except OSError as error:
        raise UserError(f"{path}: can't read it ({error.strerror})") from None
    new = render(old, records.results())
    if new != old and not check:
        path.write_text(new)
    return new != old
