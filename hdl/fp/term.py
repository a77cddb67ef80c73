"""From a block's integer sum to an FP32 term."""

from amaranth.hdl import Cat, Const, Module, Mux, Value, signed
from amaranth.lib.wiring import Component, In, Out

from .convert import INFINITY, NAN, share
from .pipeline import enable_port, stage

__all__ = ["BlockTerm"]


class BlockTerm(Component):
    """o = sum * 2**(scale_a - 127 + scale_b - 127), `latency` cycles after, one a cycle. Exact.

    Below 2**-126 and for a sum of 0 it is +0, above the range infinity of the sum's sign. A
    scale code of 255 gives NaN (0x7FC00000), also where the sum is 0.

    Members
    -------
    sum : In(signed(20)), integer
    scale_a, scale_b : In(8), E8M0 codes
    o : Out(32)
    enable : In(latency), optional: see `enable_port`
    """

    latency = 5

    def __init__(self) -> None:
        super().__init__(
            {
                "sum": In(signed(20)),
                "scale_a": In(8),
                "scale_b": In(8),
                "o": Out(32),
                "enable": enable_port(self.latency),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # 1: magnitude, sum of the scales
        register = stage(m, self.enable[0])
        magnitude_1 = register(abs(self.sum)[:20], "magnitude_1")
        nan = (self.scale_a == 255) | (self.scale_b == 255)
        scale_1 = register(self.scale_a + self.scale_b, "scale_1")
        about_1 = register(Cat(self.sum[-1], nan), "about_1")

        # 2, 3: normalise; exponent field of a sum without leading zeros, 127 + 19 + scales - 254
        register = stage(m, self.enable[1])
        zeros, shifted = _skip_zeros(m, magnitude_1, 16, 8)
        zeros_2 = register(zeros, "zeros_2")
        shifted_2 = register(shifted, "shifted_2")
        exponent_2 = register((scale_1 - 108).as_signed(), "exponent_2")
        about_2 = register(about_1, "about_2")
        register = stage(m, self.enable[2])
        zeros, shifted = _skip_zeros(m, shifted_2, 4, 2, 1)
        zeros_3 = register(Cat(zeros, zeros_2), "zeros_3")
        shifted_3 = register(shifted, "shifted_3")
        exponent_3 = register(exponent_2, "exponent_3")
        about_3 = register(about_2, "about_3")

        # 4: exponent field, and whether it is one
        register = stage(m, self.enable[3])
        exponent = share(m, exponent_3 - zeros_3, "exponent")
        fraction_4 = register(shifted_3[:-1], "fraction_4")
        exponent_4 = register(exponent[:8], "exponent_4")
        small_4 = register((exponent <= 0) | ~shifted_3[-1], "small_4")
        large_4 = register(exponent >= 255, "large_4")
        about_4 = register(about_3, "about_4")

        # 5: pack
        register = stage(m, self.enable[4])
        sign_4, nan_4 = about_4
        body = Mux(large_4, INFINITY, Cat(Const(0, 4), fraction_4, exponent_4))
        result = Mux(small_4, 0, Cat(body[:31], sign_4))
        m.d.comb += self.o.eq(register(Mux(nan_4, NAN, result), "result_5"))
        return m


def _skip_zeros(m: Module, value: Value, *steps: int) -> tuple[Value, Value]:
    """Shift left by each step whose bits are all zero; which were, the last step lowest."""
    zeros = []
    for step in steps:
        empty = share(m, value[-step:] == 0, f"empty_{step}")
        moved = Mux(empty, Cat(Const(0, step), value[:-step]), value)
        value = share(m, moved, f"shifted_{step}")
        zeros.append(empty)
    return Cat(*reversed(zeros)), value
