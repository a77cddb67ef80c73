"""ATTEND: attention of every segment over its pages, online softmax in powers of two.

Only the running sums go page after page; what leads to them is computed for many pages at once.
"""

import numpy as np

from hdl.config import BLOCK, PAGE_TOKENS
from hdl.isa import Fault
from sim.golden import fp32, functions, mx
from sim.golden.descriptor import Segment
from sim.golden.fault import ChipFault
from sim.golden.kv import KVCache

__all__ = ["attend_segment", "softmax_pages"]

_CHUNK = 1 << 18  # values at work at a time, of scores or outputs


def softmax_pages(
    scores: np.ndarray,
    takes_part: np.ndarray,
    value_scales: np.ndarray,
    scale: np.float32,
    maximum: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Consecutive pages of the online softmax (docs/spec.md, attention, steps 2 to 5).

    Parameters
    ----------
    scores : float32 (pages, ..., 32)
    takes_part : bool, broadcast to scores; a row may have none but on its first page
    value_scales : uint8 codes, broadcast to scores
    maximum : int64 (...), M of the page before; None where these are the first pages

    Returns
    -------
    P elements int8 (pages, ..., 32), P scale uint8, shift int64, sum of p float32, M int64: each
    (pages, ...).
    """
    takes_part = np.broadcast_to(takes_part, scores.shape)
    s = fp32.mul(scores, scale)
    # Where no token takes part this is the lowest that M can be, and leaves it as it is.
    ceiling = fp32.ceil_to_int(np.max(np.where(takes_part, s, np.float32(-np.inf)), axis=-1))
    first = ceiling[:1] if maximum is None else np.maximum(maximum, ceiling[:1])
    new = np.maximum.accumulate(np.concatenate([first, ceiling[1:]]), axis=0).astype(np.int64)
    old = np.concatenate([new[:1] if maximum is None else maximum[None], new[:-1]])
    p = functions.exp2(fp32.add(s, -new[..., None].astype(np.float32)))
    p = np.where(takes_part, p, np.float32(0))
    weighted = fp32.scale_exponent(p, np.broadcast_to(value_scales, p.shape))
    elements, codes, finite = mx.quantise(weighted)
    if not finite:
        raise ChipFault(Fault.NON_FINITE, "attention weights")
    return elements, codes[..., 0], np.minimum(new - old, 255), fp32.tree_sum(p), new


def _accumulate(total: np.ndarray | None, shift: np.ndarray, term: np.ndarray) -> np.ndarray:
    """fl(total * 2**-shift + term), the term alone on the first page."""
    if total is None:
        return term
    return fp32.add(fp32.scale_down(total, shift) if shift.any() else total, term)


def attend_segment(
    kv: KVCache,
    segment: Segment,
    offset: int,
    scale: np.float32,
    queries: np.ndarray,
    query_scales: np.ndarray,
) -> np.ndarray:
    """Attention of one segment's rows.

    Parameters
    ----------
    queries
        int8 (rows, heads, head_blocks, 32), scales uint8 (rows, heads, head_blocks).

    Returns
    -------
    float32 (rows, heads, head_blocks * 32): O / l, before quantisation.
    """
    rows, heads, hb, _ = queries.shape
    group, kv_heads = kv.group, kv.heads
    # (kv head, rows, group, ...): all heads at once, numerics are by query row
    q = queries.reshape(rows, kv_heads, group, hb, BLOCK).transpose(1, 0, 2, 3, 4)
    qs = query_scales.reshape(rows, kv_heads, group, hb).transpose(1, 0, 2, 3)
    q, qs = q.reshape(1, kv_heads, -1, hb, BLOCK), qs.reshape(1, kv_heads, -1, hb)
    positions = np.repeat(segment.position + np.arange(rows), group)  # of each query row
    pages = (segment.position + rows - 1) // PAGE_TOKENS + 1
    chunk = max(1, _CHUNK // (heads * rows * max(PAGE_TOKENS, hb * BLOCK)))
    maximum = total = out = None
    for first in range(0, pages, chunk):
        indices = range(first, min(first + chunk, pages))
        parts = [kv.page(kv.walk(segment, index), offset) for index in indices]
        # (pages, kv head, token, ...)
        keys, key_scales, values, value_scales = (np.stack(p) for p in zip(*parts, strict=True))
        scores = mx.batched_dot(
            q, qs, keys.reshape(*keys.shape[:3], hb, BLOCK), key_scales[..., None]
        )  # (pages, kv head, query row, token)
        tokens = np.array(indices)[:, None, None] * PAGE_TOKENS + np.arange(PAGE_TOKENS)
        takes_part = (tokens <= positions[:, None])[:, None]
        p, ps, shift, part, new = softmax_pages(
            scores, takes_part, value_scales[:, :, None], scale, maximum
        )
        # sum over a page's tokens, exact: (pages, kv head, query row, head_dim)
        sums = np.matmul(p.astype(np.float32), values.astype(np.float32))
        terms = mx.block_term(sums, ps[..., None], np.uint8(127))
        for i in range(len(indices)):
            total = _accumulate(total, shift[i], part[i])
            out = _accumulate(out, shift[i][..., None], terms[i])
        maximum = new[-1]
    assert out is not None
    assert total is not None
    y = fp32.mul(out, functions.reciprocal(total)[..., None])
    y = y.reshape(kv_heads, rows, group, hb * BLOCK).transpose(1, 0, 2, 3)
    return y.reshape(rows, heads, hb * BLOCK)
