"""The rotated model is the same function, and loses less where one channel stands out."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.checkpoint import Checkpoint
from compiler.rotate import hadamard, rotated
from sim.reference import Reference
from tests.devices import checkpoint, golden, logits

TOKENS = [(5 * i * i + i) % 60 for i in range(40)]


@pytest.mark.parametrize(
    ("size", "order"), [(64, 64), (128, 64), (576, 64), (72, 8), (48, 16), (34, 2), (33, 1), (1, 1)]
)
def test_hadamard_matrices_are_orthogonal_and_of_one_magnitude(size: int, order: int) -> None:
    matrix = hadamard(size)
    assert matrix.shape == (order, order)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(order), atol=1e-6)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(np.abs(matrix), order**-0.5, rtol=1e-6)


@pytest.mark.parametrize(
    "shape",
    [
        {"dim": 72, "hidden": 31, "heads": 2, "kv_heads": 2, "head_dim": 64},
        {"dim": 96, "hidden": 172, "heads": 4, "kv_heads": 1, "head_dim": 48},
        {"dim": 33, "hidden": 50, "heads": 6, "kv_heads": 2, "head_dim": 10},
        {"dim": 64, "hidden": 64, "heads": 2, "kv_heads": 1, "head_dim": 32},
        {"dim": 64, "hidden": 64, "heads": 2, "kv_heads": 1, "head_dim": 32, "tied": True},
    ],
)
def test_the_function_stays(shape: dict[str, int]) -> None:
    base = checkpoint(**shape)
    assert not np.array_equal(base.tensors["layers.0.ffn_norm"], np.ones(shape["dim"]))
    turned = rotated(base)
    expected, found = Reference(base).forward(TOKENS), Reference(turned).forward(TOKENS)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    assert set(turned.tensors) == set(base.tensors)
    assert len(turned.tensors) == len(base.tensors)
    for name in base.tensors:
        assert turned.tensors[name].dtype == np.float32
        assert turned.tensors[name].shape == base.tensors[name].shape


def with_outlier(base: Checkpoint, channel: int, size: float) -> Checkpoint:
    """A channel of the stream holds a large constant that nobody reads, as trained models do."""
    tensors = {name: base.tensors[name].copy() for name in base.tensors}
    for name, value in tensors.items():
        part = name.rpartition(".")[2]
        if part == "embed":
            value[:, channel] = size
        elif part in ("wo", "w_down"):
            value[channel] = 0
        elif not part.endswith("norm"):
            value[:, channel] = 0
    return Checkpoint(base.config, tensors, None, base.source)


def error(base: Checkpoint, rotate: bool) -> float:
    exact = Reference(base).forward(TOKENS)
    return float(np.abs(logits(golden(base, rotate=rotate), TOKENS) - exact).mean())


def test_an_outlier_costs_less_when_rotated() -> None:
    base = checkpoint(dim=64, heads=2, kv_heads=2, head_dim=32, hidden=128)
    outlier = with_outlier(base, 17, 20.0)
    assert error(outlier, rotate=True) < 0.7 * error(outlier, rotate=False)
