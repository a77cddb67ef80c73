"""Memory port, tape reader, row loader and the on-chip memories."""

from hdl.memory.axi import axi4_signature
from hdl.memory.memories import (
    ActivationMemory,
    ConstantMemory,
    RowMemory,
    constant_address_bits,
    row_address_bits,
    write_port,
)
from hdl.memory.port import READERS, WRITERS, MemoryPort
from hdl.memory.row_loader import RowLoader
from hdl.memory.tape_reader import TapeReader

__all__ = [
    "READERS",
    "WRITERS",
    "ActivationMemory",
    "ConstantMemory",
    "MemoryPort",
    "RowLoader",
    "RowMemory",
    "TapeReader",
    "axi4_signature",
    "constant_address_bits",
    "row_address_bits",
    "write_port",
]
