"""Llama in float64 with the chip's number formats: what the golden model should come to.

Weights, activations, K, V and P are rounded to MXINT8 where docs/spec.md says, by four lines of
arithmetic; all else is float64 on whole matrices. It shares no code with the compiler's tape, the
program or the golden model, and knows neither blocks in order nor pages nor on-chip memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compiler.checkpoint import Checkpoint

__all__ = ["MxReference"]

Array = NDArray[np.float64]


def _scales(largest: Array) -> Array:
    """Scale of a block with this largest magnitude: 2**(floor(log2 m) - 6)."""
    return 2.0 ** (np.floor(np.log2(np.where(largest > 0, largest, 1))) - 6)


def _elements(x: Array, scale: Array) -> Array:
    return np.clip(np.rint(x / scale), -127, 127)


def _rounded(x: ArrayLike) -> Array:
    """MXINT8 in blocks of 32 along the last axis, a short last block padded."""
    x = np.asarray(x, np.float64)
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % 32)])
    blocks = padded.reshape(*x.shape[:-1], -1, 32)
    scale = _scales(np.abs(blocks).max(-1, keepdims=True))
    return (_elements(blocks, scale) * scale).reshape(padded.shape)[..., : x.shape[-1]]


class MxReference:
    """A whole sequence at once: `forward(tokens)` gives logits (tokens, vocab)."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._c, self._tensors = checkpoint.config, checkpoint.tensors

    def forward(self, tokens: Sequence[int]) -> Array:
        x = self._tensors["embed"][np.asarray(tokens)].astype(np.float64)
        for layer in range(self._c.layers):
            prefix = f"layers.{layer}."
            normed = self._norm(x, prefix + "attn_norm")
            x = x + self._attention(prefix, normed)
            normed = self._norm(x, prefix + "ffn_norm")
            gate = self._product(normed, prefix + "w_gate")
            up = self._product(normed, prefix + "w_up")
            x = x + self._product(gate / (1 + np.exp(-gate)) * up, prefix + "w_down")
        return self._product(self._norm(x, "final_norm"), "head")

    def _norm(self, x: Array, name: str) -> Array:
        size = np.sqrt((x * x).mean(-1, keepdims=True) + self._c.norm_eps)
        return x / size * self._tensors[name]

    def _product(self, x: Array, name: str) -> Array:
        return _rounded(x) @ _rounded(self._tensors[name]).T

    def _attention(self, prefix: str, x: Array) -> Array:
        c, rows = self._c, len(x)
        angles = np.arange(rows)[:, None] * c.rope_frequencies()
        cos, sin = np.cos(angles), np.sin(angles)

        def rotated(v: Array) -> Array:
            even, odd = v[..., 0::2], v[..., 1::2]
            return np.stack((even * cos - odd * sin, even * sin + odd * cos), -1).reshape(v.shape)

        def heads(name: str, count: int) -> Array:  # (count, rows, head_dim)
            return self._product(x, prefix + name).reshape(rows, count, -1).swapaxes(0, 1)

        def shared(v: Array) -> Array:
            return np.repeat(v, c.heads // c.kv_heads, axis=0)

        def by_token(v: Array) -> Array:
            return _scales(np.abs(v).max(-1, keepdims=True))

        query, key = rotated(heads("wq", c.heads)), rotated(heads("wk", c.kv_heads))
        value = heads("wv", c.kv_heads)
        key = shared(_elements(key, by_token(key)) * by_token(key))
        scores = _rounded(query) @ key.swapaxes(1, 2) / np.sqrt(c.head_dim) * np.log2(np.e)
        scores = np.where(np.tri(rows, dtype=bool), scores, -np.inf)
        weights = 2.0 ** (scores - np.ceil(scores.max(-1, keepdims=True)))
        # The value's scale is part of the weight, so that the sum over tokens is one of integers.
        weighted = _rounded(weights * shared(by_token(value)).swapaxes(1, 2))
        mixed = weighted @ shared(_elements(value, by_token(value)))
        mixed = (mixed / weights.sum(-1, keepdims=True)).swapaxes(0, 1)  # (rows, heads, head_dim)
        # Heads are padded to whole blocks, so no block holds parts of two.
        out = self._tensors[prefix + "wo"].reshape(c.dim, c.heads, c.head_dim)
        return _rounded(mixed).reshape(rows, -1) @ _rounded(out).reshape(c.dim, -1).T
