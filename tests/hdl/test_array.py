"""The systolic array alone, by preset and for other shapes of cluster and port."""

import dataclasses

import pytest

from hdl.config import PRESETS
from hdl.matrix import SystolicArray
from sim.bench import run

TINY = PRESETS["tiny"]
SHAPES = {
    "tiny": (TINY, 80),
    "ulx3s": (PRESETS["ulx3s"], 40),
    "edge": (PRESETS["edge"], 30),
    # a register at every multiplier; several chunks a line both ways
    "single": (
        dataclasses.replace(
            TINY, name="single", rows=8, cols=16, row_group=1, col_group=1, lanes=4
        ),
        40,
    ),
    # one cluster reaches over several chunks; more adders in a row
    "wide": (
        dataclasses.replace(
            TINY, name="wide", rows=16, cols=8, row_group=8, col_group=8, adder_levels=3
        ),
        40,
    ),
    # every sum in a register, clusters above each other
    "tall": (
        dataclasses.replace(TINY, name="tall", rows=16, row_group=4, col_group=2, adder_levels=1),
        40,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_array(shape):
    config, tiles = SHAPES[shape]
    run(
        SystolicArray(config),
        "sim.bench.array_tiles",
        name=f"array-{shape}",
        parameters={"config": config, "tiles": tiles},
    )
