"""FP32 adder."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib.wiring import Component, In, Out

from .convert import INFINITY, NAN, normalise, share
from .pipeline import enable_port, stage

__all__ = ["FpAdd"]


class FpAdd(Component):
    """o = fl(a + b), `latency` cycles after its operands, one a cycle.

    Round to nearest even; subnormal operands are zero of their sign; a sum below 2**-126 is zero
    of its sign; x + (-x) is +0; NaN results are 0x7FC00000. There is no reset: what stands in
    the pipeline before the first operands means nothing.

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

        # 1: order by magnitude (subnormals are the smallest), distance of the exponents
        register = stage(m, self.enable[0])
        a, b = self.a, self.b
        exponent_a, exponent_b = a[23:31], b[23:31]
        top_a, top_b = exponent_a == 255, exponent_b == 255
        nan = (top_a & (a[:23] != 0)) | (top_b & (b[:23] != 0)) | (top_a & top_b & (a[31] ^ b[31]))
        swap = share(m, b[:31] > a[:31], "swap")
        large = share(m, Mux(swap, b, a), "large")
        small = share(m, Mux(swap, a, b), "small")
        distance = share(
            m, Mux(swap, exponent_b - exponent_a, exponent_a - exponent_b)[:8], "distance"
        )
        hidden_large, hidden_small = large[23:31] != 0, small[23:31] != 0
        large_1 = register(Mux(hidden_large, Cat(large[:23], Const(1, 1)), 0), "large_1")
        small_1 = register(Mux(hidden_small, Cat(small[:23], Const(1, 1)), 0), "small_1")
        distance_1 = register(Mux(distance[5:] != 0, 31, distance[:5]), "distance_1")
        subtract_1 = register(a[31] ^ b[31], "subtract_1")
        zero_sign = a[31] & b[31]  # of a result that is zero
        infinite = top_a | top_b
        about_1 = register(Cat(large[23:32], zero_sign, infinite, nan), "about_1")

        # 2: align: 24 bits, guard and round bit, and a sticky bit of what falls off
        register = stage(m, self.enable[1])
        wide = Cat(Const(0, 2), small_1)
        lost = Const(-1, 26) << distance_1
        sticky = (wide & ~lost[:26]) != 0
        aligned_2 = register(Cat(sticky, wide >> distance_1), "aligned_2")
        large_2 = register(large_1, "large_2")
        subtract_2 = register(subtract_1, "subtract_2")
        about_2 = register(about_1, "about_2")

        # 3: add or subtract; the lowest bit pair is the carry in
        register = stage(m, self.enable[2])
        left = Cat(Const(1, 1), Const(0, 3), large_2)
        right = Cat(subtract_2, aligned_2 ^ subtract_2.replicate(27), subtract_2)
        total_3 = register((left + right)[1:29], "total_3")
        about_3 = register(about_2, "about_3")

        # 4: normalise
        register = stage(m, self.enable[3])
        zeros, shifted = normalise(m, total_3)
        shifted_4 = register(shifted, "shifted_4")
        zeros_4 = register(zeros, "zeros_4")
        about_4 = register(about_3, "about_4")

        # 5: round and pack. A carry out of the mantissa raises the exponent, to infinity where
        # it must. Where the exponent is below 1 the sum is exact: nothing rounds up to 2**-126.
        register = stage(m, self.enable[4])
        exponent_4, sign_4, zero_sign_4 = about_4[:8], about_4[8], about_4[9]
        infinite_4, nan_4 = about_4[10], about_4[11]
        mantissa = shifted_4[4:27]
        up = shifted_4[3] & ((shifted_4[:3] != 0) | mantissa[0])
        exponent = share(m, exponent_4 + 1 - zeros_4, "exponent")  # -27 .. 255
        packed = (Cat(mantissa, exponent[:8]) + up)[:31]
        zero = ~shifted_4[27]
        tiny = exponent <= 0
        over = infinite_4 | ((exponent_4 == 254) & (zeros_4 == 0))
        body = Mux(over, INFINITY, Mux(zero | tiny, 0, packed))
        sign = Mux(zero & ~infinite_4, zero_sign_4, sign_4)
        result = Mux(nan_4, NAN, Cat(body[:31], sign))
        m.d.comb += self.o.eq(register(result, "result_5"))
        return m
