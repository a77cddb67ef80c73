"""FP32 helpers without a clock, to be placed between registers.

Each takes the module and bit patterns (values of 32 bits) and returns a combinational value;
subnormal operands count as zero of their sign. The module gets signals for what is used several
times, so call them where no `m.If` or state of the caller hides the assignment from a user of the
result. The golden functions of the same names are in `sim.golden.fp32` and `sim.golden.mx`.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

__all__ = [
    "INFINITY",
    "NAN",
    "ceil_to_int",
    "int_to_fp",
    "normalise",
    "order_key",
    "quantise_element",
    "scale_code",
    "scale_down",
    "scale_exponent",
    "share",
    "skip_zeros",
]

NAN = 0x7FC00000
"""The one NaN that operations give."""

INFINITY = 0x7F800000


def share(m: Module, value: Value, name: str) -> Signal:
    """A combinational signal of a value that is used more than once.

    Amaranth writes an expression out again at each use.
    """
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def skip_zeros(m: Module, value: Value, unit: int, limit: int) -> tuple[Value, Value]:
    """Shift an unsigned value left by whole units, until the top unit has a bit set.

    Parameters
    ----------
    unit
        Bits of a unit, a power of 2.
    limit
        Most units to shift by, 2**n - 1.

    Returns
    -------
    count : number of units shifted by, ``limit`` for a value with no bit set
    shifted : as wide as the value
    """
    width = len(value)
    count: Value = Const(limit, limit.bit_length())
    for k in reversed(range(limit)):
        count = Mux(value[max(width - unit * (k + 1), 0) : width - unit * k] != 0, k, count)
    count = share(m, count[: limit.bit_length()], f"empty_{unit}")
    amount = Cat(Const(0, unit.bit_length() - 1), count)
    return count, share(m, (value << amount)[:width], f"shifted_{unit}")


def normalise(m: Module, value: Value) -> tuple[Value, Value]:
    """Shift an unsigned value of up to 32 bits left until its top bit is set.

    Two steps, `skip_zeros` by bytes and by bits; where a register goes between them, call these.

    Returns
    -------
    zeros : number of leading zeros; for value 0 it means nothing
    shifted : as wide as the value
    """
    bytes_empty, value = skip_zeros(m, value, 8, 3)
    bits_empty, value = skip_zeros(m, value, 1, 7)
    return Cat(bits_empty, bytes_empty), value


def order_key(m: Module, x: Value) -> Value:
    """Unsigned 32-bit key in the order of the values; -0 is +0, the canonical NaN the largest."""
    negative = share(m, x[31] & (x[:31] != 0), "negative")
    return Cat(x[:31] ^ negative.replicate(31), ~negative)


def ceil_to_int(m: Module, x: Value) -> Value:
    """Smallest integer >= x, signed 22 bits, saturated to +-2**20 (infinity and NaN too)."""
    exponent = share(m, x[23:31], "exponent")
    # 20 integer bits above 23 fraction bits; below 1 all is fraction.
    aligned = share(
        m, (Cat(x[:23], Const(1, 1), Const(0, 19)) << (exponent - 127)[:5])[:43], "aligned"
    )
    small = exponent < 127
    fraction = Mux(small, exponent != 0, aligned[:23] != 0)
    whole = share(m, Mux(small, 0, aligned[23:]) + (fraction & ~x[31]), "whole")
    magnitude = share(m, Mux(exponent >= 147, 1 << 20, whole)[:21], "magnitude")
    return Mux(x[31], -magnitude, magnitude)[:22].as_signed()


def int_to_fp(m: Module, n: Value) -> Value:
    """FP32 of a signed integer of at most 24 bits, exact; 0 gives +0."""
    width = len(n)
    magnitude = share(m, abs(n)[:width], "magnitude")
    zeros, shifted = normalise(m, magnitude)
    exponent = (126 + width - zeros)[:8]
    pattern = Cat(Const(0, 24 - width), shifted[:-1], exponent, n[-1])
    return Mux(shifted[-1], pattern, 0)


def scale_down(m: Module, x: Value, shift: Value) -> Value:
    """x * 2**-shift (8 bits), exact; zero of its sign below 2**-126; infinity and NaN stay."""
    exponent = share(m, x[23:31], "exponent")
    top = share(m, exponent == 255, "top")
    keep = (exponent > shift) | top
    moved = (exponent - Mux(top, 0, shift))[:8]
    return Cat(Mux(keep, Cat(x[:23], moved), 0), x[31])


def scale_exponent(m: Module, x: Value, code: Value) -> Value:
    """x * 2**(code - 127) for an E8M0 code, exact.

    Zero of its sign below 2**-126, infinity above the range, NaN for code 255; a zero stays zero
    whatever the code, an infinity or NaN stays but for code 255.
    """
    exponent = share(m, x[23:31], "exponent")
    total = share(m, exponent + code, "total")  # 9 bits, biased twice
    finite = share(m, exponent != 255, "finite")
    large = (total >= 255 + 127) & finite
    small = (exponent == 0) | ((total <= 127) & finite)
    moved = Mux(finite, total - 127, exponent)[:8]
    body = Mux(large, INFINITY, Cat(x[:23], moved))
    result = Cat(Mux(small, 0, body)[:31], x[31])
    return Mux((code == 255) & (exponent != 0), NAN, result)[:32]


def scale_code(m: Module, largest: Value) -> Value:
    """E8M0 code of an MXINT8 block whose largest magnitude has this bit pattern."""
    exponent = share(m, largest[23:31], "exponent")
    return Mux(exponent > 6, exponent - 6, 0)[:8]


def quantise_element(m: Module, x: Value, code: Value) -> Value:
    """clip(rne(x * 2**(127 - code)), -127, 127), signed 8 bits.

    `code` is that of the block (:func:`scale_code`); a value that is far too large for it gives
    +-127, NaN and infinity mean nothing.
    """
    exponent = x[23:31]
    # The largest elements of a block have distance 0: six integer bits below the leading one.
    distance = share(m, code + 6 - exponent, "distance")
    # 7 integer bits and 8 fraction bits, right by 0 .. 7; the rest of the mantissa is sticky.
    window = share(m, (Cat(Const(0, 7), x[16:23], Const(1, 1)) >> distance[:3])[:15], "window")
    sticky = (window[:7] != 0) | (x[:16] != 0)
    rounded = share(m, window[8:] + (window[7] & (sticky | window[8])), "rounded")
    magnitude = share(m, Mux(rounded[7] | (distance < 0), 127, rounded[:7])[:7], "magnitude")
    gone = (distance > 7) | (exponent == 0)
    return Mux(gone, 0, Mux(x[31], -magnitude, magnitude))[:8].as_signed()
