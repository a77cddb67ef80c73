"""Sampling: greedy ties, the distribution, top-p, and independence of the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.errors import UserError
from runtime.sampling import Sampler

LOGITS = np.array([0.5, 2.0, -1.0, 2.0, 1.0], np.float32)


def softmax(logits: Any, temperature: float) -> Any:
    weights = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return weights / weights.sum()


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert Sampler().sample(LOGITS) == 1
    assert Sampler().sample(np.zeros(7, np.float32)) == 0
    assert Sampler().sample(np.array([-np.inf, -3.0], np.float32)) == 1
    assert Sampler(temperature=0.0, top_p=0.1, seed=3).sample(LOGITS) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies(temperature: float) -> None:
    sampler = Sampler(temperature, seed=1)
    drawn = [sampler.sample(LOGITS) for _ in range(20_000)]
    frequencies = np.bincount(drawn, minlength=5) / len(drawn)
    # Five standard deviations of a frequency from 20,000 draws.
    np.testing.assert_allclose(frequencies, softmax(LOGITS, temperature), atol=0.018)


def test_top_p_keeps_the_fewest() -> None:
    # Probabilities 0.5, 0.3, 0.15, 0.05, in another order.
    logits = np.log(np.array([0.05, 0.5, 0.15, 0.3])).astype(np.float32)
    for top_p, kept in ((0.4, {1}), (0.6, {1, 3}), (0.9, {1, 2, 3}), (1.0, {0, 1, 2, 3})):
        sampler = Sampler(1.0, top_p, seed=2)
        drawn = [sampler.sample(logits) for _ in range(3000)]
        assert set(drawn) == kept, top_p
    share = np.mean([Sampler(1.0, 0.6, seed=i).sample(logits) == 1 for i in range(4000)])
    assert share == pytest.approx(0.5 / 0.8, abs=0.04)


@given(
    logits=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    temperature=st.floats(1e-300, 100),
    top_p=st.floats(1e-6, 1),
    seed=st.integers(0, 2**64),
)
def test_any_draw_is_a_token(
    logits: list[float], temperature: float, top_p: float, seed: int
) -> None:
    row = np.array(logits, np.float32)
    token = Sampler(temperature, top_p, seed).sample(row)
    assert 0 <= token < len(row)
    # What top-p leaves always has the best, and nothing worse than the last it needs.
    order = np.argsort(-row, kind="stable")
    probabilities = softmax(row, temperature)[order]
    before = np.cumsum(probabilities) - probabilities
    assert before[list(order).index(token)] < top_p + 1e-9


def test_a_low_temperature_is_greedy() -> None:
    logits = np.random.default_rng(0).normal(size=200).astype(np.float32)
    assert {Sampler(1e-9, seed=i).sample(logits) for i in range(50)} == {int(logits.argmax())}


def test_seeds_and_sequences() -> None:
    random = np.random.default_rng(5)
    rows = random.normal(size=(40, 60)).astype(np.float32)

    def run(seed: int, sequence: int = 0) -> list[int]:
        sampler = Sampler(1.0, 0.95, seed, sequence)
        return [sampler.sample(row) for row in rows]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(1) != run(1, 1)
    # Two sequences sampled in turns draw what each draws alone.
    first, second = Sampler(1.0, 0.95, 1, 0), Sampler(1.0, 0.95, 1, 1)
    both = [(first.sample(row), second.sample(row)) for row in rows]
    assert [a for a, _ in both] == run(1, 0)
    assert [b for _, b in both] == run(1, 1)


def test_the_stream_of_a_seed_is_fixed() -> None:
    """A run can be repeated with another release of this project."""
    rows = np.tile(np.linspace(0, 2, 50, dtype=np.float32), (8, 1))
    sampler = Sampler(1.0, 0.9, seed=42)
    assert [sampler.sample(row) for row in rows] == [26, 39, 22, 30, 48, 14, 27, 26]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 0.0}, "top-p"),
        ({"top_p": 1.01}, "top-p"),
        ({"top_p": float("nan")}, "top-p"),
        ({"seed": -1}, "seed"),
    ],
)
def test_refusals(values: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Sampler(**values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite(bad: float) -> None:
    logits = LOGITS.copy()
    logits[3] = bad
    for temperature in (0.0, 1.0):
        with pytest.raises(ValueError, match="logit 3"):
            Sampler(temperature).sample(logits)
    with pytest.raises(ValueError, match="shape"):
        Sampler().sample(LOGITS[None])
