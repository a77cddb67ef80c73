"""From a block's integer sum to an FP32 term."""

from amaranth.hdl import Cat, Const, Module, Mux, signed
from amaranth.lib.wiring import Component, In, Out

from .convert import INFINITY, NAN, normalise, share
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

    latency = 3

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
        about_1 = register(Cat(self.scale_a + self.scale_b, self.sum[-1], nan), "about_1")

        # 2: normalise
        register = stage(m, self.enable[1])
        zeros, shifted = normalise(m, magnitude_1)
        shifted_2 = register(shifted, "shifted_2")
        zeros_2 = register(zeros, "zeros_2")
        about_2 = register(about_1, "about_2")

        # 3: exponent field, 127 + 19 - zeros + scales - 254; pack
        register = stage(m, self.enable[2])
        scale_2, sign_2, nan_2 = about_2[:9], about_2[9], about_2[10]
        exponent = share(m, scale_2 - zeros_2 - 108, "exponent")
        small = (exponent <= 0) | ~shifted_2[-1]
        body = Mux(exponent >= 255, INFINITY, Cat(Const(0, 4), shifted_2[:-1], exponent[:8]))
        result = Mux(small, 0, Cat(body[:31], sign_2))
        m.d.comb += self.o.eq(register(Mux(nan_2, NAN, result), "result_3"))
        return m
