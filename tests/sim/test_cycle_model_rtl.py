"""Predictions against the counters of the verilated chip."""

import pytest

from hdl.isa import Counter
from tests.sim.cycle_model_campaign import BYTES, compare
from tests.sim.cycle_model_rtl import Case
from tests.sim.cycle_model_shapes import bench_cases, random_case, small_cases

LIMIT = 2.0
"""Percent of the cycles."""

TIGHT = 0.4
"""Of a matrix product alone: nothing is approximated but the order of a few requests."""


@pytest.mark.parametrize("case", small_cases(), ids=Case.text)
def test_small_shapes(case: Case) -> None:
    """Cycles within the limit, bytes to the beat, array rows exact, units close."""
    c = compare(case)
    limit = TIGHT if case.preset == "edge" and case.gemm else LIMIT / 2
    assert abs(c.error) <= limit, f"RTL {c.rtl[Counter.CYCLES]}, model {c.model[Counter.CYCLES]}"
    # (Page tables: pages need not follow each other. Program: how far its head is at the doorbell.)
    close = (Counter.READ_WALK_BEATS, Counter.READ_PROGRAM_BEATS)
    assert all(abs(c.model[b] - c.rtl[b]) <= 8 for b in close)
    exact = [b for b in (*BYTES, Counter.FEED_ROWS) if b not in close]
    assert {b.name: c.model[b] for b in exact} == {b.name: c.rtl[b] for b in exact}
    for counter in (Counter.VECTOR_BUSY, Counter.MATRIX_BLOCKED, Counter.TAPE_BUSY):
        assert abs(c.points(counter)) <= LIMIT, counter.name


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1040))
def test_random_shapes(seed: int) -> None:
    """Shapes that nobody has looked at."""
    c = compare(random_case(seed))
    # One in a hundred may be off by more: tape FIFOs too small for the memory's latency.
    assert abs(c.error) <= 2 * LIMIT, c.case.text()


@pytest.mark.slow
@pytest.mark.parametrize("case", bench_cases(), ids=Case.text)
def test_bench_shapes(case: Case) -> None:
    """Real sizes: half a percent, and hundreds of times as fast even on a busy machine."""
    c = compare(case)
    assert abs(c.error) <= LIMIT
    if c.rtl[Counter.CYCLES] > 2_000_000:
        assert abs(c.error) <= LIMIT / 4
        assert c.rtl_seconds > 500 * c.model_seconds
