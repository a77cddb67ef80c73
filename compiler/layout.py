"""Sizes of a model on a chip: padding, on-chip memory, rows that fit, the KV page."""

from dataclasses import dataclass

from compiler.checkpoint.model import LlamaConfig
from compiler.errors import UserError
from hdl.config import BLOCK, PAGE_TOKENS, Config
from hdl.interfaces import model_layout
from hdl.isa import TABLE, Opcode

__all__ = ["Layout", "blocks_of"]


def blocks_of(elements: int) -> int:
    """MX blocks that hold so many elements."""
    return -(-elements // BLOCK)


@dataclass(frozen=True)
class Layout:
    """Where a model's operands lie on chip, in blocks, for steps of at most ``rows`` rows.

    Raises ``UserError`` naming the memory that is too small for even one row, or the dimension that
    passes a register or a field of an instruction.
    """

    config: Config
    model: LlamaConfig

    def __post_init__(self):
        c, m = self.config, self.model
        if m.head_dim > c.max_head_dim:
            raise UserError(
                f"head_dim {m.head_dim} is more than preset {c.name} can hold "
                f"({c.max_head_dim}): choose a larger preset"
            )
        if self.group > c.row_capacity:
            raise UserError(
                f"{self.group} query heads share a KV head, preset {c.name} takes at most "
                f"{c.row_capacity}: choose a larger preset"
            )
        for what, need, have in (
            ("row memory (dim)", self.dim_blocks, c.row_blocks),
            ("activation memory (dim, hidden, heads)", self._act_row, self._act_space),
            (
                "constant memory (dim, head_dim)",
                2 * self.dim_blocks + 2 * self.head_blocks,
                c.constant_blocks,
            ),
        ):
            if need > have:
                raise UserError(
                    f"the model needs {need} blocks of {what} for one row, preset {c.name} "
                    f"has {have}: choose a larger preset"
                )
        registers = model_layout()
        reduction = next(o.bits for o in TABLE[Opcode.MATMUL].operands if o.name == "blocks")
        for what, value, bits in (
            ("kv_heads", m.kv_heads, registers["kv_heads"].width),
            ("vocab", m.vocab, registers["vocabulary"].width),
            ("layers x kv_heads x head_dim", self.kv_page_bytes, registers["kv_page_bytes"].width),
            ("heads x head_dim", self.query_stride, registers["query_stride"].width),
            ("dim", self.dim_blocks, reduction),
            ("hidden", self.hidden_blocks, reduction),
        ):
            if value >= 1 << bits:
                raise UserError(
                    f"the model's {what} is more than the instruction set can name: {value} where "
                    f"{(1 << bits) - 1} is the most"
                )

    @property
    def group(self) -> int:
        return self.model.heads // self.model.kv_heads

    @property
    def dim_blocks(self) -> int:
        return blocks_of(self.model.dim)

    @property
    def head_blocks(self) -> int:
        return blocks_of(self.model.head_dim)

    @property
    def hidden_blocks(self) -> int:
        return blocks_of(self.model.hidden)

    @property
    def query_stride(self) -> int:
        """Blocks of all query heads of a row."""
        return self.model.heads * self.head_blocks

    @property
    def vocabulary_panels(self) -> int:
        return blocks_of(self.model.vocab)

    # On-chip memory: two activation regions used in turn, each dead when the other is written ---
    @property
    def _region_blocks(self) -> tuple[int, int]:
        """A row's share of region 0 (norm output, attention output) and 1 (queries, hidden)."""
        return (
            max(self.dim_blocks, self.query_stride),
            max(self.query_stride, self.hidden_blocks),
        )

    @property
    def _act_row(self) -> int:
        return sum(self._region_blocks)

    @property
    def _act_space(self) -> int:
        return self.config.activation_blocks - 2 * self.config.row_capacity

    @property
    def rows(self) -> int:
        """Rows of a step at the most, for this model on this chip."""
        c = self.config
        spare = c.constant_blocks - 2 * self.dim_blocks
        return min(
            c.row_capacity,
            c.row_blocks // self.dim_blocks,
            self._act_space // self._act_row,
            spare // (2 * self.head_blocks),
        )

    @property
    def attention_weights(self) -> int:
        """Activation address of the two P buffers."""
        return 0

    @property
    def region0(self) -> int:
        return 2 * self.config.row_capacity

    @property
    def region1(self) -> int:
        return self.region0 + self.rows * self._region_blocks[0]

    @property
    def rope_tables(self) -> int:
        """Constant memory address of the step's RoPE rows."""
        return 0

    def norm_slot(self, i: int) -> int:
        """Constant memory address of norm weights, two slots used in turn."""
        return self.rows * 2 * self.head_blocks + (i % 2) * self.dim_blocks

    # KV -----------------------------------------------------------------------------------------
    @property
    def kv_half_bytes(self) -> int:
        """K (or V) of one head in a page: elements, then a scale a token."""
        return PAGE_TOKENS * BLOCK * self.head_blocks + PAGE_TOKENS

    @property
    def kv_layer_bytes(self) -> int:
        return 2 * self.model.kv_heads * self.kv_half_bytes

    @property
    def kv_page_bytes(self) -> int:
        return self.model.layers * self.kv_layer_bytes
