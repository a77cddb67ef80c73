"""The link's frames: the one table that the RTL, the host and the benches read (docs/link.md).

A frame on the line is ``END``, its payload and CRC-32 with ``END`` and ``ESC`` escaped, ``END``
(as SLIP, RFC 1055). Numbers are little-endian.

Request payload: operation (1), sequence (1), count (2), address (4), data.
Reply payload: operation | ``REPLY`` (1), sequence (1), data, status (1).
Event payload: ``EVENT_DONE`` (1), 0 (1), status (1).
"""

from dataclasses import fields
from zlib import crc32

from hdl.config import Config
from hdl.enums import Enum

__all__ = [
    "BUFFER_BYTES",
    "END",
    "ESC",
    "ESC_END",
    "ESC_ESC",
    "EVENT_DONE",
    "HEADER_BYTES",
    "INFO_WORDS",
    "MAGIC",
    "NAME_BYTES",
    "REPLY",
    "VERSION",
    "Info",
    "Operation",
    "Status",
    "config_digest",
    "info_words",
]

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD

MAGIC = 0x4B4E4C53
"""First word of the answer to ``INFO``: "SLNK"."""

VERSION = 1

HEADER_BYTES = 8

BUFFER_BYTES = 2048
"""The board's request buffer: a request takes its payload and two bytes of it until it is done."""

REPLY = 0x80
EVENT_DONE = 0x40
NAME_BYTES = 16


class Operation(Enum, shape=8):
    """What a request asks for; ``count`` is in words of 32 bits, addresses are word aligned."""

    NONE = 0  # refused, as every number not in this table
    INFO = 1  # -> INFO_WORDS words
    WRITE_MEMORY = 2  # count words of data to address
    READ_MEMORY = 3  # -> count words from address
    FILL_MEMORY = 4  # count words of zeros to address
    CHECK_MEMORY = 5  # -> CRC-32 of count words from address
    WRITE_REGISTERS = 6  # count pairs (address, value) in order; once a sequence number
    READ_REGISTERS = 7  # -> count words from consecutive registers


class Status(Enum, shape=2):
    """How a request ended."""

    OK = 0
    BAD_REQUEST = 1  # unknown operation, length that does not fit count, address not aligned
    BUS_ERROR = 2  # at least one word was answered with an error; the others are done


class Info(Enum, shape=4):
    """Words of the answer to ``INFO``."""

    MAGIC = 0
    VERSION = 1  # of the protocol; upper half: BUFFER_BYTES
    CLOCK = 2  # Hz
    MEMORY = 3  # bytes
    CONFIG = 4  # config_digest()
    SEQUENCE = 5  # of the last WRITE_REGISTERS that was executed
    NAME = 6  # of the configuration: ASCII, padded with zeros, to the end


INFO_WORDS = Info.NAME.value + NAME_BYTES // 4


def config_digest(config: Config) -> int:
    """32 bits that tell configurations apart; equal for equal chips of different names."""
    shape = [
        (f.name, getattr(config, f.name)) for f in fields(config) if f.name not in ("name", "note")
    ]
    return crc32(repr(sorted(shape)).encode())


def info_words(config: Config, clock_hz: int, memory_bytes: int) -> list[int]:
    """The answer to ``INFO``, ``SEQUENCE`` 0."""
    name = config.name.encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")
    return [
        MAGIC,
        VERSION | BUFFER_BYTES << 16,
        clock_hz,
        memory_bytes,
        config_digest(config),
        0,
        *(int.from_bytes(name[i : i + 4], "little") for i in range(0, NAME_BYTES, 4)),
    ]
