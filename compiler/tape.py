"""Weights to the tape: quantised to MXINT8, laid out in the order in which the array eats them."""

import numpy as np

from compiler.layout import blocks_of
from hdl.config import BLOCK, Config
from sim.golden import mx

__all__ = ["block_tiles", "pack_matrix", "pad_heads_in", "pad_heads_out", "unpack_matrix"]


def block_tiles(config: Config, outputs: int, inputs: int) -> int:
    """Block tiles that a matrix of ``outputs x inputs`` takes on the tape."""
    return blocks_of(outputs) * blocks_of(inputs) * config.column_groups


def pad_heads_out(weight: np.ndarray, heads: int, head_blocks: int) -> np.ndarray:
    """(heads * head_dim, inputs) -> (heads * head_blocks * 32, inputs), zeros behind each head."""
    rows, inputs = weight.shape
    split = weight.reshape(heads, rows // heads, inputs)
    padded = np.zeros((heads, head_blocks * BLOCK, inputs), weight.dtype)
    padded[:, : rows // heads] = split
    return padded.reshape(-1, inputs)


def pad_heads_in(weight: np.ndarray, heads: int, head_blocks: int) -> np.ndarray:
    """(outputs, heads * head_dim) -> (outputs, heads * head_blocks * 32)."""
    return np.ascontiguousarray(pad_heads_out(weight.T, heads, head_blocks).T)


def _pad(weight: np.ndarray) -> np.ndarray:
    outputs, inputs = weight.shape
    shape = (blocks_of(outputs) * BLOCK, blocks_of(inputs) * BLOCK)
    if shape == weight.shape:
        return weight
    padded = np.zeros(shape, weight.dtype)
    padded[:outputs, :inputs] = weight
    return padded


def pack_matrix(config: Config, weight: np.ndarray) -> np.ndarray:
    """One matrix on the tape.

    Parameters
    ----------
    weight
        (outputs, inputs) float32, natural ``[out][in]`` order.

    Returns
    -------
    uint8 (block_tiles * block_tile_bytes,): see docs/spec.md section 2.
    """
    padded = _pad(weight)
    outputs, inputs = padded.shape
    c, r = config.cols, config.rows
    blocks = inputs // BLOCK
    elements, scales, finite = mx.quantise(padded)
    if not finite:
        raise ValueError("weights hold NaN or infinity")
    # (panel, group, column, block, pass, row) -> (panel, block, group, pass, column, row)
    tiles = elements.reshape(outputs // BLOCK, BLOCK // c, c, blocks, BLOCK // r, r)
    tiles = tiles.transpose(0, 3, 1, 4, 2, 5).reshape(-1, BLOCK * c)
    grouped = scales.reshape(outputs // BLOCK, BLOCK // c, c, blocks)
    codes = grouped.transpose(0, 3, 1, 2).reshape(-1, c)
    return np.concatenate([codes, tiles.view(np.uint8)], axis=1).reshape(-1)


def unpack_matrix(
    config: Config, tape: np.ndarray, panels: int, blocks: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of :func:`pack_matrix` after quantisation.

    Returns
    -------
    elements int8 (panels * 32, blocks, 32), scales uint8 (panels * 32, blocks).
    """
    c, r = config.cols, config.rows
    words = tape.reshape(panels * blocks * (BLOCK // c), c + BLOCK * c)
    codes = words[:, :c].reshape(panels, blocks, BLOCK // c, c).transpose(0, 2, 3, 1)
    tiles = words[:, c:].view(np.int8).reshape(panels, blocks, BLOCK // c, BLOCK // r, c, r)
    tiles = tiles.transpose(0, 2, 4, 1, 3, 5)  # panel, group, column, block, pass, row
    return (
        np.ascontiguousarray(tiles).reshape(panels * BLOCK, blocks, BLOCK),
        np.ascontiguousarray(codes).reshape(panels * BLOCK, blocks),
    )
