"""The chip as the cycle model sees it: a `Config` with its memory and clock, or a projection."""

import math
from dataclasses import dataclass, fields
from fractions import Fraction

from hdl.config import BLOCK, PAGE_TOKENS, Config
from hdl.fp import ADD_LATENCY, TERM_LATENCY
from hdl.matrix import array_latency
from sim.verilated.library import MemoryTiming

__all__ = ["Machine"]


@dataclass(frozen=True)
class Machine:
    """Sizes of a chip, its memory's timing and its clock.

    The first group means what it means in :class:`hdl.config.Config`. Past the sizes that the RTL
    is built for, the rules of ``sim.cycle_model.projection`` hold: array rows a multiple of 32
    finish a block sum every 32 rows, columns a multiple of 32 make several panels at once, lanes a
    multiple of 32 take several row blocks in a cycle, and ``port_bytes`` is that of all memory
    ports together.

    Parameters
    ----------
    latency
        Cycles from a read address to its first beat, and from a write's last beat to its response.
    bandwidth
        Beats a cycle in each direction, at most 1.
    clock_hz
        Clock of the whole chip.
    projection
        Empty for a chip that the RTL can be built as; else a line that says what it goes beyond.

    Raises
    ------
    ValueError
        For sizes that no rule covers.
    """

    name: str
    rows: int
    cols: int
    port_bytes: int
    lanes: int
    row_capacity: int
    max_head_dim: int
    activation_blocks: int
    row_blocks: int
    constant_blocks: int
    row_group: int = 4
    col_group: int = 4
    adder_levels: int = 2
    panel_ring: int = 4
    page_slots: int = 4
    tape_beats: int = 1024
    burst_beats: int = 64
    outstanding_reads: int = 16
    queue_depth: int = 8
    kv_on_chip_bytes: int = 0
    latency: int = 60
    bandwidth: Fraction = Fraction(1)
    clock_hz: float = 100e6
    projection: str = ""

    def __post_init__(self):
        for what, value in (("rows", self.rows), ("cols", self.cols), ("lanes", self.lanes)):
            if value < 1 or max(value, BLOCK) % min(value, BLOCK):
                raise ValueError(
                    f"machine {self.name!r}: {what}={value}: choose a divisor or multiple of 32"
                )
        for group, size in (("row_group", self.rows), ("col_group", self.cols)):
            object.__setattr__(self, group, min(getattr(self, group), size))
        if self.window_tiles < 2:
            raise ValueError(
                f"machine {self.name!r}: tape_beats={self.tape_beats} must hold two block tiles: "
                f"choose {math.ceil(2 * self.element_beats)} or more"
            )
        if not 0 < self.bandwidth <= 1 or self.clock_hz <= 0 or self.latency < 1:
            raise ValueError(
                f"machine {self.name!r}: bandwidth, clock and latency must be positive"
            )

    @classmethod
    def of(
        cls,
        config: Config,
        clock_hz: float = 100e6,
        *,
        latency: int = 60,
        bandwidth: Fraction | float = Fraction(1),
        outstanding_reads: int | None = None,
    ) -> "Machine":
        """The machine that the RTL of ``config`` is, behind a memory of this timing.

        ``outstanding_reads`` of the memory; the chip's own limit holds as well.
        """
        own = {f.name for f in fields(cls)}
        values = {f.name: getattr(config, f.name) for f in fields(config) if f.name in own}
        if outstanding_reads is not None:
            values["outstanding_reads"] = min(outstanding_reads, config.outstanding_reads)
        rate = Fraction(bandwidth).limit_denominator(1000)
        return cls(**values, latency=latency, bandwidth=rate, clock_hz=clock_hz)

    # Array and tape ---------------------------------------------------------------------------
    @property
    def passes(self) -> int:
        """Array passes that make one block of 32."""
        return max(1, BLOCK // self.rows)

    @property
    def column_groups(self) -> int:
        """Array tiles across one panel."""
        return max(1, BLOCK // self.cols)

    @property
    def deep_blocks(self) -> int:
        """Blocks that one array tile reduces."""
        return max(1, self.rows // BLOCK)

    @property
    def wide_panels(self) -> int:
        """Panels that one array tile reaches across."""
        return max(1, self.cols // BLOCK)

    @property
    def tile_beats(self) -> float:
        """Element beats of one array tile."""
        return self.rows * self.cols / self.port_bytes

    @property
    def element_beats(self) -> float:
        """Element beats of a block tile: all passes."""
        return self.passes * self.tile_beats

    @property
    def scale_beats(self) -> float:
        """Scale beats of a block tile."""
        return self.deep_blocks * self.cols / self.port_bytes

    @property
    def period(self) -> float:
        """Beats of a block tile on the tape."""
        return self.element_beats + self.scale_beats

    @property
    def window_tiles(self) -> int:
        """Block tiles that the tape reader may have asked for and not handed on."""
        return math.floor(self.tape_beats / self.element_beats)

    @property
    def array_latency(self) -> int:
        """As ``hdl.matrix.array.SystolicArray.latency``."""
        return array_latency(self)

    @property
    def accumulate_latency(self) -> int:
        """As ``hdl.matrix.accumulator.BlockAccumulator.latency``; projected: an add a block."""
        sums = self.array_latency + (self.passes > 1)
        return sums + TERM_LATENCY + self.deep_blocks * ADD_LATENCY

    # Vector unit --------------------------------------------------------------------------------
    @property
    def block_words(self) -> int:
        """Cycles of a block of 32, one at the least."""
        return max(1, BLOCK // self.lanes)

    @property
    def blocks_a_word(self) -> int:
        """Row blocks in a cycle where there are more lanes than 32."""
        return max(1, self.lanes // BLOCK)

    @property
    def head_blocks(self) -> int:
        return self.max_head_dim // BLOCK

    @property
    def panels(self) -> int:
        return self.panel_ring + 2 * self.head_blocks

    @property
    def visit_pages(self) -> int:
        """Pages that a visit of attention takes."""
        return min(self.deep_blocks, self.wide_panels)

    # KV -----------------------------------------------------------------------------------------
    def page_beats(self, head_blocks: int) -> float:
        """Beats of one head in a page: K and V, elements and scales."""
        half = PAGE_TOKENS * BLOCK * head_blocks / self.port_bytes
        return 2 * (half + PAGE_TOKENS / self.port_bytes)

    @property
    def read_window(self) -> int:
        """Beats asked for ahead of memory: what the runtime writes to READ_WINDOW."""
        return MemoryTiming(latency=self.latency).read_window(self.burst_beats)

    # Rates --------------------------------------------------------------------------------------
    @property
    def beat_cycles(self) -> float:
        """Cycles of a beat at the memory's sustained rate, the outstanding bursts' limit too."""
        streaming = float(1 / self.bandwidth)
        occupied = self.latency + self.burst_beats * streaming
        return max(streaming, occupied / (self.outstanding_reads * self.burst_beats))
