"""The matrix unit against the golden products, by preset."""

import pytest

from hdl.config import PRESETS
from hdl.matrix import MatrixUnit
from sim.bench import run

PHASES = {"tiny": 4, "ulx3s": 3, "edge": 3}


@pytest.mark.parametrize("preset", PHASES)
def test_matrix(preset):
    config = PRESETS[preset]
    run(
        MatrixUnit(config),
        "sim.bench.matrix_unit",
        name=f"matrix-{preset}",
        parameters={"config": config, "phases": PHASES[preset]},
    )
