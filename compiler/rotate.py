"""Rotates a model so that its activations quantise better; the function it computes stays.

RMSNorm without weights commutes with an orthogonal map of the residual stream. So norm weights are
folded into the matrices behind them, and the stream is rotated by block-diagonal Hadamard matrices
in every weight that reads or writes it. Values are rotated within each head likewise, and turned
back in the output projection. Outliers spread over their block, which keeps an MX block's
elements small in number of lost bits. Nothing changes on the chip.

Source: QuaRot (Ashkboos et al., arXiv 2404.00456), its offline half, with blocks of at most 64.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compiler.checkpoint.model import Checkpoint

__all__ = ["hadamard", "rotated"]

_LARGEST = 64

Float = NDArray[np.float32]


def hadamard(size: int) -> Float:
    """Symmetric orthogonal Hadamard matrix of the largest power of two (at most 64) in ``size``."""
    order = min(size & -size, _LARGEST)
    matrix = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (matrix / np.sqrt(order)).astype(np.float32)


def _last(x: Float, matrix: Float) -> Float:
    """The block-diagonal map on the last axis."""
    return (x.reshape(-1, len(matrix)) @ matrix).reshape(x.shape)


def _first(x: Float, matrix: Float) -> Float:
    """The block-diagonal map on the first axis of a matrix."""
    blocks = x.reshape(-1, len(matrix), x.shape[-1])
    return np.matmul(matrix, blocks).reshape(x.shape)


class _Rotated(Mapping[str, Float]):
    """The tensors of a rotated model, computed at every access like those of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint):
        self._tensors = checkpoint.tensors
        self._stream = hadamard(checkpoint.config.dim)
        self._head = hadamard(checkpoint.config.head_dim)

    def __getitem__(self, name: str) -> Float:
        value = self._tensors[name]
        layer, _, part = name.rpartition(".")
        if part.endswith("norm"):
            return np.ones_like(value)
        if part == "embed":
            return _last(value, self._stream)
        if part == "head":
            return _last(value * self._tensors["final_norm"], self._stream)
        if part in ("wq", "wk", "wv"):
            value = _last(value * self._tensors[f"{layer}.attn_norm"], self._stream)
            return _first(value, self._head) if part == "wv" else value
        if part in ("w_gate", "w_up"):
            return _last(value * self._tensors[f"{layer}.ffn_norm"], self._stream)
        if part == "wo":
            value = _last(value, self._head)
        return _first(value, self._stream)  # wo, w_down: they write the stream

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def rotated(checkpoint: Checkpoint) -> Checkpoint:
    """The same model in rotated coordinates (its head is no longer tied to its embedding)."""
    config = replace(checkpoint.config, tied=False)
    return replace(checkpoint, config=config, tensors=_Rotated(checkpoint))
