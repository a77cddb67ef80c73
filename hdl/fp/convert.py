"""FP32 helpers without a clock, to be placed between registers.

Each takes the module and bit patterns (values of 32 bits) and returns a combinational value;
subnormal operands count as zero of their sign. The module gets signals for what is used several
times, so call them where no `m.If` or state of the caller hides the assignment from a user of the
result. Long ones have steps: `registers`, a function for each (`hdl.fp.pipeline.stage`), put
registers behind them, and the result is that much later. The golden functions of the same names
are in `sim.golden.fp32` and `sim.golden.mx`.
"""

from collections.abc import Callable, Sequence
from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

__all__ = [
    "INFINITY",
    "NAN",
    "ceil_to_int",
    "int_to_fp",
    "normalise",
    "order_key",
    "quantise_element",
    "quantise_operand",
    "scale_code",
    "scale_down",
    "scale_exponent",
    "share",
    "skip_zeros",
]

NAN = 0x7FC00000
"""The one NaN that operations give."""

INFINITY = 0x7F800000

Registers = Sequence[Callable[[Value, str], Value]]


def share(m: Module, value: Value, name: str) -> Signal:
    """A combinational signal of a value that is used more than once.

    Amaranth writes an expression out again at each use.
    """
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def _steps(m: Module, registers: Registers, count: int) -> Registers:
    """What ends each step of a helper: the caller's registers, or nothing."""
    if registers:
        assert len(registers) == count
        return registers
    return (partial(share, m),) * count


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


def order_key(m: Module, x: Value, registers: Registers = ()) -> Value:
    """Unsigned 32-bit key in the order of the values; -0 is +0, the canonical NaN the largest.

    One step may end in registers.
    """
    (after,) = _steps(m, registers, 1)
    negative = after(x[31] & (x[:31] != 0), "negative")
    x = after(x, "x")
    return Cat(x[:31] ^ negative.replicate(31), ~negative)


def ceil_to_int(m: Module, x: Value, registers: Registers = ()) -> Value:
    """Smallest integer >= x, signed 22 bits, saturated to +-2**20 (infinity and NaN too).

    Three steps may end in registers.
    """
    after = _steps(m, registers, 3)
    exponent = share(m, x[23:31], "exponent")
    amount = after[0]((exponent + 1)[:5], "amount")  # exponent - 127
    small, huge = after[0](exponent < 127, "small"), after[0](exponent >= 147, "huge")
    nothing = after[0](exponent == 0, "nothing")
    x = after[0](x, "x")

    # 20 integer bits above 23 fraction bits; below 1 all is fraction.
    aligned = (Cat(x[:23], Const(1, 1), Const(0, 19)) << amount)[:43]
    aligned = after[1](aligned, "aligned")
    small, huge = after[1](small, "small"), after[1](huge, "huge")
    nothing, sign = after[1](nothing, "nothing"), after[1](x[31], "sign")

    fraction = Mux(small, ~nothing, aligned[:23] != 0)
    whole = Mux(huge, 1 << 20, Mux(small, 0, aligned[23:]))
    whole = after[2](whole[:21], "whole")
    up = after[2](sign | (fraction & ~huge), "up")
    sign = after[2](sign, "sign")
    # A negative value is cut off: its fraction does not count, and -w is ~w + 1.
    return (Cat(whole ^ sign.replicate(21), sign).as_signed() + up)[:22].as_signed()


def int_to_fp(m: Module, n: Value, registers: Registers = ()) -> Value:
    """FP32 of a signed integer of at most 24 bits, exact; 0 gives +0. Two steps may end in
    registers.
    """
    after = _steps(m, registers, 2)
    width = len(n)
    magnitude = after[0](abs(n)[:width], "magnitude")
    sign = after[0](n[-1], "sign")
    bytes_empty, shifted = skip_zeros(m, magnitude, 8, 3)
    bytes_empty, shifted = after[1](bytes_empty, "bytes_empty"), after[1](shifted, "shifted")
    sign = after[1](sign, "sign")
    bits_empty, shifted = skip_zeros(m, shifted, 1, 7)
    exponent = (126 + width - Cat(bits_empty, bytes_empty))[:8]
    pattern = Cat(Const(0, 24 - width), shifted[:-1], exponent, sign)
    return Mux(shifted[-1], pattern, 0)


def scale_down(m: Module, x: Value, shift: Value) -> Value:
    """x * 2**-shift (8 bits), exact; zero of its sign below 2**-126; infinity and NaN stay."""
    exponent = share(m, x[23:31], "exponent")
    top = share(m, exponent == 255, "top")
    difference = share(m, exponent - shift, "difference")
    keep = top | ~(difference[-1] | (exponent == shift))
    moved = difference[:8] | top.replicate(8)
    return Cat(Mux(keep, Cat(x[:23], moved), 0), x[31])


def scale_exponent(m: Module, x: Value, code: Value, registers: Registers = ()) -> Value:
    """x * 2**(code - 127) for an E8M0 code, exact. One step may end in registers.

    Zero of its sign below 2**-126, infinity above the range, NaN for code 255; a zero stays zero
    whatever the code, an infinity or NaN stays but for code 255.
    """
    (after,) = _steps(m, registers, 1)
    exponent = x[23:31]
    total = after(exponent + code, "total")  # 9 bits, biased twice
    nan = after((code == 255) & (exponent != 0), "nan")
    finite, nothing = after(exponent != 255, "finite"), after(exponent == 0, "nothing")
    x = after(x, "x")
    exponent = x[23:31]
    # At least 255 + 127
    large = total[8] & (total[7] | total[1:7].all()) & finite
    small = nothing | ((total < 128) & finite)
    moved = Mux(finite, total - 127, exponent)[:8]
    body = Mux(large, INFINITY, Cat(x[:23], moved))
    result = Cat(Mux(small, 0, body)[:31], x[31])
    return Mux(nan, NAN, result)[:32]


def scale_code(m: Module, largest: Value) -> Value:
    """E8M0 code of an MXINT8 block whose largest magnitude has this bit pattern."""
    exponent = share(m, largest[23:31], "exponent")
    return Mux(exponent > 6, exponent - 6, 0)[:8]


def quantise_operand(x: Value) -> Value:
    """What :func:`quantise_element` wants of a value, 17 bits: sign, exponent, seven bits of the
    mantissa, and whether there is more of it.
    """
    return Cat(x[:16] != 0, x[16:32])


def quantise_element(m: Module, operand: Value, top: Value, registers: Registers = ()) -> Value:
    """clip(rne(x * 2**(127 - code)), -127, 127), signed 8 bits. Three steps may end in registers.

    `operand` is x (:func:`quantise_operand`); `top` is code + 6, the exponent of the largest
    elements, with the code of the block (:func:`scale_code`). A value that is far too large for it
    gives +-127, NaN and infinity mean nothing.
    """
    after = _steps(m, registers, 3)
    exponent = operand[8:16]
    # The largest elements of a block have distance 0: six integer bits below the leading one.
    distance = share(m, top - exponent, "distance")
    amount, clip = after[0](distance[:3], "amount"), after[0](distance < 0, "clip")
    gone = after[0]((distance > 7) | (exponent == 0), "gone")
    fraction, sign = after[0](operand[:8], "fraction"), after[0](operand[16], "sign")

    # 7 integer bits and 8 fraction bits, right by 0 .. 7; the rest of the mantissa is sticky.
    window = share(m, (Cat(Const(0, 7), fraction[1:], Const(1, 1)) >> amount)[:15], "window")
    up = window[7] & ((window[:7] != 0) | fraction[0] | window[8])
    whole, up = after[1](window[8:], "whole"), after[1](up, "up")
    clip, gone, sign = after[1](clip, "clip"), after[1](gone, "gone"), after[1](sign, "sign")

    rounded = share(m, whole + up, "rounded")
    magnitude = Mux(gone, 0, Mux(rounded[7] | clip, 127, rounded[:7]))
    magnitude, sign = after[2](magnitude[:7], "magnitude"), after[2](sign, "sign")
    return Mux(sign, -magnitude, magnitude)[:8].as_signed()
