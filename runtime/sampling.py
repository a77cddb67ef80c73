"""The next token from logits: greedy, or drawn from the top-p part of a tempered distribution."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from compiler.errors import UserError

__all__ = ["Sampler"]


class Sampler:
    """Chooses the tokens of one sequence.

    Every sequence has a sampler of its own, so what it draws depends on its logits, ``seed`` and
    ``sequence`` only: not on the batch it runs in. Each drawn token takes one random number.

    Parameters
    ----------
    temperature : 0 is greedy; else logits are divided by it
    top_p : draw from the fewest tokens that together have at least this probability
    seed : whole number, not negative
    sequence : separates the sequences of one run that share a seed

    Raises `UserError` for a number out of range.
    """

    def __init__(
        self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0, sequence: int = 0
    ) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise UserError(f"temperature is {temperature}; it must be 0 (greedy) or more")
        if not 0 < top_p <= 1:
            raise UserError(f"top-p is {top_p}; it must be above 0 and at most 1")
        if seed < 0 or sequence < 0:
            raise UserError(f"seed is {min(seed, sequence)}; it must be 0 or more")
        self.temperature = temperature
        self.top_p = top_p
        self._random = np.random.default_rng([seed, sequence])

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Next token, given its logits (vocab,). Equal logits count by the lowest id.

        Raises `ValueError` for logits that are NaN or +infinity: a fault of the device.
        """
        if logits.ndim != 1 or not logits.size:
            raise ValueError(f"logits of shape {logits.shape}, one row is needed")
        best = int(np.argmax(logits))
        if not np.isfinite(logits[best]):  # argmax finds a NaN or +infinity wherever it is
            raise ValueError(f"logit {best} is {logits[best]}")
        if self.temperature == 0:
            return best
        scaled = logits.astype(np.float64) - float(logits[best])
        # A temperature next to 0 makes -infinity of all but the best, as it should.
        with np.errstate(over="ignore"):
            weights = np.exp(scaled / self.temperature)
        order = np.argsort(-weights, kind="stable")
        cumulative = np.cumsum(weights[order])
        cumulative /= cumulative[-1]
        kept = min(int(np.searchsorted(cumulative, self.top_p)) + 1, logits.size)
        drawn = self._random.random() * cumulative[kept - 1]
        # The product may round up to the last sum, which is nobody's.
        chosen = min(int(np.searchsorted(cumulative[:kept], drawn, side="right")), kept - 1)
        return int(order[chosen])
