"""The vector unit on Verilator."""

import pytest

from hdl.config import PRESETS
from hdl.vector import VectorUnit
from sim.bench import run


@pytest.mark.parametrize("preset", ["tiny", "edge"])
def test_vector(preset):
    config = PRESETS[preset]
    run(
        VectorUnit(config),
        "sim.bench.vector_unit",
        name=f"vector-{preset}",
        parameters={"config": config},
    )
