"""FP32 multiplier."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib.wiring import Component, In, Out

from .convert import INFINITY, NAN, share
from .pipeline import enable_port, stage

__all__ = ["FpMul"]


class FpMul(Component):
    """o = fl(a * b), `latency` cycles after its operands, one a cycle.

    Round to nearest even; subnormal operands are zero of their sign; a product below 2**-126
    before rounding is zero of its sign; NaN results are 0x7FC00000.

    Four 12 x 12 bit products take one ECP5 multiplier each. There is no reset: what stands in
    the pipeline before the first operands means nothing.

    Members
    -------
    a, b : In(32)
    o : Out(32)
    enable : In(latency), optional: see `enable_port`
    """

    latency = 4

    def __init__(self) -> None:
        super().__init__(
            {"a": In(32), "b": In(32), "o": Out(32), "enable": enable_port(self.latency)}
        )

    def elaborate(self, platform):
        m = Module()

        # 1: partial products, classes of the operands
        register = stage(m, self.enable[0])
        a, b = self.a, self.b
        exponent_a, exponent_b = a[23:31], b[23:31]
        zero_a, zero_b = exponent_a == 0, exponent_b == 0
        top_a, top_b = exponent_a == 255, exponent_b == 255
        # NaN, or infinity times zero
        nan = (top_a & ((a[:23] != 0) | zero_b)) | (top_b & ((b[:23] != 0) | zero_a))
        low_a, high_a = a[:12], Cat(a[12:23], Const(1, 1))
        low_b, high_b = b[:12], Cat(b[12:23], Const(1, 1))
        low_1 = register(low_a * low_b, "low_1")
        cross_a_1 = register(high_a * low_b, "cross_a_1")
        cross_b_1 = register(low_a * high_b, "cross_b_1")
        high_1 = register(high_a * high_b, "high_1")
        exponent_1 = register(exponent_a + exponent_b, "exponent_1")
        about_1 = register(Cat(a[31] ^ b[31], nan, top_a | top_b, zero_a | zero_b), "about_1")

        # 2: the middle of the product
        register = stage(m, self.enable[1])
        cross_2 = register(cross_a_1 + cross_b_1, "cross_2")
        outer_2 = register(Cat(low_1, high_1), "outer_2")
        exponent_2 = register((exponent_1 - 127).as_signed(), "exponent_2")
        about_2 = register(about_1, "about_2")

        # 3: the product, in [1, 4); range of the exponent without and with a carry from [2, 4)
        register = stage(m, self.enable[2])
        product_3 = register(Cat(outer_2[:12], (outer_2[12:] + cross_2)[:36]), "product_3")
        sign, nan, infinite, zero = about_2
        large = Cat(exponent_2 >= 255, exponent_2 >= 254) | infinite.replicate(2)
        small = Cat(exponent_2 <= 0, exponent_2 <= -1) | zero.replicate(2)
        about_3 = register(
            Cat(exponent_2[:8], sign & ~nan, nan, large, small & ~infinite.replicate(2)), "about_3"
        )

        # 4: normalise, round, pack. A carry out of the mantissa raises the exponent, to infinity
        # where it must.
        register = stage(m, self.enable[3])
        exponent_3, sign_3, nan_3 = about_3[:8], about_3[8], about_3[9]
        carry = product_3[47]
        mantissa = share(m, Mux(carry, product_3[24:47], product_3[23:46]), "mantissa")
        guard = Mux(carry, product_3[23], product_3[22])
        sticky = (product_3[:22] != 0) | (carry & product_3[22])
        up = guard & (sticky | mantissa[0])
        packed = (Cat(mantissa, (exponent_3 + carry)[:8]) + up)[:31]
        large = Mux(carry, about_3[11], about_3[10])
        small = Mux(carry, about_3[13], about_3[12])
        body = Mux(large, INFINITY, Mux(small, 0, packed))
        result = Cat(Mux(nan_3, NAN, body)[:31], sign_3)
        m.d.comb += self.o.eq(register(result, "result_4"))
        return m
