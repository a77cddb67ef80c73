"""The bare matrix product: what the chip's programs leave in memory, and that a wrong bit shows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compiler.errors import UserError
from compiler.gemm import GemmJob, build_gemm
from hdl.config import PRESETS, Config
from hdl.isa import Counter
from runtime.chip import Progress
from runtime.descriptor import StepSegment, encode_descriptor
from runtime.gemm import run_gemm
from runtime.golden_chip import GoldenChip
from sim.golden import fp32, mx


def run(preset: str, job: GemmJob) -> np.ndarray:
    """The result region, float32 (rows, result_blocks * 32)."""
    memory = job.memory.copy()
    chip = GoldenChip(PRESETS[preset], memory)
    for program, rows in (*job.prepare, (job.product, job.rows), (job.dump, job.rows)):
        segment = StepSegment([0] * rows, 0, 1, 2, 0)
        words = encode_descriptor([segment], result=0, store_logits=False).view(np.uint8)
        memory[job.descriptor : job.descriptor + words.size] = words
        chip.run(program, job.descriptor)
    size = job.rows * job.result_blocks * 128
    return memory[job.result : job.result + size].view("<f4").reshape(job.rows, -1)


def expected(a: np.ndarray, w: np.ndarray, job: GemmJob, repeat: int) -> np.ndarray:
    """Sums of all products that fall on each place, in the chip's order."""
    kb, nb = -(-a.shape[1] // 32), -(-len(w) // 32)
    x = np.zeros((job.rows * job.batches, kb * 32), np.float32)
    x[: len(a), : a.shape[1]] = a
    y = np.zeros((nb * 32, kb * 32), np.float32)
    y[: len(w), : w.shape[1]] = w
    xe, xs, _ = mx.quantise(x)
    ye, ys, _ = mx.quantise(y)
    product = mx.block_dot(xe, xs, mx.Weights(ye.reshape(-1, kb, 32), ys))
    total = np.zeros((job.rows, job.result_blocks * 32), np.float32)
    for _ in range(repeat):
        for part in product.reshape(job.batches, job.rows, -1):
            for start in range(0, nb * 32, total.shape[1]):
                total = fp32.add(part[:, start : start + total.shape[1]], total)
    return total


@pytest.mark.parametrize(
    ("preset", "m", "k", "n", "repeat"),
    [
        ("edge", 1, 32, 32, 1),
        ("edge", 5, 100, 70, 3),
        ("edge", 130, 40, 33, 2),  # three batches of 44 rows
        ("edge", 64, 33, 4200, 2),  # more outputs than the result region holds
        ("edge", 40, 8192, 40, 2),  # row memory holds 32 of the rows at a time
        ("tiny", 8, 70, 40, 2),
        ("ulx3s", 9, 33, 64, 1),
    ],
)
def test_result_is_the_sum_of_all_products(
    preset: str, m: int, k: int, n: int, repeat: int
) -> None:
    rng = np.random.default_rng(m + k + n)
    a, w = rng.standard_normal((m, k), np.float32), rng.standard_normal((n, k), np.float32)
    job = build_gemm(PRESETS[preset], a, w, repeat)
    np.testing.assert_array_equal(run(preset, job), expected(a, w, job, repeat))
    if n < 4200 and m <= PRESETS[preset].row_capacity:
        np.testing.assert_allclose(
            run(preset, job)[:m, :n], repeat * a @ w.T, atol=0.05 * repeat * k**0.5
        )


def test_figures() -> None:
    found = run_gemm(PRESETS["edge"], GoldenChip, 3, 64, 96, 2, np.random.default_rng(0))
    assert found["bit_exact"] is True
    assert (found["rows"], found["outputs"], found["phase"]) == (3, 96, "prefill")
    assert found["useful_macs"] == 2 * 3 * 64 * 96
    # Six panel blocks: 2 column groups of 33 beats each; the memory bounds it.
    assert found["roofline_cycles"] == 2 * 6 * 66
    assert found["cycles"] is None
    json.dumps(found)


class WrongBit(GoldenChip):
    """A chip with a wrong bit in one of the weights, and a cycle counter."""

    def __init__(self, config: Config, memory: np.ndarray) -> None:
        super().__init__(config, memory)
        memory[4096 + 4096 + 4096 + 16 + 7] ^= 1  # behind source, zeros and a tile's scales

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        super().run(program, descriptor)
        return dict.fromkeys(Counter, 0) | {Counter.CYCLES: 1000}


def test_a_wrong_bit_is_seen() -> None:
    found = run_gemm(PRESETS["edge"], WrongBit, 1, 32, 32, 1, np.random.default_rng(0))
    assert found["bit_exact"] is False
    assert found["efficiency"] == found["roofline_cycles"] / 1000
    assert found["simulated_cycles_per_second"] > 0


def test_a_product_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="a row of k=300000"):
        run_gemm(PRESETS["edge"], GoldenChip, 1, 300_000, 32, 1, np.random.default_rng(0))


def test_activations_that_do_not_fit_are_run_in_slices() -> None:
    figures = run_gemm(PRESETS["tiny"], GoldenChip, 50, 2048, 8, 1, np.random.default_rng(0))
    assert figures["bit_exact"]
    assert figures["rows"] == 50
