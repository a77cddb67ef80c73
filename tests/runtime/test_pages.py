"""Pages, page tables and owners, as the chip will walk them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from compiler.errors import UserError
from compiler.image import MemoryMap
from hdl.config import PAGE_TOKENS
from runtime.pages import PageAllocator, Sequence
from tests.devices import checkpoint, image

TABLES, CONTEXT, PAGES = 3, 200, 12


def small_map() -> MemoryMap:
    return image(checkpoint(context=CONTEXT), "tiny", kv_pages=PAGES).memory


class Pages(RuleBasedStateMachine):
    """Any order of opening, growing, cutting and closing; tables and owners hold after each."""

    open_sequences = Bundle("open_sequences")

    def __init__(self) -> None:
        super().__init__()
        self.map = small_map()
        self.memory = np.full(self.map.size, 0xAA, np.uint8)
        self.pages = PageAllocator(self.memory, self.map, TABLES)
        self.sequences: list[Sequence] = []

    def free(self) -> int:
        return PAGES - sum(len(s.pages) for s in self.sequences)

    @precondition(lambda self: len(self.sequences) < TABLES)
    @rule(target=open_sequences)
    def open(self) -> Sequence:
        sequence = self.pages.open()
        self.sequences.append(sequence)
        return sequence

    @precondition(lambda self: len(self.sequences) == TABLES)
    @rule()
    def open_too_many(self) -> None:
        with pytest.raises(UserError, match="more than 3 sequences at a time"):
            self.pages.open()

    @rule(sequence=open_sequences, more=st.integers(0, 100))
    def grow(self, sequence: Sequence, more: int) -> None:
        length = sequence.length + more
        lacking = -(-length // PAGE_TOKENS) - len(sequence.pages)
        if length > CONTEXT:
            with pytest.raises(UserError, match="compiled for 200"):
                self.pages.extend(sequence, length)
        elif lacking > self.free():
            with pytest.raises(UserError, match="12 pages are all in use"):
                self.pages.extend(sequence, length)
        else:
            self.pages.extend(sequence, length)
            sequence.length = length

    @rule(sequence=open_sequences, length=st.integers(0, CONTEXT))
    def cut(self, sequence: Sequence, length: int) -> None:
        expected = min(sequence.length, length)
        self.pages.truncate(sequence, length)
        assert sequence.length == expected
        assert len(sequence.pages) == -(-expected // PAGE_TOKENS)

    @rule(sequence=consumes(open_sequences))
    def close(self, sequence: Sequence) -> None:
        self.pages.close(sequence)
        self.sequences.remove(sequence)
        self.pages.close(sequence)  # once more does nothing
        assert (sequence.length, sequence.pages) == (0, [])
        with pytest.raises(ValueError, match="closed"):
            self.pages.extend(sequence, 1)

    @invariant()
    def tables_and_owners_agree(self) -> None:
        at, count = self.map.kv_owners, 4 * PAGES
        owners = self.memory[at : at + count].view("<u4")
        expected = np.zeros(PAGES, np.uint32)
        addresses = [self.pages.table_address(s) for s in self.sequences]
        assert len(set(addresses)) == len(addresses)
        for sequence, address in zip(self.sequences, addresses, strict=True):
            assert sequence.owner > 0
            assert self.map.page_tables <= address < self.map.kv_owners
            assert address % 64 == 0
            size = 4 * len(sequence.pages)
            table = self.memory[address : address + size].view("<u4")
            assert table.tolist() == sequence.pages
            assert not expected[sequence.pages].any(), "a page of two sequences"
            expected[sequence.pages] = sequence.owner
        np.testing.assert_array_equal(owners, expected)


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_tables_hold_the_whole_context() -> None:
    map = small_map()
    pages = PageAllocator(np.zeros(map.size, np.uint8), map, 8)
    addresses = [pages.table_address(pages.open()) for _ in range(8)]
    room = 4 * -(-CONTEXT // PAGE_TOKENS)
    ends = [*addresses[1:], map.kv_owners]
    assert all(a + room <= b for a, b in zip(addresses, ends, strict=True))


def test_owners_are_never_used_again() -> None:
    map = small_map()
    pages = PageAllocator(np.zeros(map.size, np.uint8), map, TABLES)
    owners = []
    for _ in range(5):
        sequence = pages.open()
        owners.append(sequence.owner)
        pages.close(sequence)
    assert len(set(owners)) == 5
