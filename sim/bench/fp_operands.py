"""Operands that hit the edges of FP32 arithmetic, for benches and for tests of the golden model."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPECIALS", "patterns", "product_pairs", "sum_pairs"]

Bits = NDArray[np.uint32]

_MAGNITUDES = (
    0x00000000,  # 0
    0x00000001,  # subnormals: read as 0
    0x007FFFFF,
    0x00800000,  # 2**-126
    0x00800001,
    0x00FFFFFF,
    0x01000000,
    0x1F800000,  # 2**-64
    0x20000000,
    0x33FFFFFF,  # around half a unit of 1
    0x34000000,
    0x34000001,
    0x3F000000,
    0x3F7FFFFF,
    0x3F800000,  # 1
    0x3F800001,
    0x3FFFFFFF,
    0x40000000,
    0x42FC0000,  # 126
    0x42FC0001,
    0x43000000,  # 128
    0x5F800000,  # 2**64
    0x7E800000,  # 2**126
    0x7E800001,
    0x7F000000,  # 2**127
    0x7F7FFFFF,
    0x7F800000,  # infinity
    0x7FC00000,  # NaN
    0x7F800001,  # signalling NaN
)
SPECIALS = np.array([s << 31 | m for s in (0, 1) for m in _MAGNITUDES], np.uint32)


def patterns(draw: np.random.Generator, count: int, low: int = 0, high: int = 255) -> Bits:
    """Random values with exponent fields `low` .. `high` and mantissas of every length."""
    sign = draw.integers(0, 2, count) << 31
    exponent = draw.integers(low, high + 1, count) << 23
    kept = draw.integers(0, 24, count)  # mantissa bits that may be set, from the top
    mantissa = draw.integers(0, 1 << 23, count) >> (23 - kept) << (23 - kept)
    ones = draw.random(count) < 0.1
    mantissa = np.where(ones, 0x7FFFFF >> (23 - kept) << (23 - kept), mantissa)
    return (sign | exponent | mantissa).astype(np.uint32)


def _all_specials() -> tuple[Bits, Bits]:
    a, b = np.meshgrid(SPECIALS, SPECIALS)
    return a.ravel(), b.ravel()


def sum_pairs(draw: np.random.Generator, count: int) -> tuple[Bits, Bits]:
    """All pairs of specials, then about `count` pairs that cancel, tie, align far and overflow."""
    part = count // 5
    a: list[Bits] = []
    b: list[Bits] = []
    x: NDArray
    y: NDArray

    def put(x: NDArray, y: NDArray) -> None:
        a.append(x.astype(np.uint32))
        b.append(y.astype(np.uint32))

    put(*_all_specials())
    put(patterns(draw, part), patterns(draw, part))
    # Exponents up to 28 apart, all over the range.
    x = patterns(draw, part, 1, 254)
    near = np.clip((x >> 23 & 255).astype(int) + draw.integers(-28, 29, part), 0, 255)
    y = patterns(draw, part)
    put(x, y & 0x807FFFFF | near << 23)
    # Cancellation: the same but a few units, or one exponent apart.
    x = patterns(draw, part, 0, 254)
    put(x, (x ^ 0x80000000) + draw.integers(-3, 4, part) * draw.integers(0, 2, part))
    x = patterns(draw, part, 1, 60)
    y = patterns(draw, part) & 0x007FFFFF | (x ^ 0x80000000) & 0x80000000
    put(x, y | (x & 0x7F800000) - (draw.integers(0, 2, part) << 23))
    # Ties: y is half a unit of x and at most one unit of its own away from it.
    x = patterns(draw, part, 26, 254)
    half = (x & 0x7F800000) - (24 << 23)
    put(x, (half + draw.integers(-1, 2, part)) | draw.integers(0, 2, part) << 31)
    return _shuffled(draw, a, b)


def product_pairs(draw: np.random.Generator, count: int) -> tuple[Bits, Bits]:
    """All pairs of specials, then about `count` pairs that tie and that meet the range's ends."""
    part = count // 4
    a: list[Bits] = []
    b: list[Bits] = []
    x: NDArray

    def put(x: NDArray, y: NDArray) -> None:
        a.append(x.astype(np.uint32))
        b.append(y.astype(np.uint32))

    put(*_all_specials())
    put(patterns(draw, part), patterns(draw, part))
    # Both ends of the range: exponents sum to about 2**-126 or 2**128.
    x = patterns(draw, part, 1, 254)
    end = np.where(draw.integers(0, 2, part) == 0, 127, 127 + 254)
    other = np.clip(end - (x >> 23 & 255).astype(int) + draw.integers(-2, 3, part), 1, 254)
    put(x, patterns(draw, part) & 0x807FFFFF | other << 23)
    # Ties: 12 x 13 significant bits give a product of 24 or 25.
    x = patterns(draw, part, 64, 190) & 0xFFFFF800
    put(x | 0x800, patterns(draw, part, 64, 190) & 0xFFFFF000 | 0x1000)
    # Just below 2**-126: the rounding would lift it, the flush rule does not.
    x = draw.integers(1, 1 << 12, part)
    exponent = draw.integers(2, 125, part)
    put(exponent << 23 | x, (126 - exponent) << 23 | 0x7FFFFF - 2 * x + draw.integers(-1, 3, part))
    return _shuffled(draw, a, b)


def _shuffled(draw: np.random.Generator, a: list[Bits], b: list[Bits]) -> tuple[Bits, Bits]:
    order = draw.permutation(sum(map(len, a)))
    return np.concatenate(a)[order], np.concatenate(b)[order]
