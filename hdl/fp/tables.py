"""Tables of the special functions: piecewise quadratics, by exact integer arithmetic.

Each function is reduced to a mantissa in (1/2, 1] over an interval that is cut into 128 pieces
(rsqrt: two such intervals, for even and odd exponents). With u the distance to the centre of a
piece, |u| <= 2**-8, and t = u * 2**25 a signed integer of 18 bits:

    inner  = c1 + (c2 * t + 2**18 >> 19)                 at 2**-18, 18 bits signed
    value  = c0 + slope * t + (inner * t >> 14)          at 2**-29
    result = value >> 5                                  at 2**-24

`slope` is a constant of the function that centres c1 around zero, so that both products are
18 x 18 bits signed. The rounding of the result and the mean of the truncation
are in c0.

The quadratic is the Taylor expansion at the centre with its cubic term economised (Chebyshev):
u**3 is replaced by 3/4 r**2 u, r = 2**-8, which leaves a quarter of the error.
"""

from enum import IntEnum
from fractions import Fraction
from functools import cache
from math import isqrt

__all__ = [
    "C0_BITS",
    "C1_BITS",
    "C2_BITS",
    "INNER_SHIFT",
    "OUTER_SHIFT",
    "PIECES",
    "RESULT_SHIFT",
    "SLOPES",
    "T_BITS",
    "Function",
    "coefficients",
]


class Function(IntEnum):
    """What `SpecialFunction` computes."""

    PASS = 0
    EXP2 = 1
    RECIPROCAL = 2
    RSQRT = 3


PIECES = 128
T_BITS = 18  # u * 2**25
C0_BITS = 30  # unsigned, at 2**-29
C1_BITS = 18  # signed, at 2**-18
C2_BITS = 13  # signed, at 2**-12
INNER_SHIFT = 12 + 25 - 18
OUTER_SHIFT = 18 + 25 - 29
RESULT_SHIFT = 5

SLOPES = {Function.EXP2: 8, Function.RECIPROCAL: -10, Function.RSQRT: 0}
"""In sixteenths (t at 2**-29). They leave c1 within +-1/2 and the inner sum within 18 bits."""

_RADIUS = Fraction(1, 256)
_PRECISION = 160  # fraction bits of the irrational numbers below


@cache
def coefficients() -> tuple[tuple[int, int, int], ...]:
    """512 entries (c0, c1, c2): 128 of EXP2, of RECIPROCAL, of RSQRT for x in [1, 2), in [2, 4).

    EXP2 is 2**(f - 1) over f in [0, 1); RECIPROCAL 1/m over m in [1, 2); RSQRT is 1/sqrt(m),
    then 1/sqrt(2 m), over m in [1, 2).
    """
    centres = [Fraction(2 * i + 1, 2 * PIECES) for i in range(PIECES)]
    log2 = _natural_log_of_2()
    entries = []
    for i in range(PIECES):
        f = _power_of_2(2 * i + 1) / 2
        taylor = (f, f * log2, f * log2**2 / 2, f * log2**3 / 6)
        entries.append(_quantise(taylor, SLOPES[Function.EXP2]))
    for centre in centres:
        m = 1 + centre
        entries.append(
            _quantise((1 / m, -1 / m**2, 1 / m**3, -1 / m**4), SLOPES[Function.RECIPROCAL])
        )
    for scale in (1, 2):
        for centre in centres:
            m = 1 + centre
            f = 1 / _square_root(scale * m)
            taylor = (f, -f / (2 * m), 3 * f / (8 * m**2), -5 * f / (16 * m**3))
            entries.append(_quantise(taylor, SLOPES[Function.RSQRT]))
    return tuple(entries)


def _quantise(taylor: tuple[Fraction, ...], slope: int) -> tuple[int, int, int]:
    """Fixed-point coefficients of a Taylor expansion to the cubic term."""
    f0, f1, f2, f3 = taylor
    f1 += f3 * _RADIUS**2 * 3 / 4
    c2 = round(f2 * 2**12)
    c1 = round((f1 - Fraction(slope, 16)) * 2**18)
    # The roundings of the result and of the product (half a unit each), taken with the value.
    c0 = round(f0 * 2**29 + 2 ** (RESULT_SHIFT - 1) + Fraction(1, 2))
    assert 0 <= c0 < 1 << C0_BITS
    assert -1 << (C1_BITS - 1) <= c1 < 1 << (C1_BITS - 1)
    assert 0 <= c2 < 1 << (C2_BITS - 1)
    reach = c2 * 2 ** (T_BITS - 1) // 2**INNER_SHIFT + 1
    assert abs(c1) + reach < 1 << (C1_BITS - 1)
    return c0, c1, c2


def _square_root(x: Fraction) -> Fraction:
    """sqrt(x), rounded down to `_PRECISION` fraction bits."""
    return Fraction(isqrt((x.numerator << 2 * _PRECISION) // x.denominator), 1 << _PRECISION)


def _power_of_2(numerator: int) -> Fraction:
    """2**(numerator / 256)."""
    root, result = Fraction(2), Fraction(1)
    for bit in reversed(range(8)):
        root = _square_root(root)  # 2**(1/2), 2**(1/4), ... 2**(1/256)
        if numerator >> bit & 1:
            result *= root
    return result


def _natural_log_of_2() -> Fraction:
    """ln 2 = sum of 1 / (k * 2**k)."""
    one = 1 << _PRECISION
    return Fraction(sum(one // (k << k) for k in range(1, _PRECISION)), one)
