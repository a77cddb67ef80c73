"""Pareto plots: tokens/s against the area and the power proxy, as PNG and as HTML."""

import html
import math
from pathlib import Path
from typing import Any

from scripts.sweep.pareto import COSTS, Workload, text_of, varying

__all__ = ["write_html", "write_png"]

_LABELS = {"area_mm2": "area proxy, mm² at 45 nm", "watts": "power proxy, W at 45 nm"}
_BOUNDS = {"memory": "#0072b2", "macs": "#d55e00", "vector": "#009e73", "latency": "#cc79a7"}
"""Colours of what bounds a point (Okabe and Ito, told apart by colour-blind readers)."""
_MOST_DOTS = 4000
_MOST_PANELS = 6

_WIDTH, _HEIGHT = 560, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 15, 15, 50

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1180px; color: #222 }
svg { width: 560px; max-width: 100% }
text { font: 11px system-ui, sans-serif; fill: #444 }
.grid { stroke: #ddd }
.front { fill: none; stroke: #222; stroke-width: 1.2 }
circle { fill-opacity: 0.45 }
circle.best { fill-opacity: 1; stroke: #222; stroke-width: 1.2 }
circle:hover { fill-opacity: 1; stroke: #000; stroke-width: 2.5 }
.key span { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50% }
.key { margin-right: 1.2em }
"""


def write_png(path: Path, works: list[Workload]) -> None:
    """A row of plots a workload, the first six of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = works[:_MOST_PANELS]
    figure = Figure(figsize=(10, 3.6 * len(shown)), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(shown), 2, squeeze=False)
    for axes_row, work in zip(grid, shown, strict=True):
        for axes, (name, cost) in zip(axes_row, COSTS.items(), strict=True):
            for bound, colour in _BOUNDS.items():
                some = [r for r in work.rows if r["bound"] == bound]
                axes.scatter(
                    [r[cost] for r in some],
                    [r["tokens_per_second"] for r in some],
                    s=14,
                    alpha=0.45,
                    color=colour,
                    label=f"bound by {bound}" if some else None,
                    linewidths=0,
                )
            best = work.front(name)
            steps = [r[cost] for r in best], [r["tokens_per_second"] for r in best]
            axes.plot(*steps, color="#222", lw=1, drawstyle="steps-post", label="Pareto front")
            axes.scatter(*steps, s=26, facecolors="none", edgecolors="#222", linewidths=1)
            axes.set(xscale="log", yscale="log", xlabel=_LABELS[cost], ylabel="tokens/s")
            x, y = _scales(work, cost)
            axes.set_xticks(x.ticks(), [text_of("", v) for v in x.ticks()])
            axes.set_yticks(y.ticks(), [text_of("", v) for v in y.ticks()])
            axes.minorticks_off()
            axes.set(xlim=x.limits, ylim=y.limits)
            axes.grid(alpha=0.4, lw=0.5)
        axes_row[0].set_title(work.title, loc="left", fontsize=10)
        axes_row[0].legend(fontsize=8, frameon=False)
    figure.savefig(path)


def write_html(path: Path, works: list[Workload], title: str) -> None:
    """A page that needs nothing else; every point says its parameters under the mouse."""
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/>',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1><p>Tokens/s in all against cost. Ringed points are the "
        "Pareto front: none is both faster and cheaper. Hold the mouse over a point to read it. "
        "Area and power are proxies, for comparing designs.</p><p>",
    ]
    for bound, colour in _BOUNDS.items():
        swatch = f'<span style="background:{colour}"></span>'
        parts.append(f'<span class="key">{swatch} bound by {bound}</span>')
    parts.append("</p>")
    for work in works:
        count = f"{len(work.rows):,} points"
        shown = work.rows
        if len(shown) > _MOST_DOTS:
            shown = shown[:: math.ceil(len(shown) / _MOST_DOTS)]
            count += f", {len(shown):,} of them and the fronts shown"
        parts.append(f"<h2>{html.escape(work.title)}</h2><p>{count}</p>")
        parts.extend(_svg(work, shown, name) for name in COSTS)
    parts.append("</body></html>\n")
    path.write_text("\n".join(parts), encoding="utf-8")


class _Scale:
    """Logarithmic, from values to pixels, with some air at both ends."""

    def __init__(self, values: list[float], start: float = 0, end: float = 1):
        low, high = math.log10(min(values)), math.log10(max(values))
        air = max(0.05 * (high - low), 0.005)
        self.low, self.high, self.start, self.end = low - air, high + air, start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def limits(self) -> tuple[float, float]:
        return 10**self.low, 10**self.high

    def ticks(self) -> list[float]:
        """1, 2, 5 or 1 times powers of ten in range; in a narrow one round numbers evenly apart."""
        first, last = self.limits
        if last > 10 * first:
            factors = (1, 2, 5) if last < 1000 * first else (1,)
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            return [f * 10.0**d for d in decades for f in factors if first <= f * 10.0**d <= last]
        rough = (last - first) / 8
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * f for f in (1, 2, 5, 10) if unit * f >= rough)
        return [n * step for n in range(math.ceil(first / step), math.floor(last / step) + 1)]


def _scales(work: Workload, cost: str) -> tuple[_Scale, _Scale]:
    """For matplotlib, of which only limits and ticks matter."""
    return _Scale([r[cost] for r in work.rows]), _Scale([r["tokens_per_second"] for r in work.rows])


def _svg(work: Workload, shown: list[dict[str, Any]], name: str) -> str:
    """One plot. ``shown``: the points besides the front that are drawn."""
    cost = COSTS[name]
    best = work.front(name)
    x = _Scale([r[cost] for r in work.rows], _LEFT, _WIDTH - _RIGHT)
    y = _Scale([r["tokens_per_second"] for r in work.rows], _HEIGHT - _BOTTOM, _TOP)
    base, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    lines = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" class="{name}">']
    for value in x.ticks():
        at = x(value)
        lines.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{base}"/>')
        lines.append(
            f'<text x="{at:.1f}" y="{base + 16}" text-anchor="middle">{text_of("", value)}</text>'
        )
    for value in y.ticks():
        at = y(value)
        lines.append(f'<line class="grid" y1="{at:.1f}" y2="{at:.1f}" x1="{_LEFT}" x2="{end}"/>')
        lines.append(
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{text_of("", value)}</text>'
        )
    middle = (_LEFT + end) / 2, (_TOP + base) / 2
    lines.append(
        f'<text x="{middle[0]}" y="{_HEIGHT - 12}" text-anchor="middle">{_LABELS[cost]}</text>'
        f'<text transform="translate(14 {middle[1]}) rotate(-90)" text-anchor="middle">'
        "tokens/s</text>"
    )
    path = ""  # level until the next point, then up
    for row in best:
        path += f"H{x(row[cost]):.1f}V{y(row['tokens_per_second']):.1f}"
    start = f"M{x(best[0][cost]):.1f} {y(best[0]['tokens_per_second']):.1f}"
    lines.append(f'<path class="front" d="{start}{path}"/>')
    axes = varying(work.rows)
    ringed = {r["point"] for r in best}
    for row in [*(r for r in shown if r["point"] not in ringed), *best]:
        ring, size = (' class="best"', 4.5) if row["point"] in ringed else ("", 3.5)
        lines.append(
            f'<circle{ring} cx="{x(row[cost]):.1f}" cy="{y(row["tokens_per_second"]):.1f}" '
            f'r="{size}" fill="{_BOUNDS[row["bound"]]}"><title>{_hover(row, axes)}</title></circle>'
        )
    return "\n".join([*lines, "</svg>"])


def _hover(row: dict[str, Any], axes: list[str]) -> str:
    lines = [f"{name} {text_of(name, row[name])}" for name in axes]
    lines += [
        f"{row['tokens_per_second']:,.1f} tokens/s, {row['cycles']:,} cycles",
        f"{row['area_mm2']:,.2f} mm², {row['watts']:,.3f} W",
        f"{100 * row['efficiency']:.1f} % of the roofline, bound by {row['bound']}",
    ]
    return html.escape("\n".join(lines))
