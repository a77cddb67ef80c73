"""KV pages: who has which, and the tables that the chip walks."""

from dataclasses import dataclass, field

import numpy as np

from compiler.errors import UserError
from compiler.image import MemoryMap
from hdl.config import PAGE_TOKENS

__all__ = ["PageAllocator", "Sequence"]


@dataclass
class Sequence:
    """One sequence in the KV cache.

    Attributes
    ----------
    owner : its number in the owner table, never 0 (0 is nobody)
    slot : its page table, -1 when it has been closed
    length : tokens whose keys and values are in the cache
    pages : page numbers in order
    """

    owner: int
    slot: int
    length: int = 0
    pages: list[int] = field(default_factory=list)


class PageAllocator:
    """Gives pages to sequences and keeps page tables and owner table in the chip's memory.

    Parameters
    ----------
    memory : the chip's memory, uint8
    map : its memory map
    tables : page tables there is room for (sequences at a time)
    """

    def __init__(self, memory: np.ndarray, map: MemoryMap, tables: int):
        self._map = map
        span = map.kv_owners - map.page_tables
        self._stride = span // tables // 64 * 64
        self._tables = [
            memory[at : at + self._stride].view("<u4")
            for at in range(map.page_tables, map.page_tables + tables * self._stride, self._stride)
        ]
        self._owners = memory[map.kv_owners : map.kv_owners + 4 * map.kv_pages].view("<u4")
        self._owners[:] = 0
        self._free_pages = list(range(map.kv_pages))[::-1]
        self._free_slots = list(range(tables))[::-1]
        self._next_owner = 1

    def open(self) -> Sequence:
        """A new empty sequence; ``UserError`` when there is no page table left."""
        if not self._free_slots:
            raise UserError(f"more than {len(self._tables)} sequences at a time: close one first")
        owner = self._next_owner
        self._next_owner += 1
        return Sequence(owner, self._free_slots.pop())

    def table_address(self, sequence: Sequence) -> int:
        return self._map.page_tables + sequence.slot * self._stride

    def extend(self, sequence: Sequence, length: int) -> None:
        """Give the sequence pages for ``length`` tokens in all; ``UserError`` when none is left."""
        if sequence.slot < 0:
            raise ValueError("the sequence has been closed")
        if length > self._map.context:
            raise UserError(
                f"a sequence of {length} tokens: the image was compiled for {self._map.context}"
            )
        while len(sequence.pages) * PAGE_TOKENS < length:
            if not self._free_pages:
                raise UserError(
                    f"the KV cache's {self._map.kv_pages} pages are all in use: "
                    "close a sequence or compile with more pages"
                )
            page = self._free_pages.pop()
            self._owners[page] = sequence.owner
            self._tables[sequence.slot][len(sequence.pages)] = page
            sequence.pages.append(page)

    def truncate(self, sequence: Sequence, length: int) -> None:
        """Forget tokens past ``length`` (roll-back) and give back the pages they alone used."""
        sequence.length = min(sequence.length, length)
        keep = -(-sequence.length // PAGE_TOKENS)
        for page in sequence.pages[keep:]:
            self._owners[page] = 0
            self._free_pages.append(page)
        del sequence.pages[keep:]

    def close(self, sequence: Sequence) -> None:
        """Give everything back; a sequence can be closed more than once."""
        if sequence.slot < 0:
            return
        self.truncate(sequence, 0)
        self._free_slots.append(sequence.slot)
        sequence.slot = -1
