"""Structs that pass between the parts of the KV unit, and the details of its faults."""

import enum

from amaranth.lib import data
from amaranth.lib.wiring import Out, Signature

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS, ROW_BITS, visit_layout

__all__ = [
    "PAGE_INDEX_BITS",
    "Operand",
    "fault_report",
    "fill_record",
    "frame_layout",
    "log2_exact",
    "times",
    "visit_record",
    "walk_request",
]

PAGE_INDEX_BITS = 16
"""Bits of a page's place in its sequence: position // 32, with room for one overflow bit."""


class Operand(enum.IntEnum):
    """Detail of Fault.BAD_OPERAND raised by this unit."""

    NONE = 0
    HEAD_BLOCKS = 1  # HEAD_BLOCKS zero or longer than the chip's longest head
    KV_HEADS = 2  # KV_HEADS zero
    BATCH = 3  # BATCH_ROWS or HEAD_GROUP zero, or their product past row_capacity
    STEP = 4  # rows or segments zero or past row_capacity, or a segment without rows
    ALIGNMENT = 5  # KV_BASE, KV_PAGE_BYTES, offset not beat aligned, KV_OWNERS not word aligned
    PAGE_RANGE = 6  # offset and heads reach past KV_PAGE_BYTES
    APPEND = 7  # an appended block's row, head or block is out of range
    APPEND_COUNT = 8  # more head-rows appended than the layer has


def fault_report() -> Signature:
    """A part's fault: held from the cycle it is found. ``index`` is added by the unit."""
    return Signature(
        {"valid": Out(1), "cause": Out(8), "detail": Out(32), "address": Out(ADDRESS_BITS)}
    )


def walk_request() -> data.StructLayout:
    """One page to translate: entry ``index`` of a page table of ``pages`` entries."""
    return data.StructLayout(
        {"table": ADDRESS_BITS, "pages": 16, "owner": 32, "index": PAGE_INDEX_BITS}
    )


def visit_record(config: Config) -> data.StructLayout:
    """A visit on its way to its page: ``offset`` is where its head begins in the page, in bytes."""
    return data.StructLayout({"visit": visit_layout(config), "offset": 32})


def fill_record() -> data.StructLayout:
    """PREPARE: ``rows`` consecutive rows that are appended to one page from slot ``token`` on."""
    return data.StructLayout({"row": ROW_BITS, "rows": ROW_BITS, "token": 5, "end": 1})


def frame_layout() -> data.StructLayout:
    """Where a row is appended: its page's byte address and its token slot in the page."""
    return data.StructLayout({"address": ADDRESS_BITS, "token": 5})


def log2_exact(value: int) -> int:
    """Exponent of a power of two; ``ValueError`` for anything else."""
    if value < 1 or value & (value - 1):
        raise ValueError(f"{value} is not a power of two")
    return value.bit_length() - 1


def times(value, small):
    """``value * small`` as a tree of gated shifts, for a ``small`` of a few bits.

    A synthesis tool would spend one of the FPGA's multipliers on ``*``; the array wants them all.
    """
    terms = [(value << i) & small[i].replicate(len(value) + i) for i in range(len(small))]
    while len(terms) > 1:
        odd = terms[len(terms) & ~1 :]
        terms = [a + b for a, b in zip(terms[0::2], terms[1::2], strict=False)] + odd
    return terms[0]
