"""The vector unit on Verilator."""

import pytest

from hdl.config import PRESETS, Config
from hdl.vector import VectorUnit
from hdl.vector.program import END, PASSES, Reduce
from hdl.vector.timing import Timing
from sim.bench import run

SIZES = {"tiny": {"programs": 8, "attentions": 6}, "edge": {"programs": 4, "attentions": 3}}
ODD = [
    Config(
        name="one word a block",
        rows=32,
        cols=32,
        port_bytes=32,
        lanes=32,
        row_capacity=6,
        max_head_dim=96,
        activation_blocks=3000,
        row_blocks=320,
        constant_blocks=200,
        panel_ring=2,
    ),
    Config(
        name="two lanes",
        rows=4,
        cols=4,
        port_bytes=4,
        lanes=2,
        row_capacity=3,
        max_head_dim=32,
        activation_blocks=3000,
        row_blocks=320,
        constant_blocks=200,
        panel_ring=3,
        tape_beats=128,
        burst_beats=32,
    ),
]


@pytest.mark.parametrize("preset", SIZES)
def test_vector(preset):
    config = PRESETS[preset]
    run(
        VectorUnit(config),
        "sim.bench.vector_unit",
        name=f"vector-{preset}",
        parameters={"config": config, **SIZES[preset]},
    )


@pytest.mark.slow
@pytest.mark.parametrize("config", ODD, ids=lambda c: c.name)
def test_vector_odd_shapes(config):
    """Shapes that no preset has: capacities that are no power of two, extreme numbers of lanes."""
    run(
        VectorUnit(config),
        "sim.bench.vector_unit",
        name=f"vector-{config.lanes}-lanes",
        parameters={"config": config, **SIZES["tiny"]},
        testcase=["each_instruction", "random_programs", "random_attention"],
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_stages_fit_the_counters(preset):
    """Waits fit in the fields of a pass, and every stage follows what it needs."""
    timing = Timing(PRESETS[preset])
    for name, row in PASSES.items():
        assert 0 <= timing.drain(row) < 128, name
        assert 0 < timing.landing(row) < 128, name
        assert row.then == END or row.then in PASSES, name
    # A head's exponent is written after the quantiser has read that of the head before.
    assert timing.extreme_write >= timing.exponent_address
    assert {row.reduce for row in PASSES.values()} == set(Reduce)
