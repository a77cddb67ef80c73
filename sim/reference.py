"""FP32 Llama in plain NumPy: the independent yardstick of the golden model and the chip.

It shares no arithmetic with them: no blocks of 32, no MX formats, no chosen order of additions.
Float32 throughout, matrix products by BLAS; angles of RoPE are computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compiler.checkpoint import Checkpoint
from compiler.errors import UserError

__all__ = ["Cache", "Reference"]

Float = NDArray[np.float32]
_FIRST_ROOM = 64  # tokens a new cache has room for


class Cache:
    """Keys and values of one sequence, for every layer. ``length`` tokens are in it."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int) -> None:
        self.length = 0
        # (layer, key or value, KV head, token, element)
        self._data = np.empty((layers, 2, kv_heads, _FIRST_ROOM, head_dim), np.float32)

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens."""
        room = self._data.shape[3]
        if length > room:
            shape = list(self._data.shape)
            shape[3] = max(length, 2 * room)
            data = np.empty(shape, np.float32)
            data[:, :, :, : self.length] = self._data[:, :, :, : self.length]
            self._data = data

    def store(self, layer: int, key: Float, value: Float) -> tuple[Float, Float]:
        """Put keys and values (kv_heads, rows, head_dim) after the tokens in the cache.

        Returns all keys and values so far: (kv_heads, length + rows, head_dim) each. The tokens
        count once `length` is raised, after the last layer.
        """
        end = self.length + key.shape[1]
        self._data[layer, 0, :, self.length : end] = key
        self._data[layer, 1, :, self.length : end] = value
        return self._data[layer, 0, :, :end], self._data[layer, 1, :, :end]

    def truncate(self, length: int) -> None:
        """Forget all tokens from ``length`` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"{length} is outside the cache of {self.length} tokens")
        self.length = length


class Reference:
    """A Llama in float32.

    Weights are read at their first use and kept: four bytes a parameter.

    Parameters
    ----------
    checkpoint : a canonical checkpoint (`compiler.checkpoint.load_checkpoint`)
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self._tensors = checkpoint.tensors
        self._kept: dict[str, Float] = {}
        self._frequencies = checkpoint.config.rope_frequencies()

    def cache(self) -> Cache:
        """An empty cache, for one sequence."""
        return Cache(self.config.layers, self.config.kv_heads, self.config.head_dim)

    def forward(
        self, tokens: Sequence[int], past: Cache | None = None, last_only: bool = False
    ) -> Float:
        """Logits after each of ``tokens``, which follow those in ``past``.

        Parameters
        ----------
        tokens : at least one id; (rows,)
        past : cache of the sequence so far, extended in place; None is an empty one
        last_only : compute the head for the last token alone

        Returns
        -------
        (rows, vocab), or (1, vocab) with ``last_only``

        Raises `UserError` for a token outside the vocabulary or a sequence past the context.
        """
        c = self.config
        ids = np.asarray(tokens, np.int64)
        if ids.ndim != 1 or not ids.size or ids.min() < 0 or ids.max() >= c.vocab:
            raise UserError(f"tokens must be at least one id below {c.vocab}")
        past = self.cache() if past is None else past
        end = past.length + ids.size
        if end > c.context:
            raise UserError(f"the sequence has {end} tokens, the model's context is {c.context}")
        past.reserve(end)
        turn = np.outer(np.arange(past.length, end), self._frequencies)  # (rows, head_dim / 2)
        rotation = np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)
        x = self._weight("embed")[ids]  # (rows, dim)
        for layer in range(c.layers):
            x = x + self._attention(layer, x, past, rotation)
            x = x + self._feed_forward(layer, x)
        past.length = end
        x = self._norm(x[-1:] if last_only else x, "final_norm")
        return x @ self._weight("head").T

    def _attention(self, layer: int, x: Float, past: Cache, rotation: tuple[Float, Float]) -> Float:
        c, rows = self.config, len(x)
        normed = self._norm(x, f"layers.{layer}.attn_norm")

        def heads(name: str, count: int) -> Float:  # (count, rows, head_dim)
            product = normed @ self._weight(f"layers.{layer}.{name}").T
            return product.reshape(rows, count, c.head_dim).swapaxes(0, 1)

        query = _rotate(heads("wq", c.heads), rotation)
        key, value = past.store(
            layer, _rotate(heads("wk", c.kv_heads), rotation), heads("wv", c.kv_heads)
        )
        # Query heads of a group share a KV head: (kv_heads, group, rows, head_dim).
        query = query.reshape(c.kv_heads, -1, rows, c.head_dim)
        scores = query @ key[:, None].swapaxes(-1, -2) / np.float32(np.sqrt(c.head_dim))
        # Row r sees the past, the rows before it, and itself.
        visible = np.tri(rows, key.shape[1], past.length, dtype=bool)
        scores = np.where(visible, scores, np.float32(-np.inf))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = weights @ value[:, None]  # (kv_heads, group, rows, head_dim)
        joined = mixed.reshape(c.heads, rows, c.head_dim).swapaxes(0, 1).reshape(rows, -1)
        return joined @ self._weight(f"layers.{layer}.wo").T

    def _feed_forward(self, layer: int, x: Float) -> Float:
        normed = self._norm(x, f"layers.{layer}.ffn_norm")
        gate = normed @ self._weight(f"layers.{layer}.w_gate").T
        up = normed @ self._weight(f"layers.{layer}.w_up").T
        with np.errstate(over="ignore"):  # exp of a very negative gate: SiLU is -0 there
            activated = gate / (1 + np.exp(-gate)) * up
        return activated @ self._weight(f"layers.{layer}.w_down").T

    def _norm(self, x: Float, name: str) -> Float:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + np.float32(self.config.norm_eps)) * self._weight(name)

    def _weight(self, name: str) -> Float:
        if name == "head" and self.config.tied:
            name = "embed"
        if name not in self._kept:
            self._kept[name] = self._tensors[name]
        return self._kept[name]


def _rotate(x: Float, rotation: tuple[Float, Float]) -> Float:
    """Turn each pair (2i, 2i + 1) of x (heads, rows, head_dim) by its angle (rows, head_dim/2)."""
    cos, sin = rotation
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack((even * cos - odd * sin, even * sin + odd * cos), axis=-1).reshape(x.shape)
