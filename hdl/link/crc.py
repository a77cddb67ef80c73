"""CRC-32 (IEEE 802.3, as ``zlib.crc32``)."""

from amaranth.hdl import Cat, Value

__all__ = ["CRC_INIT", "CRC_RESIDUE", "crc32_step"]

CRC_INIT = 0xFFFFFFFF

CRC_RESIDUE = 0xDEBB20E3
"""The register after any message and its CRC (complemented, lowest byte first)."""

_POLYNOMIAL = 0xEDB88320  # reflected


def _matrix(width: int) -> list[int]:
    """For each bit of the next register: which of its 32 bits and, above them, of the new ones."""
    rows = [0] * 32
    for bit in range(32 + width):
        crc = 1 << bit if bit < 32 else 1 << (bit - 32)
        for _ in range(width):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        for out in range(32):
            rows[out] |= (crc >> out & 1) << bit
    return rows


def crc32_step(crc: Value, message: Value) -> Value:
    """The register (32 bits) after some more bits of the message, lowest first.

    It starts at ``CRC_INIT``; the CRC is its complement. Each bit is one XOR: of 3 bits for one
    message bit, of 14 at most for eight.
    """
    bits = Cat(crc, message)
    return Cat(
        Cat(*(bits[i] for i in range(len(bits)) if row >> i & 1)).xor()
        for row in _matrix(len(message))
    )
