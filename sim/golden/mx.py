"""MXINT8 blocks: quantise, and products of quantised blocks (docs/spec.md, section 1).

A block is 32 int8 elements along the reduction axis and one E8M0 scale code s, read as
2**(s - 127). Block sums are integers below 2**24, so BLAS in float32 finds them exactly in any
order; scaling and accumulation over the ascending blocks then follow the chip, one rounding a
block. Code 255 is NaN (OCP Microscaling), also for a block of zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.golden import fp32

__all__ = [
    "BLOCK",
    "Quantised",
    "Weights",
    "accumulate",
    "batched_dot",
    "block_dot",
    "block_sums",
    "block_term",
    "quantise",
    "quantise_head",
]

BLOCK = 32
_CHUNK = 1 << 19  # float32 values at work at a time: they stay in the second-level cache

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]
Codes = NDArray[np.uint8]


class Quantised(NamedTuple):
    """Elements in the shape of the values, a scale code a block, and whether all was finite.

    Where `finite` is false the chip stops with a NON_FINITE fault: the rest means nothing.
    """

    elements: Int8
    scales: Codes
    finite: bool


def quantise(x: ArrayLike) -> Quantised:
    """Blocks of 32 along the last axis: (..., 32 k) gives elements (..., 32 k), scales (..., k)."""
    x = np.asarray(x, np.float32)
    if x.shape[-1] % BLOCK:
        raise ValueError(f"blocks are {BLOCK} values: {x.shape[-1]} is no multiple")
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    elements, scales, finite = quantise_head(blocks)
    return Quantised(elements.reshape(x.shape), scales, finite)


def quantise_head(x: ArrayLike) -> Quantised:
    """One scale for the whole last axis: (..., n) gives elements (..., n), scales (...)."""
    x = fp32.flush(x)
    finite = fp32.is_finite(x)
    if not finite:
        x = np.where(np.isfinite(x), x, np.float32(0))
    largest = fp32.bits(np.abs(x).max(axis=-1)) >> np.uint32(23)
    scales = np.maximum(largest.astype(np.int32) - 6, 0)
    # 2**(127 - s): s is 0 .. 248, so both it and the product are in range; what gets subnormal
    # is far below one half.
    factor = fp32.from_bits((254 - scales).astype(np.uint32) << np.uint32(23))
    with np.errstate(all="ignore"):
        scaled = np.rint(x * factor[..., None])
    return Quantised(np.clip(scaled, -127, 127).astype(np.int8), scales.astype(np.uint8), finite)


class Weights:
    """A quantised matrix, kept for `block_dot` (one byte an element).

    Parameters
    ----------
    elements : int8 (out, blocks, 32)
    scales : E8M0 codes, uint8 (out, blocks)
    """

    def __init__(self, elements: Int8, scales: Codes) -> None:
        elements, scales = np.asarray(elements), np.asarray(scales)
        if elements.dtype != np.int8 or elements.ndim != 3 or elements.shape[2] != BLOCK:
            raise ValueError(f"elements must be int8 (out, blocks, {BLOCK})")
        if scales.dtype != np.uint8 or scales.shape != elements.shape[:2] or not scales.size:
            raise ValueError("scales must be uint8 (out, blocks), at least one")
        self.out, self.blocks = scales.shape
        used = _used_codes(scales, elements.any(axis=2))
        self.low, self.high = _range(used)
        powers = _powers(used)
        step = max(BLOCK, _CHUNK // max(1, self.blocks * BLOCK) // BLOCK * BLOCK)
        self.parts = [
            _Part(
                start,
                np.ascontiguousarray(elements[start : start + step].transpose(1, 2, 0)),
                np.ascontiguousarray(powers[start : start + step].T[:, None]),
                np.ascontiguousarray(scales[start : start + step].T[:, None]),
            )
            for start in range(0, self.out, step)
        ]


class _Part(NamedTuple):
    """Some outputs of a matrix, in one piece of memory."""

    start: int  # first output
    elements: Int8  # (blocks, 32, outputs)
    powers: Float  # (blocks, 1, outputs): 2**(scale - 127)
    scales: Codes  # (blocks, 1, outputs)


def block_dot(elements: Int8, scales: Codes, weights: Weights) -> Float:
    """Rows of activations times a matrix, blocks ascending, one rounding a block.

    Parameters
    ----------
    elements : int8 (rows, blocks, 32) or (rows, 32 * blocks)
    scales : uint8 (rows, blocks)
    weights : (out, blocks)

    Returns
    -------
    (rows, out) float32
    """
    out, blocks = weights.out, weights.blocks
    rows = len(elements)
    # (blocks, rows, 32) and (blocks, rows)
    x = elements.reshape(rows, blocks, BLOCK).transpose(1, 0, 2).astype(np.float32)
    codes = scales.T
    used = _used_codes(codes, x.any(axis=2))
    low, high = _range(used)
    # Here every intermediate result is exact or a sum that is rounded once, and no sum can be
    # subnormal (all terms are multiples of 2**-126), overflow or be NaN.
    plain = (
        low >= 1
        and high <= 235
        and weights.low >= 1
        and weights.high <= 254
        and low + weights.low >= 128
        and high + weights.high <= 340
    )
    powers = _powers(used)[:, :, None]
    result = np.empty((rows, out), np.float32)
    buffer = np.empty(max(part.elements.size for part in weights.parts), np.float32)
    for start, values, factors, part_scales in weights.parts:
        wide = buffer[: values.size].reshape(values.shape)
        np.copyto(wide, values)
        sums = x @ wide  # (blocks, rows, outputs)
        if plain:
            sums *= powers
            sums *= factors
            total = sums[0]
            for term in sums[1:]:
                total += term
            total += np.float32(0)  # BLAS may have made a -0
        else:
            terms = block_term(sums, codes[:, :, None], part_scales)
            total = terms[0]
            for term in terms[1:]:
                total = fp32.add(total, term)
        result[:, start : start + total.shape[1]] = total
    return result


def block_sums(a: Int8, b: Int8) -> Float:
    """Exact integer sums as float32: a (..., rows, 32), b (..., out, 32) to (..., rows, out)."""
    return a.astype(np.float32) @ b.astype(np.float32).swapaxes(-1, -2)


def block_term(sums: ArrayLike, code_a: ArrayLike, code_b: ArrayLike) -> Float:
    """sum * 2**(code_a - 127 + code_b - 127): exact, +0 below 2**-126, infinity above the range.

    `sums` are integers below 2**20 in magnitude; codes broadcast against them. A code of 255
    gives NaN, also where the sum is 0.
    """
    code_a, code_b = np.asarray(code_a, np.int32), np.asarray(code_b, np.int32)
    with np.errstate(all="ignore"):
        term = np.ldexp(np.asarray(sums, np.float64), code_a + code_b - 254)
        term = np.where(np.abs(term) < fp32.TINY, 0.0, term).astype(np.float32)
    return np.where((code_a == 255) | (code_b == 255), fp32.NAN, term)


def accumulate(
    total: Float | None,
    sums: ArrayLike,
    code_a: ArrayLike,
    code_b: ArrayLike,
    shift: ArrayLike = 0,
) -> Float:
    """fl(total * 2**-shift + term), or the term alone for the first block (`total` is None).

    Codes and shifts broadcast against `sums` (..., rows, out): a shift a row is (rows, 1).
    """
    term = block_term(sums, code_a, code_b)
    if total is None:
        return term
    return fp32.add(fp32.scale_down(total, shift), term)


def batched_dot(a: Int8, a_scales: Codes, b: Int8, b_scales: Codes) -> Float:
    """`block_dot` of small matrices with any leading axes, nothing prepared (attention scores).

    Parameters
    ----------
    a, a_scales : (..., rows, blocks, 32) and (..., rows, blocks)
    b, b_scales : (..., out, blocks, 32) and (..., out, blocks), or (..., out, 1) for one scale
        a whole row

    Returns
    -------
    (..., rows, out) float32
    """
    blocks = a.shape[-2]
    b_scales = np.broadcast_to(b_scales, b.shape[:-1])
    total = None
    for k in range(blocks):
        sums = block_sums(a[..., k, :], b[..., k, :])
        total = accumulate(total, sums, a_scales[..., k, None], b_scales[..., None, :, k])
    if total is None:
        raise ValueError("a product needs at least one block")
    return total


def _used_codes(codes: NDArray, used: ArrayLike) -> NDArray:
    """Codes, 127 for a block of zeros: its term is +0 under any code but 255."""
    return np.where(np.logical_or(used, codes == 255), codes, np.uint8(127))


def _powers(codes: NDArray) -> Float:
    """2**(code - 127), for codes 1 .. 254 (the others are never used)."""
    return fp32.from_bits(codes.astype(np.uint32) << np.uint32(23))


def _range(codes: NDArray) -> tuple[int, int]:
    return (int(codes.min()), int(codes.max())) if codes.size else (127, 127)
