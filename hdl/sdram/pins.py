"""Pads of an SDRAM chip: signature, commands, where a byte lives."""

from amaranth.lib.wiring import In, Out, Signature

from hdl.enums import Enum
from hdl.sdram.timing import SdramTiming

__all__ = ["AUTO_OR_ALL", "BANKS", "Command", "bank_hash", "cell_address", "sdram_signature"]

BANKS = 4

AUTO_OR_ALL = 10
"""Address line that makes a precharge one of all banks (and a read or write end with one)."""


class Command(Enum, shape=3):
    """``ras_n, cas_n, we_n`` (highest first) with ``cs_n`` low (JEDEC 21-C 3.11.5)."""

    MODE = 0b000
    REFRESH = 0b001
    PRECHARGE = 0b010
    ACTIVATE = 0b011
    WRITE = 0b100
    READ = 0b101
    STOP = 0b110
    NOP = 0b111


def sdram_signature() -> Signature:
    """The controller's side of the chip's pads; the clock is the board's matter.

    ``dq_o`` is driven to the pads while ``dq_oe``; ``dq_i`` is what the pads carry.
    """
    return Signature(
        {
            "cke": Out(1),
            "cs_n": Out(1, init=1),
            "ras_n": Out(1, init=1),
            "cas_n": Out(1, init=1),
            "we_n": Out(1, init=1),
            "ba": Out(2),
            "a": Out(13),
            "dqm": Out(2, init=0b11),
            "dq_o": Out(16),
            "dq_oe": Out(1),
            "dq_i": In(16),
        }
    )


def bank_hash(row):
    """What is exclusive-ored to the bank bits of an address, from its row (int, array or Value).

    Bit 0 is the parity of the row, bit 1 that of the row without its lowest bit. Two streams at any
    distance meet in one bank a quarter of the time, not always or never. From a row to
    the next one exactly one of the two bits changes, so the last bank of a row
    number (3 ^ h) is never the first of the next (0 ^ h'), and a sequential stream always goes on
    in another bank.
    """
    if hasattr(row, "xor"):
        return row[1:].xor() << 1 | row.xor()
    parity = row >> 1
    for shift in (8, 4, 2, 1):
        parity = parity ^ parity >> shift
    parity = parity & 1
    return parity << 1 | parity ^ row & 1


def cell_address(address, timing: SdramTiming):
    """Where byte ``address`` lives: the address with its bank bits hashed (int or NumPy array).

    From the lowest: byte in a column (1 bit), column, bank, row. Its own inverse.
    """
    bank_bit = timing.column_bits + 1
    return address ^ bank_hash(address >> (bank_bit + 2)) << bank_bit
