"""Step descriptors: what the host asks of the chip in one step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hdl.isa import DESCRIPTOR_HEADER_WORDS, DESCRIPTOR_MAGIC, FLAG_STORE_LOGITS

__all__ = ["StepSegment", "encode_descriptor"]


@dataclass(frozen=True)
class StepSegment:
    """Rows of one sequence in a step.

    Parameters
    ----------
    tokens : token ids, at positions ``position``, ``position + 1``, ...
    owner : number of the sequence, as in the owner table
    pages : entries in the page table
    table : byte address of the page table
    outputs : indices into ``tokens`` of the rows whose logits are wanted
    """

    tokens: Sequence[int]
    position: int
    owner: int
    pages: int
    table: int
    outputs: Sequence[int] = ()


def encode_descriptor(
    segments: Sequence[StepSegment], *, result: int, store_logits: bool
) -> np.ndarray:
    """The descriptor's words, uint32, by the layout in ``hdl/isa.py``."""
    tokens = [t for s in segments for t in s.tokens]
    outputs, row = [], 0
    for s in segments:
        outputs += [row + i for i in sorted(s.outputs)]
        row += len(s.tokens)
    words = [
        DESCRIPTOR_MAGIC,
        len(tokens),
        len(segments),
        len(outputs),
        FLAG_STORE_LOGITS if store_logits else 0,
        0,
        result & 0xFFFFFFFF,
        result >> 32,
    ]
    assert len(words) == DESCRIPTOR_HEADER_WORDS
    for s in segments:
        low, high = s.table & 0xFFFFFFFF, s.table >> 32
        words += [len(s.tokens), s.position, s.owner, s.pages, low, high, 0, 0]
    words += [*tokens, *outputs]
    words[5] = -sum(words) & 0xFFFFFFFF
    return np.array(words, np.uint32)
