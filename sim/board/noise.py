"""A line that loses, changes and doubles bytes."""

import random

__all__ = ["LineNoise"]


class LineNoise:
    """Damages bytes, each kind with its probability; the same for the same seed.

    ``dropped``, ``changed``, ``doubled`` count.
    """

    def __init__(self, seed: int, *, drop: float = 0.0, change: float = 0.0, double: float = 0.0):
        self._random = random.Random(seed)
        self._limits = (drop, drop + change, drop + change + double)
        self.dropped = self.changed = self.doubled = 0

    def apply(self, data: bytes) -> bytes:
        """What arrives of ``data``."""
        out = bytearray()
        drop, change, double = self._limits
        for byte in data:
            draw = self._random.random()
            if draw < drop:
                self.dropped += 1
            elif draw < change:
                self.changed += 1
                out.append(byte ^ self._random.randrange(1, 256))
            elif draw < double:
                self.doubled += 1
                out += bytes([byte, byte])
            else:
                out.append(byte)
        return bytes(out)
