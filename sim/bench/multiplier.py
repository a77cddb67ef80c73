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
    """Random operands and enables, the operands' extremes often.

    Where an enable is low the register may keep its value or take the new one: the operand stands
    as it was, or nothing is known of its products.
    """
    signed = parameters()["signed"]
    widths = len(dut.a), len(dut.b)
    names = ("all enabled", "held", "a only", "b only", "negative", "not asked for")
    draw, cover = rng("operands"), Coverage(*names)
    edge = RisingEdge(dut.clk)
    await start(dut)
    operands = [0, 0]
    taken: list[int | None] = [None, None]  # what the input registers hold; None: not known
    product: int | None = None
    for cycle in range(3000):
        # All of them for some cycles, then each at random
        enables = [1, 1, 1] if cycle % 100 < 20 else [draw.getrandbits(1) for _ in range(3)]
        spoilt = [False, False]
        for i in range(2):
            spoilt[i] = not enables[i] and draw.random() < 0.1
            if enables[i] or spoilt[i]:
                operands[i] = _draw(draw, widths[i])
        dut.a.value, dut.b.value = operands
        dut.enable_a.value, dut.enable_b.value, dut.enable_p.value = enables
        await edge
        if product is not None:
            got = int(dut.p.value)
            assert got == product % (1 << sum(widths)), f"cycle {cycle}: {got:x}, not {product:x}"
            cover.hit("negative", product < 0)
        first, second = taken
        product = None
        if enables[2] and first is not None and second is not None:
            product = first * second
        cover.hit("not asked for", enables[2] and product is None)
        for i in range(2):
            if spoilt[i]:
                taken[i] = None
            elif enables[i]:
                taken[i] = _value(operands[i], widths[i], signed)
        cover.hit("all enabled", all(enables) and product is not None)
        cover.hit("held", enables == [0, 0, 1] and None not in taken)
        cover.hit("a only", enables == [1, 0, 1] and None not in taken)
        cover.hit("b only", enables == [0, 1, 1] and None not in taken)
    if not signed:
        cover.hit("negative")
    cover.assert_complete()
