"""The step descriptor, read and checked as the controller does."""

from dataclasses import dataclass

import numpy as np

from hdl.config import PAGE_TOKENS, Config
from hdl.isa import (
    DESCRIPTOR_HEADER_WORDS,
    DESCRIPTOR_MAGIC,
    DESCRIPTOR_READ_BEATS,
    DESCRIPTOR_SEGMENT_WORDS,
    FLAG_STORE_LOGITS,
    DescriptorError,
)
from sim.golden.fault import ChipFault
from sim.golden.memory import span

__all__ = ["Segment", "Step", "read_descriptor"]


@dataclass(frozen=True)
class Segment:
    """Contiguous rows of one sequence."""

    row: int
    rows: int
    position: int
    owner: int
    pages: int
    table: int  # byte address


@dataclass(frozen=True)
class Step:
    """A descriptor after all checks.

    tokens, positions: (rows,); outputs: row indices whose logits are wanted.
    """

    tokens: np.ndarray
    positions: np.ndarray
    outputs: np.ndarray
    segments: tuple[Segment, ...]
    store_logits: bool
    result: int

    @property
    def rows(self) -> int:
        return len(self.tokens)


def read_descriptor(config: Config, memory: np.ndarray, address: int) -> Step:
    """Parse the descriptor at ``address`` of ``memory`` (uint8).

    Model-dependent limits (vocabulary, context) are checked when the program has set them.

    Raises
    ------
    ChipFault
        BAD_DESCRIPTOR with the ``DescriptorError`` as detail; BAD_ADDRESS.
    """

    def need(condition: bool, error: DescriptorError, text: str) -> None:
        if not condition:
            raise ChipFault.descriptor(error, text)

    def words(count: int) -> np.ndarray:
        return span(memory, address, 4 * count, config.port_bytes).view("<u4").astype(np.int64)

    span(memory, address, DESCRIPTOR_READ_BEATS * config.port_bytes, config.port_bytes)
    header = words(DESCRIPTOR_HEADER_WORDS)
    magic, rows, segments, outputs, flags, _checksum, low, high = (int(w) for w in header)
    need(magic == DESCRIPTOR_MAGIC, DescriptorError.MAGIC, f"magic {magic:#x}")
    need(1 <= rows <= config.row_capacity, DescriptorError.ROWS, f"{rows} rows")
    need(1 <= segments <= rows, DescriptorError.SEGMENTS, f"{segments} segments")
    need(outputs <= rows, DescriptorError.OUTPUTS, f"{outputs} outputs")
    need(flags & ~FLAG_STORE_LOGITS == 0, DescriptorError.RESERVED, f"flags {flags:#x}")
    result = low | high << 32
    need(
        result % config.port_bytes == 0 and high < 256,
        DescriptorError.ALIGNMENT,
        f"result address {result:#x}",
    )
    total = DESCRIPTOR_HEADER_WORDS + rows + outputs + DESCRIPTOR_SEGMENT_WORDS * segments
    body = words(total)
    wanted = -(int(body.sum()) - int(body[5])) & 0xFFFFFFFF
    need(int(body[5]) == wanted, DescriptorError.CHECKSUM, f"checksum {int(body[5]):#x}")
    at = DESCRIPTOR_HEADER_WORDS
    found: list[Segment] = []
    positions: list[int] = []
    row = 0
    for s in range(segments):
        n, position, owner, pages, table_low, table_high, zero0, zero1 = (
            int(w) for w in body[at + s * 8 : at + s * 8 + 8]
        )
        need(n >= 1 and row + n <= rows, DescriptorError.SEGMENT_ROWS, f"segment {s}: {n} rows")
        need(
            position + n <= pages * PAGE_TOKENS and position < 1 << 20 and pages < 1 << 16,
            DescriptorError.POSITION,
            f"segment {s}: {n} rows at {position}, table of {pages} pages",
        )
        table = table_low | table_high << 32
        need(
            table % config.port_bytes == 0 and table_high < 256,
            DescriptorError.ALIGNMENT,
            f"segment {s}: page table at {table:#x}",
        )
        need(zero0 == 0 and zero1 == 0, DescriptorError.RESERVED, f"segment {s}: reserved words")
        found.append(Segment(row, n, position, owner, pages, table))
        positions.extend(range(position, position + n))
        row += n
    at += DESCRIPTOR_SEGMENT_WORDS * segments
    tokens = body[at : at + rows]
    at += rows
    out_rows = body[at : at + outputs]
    need(
        bool(np.all(out_rows < rows)) and bool(np.all(np.diff(out_rows) > 0)),
        DescriptorError.OUTPUT_ROW,
        f"output rows {out_rows.tolist()}",
    )
    need(row == rows, DescriptorError.SEGMENT_ROWS, f"segments hold {row} of {rows} rows")
    return Step(
        tokens.copy(),
        np.array(positions, np.int64),
        out_rows.copy(),
        tuple(found),
        bool(flags & FLAG_STORE_LOGITS),
        result,
    )
