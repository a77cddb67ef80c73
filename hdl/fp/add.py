"""FP32 adder."""

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib.wiring import Component, In, Out

from .convert import share, skip_zeros
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

    latency = 6

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
        # Its own comparison: where the exponents are equal the order does not matter.
        ahead = share(m, exponent_a - exponent_b, "ahead")
        distance_1 = register(Mux(ahead[8], exponent_b - exponent_a, ahead)[:8], "distance_1")
        normal_a, normal_b = exponent_a != 0, exponent_b != 0
        normal_large = share(m, Mux(swap, normal_b, normal_a), "normal_large")
        normal_small = share(m, Mux(swap, normal_a, normal_b), "normal_small")
        large_1 = register(Mux(normal_large, Cat(large[:23], Const(1, 1)), 0), "large_1")
        small_1 = register(Mux(normal_small, Cat(small[:23], Const(1, 1)), 0), "small_1")
        subtract_1 = register(a[31] ^ b[31], "subtract_1")
        zero_sign = a[31] & b[31]  # of a result that is zero
        about_1 = register(Cat(large[23:32], zero_sign, top_a | top_b, nan), "about_1")

        # 2: align: 24 bits, guard and round bit, and a sticky bit of what falls off
        register = stage(m, self.enable[1])
        far = share(m, distance_1[5:] != 0, "far")
        wide = Cat(Const(0, 2), small_1)
        lost = Const(-1, 26) << distance_1[:5]
        sticky = (wide & (far.replicate(26) | ~lost[:26])) != 0
        aligned_2 = register(Cat(sticky, Mux(far, 0, wide >> distance_1[:5])), "aligned_2")
        large_2 = register(large_1, "large_2")
        subtract_2 = register(subtract_1, "subtract_2")
        about_2 = register(about_1, "about_2")

        # 3: add or subtract; the lowest bit pair is the carry in
        register = stage(m, self.enable[2])
        left = Cat(Const(1, 1), Const(0, 3), large_2)
        right = Cat(subtract_2, aligned_2 ^ subtract_2.replicate(27), subtract_2)
        total_3 = register((left + right)[1:29], "total_3")
        about_3 = register(about_2, "about_3")

        # 4: normalise by bytes
        register = stage(m, self.enable[3])
        bytes_empty, shifted = skip_zeros(m, total_3, 8, 3)
        shifted_4 = register(shifted, "shifted_4")
        bytes_4 = register(bytes_empty, "bytes_4")
        exponent_3, sign_3, zero_sign_3, infinite_3, nan_3 = _fields(about_3)
        over = infinite_3 | ((exponent_3 == 254) & total_3[27])
        about_4 = register(Cat(exponent_3, sign_3, zero_sign_3, over, nan_3), "about_4")

        # 5: normalise by bits; the exponent's change, 1 - zeros
        register = stage(m, self.enable[4])
        bits_empty, shifted = skip_zeros(m, shifted_4, 1, 7)
        zeros = Cat(bits_empty, bytes_4)
        shifted_5 = register(shifted, "shifted_5")
        zeros_5 = register(zeros, "zeros_5")
        change_5 = register((1 - zeros).as_signed(), "change_5")
        about_5 = register(about_4, "about_5")

        # 6: round and pack. A carry out of the mantissa raises the exponent, to infinity where
        # it must. Where the exponent is below 1 the sum is exact: nothing rounds up to 2**-126.
        register = stage(m, self.enable[5])
        exponent_5, sign_5, zero_sign_5, over_5, nan_5 = _fields(about_5)
        up = shifted_5[3] & ((shifted_5[:3] != 0) | shifted_5[4])
        # One carry chain: the lowest bit pair is the carry in.
        left = Cat(Const(1, 1), shifted_5[4:27], exponent_5)
        right = Cat(up, Const(0, 23), change_5)
        packed = (left + right.as_signed())[1:32]
        zero = ~shifted_5[27]
        gone = zero | (exponent_5 < zeros_5)
        special = over_5 | nan_5
        result = Cat(
            packed[:23] & ~(gone | special).replicate(23) | Cat(Const(0, 22), nan_5),
            packed[23:31] & ~gone.replicate(8) | special.replicate(8),
            Mux(nan_5, 0, Mux(zero & ~over_5, zero_sign_5, sign_5)),
        )
        m.d.comb += self.o.eq(register(result, "result_6"))
        return m


def _fields(about: Value) -> tuple[Value, ...]:
    """Exponent, sign, sign of a zero, infinite, NaN."""
    return about[:8], about[8], about[9], about[10], about[11]
