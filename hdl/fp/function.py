"""Special functions of FP32: exp2, reciprocal, reciprocal square root."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hdl.multiplier import Multiplier

from .convert import share
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

    Two `Multiplier`s and two ECP5 block RAMs. There is no reset: what stands in the
    pipeline before the first operands means nothing.

    Members
    -------
    x : In(32)
    function : In(2), `Function`
    o : Out(32)
    enable : In(latency), optional: see `enable_port`
    """

    latency = 10

    def __init__(self) -> None:
        super().__init__(
            {"x": In(32), "function": In(2), "o": Out(32), "enable": enable_port(self.latency)}
        )

    def elaborate(self, platform):
        m = Module()

        # 1: how far |x| is from 2**26 (exp2); large exponents are special below
        register = stage(m, self.enable[0])
        reach = share(m, 133 - self.x[23:31], "reach")  # signed
        reach_1 = register(reach[:6], "reach_1")
        beyond_1 = register((reach >= 64), "beyond_1")
        x_1 = register(self.x, "x_1")
        function_1 = register(self.function, "function_1")

        # 2: |x| * 2**26, truncated, its complement where x is negative (exp2)
        register = stage(m, self.enable[1])
        scaled = Cat(Const(0, 9), x_1[:23], Const(1, 1)) >> reach_1
        fixed_2 = register(Mux(beyond_1, 0, scaled) ^ x_1[31].replicate(33), "fixed_2")
        # Special cases: what the result's exponent and quiet bit are then. Results of PASS are
        # special, x itself.
        sign, exponent, mantissa = x_1[31], x_1[23:31], x_1[:23]
        some, zero, top = Signal(), exponent == 0, exponent == 255
        m.d.comb += some.eq(mantissa != 0)
        not_number = top & some
        special, infinite, quiet = Signal(), Signal(), Signal()
        with m.Switch(function_1):
            with m.Case(Function.PASS):
                m.d.comb += special.eq(1)
            with m.Case(Function.EXP2):
                below = sign & (exponent == 133) & (mantissa > 0x7C0000)
                m.d.comb += [
                    special.eq((exponent >= 134) | below),
                    infinite.eq(not_number | ~sign),
                    quiet.eq(not_number),
                ]
            with m.Case(Function.RECIPROCAL):
                m.d.comb += [
                    special.eq(zero | (exponent >= 254) | ((exponent == 253) & some)),
                    infinite.eq(not_number | zero),
                    quiet.eq(not_number),
                ]
            with m.Case(Function.RSQRT):
                m.d.comb += [
                    special.eq(zero | top | sign),
                    infinite.eq(not_number | zero | sign),
                    quiet.eq(not_number | (sign & ~zero)),
                ]
        passes = function_1 == Function.PASS
        is_exp2, is_rsqrt = function_1 == Function.EXP2, function_1 == Function.RSQRT
        is_reciprocal = function_1 == Function.RECIPROCAL
        passes_2 = register(passes, "passes_2")
        special_2 = register(special, "special_2")
        forced_2 = register(special & ~passes, "forced_2")
        infinite_2 = register(infinite, "infinite_2")
        quiet_2 = register(quiet, "quiet_2")
        sign_2 = register(sign & (passes | (is_reciprocal & ~not_number)), "sign_2")
        is_exp2_2 = register(is_exp2, "is_exp2_2")
        page = Mux(is_exp2, 0, Mux(is_rsqrt, Cat(~exponent[0], 1), 1))
        page_2 = register(page[:2], "page_2")
        whole_2 = register(Mux(is_rsqrt, (exponent + 1)[1:], exponent), "whole_2")
        x_2 = register(x_1, "x_2")
        function_2 = register(function_1, "function_2")

        # 3: x * 2**25, rounded; table address, t, what gives the exponent or is the result
        register = stage(m, self.enable[2])
        mantissa = x_2[:23]
        fixed = share(m, (Cat(fixed_2, x_2[31]) + 1)[1:34], "fixed")
        address = Cat(Mux(is_exp2_2, fixed[18:25], mantissa[16:23]), page_2)
        position = share(m, Mux(is_exp2_2, fixed[:18], Cat(Const(0, 2), mantissa[:16])), "position")
        centred = Cat(position[:17], ~position[17]).as_signed()
        exponent = Mux(forced_2, infinite_2.replicate(8), Mux(is_exp2_2, fixed[25:33], whole_2))
        tail = Cat(
            mantissa[:22] & passes_2.replicate(22),
            Mux(passes_2, mantissa[22], quiet_2),
            exponent[:8],
            sign_2,
            special_2,
        )

        entry = data.StructLayout({"c0": C0_BITS, "c1": signed(C1_BITS), "c2": signed(C2_BITS)})
        m.submodules.table = table = Memory(
            shape=entry,
            depth=len(coefficients()),
            init=[{"c0": c0, "c1": c1, "c2": c2} for c0, c1, c2 in coefficients()],
        )
        read = table.read_port()
        m.d.comb += [read.addr.eq(address), read.en.eq(self.enable[2])]

        t_3 = register(centred, "t_3")
        function_3 = register(function_2, "function_3")
        tail_3 = register(tail, "tail_3")

        # 4: the table's answer, off the block RAM's slow output; exponent of the result less one
        register = stage(m, self.enable[3])
        c0_4, c1_4, c2_4 = (register(read.data[k], f"{k}_4") for k in ("c0", "c1", "c2"))
        t_4 = register(t_3, "t_4")
        is_exp2 = function_3 == Function.EXP2
        offset = Mux(is_exp2, 126, Mux(function_3 == Function.RSQRT, 190, 253))
        base = (tail_3[23:31] ^ (~is_exp2).replicate(8)) + offset  # -x is ~x + 1
        exponent = Mux(tail_3[32], tail_3[23:31], base[:8])
        tail_4 = register(Cat(tail_3[:23], exponent, tail_3[31:]), "tail_4")
        is_reciprocal = function_3 == Function.RECIPROCAL
        falls_4 = register(is_reciprocal, "falls_4")
        slopes_4 = register(is_reciprocal | is_exp2, "slopes_4")

        # 5: c2 and t in their multiplier; the slope that stands beside c1 (`SLOPES`), without its
        # sign
        register = stage(m, self.enable[4])
        m.submodules.square = square = Multiplier(C2_BITS, T_BITS)
        m.d.comb += [
            square.enable_a.eq(self.enable[4]),
            square.enable_b.eq(self.enable[4]),
            square.enable_p.eq(self.enable[5]),
            square.a.eq(c2_4),
            square.b.eq(t_4),
        ]
        slope = Mux(slopes_4, t_4 << 3, 0) + Mux(falls_4, t_4 << 1, 0)
        slope_5 = register(slope[: T_BITS + 4].as_signed(), "slope_5")
        falls_5 = register(falls_4, "falls_5")
        c0_5, c1_5 = register(c0_4, "c0_5"), register(c1_4, "c1_5")
        t_5 = register(t_4, "t_5")
        tail_5 = register(tail_4, "tail_5")

        # 6: the square term; what the outer product is added to. A lowest bit pair is a carry in:
        # the rest of a negation.
        register = stage(m, self.enable[5])
        signs = falls_5.replicate(len(slope_5))
        base = Cat(falls_5, c0_5) + Cat(falls_5, slope_5.as_unsigned() ^ signs).as_signed()
        base_6 = register(base[1 : C0_BITS + 2], "base_6")
        c1_6, t_6 = register(c1_5, "c1_6"), register(t_5, "t_6")
        tail_6 = register(tail_5, "tail_6")

        # 7: the inner sum, in the outer product's multiplier. Half a unit is carried in.
        register = stage(m, self.enable[6])
        term = square.p[INNER_SHIFT - 1 :].as_signed()
        inner = (Cat(term[0], c1_6).as_signed() + term)[1:]
        m.submodules.outer = outer = Multiplier(C1_BITS, T_BITS)
        m.d.comb += [
            outer.enable_a.eq(self.enable[6]),
            outer.enable_b.eq(self.enable[6]),
            outer.enable_p.eq(self.enable[7]),
            outer.a.eq(inner[:C1_BITS]),
            outer.b.eq(t_6),
        ]
        base_7 = register(base_6, "base_7")
        tail_7 = register(tail_6, "tail_7")

        # 8: the outer product
        register = stage(m, self.enable[7])
        base_8 = register(base_7, "base_8")
        tail_8 = register(tail_7, "tail_8")

        # 9: the mantissa, 2**23 .. 2**24; its hidden one counts in the exponent
        register = stage(m, self.enable[8])
        value = (base_8 + (outer.p >> OUTER_SHIFT))[RESULT_SHIFT : RESULT_SHIFT + 25]
        value_9 = register(value, "value_9")
        tail_9 = register(tail_8, "tail_9")

        # 10: add the exponent
        register = stage(m, self.enable[9])
        ordinary = Cat(value_9[:23], (tail_9[23:31] + value_9[23:])[:8], tail_9[31])
        result = Mux(tail_9[32], tail_9[:32], ordinary)
        m.d.comb += self.o.eq(register(result, "result_10"))
        return m
