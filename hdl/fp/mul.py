"""FP32 multiplier."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from .convert import INFINITY, NAN, share

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
    """

    latency = 4

    a: In(32)
    b: In(32)
    o: Out(32)

    def elaborate(self, platform):
        m = Module()

        def register(value, name):
            r = Signal(value.shape(), name=name, reset_less=True)
            m.d.sync += r.eq(value)
            return r

        # 1: partial products, classes of the operands
        a, b = self.a, self.b
        exponent_a, exponent_b = a[23:31], b[23:31]
        zero_a, zero_b = exponent_a == 0, exponent_b == 0
        top_a, top_b = exponent_a == 255, exponent_b == 255
        nan = (top_a & ((a[:23] != 0) | zero_b)) | (
            top_b & ((b[:23] != 0) | zero_a)
        )  # NaN, or infinity times zero
        low_a, high_a = a[:12], Cat(a[12:23], Const(1, 1))
        low_b, high_b = b[:12], Cat(b[12:23], Const(1, 1))
        low_1 = register(low_a * low_b, "low_1")
        cross_a_1 = register(high_a * low_b, "cross_a_1")
        cross_b_1 = register(low_a * high_b, "cross_b_1")
        high_1 = register(high_a * high_b, "high_1")
        exponent_1 = register(exponent_a + exponent_b, "exponent_1")
        sign_1 = register(a[31] ^ b[31], "sign_1")
        nan_1 = register(nan, "nan_1")
        infinite_1 = register(top_a | top_b, "infinite_1")
        zero_1 = register(zero_a | zero_b, "zero_1")

        # 2: the middle of the product
        cross_2 = register(cross_a_1 + cross_b_1, "cross_2")
        outer_2 = register(Cat(low_1, high_1), "outer_2")
        exponent_2 = register((exponent_1 - 127).as_signed(), "exponent_2")
        sign_2 = register(sign_1 & ~nan_1, "sign_2")
        nan_2 = register(nan_1, "nan_2")
        infinite_2 = register(infinite_1, "infinite_2")
        zero_2 = register(zero_1, "zero_2")

        # 3: the product, in [1, 4); range of the exponent without and with a carry from [2, 4)
        product_3 = register(Cat(outer_2[:12], (outer_2[12:] + cross_2)[:36]), "product_3")
        exponent_3 = register(exponent_2[:8], "exponent_3")
        sign_3 = register(sign_2, "sign_3")
        nan_3 = register(nan_2, "nan_3")
        large_3 = register(
            Cat(exponent_2 >= 255, exponent_2 >= 254) | infinite_2.replicate(2), "large_3"
        )
        small_3 = register(
            (Cat(exponent_2 <= 0, exponent_2 <= -1) | zero_2.replicate(2))
            & ~infinite_2.replicate(2),
            "small_3",
        )

        # 4: normalise, round, pack. A carry out of the mantissa raises the exponent, to infinity
        # where it must.
        carry = product_3[47]
        mantissa = share(m, Mux(carry, product_3[24:47], product_3[23:46]), "mantissa")
        guard = Mux(carry, product_3[23], product_3[22])
        sticky = (product_3[:22] != 0) | (carry & product_3[22])
        up = guard & (sticky | mantissa[0])
        packed = (Cat(mantissa, (exponent_3 + carry)[:8]) + up)[:31]
        large = Mux(carry, large_3[1], large_3[0])
        small = Mux(carry, small_3[1], small_3[0])
        body = Mux(large, INFINITY, Mux(small, 0, packed))
        result = Cat(Mux(nan_3, NAN, body)[:31], sign_3)
        m.d.comb += self.o.eq(register(result, "result_4"))
        return m
