"""What every vector instruction must do, in short NumPy straight from docs/spec.md.

FP32 arrays are (rows, blocks, 32) or (rows, 32). Results of a quantiser are
``{address: (elements, scale, shift)}``, as activation memory is written.
"""

import numpy as np

from sim.golden import fp32, functions

__all__ = [
    "add",
    "append",
    "attend_final",
    "logits",
    "norm",
    "place",
    "quantise",
    "rope",
    "softmax",
    "swiglu",
]


def quantise(x, exponent=None):
    """MXINT8 over the last axis: elements, scale code, and whether all is finite."""
    x = fp32.flush(np.asarray(x, np.float32))
    largest = np.abs(x).max(axis=-1, keepdims=True)
    field = (fp32.bits(largest) >> np.uint32(23)).astype(np.int64)
    code = np.maximum(field - 6, 0)
    finite = bool(np.isfinite(x).all())
    with np.errstate(all="ignore"):
        scaled = x.astype(np.float64) * 2.0 ** (127 - code)
        elements = np.clip(np.rint(np.where(np.isfinite(scaled), scaled, 0)), -127, 127)
    return elements.astype(np.int64), code[..., 0], finite


def place(x, address, shifts=None):
    """Blocks x (n, 32) quantised at ``address(i)``; None if something is not finite."""
    elements, codes, finite = quantise(x)
    if not finite:
        return None
    return {
        address(i): (
            tuple(elements[i].tolist()),
            int(codes[i]),
            0 if shifts is None else int(shifts[i]),
        )
        for i in range(len(elements))
    }


def _sum(x):
    """Row sums of (rows, blocks, 32)."""
    while x.shape[-1] > 1:
        x = fp32.add(x[..., 0::2], x[..., 1::2])
    total = x[:, 0, 0]
    for b in range(1, x.shape[1]):
        total = fp32.add(total, x[:, b, 0])
    return total


def norm(x, weights, inverse_dim, epsilon):
    """RMSNorm, not quantised."""
    u = fp32.add(fp32.mul(_sum(fp32.mul(x, x)), inverse_dim), epsilon)
    return fp32.mul(fp32.mul(x, functions.rsqrt(u)[:, None, None]), weights)


def add(x, panel):
    return fp32.add(panel, x)


def rope(x, cosine, sine):
    """(rows, 32) with its block of both tables, as they stand in constant memory."""
    y = np.empty_like(x)
    even, odd = x[:, 0::2], x[:, 1::2]
    y[:, 0::2] = fp32.add(fp32.mul(even, cosine[:, 0::2]), fp32.mul(odd, sine[:, 0::2]))
    y[:, 1::2] = fp32.add(fp32.mul(odd, cosine[:, 1::2]), fp32.mul(even, sine[:, 1::2]))
    return y


def swiglu(gate, up):
    t = functions.exp2(fp32.mul(gate, fp32.from_bits(0xBFB8AA3B)))
    t = functions.reciprocal(fp32.add(t, np.float32(1)))
    return fp32.mul(fp32.mul(t, gate), up)


def append(head):
    """Head (rows, blocks, 32): elements (rows, blocks, 32) and scale (rows), or None."""
    rows, blocks, _ = head.shape
    elements, codes, finite = quantise(head.reshape(rows, -1))
    return (elements.reshape(rows, blocks, 32), codes) if finite else None


def logits(x, vocabulary):
    """Tokens of (rows, columns)."""
    keys = fp32.order_key(x[:, :vocabulary])
    return np.argmax(keys, axis=1)


def softmax(scores, participants, value_scales, scale, state):
    """A page (rows, 32); participants (rows); state (M, l) by row or None.

    Gives p' to be quantised, shift, and the state after.
    """
    rows = len(scores)
    live = np.arange(32)[None, :] < participants[:, None]
    s = fp32.mul(scores, scale)
    maximum, total = np.zeros(rows, np.int64), np.zeros(rows, np.float32)
    shift = np.zeros(rows, np.int64)
    for q in range(rows):
        taking = s[q][live[q]]
        if len(taking):
            top = taking[np.argmax(fp32.order_key(taking))]
            ceiling = int(np.clip(np.ceil(np.float64(top)), -(1 << 20), 1 << 20))
        if state is None:
            maximum[q] = ceiling
        else:
            old = int(state[0][q])
            maximum[q] = max(old, ceiling) if len(taking) else old
            shift[q] = min(maximum[q] - old, 255)
    p = functions.exp2(fp32.add(s, -maximum[:, None].astype(np.float32)))
    p = np.where(live, p, np.float32(0))
    tree = p
    while tree.shape[-1] > 1:
        tree = fp32.add(tree[:, 0::2], tree[:, 1::2])
    total = tree[:, 0]
    if state is not None:
        old = state[1].astype(np.float64) * 2.0 ** -shift.astype(np.float64)
        total = fp32.add(np.where(np.abs(old) < 2.0**-126, 0, old).astype(np.float32), total)
    codes = value_scales.astype(np.float64)[None, :]
    with np.errstate(all="ignore"):
        weighted = p.astype(np.float64) * np.where(codes == 255, np.nan, 2.0 ** (codes - 127))
        weighted = np.where(p == 0, 0, weighted)
        weighted = np.where(np.abs(weighted) < 2.0**-126, 0, weighted).astype(np.float32)
    return weighted, shift, (maximum, total)


def attend_final(output, total):
    """Output panels (blocks, rows, 32) over the sums (rows)."""
    return fp32.mul(output, functions.reciprocal(total)[None, :, None])
