"""Bench of the FP32 helpers without a clock, each between registers."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from sim.bench import Coverage, seed, start
from sim.bench.fp_operands import SPECIALS, patterns
from sim.golden import fp32, mx

OUTPUTS = ("key", "ceiling", "converted", "scaled_down", "scaled", "block_code", "element")
SIGNED = ("ceiling", "element")


async def feed(dut, **operands: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs for operands given one set a cycle."""
    edge = RisingEdge(dut.clk)
    columns = [(getattr(dut, name), values.tolist()) for name, values in operands.items()]
    count = len(columns[0][1])
    ports = {name: getattr(dut, name) for name in OUTPUTS}
    results: dict[str, list[int]] = {name: [] for name in OUTPUTS}
    for cycle in range(count + 1):
        if cycle < count:
            for port, values in columns:
                port.value = values[cycle]
        await edge
        if cycle:
            for name, port in ports.items():
                value = port.value
                results[name].append(value.to_signed() if name in SIGNED else value.to_unsigned())
    return {name: np.array(values, np.int64) for name, values in results.items()}


def compare(name: str, results: np.ndarray, golden: np.ndarray, **operands: np.ndarray) -> None:
    different = np.flatnonzero(results != golden)
    if different.size:
        i = different[0]
        given = ", ".join(f"{k}={int(v[i]):#x}" for k, v in operands.items())
        raise AssertionError(
            f"{name}: {different.size} of {len(results)} differ, first {given}: "
            f"{results[i]:#x}, golden {golden[i]:#x}"
        )


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def conversions(dut):
    """Codes close to the exponents, ties of the quantiser, integers at every power of two."""
    await start(dut)
    draw = np.random.default_rng(seed())
    x = np.concatenate(
        [
            np.repeat(SPECIALS, 16),
            patterns(draw, 3000),
            patterns(draw, 3000, 120, 150),  # around the integers
        ]
    )
    count = len(x)
    exponent = (x >> 23 & 255).astype(int)
    code = np.select(
        [draw.random(count) < 0.5, draw.random(count) < 0.5],
        [exponent - draw.integers(5, 17, count), draw.integers(0, 6, count) + 250],
        draw.integers(0, 256, count),
    )
    code = np.clip(code, 0, 255)
    # Both ends of scale_exponent: exponent + code about 127 and about 382.
    ends = draw.random(count) < 0.2
    code[ends] = np.clip(127 + 255 * draw.integers(0, 2, count) - exponent, 0, 255)[ends]
    near = [s * (1 << k) + d for k in range(21) for s in (1, -1) for d in (-1, 0, 1)]
    integer = draw.integers(-(1 << 21), 1 << 21, count)
    integer[: len(near)] = near
    results = await feed(dut, x=x, code=code, integer=integer)

    value = fp32.from_bits(x)
    compare("order_key", results["key"], fp32.order_key(value), x=x)
    compare("ceil_to_int", results["ceiling"], fp32.ceil_to_int(value), x=x)
    compare("int_to_fp", results["converted"], fp32.bits(fp32.int_to_fp(integer)), n=integer)
    down = fp32.bits(fp32.scale_down(value, code))
    compare("scale_down", results["scaled_down"], down, x=x, shift=code)
    scaled = fp32.bits(fp32.scale_exponent(value, code))
    compare("scale_exponent", results["scaled"], scaled, x=x, code=code)
    with np.errstate(all="ignore"):
        magnitude = np.abs(value)[:, None]
    finite = exponent != 255
    codes = mx.quantise_head(magnitude).scales
    compare("scale_code", results["block_code"][finite], codes[finite], x=x[finite])

    # quantise_element by its definition, where the code is one that a block may have
    legal = finite & (code >= np.maximum(exponent - 6, 0))
    exact = np.ldexp(fp32.flush(value[legal]).astype(np.float64), 127 - code[legal])
    rounded = np.clip(np.rint(exact), -127, 127).astype(np.int64)
    compare("quantise_element", results["element"][legal], rounded, x=x[legal], code=code[legal])
    wild = finite & (code < exponent - 6)
    assert (results["element"][wild] == np.where(x[wild] >> 31, -127, 127)).all()

    cover = Coverage(
        "key of -0",
        "saturated up",
        "saturated down",
        "rounded up",
        "negative to 0",
        "shifted to 0",
        "infinity",
        "scaled to 0",
        "nan",
        "tie",
        "clipped",
        "far element",
    )
    ceiling = results["ceiling"]
    cover.hit("key of -0", (x == 0x80000000).any())
    cover.hit("saturated up", (ceiling == 1 << 20).any())
    cover.hit("saturated down", (ceiling == -(1 << 20)).any())
    cover.hit("rounded up", (finite & (ceiling > value)).any())
    cover.hit("negative to 0", ((ceiling == 0) & (value < 0)).any())
    usual = finite & (exponent > 0)
    cover.hit("shifted to 0", (usual & (down & 0x7FFFFFFF == 0)).any())
    cover.hit("infinity", (usual & (scaled & 0x7FFFFFFF == 0x7F800000)).any())
    cover.hit("scaled to 0", (usual & (scaled & 0x7FFFFFFF == 0)).any())
    cover.hit("nan", (usual & (scaled == fp32.NAN_BITS)).any())
    cover.hit("tie", (np.abs(exact) % 1 == 0.5).any())
    cover.hit("clipped", (np.abs(exact) > 127.5).any())
    cover.hit("far element", ((exact != 0) & (np.abs(exact) < 2**-3)).any())
    cover.assert_complete()
