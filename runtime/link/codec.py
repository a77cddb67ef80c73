"""Frames of the link as bytes (``hdl.link.protocol``)."""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from hdl.link.protocol import END, ESC, ESC_END, ESC_ESC, HEADER_BYTES, REPLY, Operation, Status

__all__ = ["FrameDecoder", "Reply", "Request", "encode_frame"]

_CRC_BYTES = 4
_SPECIAL = re.compile(bytes([0x5B, END, ESC, 0x5D]))
_ESCAPES = {bytes([END]): bytes([ESC, ESC_END]), bytes([ESC]): bytes([ESC, ESC_ESC])}
_BYTES = {escaped: byte for byte, escaped in _ESCAPES.items()}
_ESCAPED = re.compile(re.escape(bytes([ESC])) + b"(.?)", re.DOTALL)
_LONGEST = 1 << 20  # of a frame that has no end: noise


def encode_frame(payload: bytes) -> bytes:
    """The payload on the line."""
    body = payload + crc32(payload).to_bytes(_CRC_BYTES, "little")
    end = bytes([END])
    return end + _SPECIAL.sub(lambda m: _ESCAPES[m[0]], body) + end


class FrameDecoder:
    """Payloads from the bytes of a line; what is damaged is dropped and counted in ``dropped``."""

    def __init__(self):
        self._partial = bytearray()
        self.dropped = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that end in ``data``, in order."""
        *ended, rest = (bytes(self._partial) + data).split(bytes([END]))
        if len(rest) > _LONGEST:
            rest = b""
            self.dropped += 1
        self._partial = bytearray(rest)
        payloads = []
        for body in ended:
            if not body:
                continue
            payload = self._check(body)
            if payload is None:
                self.dropped += 1
            else:
                payloads.append(payload)
        return payloads

    @staticmethod
    def _check(body: bytes) -> bytes | None:
        """The payload of what stood between two delimiters, None if it is damaged."""
        if any(m[0] not in _BYTES for m in _ESCAPED.finditer(body)):
            return None
        body = _ESCAPED.sub(lambda m: _BYTES[m[0]], body)
        payload, crc = body[:-_CRC_BYTES], body[-_CRC_BYTES:]
        if not payload or crc32(payload) != int.from_bytes(crc, "little"):
            return None
        return payload


@dataclass(frozen=True)
class Request:
    """What a frame to the board asks for.

    ``address`` in bytes; ``count`` in words (pairs for WRITE_REGISTERS); ``data`` is count words,
    count pairs or nothing.
    """

    operation: Operation
    address: int = 0
    count: int = 0
    data: bytes = b""

    @classmethod
    def registers(cls, values: Sequence[tuple[int, int]]) -> "Request":
        """WRITE_REGISTERS of (address, value) pairs, in this order."""
        data = b"".join(struct.pack("<II", address, value) for address, value in values)
        return cls(Operation.WRITE_REGISTERS, 0, len(values), data)

    def payload(self, sequence: int) -> bytes:
        head = struct.pack("<BBHI", self.operation.value, sequence, self.count, self.address)
        return head + self.data

    @property
    def request_bytes(self) -> int:
        """Bytes of the payload."""
        return HEADER_BYTES + len(self.data)

    @property
    def reply_bytes(self) -> int:
        """Bytes of a reply's payload, about."""
        reads = (Operation.READ_MEMORY, Operation.READ_REGISTERS)
        return 3 + 4 * (self.count if self.operation in reads else 16)


@dataclass(frozen=True)
class Reply:
    """A frame from the board; ``kind`` is the request's operation | REPLY, or an event."""

    kind: int
    sequence: int
    data: bytes
    status: Status

    @classmethod
    def of(cls, payload: bytes) -> "Reply | None":
        """The reply in a payload, None for something that is none."""
        if len(payload) < 3 or payload[-1] > max(s.value for s in Status):
            return None
        return cls(payload[0], payload[1], payload[2:-1], Status(payload[-1]))

    def answers(self, request: Request) -> bool:
        return self.kind == request.operation.value | REPLY
