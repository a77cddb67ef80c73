"""The descriptor that the host writes is the one that the chip reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.config import PAGE_TOKENS, PRESETS
from hdl.isa import DESCRIPTOR_MAGIC
from runtime.descriptor import StepSegment, encode_descriptor
from sim.golden.descriptor import read_descriptor

EDGE = PRESETS["edge"]


@st.composite
def segments(draw: st.DrawFn) -> list[StepSegment]:
    left, made = EDGE.row_capacity, []
    for _ in range(draw(st.integers(1, 20))):
        if not left:
            break
        rows = draw(st.integers(1, left))
        left -= rows
        pages = draw(st.integers(-(-rows // PAGE_TOKENS), 1000))
        made.append(
            StepSegment(
                [draw(st.integers(0, (1 << 20) - 1)) for _ in range(rows)],
                position=draw(st.integers(0, pages * PAGE_TOKENS - rows)),
                owner=draw(st.integers(0, (1 << 32) - 1)),
                pages=pages,
                table=draw(st.integers(0, (1 << 36) - 1)) * EDGE.port_bytes,
                outputs=draw(st.lists(st.integers(0, rows - 1), unique=True)),
            )
        )
    return made


@settings(deadline=None)
@given(made=segments(), result=st.integers(0, (1 << 36) - 1), store=st.booleans())
def test_the_chip_reads_what_the_host_writes(
    made: list[StepSegment], result: int, store: bool
) -> None:
    result *= EDGE.port_bytes
    words = encode_descriptor(made, result=result, store_logits=store)
    memory = np.zeros(8192, np.uint8)
    memory[256 : 256 + words.nbytes] = words.view(np.uint8)
    step = read_descriptor(EDGE, memory, 256)
    assert step.tokens.tolist() == [t for s in made for t in s.tokens]
    assert step.positions.tolist() == [s.position + i for s in made for i in range(len(s.tokens))]
    assert (step.result, step.store_logits) == (result, store)
    row, outputs = 0, []
    for found, given_ in zip(step.segments, made, strict=True):
        assert (found.row, found.rows) == (row, len(given_.tokens))
        assert (found.position, found.owner) == (given_.position, given_.owner)
        assert (found.pages, found.table) == (given_.pages, given_.table)
        outputs += [row + i for i in sorted(given_.outputs)]
        row += found.rows
    assert step.outputs.tolist() == outputs


def test_words_of_a_small_descriptor() -> None:
    segments = [
        StepSegment([7, 8], 5, 3, 1, 0x1_0000_0040, outputs=[1]),
        StepSegment([9], 0, 4, 2, 0),
    ]
    words = encode_descriptor(segments, result=0x2_0000_0080, store_logits=True).tolist()
    assert words[:5] == [DESCRIPTOR_MAGIC, 3, 2, 1, 1]
    assert words[6:8] == [0x80, 2]
    assert words[8:16] == [2, 5, 3, 1, 0x40, 1, 0, 0]
    assert words[16:24] == [1, 0, 4, 2, 0, 0, 0, 0]
    assert words[24:] == [7, 8, 9, 1]
    assert sum(words) % (1 << 32) == 0


def test_tokens_that_are_no_words_are_refused() -> None:
    for token in (-1, 1 << 32):
        with pytest.raises(OverflowError):
            encode_descriptor([StepSegment([token], 0, 1, 1, 0)], result=0, store_logits=False)
