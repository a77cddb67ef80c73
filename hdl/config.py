"""Parameters of one Serrano chip, and the named presets."""

from dataclasses import dataclass, field, fields

__all__ = ["BLOCK", "PAGE_TOKENS", "PRESETS", "Config"]

BLOCK = 32
"""Elements in an MX block, along the reduction axis (OCP Microscaling v1.0)."""

PAGE_TOKENS = BLOCK
"""Tokens in a KV page: one MX block along the token axis."""


@dataclass(frozen=True)
class Config:
    """Shape of a chip. Every derived size is a property; every block takes this object whole.

    Parameters
    ----------
    rows, cols
        Systolic array: rows reduce, columns are outputs. ``rows`` divides 32.
    row_group, col_group
        Multipliers that work in step, down and across: a cluster of ``row_group x col_group``
        takes its activations in one cycle and adds its products in one tree; registers stand
        between clusters (as Gemmini's tiles in a mesh). Larger than the array: all of it.
    adder_levels
        Adders in a row between two registers of that tree. An FPGA wants small clusters and one
        level (``ulx3s``), a simulator few registers: one cluster and all levels (``edge``).
    port_bytes
        Width of the memory port. Divides ``rows`` and ``cols``, so that a memory beat of int8
        elements is a whole load of the array.
    lanes
        FP32 lanes of the vector unit. Divides ``cols`` and 32.
    row_capacity
        Token rows in one step at the most, and query rows in one attention batch.
    max_head_dim
        Longest head, padded to 32.
    activation_blocks
        Words of the quantised activation memory: one MX block (32 int8, 1 scale) each.
    row_blocks
        Blocks of 32 FP32 in the row memory (residual stream).
    constant_blocks
        Blocks of 32 FP32 in the constant memory (norm weights, RoPE rows of the step).
    panel_ring
        Accumulator panels (``row_capacity x 32`` FP32) between matrix and vector unit.
    page_slots
        KV pages (K and V of one head) buffered on chip.
    tape_beats
        Depth of the tape FIFO, in beats.
    burst_beats
        Longest AXI burst.
    address_bits
        Byte address width of the memory port.
    kv_on_chip_bytes
        0: KV pages live in memory. Otherwise the size of an on-chip KV memory.

    Raises
    ------
    ValueError
        For a combination that can't be built; the message says what would do.
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
    address_bits: int = 32
    kv_on_chip_bytes: int = 0
    queue_depth: int = 8
    note: str = field(default="", compare=False)

    def __post_init__(self):
        def need(condition, message):
            if not condition:
                raise ValueError(f"config {self.name!r}: {message}")

        for f in fields(self):
            value = getattr(self, f.name)
            if f.type is int and (not isinstance(value, int) or value < 0):
                raise ValueError(f"config {self.name!r}: {f.name} must be a whole number >= 0")
        need(self.rows in (4, 8, 16, 32), f"rows={self.rows}: choose 4, 8, 16 or 32")
        need(self.cols in (4, 8, 16, 32), f"cols={self.cols}: choose 4, 8, 16 or 32")
        need(
            self.port_bytes in (4, 8, 16, 32, 64),
            f"port_bytes={self.port_bytes}: choose 4, 8, 16, 32 or 64",
        )
        need(
            self.rows % self.port_bytes == 0 and self.cols % self.port_bytes == 0,
            f"port_bytes={self.port_bytes} must divide rows={self.rows} and cols={self.cols}",
        )
        for group, size in (("row_group", self.rows), ("col_group", self.cols)):
            object.__setattr__(self, group, min(getattr(self, group), size))
        need(
            self.rows % self.row_group == 0 and self.cols % self.col_group == 0,
            f"row_group={self.row_group} must divide rows, col_group={self.col_group} cols",
        )
        need(self.adder_levels >= 1, f"adder_levels={self.adder_levels}: choose 1 or more")
        need(
            self.lanes in (2, 4, 8, 16, 32) and self.cols % self.lanes == 0,
            f"lanes={self.lanes}: choose 2, 4, 8, 16 or 32, dividing cols={self.cols}",
        )
        need(
            4 * self.lanes >= self.port_bytes,
            f"lanes={self.lanes}: a vector word must be at least a memory beat",
        )
        need(
            self.max_head_dim % BLOCK == 0 and self.max_head_dim > 0,
            f"max_head_dim={self.max_head_dim}: choose a multiple of {BLOCK}",
        )
        need(1 <= self.row_capacity <= 64, f"row_capacity={self.row_capacity}: choose 1 to 64")
        need(self.panel_ring >= 2, "panel_ring: a SwiGLU holds two panels, choose 2 or more")
        need(self.page_slots in (4, 8), f"page_slots={self.page_slots}: choose 4 or 8")
        need(
            self.burst_beats * self.port_bytes <= 4096 and self.burst_beats <= 256,
            f"burst_beats={self.burst_beats}: a burst may not pass 4 KiB or 256 beats",
        )
        need(
            self.tape_beats >= 2 * self.burst_beats,
            f"tape_beats={self.tape_beats}: choose at least two bursts",
        )
        need(24 <= self.address_bits <= 40, f"address_bits={self.address_bits}: choose 24 to 40")

    # Array and tape ---------------------------------------------------------------------------
    @property
    def passes(self) -> int:
        """Array passes that make one block of 32 reduction elements."""
        return BLOCK // self.rows

    @property
    def column_groups(self) -> int:
        """Array tiles across one panel of 32 outputs."""
        return BLOCK // self.cols

    @property
    def column_beats(self) -> int:
        """Beats that hold one column of a tile (load by column)."""
        return self.rows // self.port_bytes

    @property
    def row_beats(self) -> int:
        """Beats that hold one row of a tile (load by row), and the scales of a tile."""
        return self.cols // self.port_bytes

    @property
    def tile_beats(self) -> int:
        """Element beats of one array tile."""
        return self.rows * self.cols // self.port_bytes

    @property
    def block_tile_beats(self) -> int:
        """Beats on the tape of a block tile: scales of ``cols`` outputs, 32 x cols elements."""
        return self.row_beats + self.passes * self.tile_beats

    # Vector unit ------------------------------------------------------------------------------
    @property
    def block_words(self) -> int:
        """Words of ``lanes`` FP32 in a block of 32."""
        return BLOCK // self.lanes

    @property
    def word_bits(self) -> int:
        """Bits of a vector word."""
        return 32 * self.lanes

    # Panels: 0 .. panel_ring-1 are the ring, then two sets of output panels ---------------------
    @property
    def head_blocks(self) -> int:
        """Blocks of 32 in the longest head."""
        return self.max_head_dim // BLOCK

    @property
    def panels(self) -> int:
        """Accumulator panels in all: the ring, and two attention outputs of ``head_blocks``."""
        return self.panel_ring + 2 * self.head_blocks

    # KV -----------------------------------------------------------------------------------------
    @property
    def port_bits(self) -> int:
        return 8 * self.port_bytes

    @property
    def slot_beats(self) -> int:
        """Beats of a page slot's K half, elements only (V is as large)."""
        return PAGE_TOKENS * self.max_head_dim // self.port_bytes

    @property
    def scale_beats(self) -> int:
        """Beats that hold the 32 token scales of a page."""
        return PAGE_TOKENS // min(self.port_bytes, PAGE_TOKENS)


PRESETS = {
    c.name: c
    for c in (
        Config(
            name="tiny",
            rows=4,
            cols=4,
            port_bytes=4,
            lanes=4,
            row_capacity=8,
            max_head_dim=64,
            activation_blocks=2048,
            row_blocks=512,
            constant_blocks=128,
            tape_beats=128,
            burst_beats=32,
            note="formal and fast unit tests",
        ),
        Config(
            name="ulx3s",
            rows=16,
            cols=8,
            port_bytes=4,
            lanes=4,
            row_group=2,
            col_group=8,
            adder_levels=1,
            row_capacity=8,
            max_head_dim=64,
            activation_blocks=2048,
            row_blocks=512,
            constant_blocks=128,
            tape_beats=256,
            burst_beats=32,
            note="ECP5-85F, open tools",
        ),
        Config(
            name="edge",
            rows=32,
            cols=16,
            port_bytes=16,
            lanes=16,
            row_group=32,
            col_group=16,
            adder_levels=5,
            row_capacity=64,
            max_head_dim=256,
            activation_blocks=1 << 15,
            row_blocks=1 << 13,
            constant_blocks=1 << 11,
            tape_beats=2048,
            burst_beats=64,
            address_bits=36,
            note="the default of every run and report",
        ),
    )
}
