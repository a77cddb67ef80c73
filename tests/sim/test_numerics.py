"""The golden numerics against arithmetic that shares nothing with them: fractions and float64."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from sim.bench.fp_operands import SPECIALS, patterns, product_pairs, sum_pairs
from sim.golden import fp32, functions, mx

SMALLEST = Fraction(1, 2**126)
LARGEST = Fraction(2**24 - 1) * 2**104
NAN, INFINITY = fp32.NAN_BITS, 0x7F800000


def number(pattern: int) -> tuple[int, Fraction | None]:
    """Sign and value of a pattern (subnormals are 0, infinity and NaN None)."""
    sign, exponent, mantissa = pattern >> 31, pattern >> 23 & 255, pattern & 0x7FFFFF
    if exponent == 255:
        return sign, None
    if exponent == 0:
        return sign, Fraction(0)
    return sign, (-1) ** sign * Fraction(mantissa + (1 << 23)) * Fraction(2) ** (exponent - 150)


def rounded(value: Fraction, zero_sign: int = 0) -> int:
    """Pattern of fl(value): the flush rule, then round to nearest even."""
    sign = int(value < 0) if value else zero_sign
    value = abs(value)
    if value < SMALLEST:
        return sign << 31
    scale = math.floor(math.log2(value)) if value < 2**100 else 100
    while Fraction(2) ** scale > value:
        scale -= 1
    while Fraction(2) ** (scale + 1) <= value:
        scale += 1
    mantissa = round(value / Fraction(2) ** (scale - 23))  # Python rounds ties to even
    pattern = (scale + 126 << 23) + mantissa
    return sign << 31 | min(pattern, INFINITY)


def exact_sum(a: int, b: int) -> int:
    (sign_a, x), (sign_b, y) = number(a), number(b)
    special = [p for p, v in ((a, x), (b, y)) if v is None]
    if x is None or y is None:
        bad = any(p & 0x7FFFFF for p in special) or (len(special) == 2 and sign_a != sign_b)
        return NAN if bad else special[0]
    return rounded(x + y, sign_a & sign_b)


def exact_product(a: int, b: int) -> int:
    (sign_a, x), (sign_b, y) = number(a), number(b)
    sign = sign_a ^ sign_b
    if x is None or y is None:
        bad = any(v is None and p & 0x7FFFFF for p, v in ((a, x), (b, y))) or 0 in (x, y)
        return NAN if bad else sign << 31 | INFINITY
    return rounded(x * y, sign)


def check(results, expected, **operands):
    results, expected = np.asarray(results), np.asarray(expected)
    for i in np.flatnonzero(results != expected)[:1]:
        given = ", ".join(f"{name}={int(values[i]):#x}" for name, values in operands.items())
        pytest.fail(f"{given}: {int(results[i]):#x}, not {int(expected[i]):#x}")


@pytest.mark.parametrize(
    ("operation", "exact", "pairs"),
    [(fp32.add, exact_sum, sum_pairs), (fp32.mul, exact_product, product_pairs)],
)
def test_exact(operation, exact, pairs):
    a, b = pairs(np.random.default_rng(1), 6000)
    results = fp32.bits(operation(fp32.from_bits(a), fp32.from_bits(b)))
    expected = [exact(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    check(results, expected, a=a, b=b)


@pytest.mark.parametrize("operator", ["add", "mul"])
def test_float64(operator):
    """A float64 sum or product, rounded once more, is the float32 one (53 >= 2 * 24 + 2)."""
    draw = np.random.default_rng(2)
    a, b = (fp32.from_bits(patterns(draw, 200_000, 32, 222)) for _ in range(2))
    wide = {"add": np.add, "mul": np.multiply}[operator](a.astype(float), b.astype(float))
    normal = (np.abs(wide) >= 2.0**-126) & (np.abs(wide) < 2.0**128 - 2.0**103)
    results = getattr(fp32, operator)(a, b)
    assert normal.mean() > 0.5
    assert (results[normal] == wide[normal].astype(np.float32)).all()


def test_shapes_and_scalars():
    a = np.ones((2, 1, 3), np.float32)
    assert fp32.add(a, np.ones((4, 1), np.float32)).shape == (2, 4, 3)
    assert fp32.mul(2.0, 3.0) == 6
    assert fp32.mul(np.float32(1e-30), np.float32(1e-30)) == 0
    assert fp32.bits(fp32.mul(fp32.from_bits(NAN), 0.0)) == NAN
    view = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    assert (fp32.from_bits(fp32.bits(view)) == view).all()


def test_tree_sum():
    x = fp32.from_bits(patterns(np.random.default_rng(3), 5 * 32, 100, 140)).reshape(5, 32)

    def tree(values):
        if len(values) == 1:
            return values[0]
        half = len(values) // 2
        return fp32.add(tree(values[:half]), tree(values[half:]))

    assert [int(v) for v in fp32.bits(fp32.tree_sum(x))] == [int(fp32.bits(tree(r))) for r in x]
    with pytest.raises(ValueError, match="32"):
        fp32.tree_sum(x[:, :16])


def test_order_key():
    draw = np.random.default_rng(4)
    x = np.concatenate([SPECIALS, patterns(draw, 4000)])
    x = x[((x >> 23 & 255) % 255 != 0) | (x & 0x7FFFFF == 0)]  # no subnormal, no NaN
    value = fp32.from_bits(x)
    order = np.argsort(fp32.order_key(x=value), kind="stable")
    assert (np.diff(value[order][1:-1].astype(float)) >= 0).all()
    assert value[order][0] == -np.inf
    assert fp32.order_key(fp32.from_bits(0x80000000)) == fp32.order_key(np.float32(0))
    assert fp32.order_key(fp32.NAN) > fp32.order_key(value).max()


def test_exponent_steps():
    draw = np.random.default_rng(5)
    x = np.concatenate([np.repeat(SPECIALS, 8), patterns(draw, 3000)])
    code = draw.integers(0, 256, len(x))
    down = fp32.bits(fp32.scale_down(fp32.from_bits(x), code))
    scaled = fp32.bits(fp32.scale_exponent(fp32.from_bits(x), code))
    for p, c, d, s in zip(x.tolist(), code.tolist(), down.tolist(), scaled.tolist(), strict=True):
        sign, value = number(p)
        if value is None:
            assert d == p
            assert s == (NAN if c == 255 else p)
            continue
        assert d == rounded(value * Fraction(1, 2**c), sign), f"{p:#x} {c}"
        wanted = rounded(value * Fraction(2) ** (c - 127), sign)
        assert s == (NAN if c == 255 and value else wanted), f"{p:#x} {c}"


def test_integers():
    draw = np.random.default_rng(6)
    x = np.concatenate([SPECIALS, patterns(draw, 4000), patterns(draw, 4000, 120, 150)])
    for p, got in zip(x.tolist(), fp32.ceil_to_int(fp32.from_bits(x)).tolist(), strict=True):
        sign, value = number(p)
        wanted = (1 << 20) * (-1) ** sign if value is None else math.ceil(value)
        assert got == max(-(1 << 20), min(1 << 20, wanted)), f"{p:#x}"
    n = draw.integers(-(1 << 21), 1 << 21, 1000)
    assert (fp32.int_to_fp(n).astype(np.int64) == n).all()


def block_of(values) -> np.ndarray:
    x = np.zeros(32, np.float32)
    x[: len(values)] = values
    return x


def test_quantise():
    draw = np.random.default_rng(7)
    blocks = fp32.from_bits(patterns(draw, 300 * 32)).reshape(300, 32).copy()
    top = draw.integers(0, 255, 300)  # largest exponent of each block, 0 and 1 too
    pattern = fp32.bits(blocks)
    exponent = np.clip(top[:, None] - draw.integers(0, 12, blocks.shape), 0, 254)
    blocks = fp32.from_bits(pattern & 0x807FFFFF | exponent.astype(np.uint32) << 23)
    blocks[:3] = block_of([127.5, -127.9]), block_of([0.5, 1.5, 64]), block_of([1e-40, -0.0])
    elements, scales, finite = mx.quantise(blocks.reshape(100, 96))
    assert finite
    assert elements.shape == (100, 96)
    assert scales.shape == (100, 3)
    for x, e, s in zip(fp32.bits(blocks), elements.reshape(300, 32), scales.ravel(), strict=True):
        values = [number(p)[1] or Fraction(0) for p in x.tolist()]
        largest = max(abs(v) for v in values)
        field = max(p >> 23 & 255 for p in x.tolist())
        assert s == (max(field - 6, 0) if largest else 0)
        wanted = [max(-127, min(127, round(v * Fraction(2) ** (127 - int(s))))) for v in values]
        assert e.tolist() == wanted
    assert elements.reshape(300, 32)[0, :2].tolist() == [127, -127]
    assert elements.reshape(300, 32)[1, :3].tolist() == [0, 2, 64]

    head = mx.quantise_head(blocks.reshape(100, 96))
    assert head.scales.shape == (100,)
    assert (head.scales == scales.max(axis=1)).all()
    for bad in (np.nan, np.inf, -np.inf):
        assert not mx.quantise(block_of([1, bad])).finite
    with pytest.raises(ValueError, match="multiple"):
        mx.quantise(np.zeros(33, np.float32))


def exact_dot(a, a_scales, b, b_scales, total=None, shift=0) -> int:
    """Pattern of one output by fractions: vectors (blocks, 32), codes (blocks)."""
    for x, s, w, t in zip(a, a_scales.tolist(), b, b_scales.tolist(), strict=True):
        value = sum(int(i) * int(j) for i, j in zip(x, w, strict=True))
        term = abs(value) * Fraction(2) ** (s + t - 254)
        pattern = rounded(term)
        pattern |= int(value < 0 and pattern != 0) << 31
        if 255 in (s, t):
            pattern = NAN
        if total is not None:
            sign, old = number(total)
            down = total if old is None else rounded(old * Fraction(1, 2**shift), sign)
            pattern = exact_sum(down, pattern)
        total = pattern
    assert total is not None
    return total


SCALES = {
    "usual": (100, 130, 100, 130),
    "small sums flush": (55, 75, 55, 65),
    "tiny activations": (0, 20, 100, 130),
    "large": (170, 236, 185, 215),
    "infinite": (230, 255, 120, 150),
    "anything": (0, 256, 0, 256),
}


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize(("rows", "blocks", "out"), [(1, 1, 3), (3, 6, 33)])
def test_block_dot(name, rows, blocks, out):
    low_a, high_a, low_b, high_b = SCALES[name]
    draw = np.random.default_rng([*map(ord, name), rows])
    a = draw.integers(-127, 128, (rows, blocks, 32)).astype(np.int8)
    b = draw.integers(-127, 128, (out, blocks, 32)).astype(np.int8)
    a_scales = draw.integers(low_a, high_a, (rows, blocks)).astype(np.uint8)
    b_scales = draw.integers(low_b, high_b, (out, blocks)).astype(np.uint8)
    a[draw.random((rows, blocks)) < 0.2] = 0
    a_scales[~a.any(axis=2)] = 0  # as the quantiser writes them
    b[draw.random((out, blocks)) < 0.2] = 0
    b[0] = -a[0]  # exact cancellation of nothing, and a large negative sum
    if blocks > 1:  # exact cancellation of the first two blocks
        b[1, 0], b[1, 1], b_scales[1, 1] = a[0, 1], -a[0, 0], b_scales[1, 0]
        a_scales[0, :2] = a_scales[0].max()
    results = fp32.bits(mx.block_dot(a, a_scales, mx.Weights(b, b_scales)))
    flat = a.reshape(rows, -1)
    assert (fp32.bits(mx.block_dot(flat, a_scales, mx.Weights(b, b_scales))) == results).all()
    assert (fp32.bits(mx.batched_dot(a, a_scales, b, b_scales)) == results).all()
    for r in range(rows):
        for o in range(out):
            wanted = exact_dot(a[r], a_scales[r], b[o], b_scales[o])
            assert results[r, o] == wanted, f"{r} {o}: {results[r, o]:#x}, not {wanted:#x}"


def test_block_dot_in_parts():
    """Enough outputs for several pieces of the matrix; each output is alone the same."""
    draw = np.random.default_rng(8)
    blocks, out = 64, 700
    a = draw.integers(-127, 128, (2, blocks, 32)).astype(np.int8)
    b = draw.integers(-127, 128, (out, blocks, 32)).astype(np.int8)
    a_scales = draw.integers(100, 130, (2, blocks)).astype(np.uint8)
    b_scales = draw.integers(100, 130, (out, blocks)).astype(np.uint8)
    weights = mx.Weights(b, b_scales)
    assert len(weights.parts) > 1
    results = mx.block_dot(a, a_scales, weights)
    assert (results == mx.batched_dot(a, a_scales, b, b_scales)).all()
    wanted = exact_dot(a[1], a_scales[1], b[-1], b_scales[-1])
    assert fp32.bits(results[1, -1]) == wanted


def test_accumulate_with_shift():
    draw = np.random.default_rng(9)
    rows, out = 24, 16
    a = draw.integers(0, 128, (rows, 32)).astype(np.int8)
    b = draw.integers(-127, 128, (out, 32)).astype(np.int8)
    codes = draw.integers(90, 128, rows).astype(np.uint8)
    shift = draw.choice([0, 1, 7, 126, 200, 254, 255], rows)
    old = fp32.from_bits(patterns(draw, rows * out, 0, 200)).reshape(rows, out)
    old = fp32.flush(old)
    sums = mx.block_sums(a, b)
    results = fp32.bits(mx.accumulate(old, sums, codes[:, None], 127, shift[:, None]))
    v = np.array([127])
    for r in range(rows):
        for o in range(out):
            total = int(fp32.bits(old[r, o]))
            args = (a[r : r + 1], codes[r : r + 1], b[o : o + 1], v)
            assert results[r, o] == exact_dot(*args, total, int(shift[r])), f"{r} {o}"
    first = mx.accumulate(None, sums, codes[:, None], 127)
    assert (first == mx.block_term(sums, codes[:, None], 127)).all()


def test_scale_code_255():
    """NaN on either side, also for a sum of 0."""
    terms = mx.block_term([5, 5, 5, 0, 0], [255, 100, 255, 255, 0], [100, 255, 255, 0, 0])
    assert fp32.bits(terms).tolist() == [NAN] * 4 + [0]


# Special functions -------------------------------------------------------------------------------

FUNCTIONS: dict[str, tuple[Callable, Callable]] = {
    "exp2": (functions.exp2, np.exp2),
    "reciprocal": (functions.reciprocal, lambda x: 1 / x),
    "rsqrt": (functions.rsqrt, lambda x: 1 / np.sqrt(x)),
}


def worst_ulp(name: str, pattern: np.ndarray) -> float:
    """Largest error in units of the last place of the exact result (which is normal)."""
    function, reference = FUNCTIONS[name]
    x = fp32.from_bits(pattern)
    exact = reference(x.astype(np.float64))
    _, exponent = np.frexp(exact)
    error = np.ldexp(function(x).astype(np.float64) - exact, 24 - exponent)
    return float(np.abs(error).max())


def binades(name: str) -> list[int]:
    """Sign and exponent fields (pattern >> 23) that exercise all of the table and the shifter."""
    if name == "exp2":
        return [sign << 8 | field for sign in (0, 1) for field in range(127 - 27, 127 + 6)]
    return [127] if name == "reciprocal" else [127, 128]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_error_sampled(name):
    mantissa = np.arange(5, 1 << 23, 509, dtype=np.uint32)
    ends = np.arange(128, dtype=np.uint32)[:, None] << 16 | np.array([0, 1, 0xFFFF], np.uint32)
    mantissa = np.concatenate([mantissa, ends.ravel()])
    assert max(worst_ulp(name, mantissa | np.uint32(b << 23)) for b in binades(name)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_error_exhaustive(name):
    """Every mantissa; for exp2 every fraction there is, in every binade that is not trivial."""
    mantissa = np.arange(1 << 23, dtype=np.uint32)
    worst = max((worst_ulp(name, mantissa | np.uint32(b << 23)), b) for b in binades(name))
    print(f"{name}: worst error {worst[0]:.4f} ulp, sign and exponent field {worst[1]:#x}")
    assert worst[0] <= 1


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
def test_function_exponents(name):
    """The error does not depend on the exponent."""
    draw = np.random.default_rng(10)
    pattern = patterns(draw, 20_000, 1, 252) & 0x7FFFFFFF
    assert worst_ulp(name, pattern) <= 1
    if name == "reciprocal":
        minus = fp32.from_bits(pattern | 0x80000000)
        assert (functions.reciprocal(minus) == -functions.reciprocal(-minus)).all()


def test_function_range_ends():
    def values(function, *x):
        return [int(p) for p in fp32.bits(function(fp32.from_bits(np.array(x, np.uint32))))]

    nan = (0x7FC00000, 0xFFC00001, 0x7F800001)
    for function in (functions.exp2, functions.reciprocal, functions.rsqrt):
        assert values(function, *nan) == [NAN] * 3
    # 0, -0, subnormal, infinity, -infinity
    ends = (0, 0x80000000, 0x807FFFFF, INFINITY, 0xFF800000)
    one = 0x3F800000
    assert values(functions.exp2, *ends) == [one, one, one, INFINITY, 0]
    assert values(functions.reciprocal, *ends) == [
        INFINITY, 0xFF800000, 0xFF800000, 0, 0x80000000
    ]  # fmt: skip
    assert values(functions.rsqrt, *ends) == [INFINITY, INFINITY, INFINITY, 0, NAN]
    assert values(functions.rsqrt, 0xBF800000) == [NAN]
    # exp2 at 128, just below it, at -126, just below it
    at = values(functions.exp2, 0x43000000, 0x42FFFFFF, 0xC2FC0000, 0xC2FC0001)
    assert at[0] == INFINITY
    assert at[1] >> 23 == 254
    assert at[2:] == [0x00800000, 0]
    # 1/x at 2**126, just past it, at the largest number
    at = values(functions.reciprocal, 0x7E800000, 0x7E800001, 0xFF7FFFFF)
    assert at == [0x00800000, 0, 0x80000000]


def test_function_powers_of_two():
    n = np.arange(-126, 127)
    power = np.ldexp(np.float32(1), n)
    assert (functions.exp2(n.astype(np.float32)) == power).all()
    assert (functions.reciprocal(power) == 1 / power.astype(float)).all()
    assert (functions.rsqrt(power[::2]) == 1 / np.sqrt(power[::2].astype(float))).all()
