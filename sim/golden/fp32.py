"""FP32 as the chip computes it (docs/spec.md, section 1), on NumPy arrays.

Round to nearest even, one rounding an operation. Subnormal operands are read as zero of their
sign; a result whose exact value is below 2**-126 before rounding is zero of its sign; a NaN
result is `NAN_BITS`. Arrays are float32 of any shape and broadcast as NumPy's do. No function
lets a NumPy warning out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "NAN",
    "NAN_BITS",
    "TINY",
    "add",
    "bits",
    "ceil_to_int",
    "flush",
    "from_bits",
    "int_to_fp",
    "is_finite",
    "mul",
    "order_key",
    "scale_down",
    "scale_exponent",
    "tree_sum",
]

Float = NDArray[np.float32]

NAN_BITS = 0x7FC00000
"""The one NaN that operations give."""

NAN = np.uint32(NAN_BITS).view(np.float32)
TINY = np.float32(2.0**-126)
"""Smallest normal number."""

_SIGN = np.uint32(0x80000000)
_INFINITY = np.uint32(0x7F800000)
_CEIL_LIMIT = 1 << 20


def bits(x: ArrayLike) -> NDArray[np.uint32]:
    """The bit patterns of float32 values."""
    return np.ascontiguousarray(x, np.float32).reshape(np.shape(x)).view(np.uint32)


def from_bits(pattern: ArrayLike) -> Float:
    """Float32 values of 32-bit patterns."""
    pattern = np.asarray(pattern, np.uint32)
    return np.ascontiguousarray(pattern).reshape(pattern.shape).view(np.float32)


def flush(x: ArrayLike) -> Float:
    """Subnormals become zero of their sign; anything else stays as it is."""
    x = np.asarray(x, np.float32)
    with np.errstate(all="ignore"):
        return np.asarray(x * (np.abs(x) >= TINY))  # NaN * 0 is NaN, infinity is kept


def is_finite(x: ArrayLike) -> bool:
    """True if no value is NaN or infinite."""
    return bool(np.isfinite(x).all())


def add(a: ArrayLike, b: ArrayLike) -> Float:
    """fl(a + b). The sum of two normal numbers is exact where it is below 2**-126."""
    with np.errstate(all="ignore"):
        return _canonical(flush(flush(a) + flush(b)))


def mul(a: ArrayLike, b: ArrayLike) -> Float:
    """fl(a * b)."""
    a, b = flush(a), flush(b)
    with np.errstate(all="ignore"):
        r = np.asarray(a * b)
        # Rounding may have lifted a result to 2**-126; a product in float64 is exact.
        small = np.abs(r) <= TINY
        if small.any():
            exact = np.broadcast_to(a, r.shape)[small].astype(np.float64)
            exact *= np.broadcast_to(b, r.shape)[small]
            r[small] *= np.abs(exact) >= TINY
        return _canonical(r)


def tree_sum(x: Float) -> Float:
    """Contiguous binary tree over the last axis of 32: (..., 32) to (...)."""
    if x.shape[-1] != 32:
        raise ValueError(f"a tree sum takes 32 values, not {x.shape[-1]}")
    while x.shape[-1] > 1:
        x = add(x[..., 0::2], x[..., 1::2])
    return x[..., 0]


def scale_down(x: ArrayLike, shift: ArrayLike) -> Float:
    """x * 2**-shift for shifts >= 0, exact: zero of its sign below 2**-126.

    Infinity and NaN stay as they are, whatever the shift; 255 and more make zero of the rest.
    """
    pattern = bits(x)
    exponent = (pattern >> np.uint32(23) & np.uint32(255)).astype(np.int64)
    shift = np.asarray(shift, np.int64)
    moved = pattern - (np.minimum(shift, 255).astype(np.uint32) << np.uint32(23))
    result = np.where(exponent > shift, moved, pattern & _SIGN)
    return from_bits(np.where(exponent == 255, pattern, result))


def scale_exponent(x: ArrayLike, code: ArrayLike) -> Float:
    """x * 2**(code - 127) by exponent addition, exact (`code` is E8M0, 0 .. 255).

    Zero of its sign below 2**-126, infinity above the range, NaN for code 255. A zero stays zero
    whatever the code; an infinity stays but for code 255.
    """
    pattern = bits(x)
    code = np.asarray(code, np.int64)
    exponent = (pattern >> np.uint32(23) & np.uint32(255)).astype(np.int64)
    scaled = exponent + code - 127
    sign = pattern & _SIGN
    packed = np.clip(scaled, 0, 255).astype(np.uint32) << np.uint32(23)
    result = sign | packed | (pattern & np.uint32(0x7FFFFF))
    result = np.where(scaled <= 0, sign, result)
    result = np.where(scaled >= 255, sign | _INFINITY, result)
    result = np.where(exponent == 255, pattern, result)
    result = np.where(code == 255, np.uint32(NAN_BITS), result)
    return from_bits(np.where(exponent == 0, sign, result))


def order_key(x: ArrayLike) -> NDArray[np.uint32]:
    """Unsigned keys in the order of the values; -0 equals +0, the canonical NaN is the largest."""
    pattern = bits(x)
    pattern = np.where(pattern == _SIGN, np.uint32(0), pattern)
    return np.where(pattern & _SIGN != 0, ~pattern, pattern | _SIGN)


def ceil_to_int(x: ArrayLike) -> NDArray[np.int32]:
    """Smallest integer >= x, saturated to +-2**20 (infinity and NaN too, by their sign)."""
    x = flush(x)
    limit = np.where(np.signbit(x), -_CEIL_LIMIT, _CEIL_LIMIT)
    inside = np.abs(x) < _CEIL_LIMIT  # false for NaN
    return np.where(inside, np.ceil(np.where(inside, x, 0)), limit).astype(np.int32)


def int_to_fp(n: ArrayLike) -> Float:
    """Float32 of an integer of at most 24 bits, exact."""
    return np.asarray(n, np.int32).astype(np.float32)


def _canonical(r: Float) -> Float:
    wrong = np.isnan(r)
    if wrong.any():
        r[wrong] = NAN
    return r
