"""Helpers of `hdl.fp.convert` against the golden model, on Verilator."""

from amaranth.hdl import Module, signed
from amaranth.lib.wiring import Component, In, Out

from hdl import fp
from sim.bench import run


class Conversions(Component):
    """Every helper between registers: results stand one cycle after the operands."""

    def __init__(self):
        super().__init__(
            {
                "x": In(32),
                "code": In(8),
                "integer": In(signed(22)),
                "key": Out(32),
                "ceiling": Out(signed(22)),
                "converted": Out(32),
                "scaled_down": Out(32),
                "scaled": Out(32),
                "block_code": Out(8),
                "element": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [
            self.key.eq(fp.order_key(m, self.x)),
            self.ceiling.eq(fp.ceil_to_int(m, self.x)),
            self.converted.eq(fp.int_to_fp(m, self.integer)),
            self.scaled_down.eq(fp.scale_down(m, self.x, self.code)),
            self.scaled.eq(fp.scale_exponent(m, self.x, self.code)),
            self.block_code.eq(fp.scale_code(m, self.x)),
            self.element.eq(fp.quantise_element(m, fp.quantise_operand(self.x), self.code + 6)),
        ]
        return m


def test_conversions():
    run(Conversions(), "sim.bench.fp_convert", name="fp-convert")
