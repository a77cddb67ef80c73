"""Bench of the multiplier: every cycle against three registers kept here."""

import cocotb
from cocotb.triggers import RisingEdge

from sim.bench import Coverage, parameters, rng, start


def _draw(draw, bits: int) -> int:
    return draw.choice((0, 1, (1 << bits) - 1, 1 << bits - 1, draw.getrandbits(bits)))


def _value(pattern: int, bits: int, signed: bool) -> int:
    return pattern - (1 << bits) if signed and pattern >> bits - 1 else pattern


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def registers_and_products(dut):
    """Random operands and enables, the operands' extremes often."""
    signed = parameters()["signed"]
    widths = len(dut.a), len(dut.b)
    draw, cover = rng("operands"), Coverage("all enabled", "held", "a only", "b only", "negative")
    edge = RisingEdge(dut.clk)
    await start(dut)
    a = b = product = None
    before = None
    for cycle in range(2000):
        operands = [_draw(draw, width) for width in widths]
        # All of them for some cycles, then each at random
        enables = (1, 1, 1) if cycle % 100 < 20 else [draw.getrandbits(1) for _ in range(3)]
        dut.a.value, dut.b.value = operands
        dut.enable_a.value, dut.enable_b.value, dut.enable_p.value = enables
        await edge
        if product is not None:
            got = int(dut.p.value)
            assert got == product % (1 << sum(widths)), f"cycle {cycle}: {got:x}, not {product:x}"
        if enables[2] and a is not None and b is not None:
            product = a * b
            cover.hit("negative", product < 0)
        if enables[0]:
            a = _value(operands[0], widths[0], signed)
        if enables[1]:
            b = _value(operands[1], widths[1], signed)
        cover.hit("all enabled", all(enables) and before is not None and all(before))
        cover.hit("held", not any(enables))
        cover.hit("a only", tuple(enables) == (1, 0, 0))
        cover.hit("b only", tuple(enables) == (0, 1, 0))
        before = enables
    if not signed:
        cover.hit("negative")
    cover.assert_complete()
