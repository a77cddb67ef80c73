"""Runs a bare matrix product on a chip and on the golden model, and measures it."""

from collections import Counter as Counters
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import numpy as np

from compiler.gemm import GemmJob, build_gemm
from compiler.layout import blocks_of
from hdl.config import BLOCK, Config
from hdl.isa import Counter
from runtime.chip import ChipMaker
from runtime.descriptor import StepSegment, encode_descriptor
from runtime.golden_chip import GoldenChip
from runtime.limit import MemoryLimit
from runtime.metrics import step_metrics
from runtime.work import make_work

__all__ = ["run_gemm"]


def _run_job(
    config: Config, make_chip: ChipMaker, job: GemmJob
) -> tuple[dict[Counter, int], float, np.ndarray]:
    """Counters and seconds of the product, and the result's bytes."""
    memory = job.memory.copy()
    chip = make_chip(config, memory)

    def run(program: int, rows: int) -> dict[Counter, int]:
        # Rows are one sequence at position 0; nothing here reads its page table.
        segment = StepSegment([0] * rows, 0, 1, 2, 0)
        words = encode_descriptor([segment], result=0, store_logits=False).view(np.uint8)
        memory[job.descriptor : job.descriptor + words.size] = words
        return chip.run(program, job.descriptor)

    for program, rows in job.prepare:
        run(program, rows)
    start = perf_counter()
    counters = run(job.product, job.rows)
    seconds = perf_counter() - start
    run(job.dump, job.rows)
    chip.close()
    size = job.rows * job.result_blocks * 128
    return counters, seconds, memory[job.result : job.result + size].copy()


def run_gemm(
    config: Config,
    make_chip: ChipMaker,
    m: int,
    k: int,
    n: int,
    repeat: int,
    rng: np.random.Generator,
    limit: Callable[[], MemoryLimit] | None = None,
) -> dict:
    """``repeat`` products (m, k) x (k, n) back to back; JSON-able figures of the whole.

    Only the products are measured; putting the activations on chip and reading the result are
    steps of their own. ``bit_exact`` compares the result, in which every product took part.

    ``limit`` measures the memory's. Beside :func:`step_metrics`: ``padded_roofline_cycles`` counts
    the multiplications of K and N padded to blocks of 32, which the array has to do;
    ``overhead_cycles`` is what the whole took beyond that: ``first_row_cycle`` from the doorbell to
    the first row in the array, ``tail_cycles`` behind the last one, and bubbles between.
    ``sustained`` is that bound over the cycles from the first row to the last. Activations that do
    not fit on chip run in slices, whose cycles are added.
    """
    activations = rng.standard_normal((m, k), np.float32)
    weights = rng.standard_normal((n, k), np.float32)
    # Rows that fit on chip at a time, in whole batches; each slice is measured alone and added.
    room = max(1, config.activation_blocks // blocks_of(k))
    room = room // config.row_capacity * config.row_capacity or room
    counters: Counters[Counter] = Counters()
    seconds, exact, tape_bytes = 0.0, True, 0
    slices = 0
    for start in range(0, m, room):
        job = build_gemm(config, activations[start : start + room], weights, repeat)
        found, elapsed, result = _run_job(config, make_chip, job)
        _, _, golden = _run_job(config, GoldenChip, job)
        counters.update(found)
        slices += 1
        seconds += elapsed
        exact = exact and bool(np.array_equal(result, golden))
        tape_bytes = job.tape_bytes
    macs = repeat * m * k * n
    work = make_work(config, repeat * tape_bytes, 0, 0, 0, 0, macs)
    padded = replace(work, macs=repeat * m * BLOCK**2 * blocks_of(k) * blocks_of(n))
    bound = padded.roofline_under(config, 1.0, shared=False)
    cycles = counters[Counter.CYCLES]
    first, last = counters[Counter.ARRAY_FIRST], counters[Counter.ARRAY_LAST]
    return {
        "workload": f"gemm {m}x{k}x{n} x {repeat}",
        "phase": "decode" if m == 1 else "prefill",
        "rows": m,
        "outputs": n,
        "bit_exact": exact,
        "simulated_cycles_per_second": cycles / seconds if cycles else None,
        "padded_roofline_cycles": bound,
        "overhead_cycles": cycles - bound if cycles else None,
        "first_row_cycle": first if cycles else None,
        "tail_cycles": cycles - last if cycles else None,
        "sustained": bound / (last - first + slices) if cycles else None,
        **step_metrics(config, work, counters, limit() if limit else None),
    }
