"""Special functions of FP32: exp2, reciprocal, reciprocal square root."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from .convert import INFINITY, NAN, share
from .pipeline import enable_port, stage
from .tables import (
    C0_BITS,
    C1_BITS,
    C2_BITS,
    INNER_SHIFT,
    OUTER_SHIFT,
    RESULT_SHIFT,
    T_BITS,
    Function,
    coefficients,
)

__all__ = ["SpecialFunction"]


class SpecialFunction(Component):
    """o = function(x), `latency` cycles after its operands, one a cycle; within 1 ulp.

    exp2: +inf for x >= 128, +0 for x < -126. reciprocal: +-inf for +-0; zero of its sign for
    infinity and where 1/x is below 2**-126. rsqrt: +inf for +-0, NaN for a negative x, +0 for
    +inf. NaN results are 0x7FC00000. Subnormal operands are zero of their sign. PASS gives x as
    it is. Tables and arithmetic: `hdl.fp.tables`.

    Two 18 x 18 multipliers and two ECP5 block RAMs. There is no reset: what stands in the
    pipeline before the first operands means nothing.

    Members
    -------
    x : In(32)
    function : In(2), `Function`
    o : Out(32)
    enable : In(latency), optional: see `enable_port`
    """

    latency = 8

    def __init__(self) -> None:
        super().__init__(
            {"x": In(32), "function": In(2), "o": Out(32), "enable": enable_port(self.latency)}
        )

    def elaborate(self, platform):
        m = Module()

        # 1: |x| * 2**26, truncated (exp2)
        register = stage(m, self.enable[0])
        exponent, mantissa = self.x[23:31], self.x[:23]
        reach = share(m, 133 - exponent, "reach")  # signed; large exponents are special below
        scaled = Cat(Const(0, 9), mantissa, Const(1, 1)) >> reach[:6]
        fixed_1 = register(Mux(reach >= 64, 0, scaled), "fixed_1")
        x_1 = register(self.x, "x_1")
        function_1 = register(self.function, "function_1")

        # 2: x * 2**25, rounded; table address, t, exponent of the result less one, special cases
        register = stage(m, self.enable[1])
        sign, exponent, mantissa = x_1[31], x_1[23:31], x_1[:23]
        is_exp2 = share(m, function_1 == Function.EXP2, "is_exp2")
        is_rsqrt = share(m, function_1 == Function.RSQRT, "is_rsqrt")
        flipped = Cat(fixed_1, Const(0, 1)) ^ sign.replicate(34)
        fixed = share(m, (flipped + 1)[1:34], "fixed")
        page = Mux(is_exp2, 0, Mux(is_rsqrt, Cat(~exponent[0], 1), 1))
        address = Cat(Mux(is_exp2, fixed[18:25], mantissa[16:23]), page[:2])
        position = share(m, Mux(is_exp2, fixed[:18], Cat(Const(0, 2), mantissa[:16])), "position")
        centred = Cat(position[:17], ~position[17]).as_signed()
        base = Mux(
            is_exp2,
            fixed[25:33].as_signed() + 126,
            Mux(is_rsqrt, 189 - (exponent + 1)[1:], 252 - exponent),
        )
        zero, top = exponent == 0, exponent == 255
        signed_zero, signed_infinity = Cat(Const(0, 31), sign), Cat(Const(INFINITY, 31), sign)
        special, pattern = Signal(), Signal(32)
        with m.Switch(function_1):
            with m.Case(Function.PASS):
                m.d.comb += [special.eq(1), pattern.eq(x_1)]
            with m.Case(Function.EXP2):
                below = sign & (exponent == 133) & (mantissa > 0x7C0000)
                m.d.comb += [
                    special.eq((exponent >= 134) | below),
                    pattern.eq(Mux(sign, 0, INFINITY)),
                ]
            with m.Case(Function.RECIPROCAL):
                m.d.comb += [
                    special.eq(zero | (exponent >= 254) | ((exponent == 253) & (mantissa != 0))),
                    pattern.eq(Mux(zero, signed_infinity, signed_zero)),
                ]
            with m.Case(Function.RSQRT):
                m.d.comb += [
                    special.eq(zero | top | sign),
                    pattern.eq(Mux(zero, INFINITY, Mux(sign, NAN, 0))),
                ]
        with m.If((function_1 != Function.PASS) & top & (mantissa != 0)):
            m.d.comb += pattern.eq(NAN)
        # An ordinary result has only the sign of a reciprocal in its pattern.
        negative = sign & (function_1 == Function.RECIPROCAL)

        entry = data.StructLayout({"c0": C0_BITS, "c1": signed(C1_BITS), "c2": signed(C2_BITS)})
        m.submodules.table = table = Memory(
            shape=entry,
            depth=len(coefficients()),
            init=[{"c0": c0, "c1": c1, "c2": c2} for c0, c1, c2 in coefficients()],
        )
        read = table.read_port()
        m.d.comb += [read.addr.eq(address), read.en.eq(self.enable[1])]

        tail = Cat(Mux(special, pattern, Cat(Const(0, 23), base[:8], negative)), special)
        t_2 = register(centred, "t_2")
        function_2 = register(function_1, "function_2")
        tail_2 = register(tail, "tail_2")

        # 3: the table's answer, off the block RAM's slow output
        register = stage(m, self.enable[2])
        c0_3, c1_3, c2_3 = (register(read.data[k], f"{k}_3") for k in ("c0", "c1", "c2"))
        t_3 = register(t_2, "t_3")
        function_3 = register(function_2, "function_3")
        tail_3 = register(tail_2, "tail_3")

        # 4: the square term, and the slope that stands beside c1 (`SLOPES`)
        register = stage(m, self.enable[3])
        square_4 = register(c2_3 * t_3, "square_4")
        slope = Mux(
            function_3 == Function.EXP2,
            t_3 << 3,
            Mux(function_3 == Function.RECIPROCAL, -((t_3 << 3) + (t_3 << 1)), 0),
        )
        slope_4 = register(slope[: T_BITS + 4].as_signed(), "slope_4")
        c0_4, c1_4 = register(c0_3, "c0_4"), register(c1_3, "c1_4")
        t_4 = register(t_3, "t_4")
        tail_4 = register(tail_3, "tail_4")

        # 5: the inner sum, and what the outer product is added to
        register = stage(m, self.enable[4])
        rounded = (square_4 + (1 << (INNER_SHIFT - 1))) >> INNER_SHIFT
        inner_5 = register((c1_4 + rounded)[:C1_BITS].as_signed(), "inner_5")
        base_5 = register((c0_4 + slope_4)[: C0_BITS + 1], "base_5")
        t_5 = register(t_4, "t_5")
        tail_5 = register(tail_4, "tail_5")

        # 6: the outer product
        register = stage(m, self.enable[5])
        product_6 = register(inner_5 * t_5, "product_6")
        base_6 = register(base_5, "base_6")
        tail_6 = register(tail_5, "tail_6")

        # 7: the mantissa, 2**23 .. 2**24; its hidden one counts in the exponent
        register = stage(m, self.enable[6])
        value = (base_6 + (product_6 >> OUTER_SHIFT))[RESULT_SHIFT : RESULT_SHIFT + 25]
        value_7 = register(value, "value_7")
        tail_7 = register(tail_6, "tail_7")

        # 8: add the exponent
        register = stage(m, self.enable[7])
        ordinary = Cat(value_7[:23], (tail_7[23:31] + value_7[23:])[:8], tail_7[31])
        result = Mux(tail_7[32], tail_7[:32], ordinary)
        m.d.comb += self.o.eq(register(result, "result_8"))
        return m
