"""Multipliers with registers on their inputs and outputs, each one DSP block of an FPGA."""

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Multiplier", "MultiplierRow"]


def _shape(is_signed: bool):
    return signed if is_signed else unsigned


class Multiplier(Component):
    """p = a * b, `latency` cycles after its operands, one a cycle; two's complement or unsigned.

    An FPGA's DSP block reaches its speed only with registers inside it, directly before and behind
    the multiplication, and synthesis does not move registers of the fabric into it. So this
    component is the unit that is mapped as a whole: a platform with a method ``get_multiplier``
    (as Amaranth's ``get_ff_sync``) gives what is built in its place; ``fpga/ecp5`` has one. For all
    else (simulation, formal, ASIC) it is three registers and a ``*``. There is no reset: what
    stands in the registers before the first operands means nothing.

    Room for 4-bit weights: two of them and one activation of 8 bits fit into one multiplier of
    18 x 18. With b = high * 2**12 + low (16 bits, signed) the low 12 bits of the product are
    a * low, and a * high is p[12:] + p[11] (the borrow of a negative a * low given back). Sums over
    several multipliers are made after this split: 12 bits hold one product only.

    Parameters
    ----------
    width_a, width_b
        Bits of the operands, 1 to 18.
    signed
        Whether operands and product are two's complement.

    Attributes
    ----------
    latency
        2: input registers, product register.

    Members
    -------
    a : In(width_a), b : In(width_b)
    enable_a, enable_b, enable_p : In(1)
        Leave to stand still, for power and simulation speed: the register of a, of b, of the
        product takes a new value where its enable is high; where it is low it may take one or keep
        its own (ECP5 has one wire for an enable to four multipliers). So an operand with a low
        enable stands as it was taken last, or its product is not asked for; and a product is what
        p says in the cycle after its ``enable_p``.
    p : Out(width_a + width_b)

    Raises
    ------
    ValueError
        An operand has no bits, or more than 18.
    """

    latency = 2

    def __init__(self, width_a: int, width_b: int, *, signed: bool = True):
        for width in (width_a, width_b):
            if not 1 <= width <= 18:
                raise ValueError(f"Multiplier: operand of {width} bits, choose 1 to 18")
        self.signed = signed
        shape = _shape(signed)
        super().__init__(
            {
                "a": In(shape(width_a)),
                "b": In(shape(width_b)),
                "enable_a": In(1, init=1),
                "enable_b": In(1, init=1),
                "enable_p": In(1, init=1),
                "p": Out(shape(width_a + width_b)),
            }
        )

    def elaborate(self, platform):
        if hasattr(platform, "get_multiplier"):
            return platform.get_multiplier(self)
        m = Module()
        a = Signal.like(self.a, name="a_1", reset_less=True)
        b = Signal.like(self.b, name="b_1", reset_less=True)
        product = Signal.like(self.p, name="product_2", reset_less=True)
        with m.If(self.enable_a):
            m.d.sync += a.eq(self.a)
        with m.If(self.enable_b):
            m.d.sync += b.eq(self.b)
        with m.If(self.enable_p):
            m.d.sync += product.eq(a * b)
        m.d.comb += self.p.eq(product)
        return m


class MultiplierRow(Component):
    """``count`` multipliers of one a: p[i] = a * b[i], as `Multiplier` else.

    Where a platform builds multipliers each has a register of a, else there is one for all.

    Parameters
    ----------
    width_a, width_b, signed
        As of `Multiplier`.
    count
        Multipliers.

    Members
    -------
    a : In(width_a), b : In(width_b).array(count), p : Out(width_a + width_b).array(count)
    enable_a, enable_b, enable_p : In(1)
        Of all of them.
    """

    latency = Multiplier.latency

    def __init__(self, width_a: int, width_b: int, count: int, *, signed: bool = True):
        self.one = (width_a, width_b, signed)
        self.count = count
        shape = _shape(signed)
        super().__init__(
            {
                "a": In(shape(width_a)),
                "b": In(shape(width_b)).array(count),
                "enable_a": In(1, init=1),
                "enable_b": In(1, init=1),
                "enable_p": In(1, init=1),
                "p": Out(shape(width_a + width_b)).array(count),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if hasattr(platform, "get_multiplier"):
            width_a, width_b, is_signed = self.one
            for i in range(self.count):
                multiplier = Multiplier(width_a, width_b, signed=is_signed)
                m.submodules[f"multiplier_{i}"] = multiplier
                m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(self.b[i])]
                m.d.comb += self.p[i].eq(multiplier.p)
                for enable in ("enable_a", "enable_b", "enable_p"):
                    m.d.comb += getattr(multiplier, enable).eq(getattr(self, enable))
            return m
        a = Signal.like(self.a, name="a_1", reset_less=True)
        with m.If(self.enable_a):
            m.d.sync += a.eq(self.a)
        for i in range(self.count):
            b = Signal.like(self.b[i], name=f"b_1_{i}", reset_less=True)
            product = Signal.like(self.p[i], name=f"product_2_{i}", reset_less=True)
            with m.If(self.enable_b):
                m.d.sync += b.eq(self.b[i])
            with m.If(self.enable_p):
                m.d.sync += product.eq(a * b)
            m.d.comb += self.p[i].eq(product)
        return m
