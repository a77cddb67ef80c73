"""The FP32 lanes: function(a * b + c), and masked and rescaled copies of the result."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.fp import (
    ADD_LATENCY,
    FUNCTION_LATENCY,
    MUL_LATENCY,
    FpAdd,
    FpMul,
    SpecialFunction,
    held,
    scale_exponent,
    stage,
)

__all__ = ["Lanes"]


class Lanes(Component):
    """One word a cycle; no stall.

    Members
    -------
    enable : In
        A word stands at stage ``operands`` (bit 0) ... the one after ``result`` (last bit); where
        none does, registers keep what they have (or not: :func:`hdl.fp.held`).
    a, b : In(32).array(lanes)
        Standing at stage ``operands``.
    c : In(32).array(lanes)
        At stage ``product``.
    function : In(2)
        At stage ``total``.
    active : In(lanes)
        Lanes that take part, at stage ``result``.
    rescale : In(1)
        Multiply ``weighted`` by 2**(scales - 127); at stage ``result``, as ``scales``.
    scales : In(8).array(lanes)
    result : Out(32).array(lanes)
        At stage ``result``, of every lane.
    summands, weighted : Out(32).array(lanes)
        At stage ``summands``: +0 on lanes that take no part.
    """

    def __init__(self, config: Config):
        self._lanes = n = config.lanes
        super().__init__(
            {
                "enable": In(MUL_LATENCY + ADD_LATENCY + FUNCTION_LATENCY + 2),
                "a": In(32).array(n),
                "b": In(32).array(n),
                "c": In(32).array(n),
                "function": In(2),
                "active": In(n),
                "rescale": In(1),
                "scales": In(8).array(n),
                "result": Out(32).array(n),
                "summands": Out(32).array(n),
                "weighted": Out(32).array(n),
            }
        )

    def elaborate(self, platform):
        m = Module()
        total = MUL_LATENCY + ADD_LATENCY
        enable = held(platform, self.enable)
        after_result = stage(m, enable[-2])
        for i in range(self._lanes):
            m.submodules[f"multiply_{i}"] = multiply = FpMul()
            m.submodules[f"add_{i}"] = add = FpAdd()
            m.submodules[f"function_{i}"] = function = SpecialFunction()
            result = self.result[i]
            code = Signal(8, name=f"code_{i}")
            m.d.comb += [
                multiply.enable.eq(enable[:MUL_LATENCY]),
                add.enable.eq(enable[MUL_LATENCY:total]),
                function.enable.eq(enable[total:-2]),
                multiply.a.eq(self.a[i]),
                multiply.b.eq(self.b[i]),
                add.a.eq(multiply.o),
                add.b.eq(self.c[i]),
                function.x.eq(add.o),
                function.function.eq(self.function),
                result.eq(function.o),
                code.eq(Mux(self.rescale, self.scales[i], 127)),
            ]
            masked = Mux(self.active[i], result, Const(0, 32))
            scaled = scale_exponent(m, masked, code, [after_result])
            masked = after_result(masked, f"masked_{i}")
            summand, weighted = (
                Signal(32, name=f"{name}_{i}", reset_less=True) for name in ("summand", "weighted")
            )
            with m.If(enable[-1]):
                m.d.sync += [summand.eq(masked), weighted.eq(scaled)]
            m.d.comb += [self.summands[i].eq(summand), self.weighted[i].eq(weighted)]
        return m
