"""Steps recorded on the golden model, to be run again on any simulator of the chip."""

from dataclasses import dataclass

import numpy as np

from hdl.config import Config
from runtime.chip import Progress
from runtime.gemm import run_gemm
from runtime.golden_chip import GoldenChip

__all__ = ["RecordedStep", "record_gemm"]


@dataclass(frozen=True)
class RecordedStep:
    """A step's registers, and memory before and after it."""

    program: int
    descriptor: int
    before: np.ndarray  # uint8
    after: np.ndarray  # uint8


def record_gemm(config: Config, m: int, k: int, n: int, seed: int) -> list[RecordedStep]:
    """The steps of a product (m, k) x (k, n) of random numbers: load, multiply, store."""
    steps: list[RecordedStep] = []

    class Recorder(GoldenChip):
        def run(self, program: int, descriptor: int, progress: Progress | None = None):
            before = self.memory.copy()
            counters = super().run(program, descriptor, progress)
            steps.append(RecordedStep(program, descriptor, before, self.memory.copy()))
            return counters

    run_gemm(config, Recorder, m, k, n, 1, np.random.default_rng(seed))
    return steps
