"""Runs a bare matrix product on a chip and on the golden model, and measures it."""

from time import perf_counter

import numpy as np

from compiler.gemm import build_gemm
from hdl.config import Config
from runtime.chip import ChipMaker
from runtime.descriptor import StepSegment, encode_descriptor
from runtime.golden_chip import GoldenChip
from runtime.metrics import step_metrics
from runtime.work import StepWork

__all__ = ["run_gemm"]


def run_gemm(
    config: Config,
    make_chip: ChipMaker,
    m: int,
    k: int,
    n: int,
    repeat: int,
    rng: np.random.Generator,
) -> dict:
    """``repeat`` products (m, k) x (k, n) back to back; JSON-able figures of the whole.

    Only the products are measured; putting the activations on chip and reading the result are
    steps of their own. ``bit_exact`` compares the result, in which every product took part.
    """
    activations = rng.standard_normal((m, k), np.float32)
    weights = rng.standard_normal((n, k), np.float32)
    job = build_gemm(config, activations, weights, repeat)
    # Rows are one sequence at position 0; nothing here reads its page table.
    segment = StepSegment([0] * job.rows, 0, 1, 2, 0)
    words = encode_descriptor([segment], result=0, store_logits=False).view(np.uint8)
    results, counters, seconds = [], {}, 0.0
    for maker in (make_chip, GoldenChip):
        memory = job.memory.copy()
        memory[job.descriptor : job.descriptor + words.size] = words
        chip = maker(config, memory)
        chip.run(job.prepare, job.descriptor)
        start = perf_counter()
        found = chip.run(job.product, job.descriptor)
        if maker is make_chip:
            counters, seconds = found, perf_counter() - start
        chip.run(job.dump, job.descriptor)
        size = job.rows * job.result_blocks * 128
        results.append(memory[job.result : job.result + size].copy())
        chip.close()
    macs = repeat * m * k * n
    moved = repeat * job.tape_bytes
    bound = max(-(-moved // config.port_bytes), -(-macs // (config.rows * config.cols)))
    work = StepWork(moved, 0, 0, 0, 0, macs, bound)
    cycles = sum(v for c, v in counters.items() if c.name == "CYCLES")
    return {
        "workload": f"gemm {m}x{k}x{n} x {repeat}",
        "phase": "decode" if m == 1 else "prefill",
        "rows": m,
        "outputs": n,
        "bit_exact": bool(np.array_equal(results[0], results[1])),
        "simulated_cycles_per_second": cycles / seconds if cycles else None,
        **step_metrics(config, work, counters),
    }
