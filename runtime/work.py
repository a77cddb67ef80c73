"""What a step has to do at the least: bytes and multiplications, and the roofline they give."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compiler.image import Image
from compiler.layout import blocks_of
from hdl.config import BLOCK, PAGE_TOKENS, Config

__all__ = ["StepWork", "make_work", "step_work"]


@dataclass(frozen=True)
class StepWork:
    """Needed work of one step.

    Attributes
    ----------
    tape_bytes, kv_read_bytes, kv_write_bytes, row_read_bytes, logit_bytes
        Bytes that must move: the tape; every KV page of every sequence once; new keys and values;
        embedding rows, RoPE rows and norm weights; logits where asked for.
    macs
        Useful multiplications: true dimensions, no padding.
    roofline_cycles
        max(bytes that must move / port bytes a cycle, macs / (rows x cols)): the strict bound
        with perfect overlap. Reads and writes have channels of their own (AXI4).
    """

    tape_bytes: int
    kv_read_bytes: int
    kv_write_bytes: int
    row_read_bytes: int
    logit_bytes: int
    macs: int
    roofline_cycles: int

    def bound_by_macs(self, config: Config) -> bool:
        """Whether the multiplications make the roofline, and not the bytes."""
        return -(-self.macs // (config.rows * config.cols)) == self.roofline_cycles

    def roofline_under(self, config: Config, beats_per_cycle: float, shared: bool) -> int:
        """The same bound with a memory that gives so many beats a cycle.

        ``shared``: reads and writes on one data bus.
        """
        reads = self.tape_bytes + self.kv_read_bytes + self.row_read_bytes
        writes = self.kv_write_bytes + self.logit_bytes
        moved = reads + writes if shared else max(reads, writes)
        by_macs = -(-self.macs // (config.rows * config.cols))
        return max(math.ceil(moved / (config.port_bytes * beats_per_cycle) - 1e-9), by_macs)


def make_work(
    config: Config,
    tape_bytes: int,
    kv_read_bytes: int,
    kv_write_bytes: int,
    row_read_bytes: int,
    logit_bytes: int,
    macs: int,
) -> StepWork:
    """``StepWork`` of these amounts, with the roofline of a port that always moves a beat."""
    amounts = (tape_bytes, kv_read_bytes, kv_write_bytes, row_read_bytes, logit_bytes, macs)
    bound = StepWork(*amounts, 0).roofline_under(config, 1.0, shared=False)
    return StepWork(*amounts, bound)


def step_work(image: Image, segments: Sequence[tuple[int, int, int]], *, logits: bool) -> StepWork:
    """Work of a step.

    Parameters
    ----------
    segments
        (first position, rows, outputs) of each sequence in the step.
    logits
        Whether logits are written to memory.
    """
    config = Config(**image.manifest["config"])
    m = image.manifest["model"]
    with_head = image.manifest["with_head"]
    dim, hidden, heads, kv_heads = m["dim"], m["hidden"], m["heads"], m["kv_heads"]
    head_dim, layers, vocab = m["head_dim"], m["layers"], m["vocab"]
    head_blocks = blocks_of(head_dim)
    token_bytes = 2 * kv_heads * layers * (BLOCK * head_blocks + 1)
    rows = sum(n for _, n, _ in segments)
    outputs = sum(o for _, _, o in segments)

    layer_weights = dim * head_dim * (2 * heads + 2 * kv_heads) + 3 * dim * hidden
    macs = rows * layers * layer_weights
    if with_head:
        macs += outputs * dim * vocab
    pages = 0
    for position, n, _ in segments:
        pages += -(-(position + n) // PAGE_TOKENS)
        seen = n * position + n * (n + 1) // 2  # tokens that the rows attend to, in all
        macs += layers * 2 * heads * head_dim * seen

    row_bytes = blocks_of(dim) * 128
    tape = image.sections["tape"].size
    kv_read = pages * PAGE_TOKENS * token_bytes
    kv_write = rows * token_bytes
    row_read = (
        rows * (row_bytes + 2 * head_blocks * 128)
        + (2 * layers + (1 if with_head else 0)) * row_bytes
    )
    written = outputs * vocab * 4 if logits and with_head else 0
    return make_work(config, tape, kv_read, kv_write, row_read, written, macs)
