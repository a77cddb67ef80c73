"""Bench of the FP32 components: one operand set a cycle, results bit for bit the golden ones."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hdl import fp
from hdl.fp import Function
from sim.bench import Coverage, rng, seed, start
from sim.bench.fp_operands import SPECIALS, patterns, product_pairs, sum_pairs
from sim.golden import fp32, functions, mx


async def feed(dut, latency: int, **operands: np.ndarray) -> np.ndarray:
    """Results (patterns) of operands: one a cycle, then with empty cycles whose stages are held."""
    edge = RisingEdge(dut.clk)
    columns = [(getattr(dut, name), values.tolist()) for name, values in operands.items()]
    count = len(columns[0][1])
    results = np.empty(count, np.uint32)
    gaps = rng("gaps")
    enables, given, taken = 0, 0, 0
    while taken < count:
        valid = given < count and (given < count // 2 or gaps.random() < 0.7)
        enables = enables << 1 | valid
        dut.enable.value = enables & ((1 << latency) - 1)
        if valid:
            for port, values in columns:
                port.value = values[given]
            given += 1
        else:  # operands that nobody may take
            for port, values in columns:
                port.value = values[gaps.randrange(count)]
        await edge
        if enables >> latency & 1:
            results[taken] = dut.o.value.to_unsigned()
            taken += 1
    return results


def compare(results: np.ndarray, golden: np.ndarray, **operands: np.ndarray) -> None:
    """Fail at the first difference, with its operands."""
    expected = fp32.bits(golden)
    different = np.flatnonzero(results != expected)
    if different.size:
        i = different[0]
        given = ", ".join(f"{name}=0x{int(v[i]):08x}" for name, v in operands.items())
        raise AssertionError(
            f"{different.size} of {len(results)} differ, first {given}: "
            f"0x{results[i]:08x}, golden 0x{expected[i]:08x}"
        )


def exponents(pattern: np.ndarray) -> np.ndarray:
    return (pattern >> 23 & 255).astype(int)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def add(dut):
    """FpAdd against the golden sum."""
    await start(dut)
    a, b = sum_pairs(np.random.default_rng(seed()), 12000)
    results = await feed(dut, fp.ADD_LATENCY, a=a, b=b)
    compare(results, fp32.add(fp32.from_bits(a), fp32.from_bits(b)), a=a, b=b)
    cover = Coverage("flush", "cancel", "overflow", "nan", "far", "tie", "minus zero", "carry")
    ea, eb, e = exponents(a), exponents(b), exponents(results)
    most, least = np.maximum(ea, eb), np.minimum(ea, eb)
    usual = (most < 255) & (least > 0)
    cover.hit("flush", (usual & (e == 0) & (a + 0x80000000 != b)).any())
    cover.hit("cancel", (usual & (e > 0) & (e < most - 12)).any())
    cover.hit("overflow", (usual & (e == 255)).any())
    cover.hit("nan", (results == fp32.NAN_BITS).any())
    cover.hit("far", (usual & (most - least > 26)).any())
    cover.hit("tie", (usual & (most - least == 24) & ((a << 9) * (b << 9) == 0)).any())
    cover.hit("minus zero", (results == 0x80000000).any())
    cover.hit("carry", (usual & (e == most + 1)).any())
    cover.assert_complete()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def multiply(dut):
    """FpMul against the golden product."""
    await start(dut)
    a, b = product_pairs(np.random.default_rng(seed()), 12000)
    results = await feed(dut, fp.MUL_LATENCY, a=a, b=b)
    compare(results, fp32.mul(fp32.from_bits(a), fp32.from_bits(b)), a=a, b=b)
    cover = Coverage("flush", "flush of what rounds up", "smallest", "overflow", "nan", "tie")
    ea, eb, e = exponents(a), exponents(b), exponents(results)
    usual = (np.maximum(ea, eb) < 255) & (np.minimum(ea, eb) > 0)
    with np.errstate(all="ignore"):
        rounded = np.abs(fp32.from_bits(a) * fp32.from_bits(b))
    cover.hit("flush", (usual & (e == 0)).any())
    cover.hit("flush of what rounds up", (usual & (e == 0) & (rounded == fp32.TINY)).any())
    cover.hit("smallest", (usual & (results & 0x7FFFFFFF == 0x00800000)).any())
    cover.hit("overflow", (usual & (e == 255)).any())
    cover.hit("nan", (results == fp32.NAN_BITS).any())
    product = (a & 0x7FFFFF | 0x800000).astype(np.uint64) * (b & 0x7FFFFF | 0x800000)
    cover.hit("tie", (usual & (product & 0x7FFFFF == 0x400000)).any())
    cover.assert_complete()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def special_functions(dut):
    """SpecialFunction: functions mixed cycle by cycle, each table entry at its ends."""
    await start(dut)
    draw = np.random.default_rng(seed())
    # Ends and middle of each of 128 pieces, in an even and in an odd binade.
    ends = np.arange(128)[:, None] << 16 | np.array([0, 1, 0x7FFF, 0x8000, 0xFFFF])
    pieces = (np.array([126, 127])[:, None] << 23 | ends.ravel()).ravel()
    x = np.concatenate(
        [
            np.tile(SPECIALS, 4),
            np.tile(pieces, 4),
            pieces | 0x80000000,
            patterns(draw, 3000),
            patterns(draw, 6000, 90, 136),  # where exp2 is neither 1 nor out of range
        ]
    ).astype(np.uint32)
    function = draw.integers(0, 4, len(x))
    function[: 4 * len(SPECIALS)] = np.repeat(np.arange(4), len(SPECIALS))
    order = draw.permutation(len(x))
    x, function = x[order], function[order]
    results = await feed(dut, fp.FUNCTION_LATENCY, x=x, function=function)
    value = fp32.from_bits(x)
    golden = np.choose(
        function,
        [
            x,
            fp32.bits(functions.exp2(value)),
            fp32.bits(functions.reciprocal(value)),
            fp32.bits(functions.rsqrt(value)),
        ],
    )
    compare(results, fp32.from_bits(golden), x=x, function=function)
    cover = Coverage(
        *[f"{f.name} {kind}" for f in Function for kind in ("nan", "infinite", "zero", "usual")]
    )
    for f in Function:
        r = results[function == f.value]
        cover.hit(f"{f.name} nan", (r == fp32.NAN_BITS).any())
        cover.hit(f"{f.name} infinite", (r & 0x7FFFFFFF == 0x7F800000).any())
        cover.hit(f"{f.name} zero", (r & 0x7FFFFFFF == 0).any())
        cover.hit(f"{f.name} usual", (exponents(r) % 255 != 0).any())
    cover.assert_complete()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def block_terms(dut):
    """BlockTerm: every power of two of the sum, scales over the whole range and at its ends."""
    await start(dut)
    draw = np.random.default_rng(seed())
    edges = [0, *(s * (1 << k) + d for k in range(19) for s in (1, -1) for d in (-1, 0, 1))]
    edges += [(1 << 19) - 1, -(1 << 19), 32 * 127 * 127, 32 * 128 * 127]
    sums = np.concatenate([edges * 40, draw.integers(-(1 << 19), 1 << 19, 4000)])
    count = len(sums)
    a = draw.integers(0, 256, count)
    total = np.select(  # scales that meet the lower end, the upper end, anything
        [draw.random(count) < 0.4, draw.random(count) < 0.5],
        [draw.integers(104, 132, count), draw.integers(358, 386, count)],
        draw.integers(0, 511, count),
    )
    b = np.clip(total - a, 0, 255)
    results = await feed(dut, fp.TERM_LATENCY, sum=sums, scale_a=a, scale_b=b)
    compare(results, mx.block_term(sums, a, b), sum=sums, scale_a=a, scale_b=b)
    cover = Coverage("zero", "flush", "smallest", "infinite", "minus infinite", "nan", "usual")
    usable = (a != 255) & (b != 255)
    cover.hit("zero", (usable & (sums == 0) & (results == 0)).any())
    cover.hit("flush", (usable & (sums != 0) & (results == 0)).any())
    cover.hit("smallest", (results & 0x7FFFFFFF == 0x00800000).any())
    cover.hit("infinite", (results == 0x7F800000).any())
    cover.hit("minus infinite", (results == 0xFF800000).any())
    cover.hit("nan", (~usable & (results == fp32.NAN_BITS)).any())
    cover.hit("usual", (exponents(results) % 255 != 0).any())
    cover.assert_complete()
