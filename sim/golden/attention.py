"""ATTEND: attention of every segment over its pages, online softmax in powers of two."""

import numpy as np

from hdl.config import BLOCK, PAGE_TOKENS
from hdl.isa import Fault
from sim.golden import fp32, functions, mx
from sim.golden.descriptor import Segment
from sim.golden.fault import ChipFault
from sim.golden.kv import KVCache

__all__ = ["attend_segment", "softmax_page"]


def softmax_page(
    scores: np.ndarray,
    takes_part: np.ndarray,
    value_scales: np.ndarray,
    scale: np.float32,
    maximum: np.ndarray | None,
    total: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One page of the online softmax (docs/spec.md, attention, steps 2 to 5).

    Parameters
    ----------
    scores : float32 (..., 32)
    takes_part : bool, broadcast to scores; a row may have none but on the first page
    value_scales : uint8 codes, broadcast to scores
    maximum, total : int64 and float32 (...), None on the first page

    Returns
    -------
    P elements int8 (..., 32), P scale uint8 (...), shift int64 (...), maximum, total.
    """
    takes_part = np.broadcast_to(takes_part, scores.shape)
    s = fp32.mul(scores, scale)
    ceiling = fp32.ceil_to_int(np.max(np.where(takes_part, s, np.float32(-np.inf)), axis=-1))
    if maximum is None:
        new, shift = ceiling, np.zeros_like(ceiling)
    else:
        new = np.where(takes_part.any(axis=-1), np.maximum(maximum, ceiling), maximum)
        shift = np.minimum(new - maximum, 255)
    p = functions.exp2(fp32.add(s, -new[..., None].astype(np.float32)))
    p = np.where(takes_part, p, np.float32(0))
    part = fp32.tree_sum(p)
    total = part if total is None else fp32.add(fp32.scale_down(total, shift), part)
    weighted = fp32.scale_exponent(p, np.broadcast_to(value_scales, p.shape))
    elements, codes, finite = mx.quantise(weighted)
    if not finite:
        raise ChipFault(Fault.NON_FINITE, "attention weights")
    return elements, codes[..., 0], shift, new, total


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
    group = kv.group
    # (kv head, rows, group, ...): all heads at once, numerics are by query row
    q = queries.reshape(rows, kv.heads, group, hb, BLOCK).transpose(1, 0, 2, 3, 4)
    qs = query_scales.reshape(rows, kv.heads, group, hb).transpose(1, 0, 2, 3)
    positions = segment.position + np.arange(rows)
    shape = (kv.heads, rows, group)
    maximum = np.zeros(shape, np.int64)
    total = np.zeros(shape, np.float32)
    out = np.zeros((*shape, hb * BLOCK), np.float32)
    for index in range((segment.position + rows - 1) // PAGE_TOKENS + 1):
        token = index * PAGE_TOKENS
        r = int(np.searchsorted(positions, token))  # rows that see at least one token of the page
        keys, key_scales, values, value_scales = kv.page(kv.walk(segment, index), offset)
        live = positions[r:]
        takes_part = token + np.arange(PAGE_TOKENS)[None, :] <= live[:, None]  # (live, 32)
        takes_part = takes_part[None, :, None, :]
        scores = mx.batched_dot(
            q[:, r:].reshape(kv.heads, -1, hb, BLOCK),
            qs[:, r:].reshape(kv.heads, -1, hb),
            keys.reshape(kv.heads, PAGE_TOKENS, hb, BLOCK),
            key_scales[:, :, None],
        ).reshape(kv.heads, rows - r, group, PAGE_TOKENS)
        first = index == 0
        p, ps, shift, maximum[:, r:], total[:, r:] = softmax_page(
            scores,
            takes_part,
            value_scales[:, None, None, :],
            scale,
            None if first else maximum[:, r:],
            None if first else total[:, r:],
        )
        # sum over the page's tokens, exact: (kv head, live * group, head_dim)
        sums = np.matmul(
            p.reshape(kv.heads, -1, PAGE_TOKENS).astype(np.float32), values.astype(np.float32)
        ).reshape(kv.heads, rows - r, group, hb * BLOCK)
        term = mx.block_term(sums, ps[..., None], np.uint8(127))
        if first:
            out[:, r:] = term
        else:
            out[:, r:] = fp32.add(fp32.scale_down(out[:, r:], shift[..., None]), term)
    y = fp32.mul(out, functions.reciprocal(total)[..., None])
    return y.transpose(1, 0, 2, 3).reshape(rows, heads, hb * BLOCK)
