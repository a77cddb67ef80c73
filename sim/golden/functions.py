"""exp2, reciprocal and rsqrt, bit for bit as `hdl.fp.function` computes them.

Float32 in and out, any shape. The tables are those of the hardware (`hdl.fp.tables`); the
arithmetic is on integers. Worst errors are measured in `tests/sim/test_numerics.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hdl.fp.tables import (
    INNER_SHIFT,
    OUTER_SHIFT,
    PIECES,
    RESULT_SHIFT,
    SLOPES,
    T_BITS,
    Function,
    coefficients,
)
from sim.golden import fp32

__all__ = ["exp2", "reciprocal", "rsqrt"]

Float = NDArray[np.float32]
Int = NDArray[np.int64]

_TABLE = np.array(coefficients(), np.int64).T.copy()  # (c0, c1, c2) x 512
_BASE = {Function.EXP2: 0, Function.RECIPROCAL: PIECES, Function.RSQRT: 2 * PIECES}
_HALF = 1 << (T_BITS - 1)
_NAN = np.int64(fp32.NAN_BITS)
_INFINITY = np.int64(0x7F800000)


def exp2(x: ArrayLike) -> Float:
    """2**x: +inf for x >= 128, +0 for x < -126, NaN for NaN."""
    sign, exponent, mantissa = _unpack(x)
    # |x| * 2**26, truncated; then x * 2**25, rounded to nearest (away from zero on a tie).
    reach = np.minimum(np.maximum(133 - exponent, 0), 63)
    magnitude = (mantissa + (1 << 23) << 9) >> reach
    fixed = (np.where(sign == 1, ~magnitude, magnitude) + 1) >> 1
    index = fixed >> T_BITS & (PIECES - 1)
    value = _evaluate(Function.EXP2, index, (fixed & (2 * _HALF - 1)) - _HALF)
    result = ((fixed >> 25) + 126 << 23) + value
    large = exponent >= 134
    result = np.where(large, np.where(sign == 1, 0, _INFINITY), result)
    # x < -126: -126 has the exponent field 133 and this mantissa.
    result = np.where((sign == 1) & (exponent == 133) & (mantissa > 0x7C0000), 0, result)
    return _pack(np.where((exponent == 255) & (mantissa != 0), _NAN, result))


def reciprocal(x: ArrayLike) -> Float:
    """1/x: +-inf for +-0, +-0 for +-inf and where the result is below 2**-126."""
    sign, exponent, mantissa = _unpack(x)
    value = _evaluate(Function.RECIPROCAL, mantissa >> 16, _centred(mantissa))
    result = (252 - exponent << 23) + value
    zero = (exponent > 253) | ((exponent == 253) & (mantissa != 0))
    result = np.where(zero, 0, result)
    result = np.where(exponent == 0, _INFINITY, result) | sign << 31
    return _pack(np.where((exponent == 255) & (mantissa != 0), _NAN, result))


def rsqrt(x: ArrayLike) -> Float:
    """1/sqrt(x): +inf for +-0, NaN for negative x, +0 for +inf."""
    sign, exponent, mantissa = _unpack(x)
    odd = (exponent + 1) & 1  # of the exponent without its bias
    value = _evaluate(Function.RSQRT, odd << 7 | mantissa >> 16, _centred(mantissa))
    result = (189 - (exponent + 1 >> 1) << 23) + value
    result = np.where(exponent == 255, 0, result)
    result = np.where((sign == 1) | ((exponent == 255) & (mantissa != 0)), _NAN, result)
    return _pack(np.where(exponent == 0, _INFINITY, result))


def _unpack(x: ArrayLike) -> tuple[Int, Int, Int]:
    pattern = fp32.bits(x).astype(np.int64)
    return pattern >> 31, pattern >> 23 & 255, pattern & 0x7FFFFF


def _pack(pattern: Int) -> Float:
    return fp32.from_bits(pattern.astype(np.uint32))


def _centred(mantissa: Int) -> Int:
    """t of a piece of 2**16 mantissas."""
    return (mantissa & 0xFFFF) - 0x8000 << 2


def _evaluate(function: Function, index: Int, t: Int) -> Int:
    """The mantissa at 2**-24, 2**23 .. 2**24."""
    c0, c1, c2 = _TABLE[:, _BASE[function] + index]
    inner = c1 + (c2 * t + (1 << (INNER_SHIFT - 1)) >> INNER_SHIFT)
    return c0 + SLOPES[function] * t + (inner * t >> OUTER_SHIFT) >> RESULT_SHIFT
