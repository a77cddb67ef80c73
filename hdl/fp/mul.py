"""FP32 multiplier."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib.wiring import Component, In, Out

from hdl.multiplier import Multiplier

from .pipeline import enable_port, stage

__all__ = ["FpMul"]


class FpMul(Component):
    """o = fl(a * b), `latency` cycles after its operands, one a cycle.

    Round to nearest even; subnormal operands are zero of their sign; a product below 2**-126
    before rounding is zero of its sign; NaN results are 0x7FC00000.

    Four `Multiplier`s of 12 x 12 bits. There is no reset: what stands in the pipeline before the
    first operands means nothing.

    Members
    -------
    a, b : In(32)
    o : Out(32)
    enable : In(latency), optional: see `enable_port`
    """

    latency = 5

    def __init__(self) -> None:
        super().__init__(
            {"a": In(32), "b": In(32), "o": Out(32), "enable": enable_port(self.latency)}
        )

    def elaborate(self, platform):
        m = Module()

        # 1: classes of the operands; the partial products' operands are in their multipliers
        register = stage(m, self.enable[0])
        a, b = self.a, self.b
        exponent_a, exponent_b = a[23:31], b[23:31]
        zero_a, zero_b = exponent_a == 0, exponent_b == 0
        top_a, top_b = exponent_a == 255, exponent_b == 255
        # NaN, or infinity times zero
        nan = (top_a & ((a[:23] != 0) | zero_b)) | (top_b & ((b[:23] != 0) | zero_a))
        low_a, high_a = a[:12], Cat(a[12:23], Const(1, 1))
        low_b, high_b = b[:12], Cat(b[12:23], Const(1, 1))
        exponent_1 = register(exponent_a + exponent_b, "exponent_1")
        about_1 = register(Cat(a[31] ^ b[31], nan, top_a | top_b, zero_a | zero_b), "about_1")

        # 2: partial products
        register = stage(m, self.enable[1])
        products = []
        for name, left, right in (
            ("low", low_a, low_b),
            ("cross_a", high_a, low_b),
            ("cross_b", low_a, high_b),
            ("high", high_a, high_b),
        ):
            m.submodules[name] = multiplier = Multiplier(12, 12, signed=False)
            m.d.comb += [
                multiplier.enable_a.eq(self.enable[0]),
                multiplier.enable_b.eq(self.enable[0]),
                multiplier.enable_p.eq(self.enable[1]),
                multiplier.a.eq(left),
                multiplier.b.eq(right),
            ]
            products.append(multiplier.p)
        low_2, cross_a_2, cross_b_2, high_2 = products
        exponent_2 = register((exponent_1 - 127).as_signed(), "exponent_2")
        about_2 = register(about_1, "about_2")

        # 3: the product, in [1, 4); range of the exponent without and with a carry from [2, 4)
        register = stage(m, self.enable[2])
        upper = Cat(low_2[12:], high_2) + (cross_a_2 + cross_b_2)
        product_3 = register(Cat(low_2[:12], upper[:36]), "product_3")
        sign, nan, infinite, zero = about_2
        large = Cat(exponent_2 >= 255, exponent_2 >= 254) | infinite.replicate(2)
        small = Cat(exponent_2 <= 0, exponent_2 <= -1) | zero.replicate(2)
        about_3 = register(
            Cat(exponent_2[:8], sign & ~nan, nan, large, small & ~infinite.replicate(2)), "about_3"
        )

        # 4: normalise
        register = stage(m, self.enable[3])
        exponent_3, sign_3, nan_3 = about_3[:8], about_3[8], about_3[9]
        carry = product_3[47]
        mantissa_4 = register(Mux(carry, product_3[24:47], product_3[23:46]), "mantissa_4")
        guard_4 = register(Mux(carry, product_3[23], product_3[22]), "guard_4")
        sticky_4 = register((product_3[:22] != 0) | (carry & product_3[22]), "sticky_4")
        exponent_4, carry_4 = register(exponent_3, "exponent_4"), register(carry, "carry_4")
        large_4 = register(Mux(carry, about_3[11], about_3[10]) | nan_3, "large_4")
        small_4 = register(Mux(carry, about_3[13], about_3[12]), "small_4")
        nan_4, sign_4 = register(nan_3, "nan_4"), register(sign_3, "sign_4")

        # 5: round and pack. A product of 2 or more, and a carry out of the mantissa, raise the
        # exponent, to infinity where they must. One carry chain: the lowest bit pair is the
        # carry in.
        register = stage(m, self.enable[4])
        up = guard_4 & (sticky_4 | mantissa_4[0])
        raised = Cat(up, Const(0, 23), carry_4)
        packed = (Cat(Const(1, 1), mantissa_4, exponent_4) + raised)[1:32]
        gone = large_4 | small_4
        result = Cat(
            packed[:23] & ~gone.replicate(23) | Cat(Const(0, 22), nan_4),
            packed[23:31] & ~gone.replicate(8) | large_4.replicate(8),
            sign_4,
        )
        m.d.comb += self.o.eq(register(result, "result_5"))
        return m
