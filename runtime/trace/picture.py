"""A timeline as a PNG, for reading without a browser."""

from io import BytesIO
from pathlib import Path

import numpy as np

from hdl.isa import Unit
from hdl.trace import BEATS
from runtime.trace.reader import Timeline
from runtime.trace.summary import (
    OPCODE_COLOURS,
    Share,
    colour_of,
    rebin,
    shares,
    state_columns,
)

__all__ = ["BEAT_COLOURS", "write_png"]

BEAT_COLOURS = {
    "tape": "#a6bddb",
    "kv": "#ce1256",
    "program": "#969696",
    "rows": "#66c2a5",
    "walk": "#ae017e",
    "kv_write": "#fb8072",
    "rows_write": "#bc80bd",
}
"""Of memory beats by cause."""

_COLUMNS = 1400
_WIDTH, _DPI = 14.0, 100
_READS = [name for name in BEATS if name != "fed" and "write" not in name]
_WRITES = [name for name in BEATS if "write" in name]


def write_png(timeline: Timeline, path: Path, first: int, last: int, title: str) -> None:
    """Draws cycles first to last.

    From top to bottom: for each unit its instructions (bar) and its states (shares of each column,
    bottom up); memory beats a cycle by cause, reads up and writes down; a table of where the cycles
    went, whose colours are the legend.
    """
    # Half a second, only where a picture is made.
    from matplotlib.figure import Figure
    from PIL import Image

    part = timeline.clip(first, last)
    table = shares(part, last - first)
    figure = Figure(figsize=(_WIDTH, 9.2), dpi=_DPI, facecolor="white")
    figure.subplots_adjust(left=0.07, right=0.985, top=0.93, bottom=0.01, hspace=0.2)
    grid = figure.add_gridspec(3, 1, height_ratios=(5.2, 1.8, 2.4))
    lanes, memory, text = (figure.add_subplot(grid[i]) for i in range(3))
    figure.suptitle(title, x=0.07, y=0.985, ha="left", fontsize=11)
    edges = np.linspace(first, last, min(_COLUMNS, last - first) + 1)
    _lanes(lanes, part, edges)
    _memory(memory, part, edges)
    _table(text, table, last - first)
    for axes in (lanes, memory):
        axes.set_xlim(first, last)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    # A palette: a third of the size.
    Image.open(drawn).convert("RGB").quantize(128).save(path, format="png", optimize=True)


def _lanes(axes, part: Timeline, edges: np.ndarray) -> None:
    units = list(Unit)
    first, last = edges[0], edges[-1]
    for unit in units:
        base = 1.25 * (len(units) - 1 - unit.value)
        some = part.instructions[unit]
        bars = [(max(s, first), min(s + d, last) - max(s, first)) for s, d, _, _ in some]
        colours = [OPCODE_COLOURS[name] for _, _, name, _ in some]
        # A bar of less than a pixel is still an instruction; outlines only where there is room.
        wide = len(bars) < 300
        axes.broken_barh(
            bars,
            (base + 0.55, 0.45),
            facecolors=colours,
            edgecolors="white" if wide else colours,
            linewidth=0.5 if wide else 0.2,
        )
        for (start, length), (_, _, name, _) in zip(bars, some, strict=True):
            if length > 0.0075 * (last - first) * max(len(name), 3):
                middle = start + length / 2
                axes.text(middle, base + 0.77, name, ha="center", va="center", fontsize=7)
        height = np.full(len(edges) - 1, base)
        for state, cause, share in state_columns(part, unit, edges):
            top = height + 0.5 * share
            colour = colour_of(state, cause)
            axes.stairs(top, edges, baseline=height, fill=True, color=colour, linewidth=0)
            height = top
    axes.set_yticks(
        [1.25 * (len(units) - 1 - u.value) + 0.5 for u in units],
        [u.name.lower() for u in units],
        fontsize=9,
    )
    axes.set_ylim(-0.1, 1.25 * len(units) + 0.15)
    for step in part.about["steps"]:
        start, end = step["start"], step["start"] + step["cycles"]
        if start >= last or end <= first:
            continue
        axes.axvline(max(start, first), color="#555555", linewidth=0.7, linestyle=":")
        room = (min(end, last) - max(start, first)) / (0.006 * (last - first))
        for name in (step["name"], step["name"].split(",")[0], step["name"].split(":")[0]):
            if len(name) < room:
                y = 1.25 * len(units) - 0.1
                axes.text(max(start, first), y, f" {name}", fontsize=7.5, va="bottom")
                break
    used = {i[2] for some in part.instructions.values() for i in some}
    axes.legend(
        handles=[_square(0, 0, colour, n) for n, colour in OPCODE_COLOURS.items() if n in used],
        loc="lower left",
        bbox_to_anchor=(-0.005, 1.0),
        ncol=len(OPCODE_COLOURS),
        fontsize=7.5,
        frameon=False,
        handlelength=1,
        columnspacing=1.4,
    )


def _memory(axes, part: Timeline, edges: np.ndarray) -> None:
    """Beats a cycle, stacked."""
    names = list(BEATS)
    lowest = -0.05
    for causes, sign in ((_READS, 1), (_WRITES, -1)):
        height = np.zeros(len(edges) - 1)
        for name in causes:
            counts = rebin(
                part.beats[:, 0], part.beats[:, 1], part.beats[:, 2 + names.index(name)], edges
            )
            if not counts.any():
                continue
            top = height + sign * counts / np.diff(edges)
            share = counts.sum() / (edges[-1] - edges[0])
            label = f"{name.replace('_', ' ')} {100 * share:.1f} %"
            axes.stairs(
                top, edges, baseline=height, fill=True, color=BEAT_COLOURS[name], label=label
            )
            height = top
        lowest = min(lowest, float(height.min()) * 1.1)
    axes.axhline(0, color="#555555", linewidth=0.6)
    axes.set_ylim(max(lowest, -1.05), 1.05)
    axes.set_ylabel("beats a cycle\n(writes below 0)", fontsize=8)
    axes.set_xlabel("cycle", fontsize=8, labelpad=1)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncol=7,
            fontsize=7.5,
            frameon=False,
            handlelength=1,
        )


def _table(axes, table: dict[Unit, list[Share]], cycles: int) -> None:
    """A line a unit: colour, name and percent of each state."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, len(Unit) + 1.2)
    axes.text(0, len(Unit) + 0.2, f"where {cycles:,} cycles went", fontsize=9)
    for unit, some in table.items():
        y = len(Unit) - 1 - unit.value + 0.35
        axes.text(0, y, unit.name.lower(), fontsize=8.5, va="center")
        x = 0.055
        for share in some:
            if share.cycles < 0.0005 * cycles:
                continue
            text = f"{share.name} {100 * share.cycles / cycles:.1f} %"
            if x + 0.005 * len(text) + 0.012 > 1.01:
                axes.text(x, y, "...", fontsize=8, va="center")
                break
            if share.name != "idle":
                colour = colour_of(share.state, share.cause)
                axes.add_patch(_square(x, y - 0.26, colour))
            axes.text(x + 0.012, y, text, fontsize=8, va="center")
            x += 0.005 * len(text) + 0.024


def _square(x: float, y: float, colour: str, label: str = ""):
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 0.009, 0.52, color=colour, label=label)
