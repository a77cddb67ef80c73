"""Memory port against AXI4 memories."""

import pytest

from hdl.config import PRESETS
from hdl.memory import MemoryPort
from sim.bench import run


@pytest.mark.parametrize("preset", ["tiny", "edge"])
def test_memory_port(preset):
    config = PRESETS[preset]
    run(
        MemoryPort(config),
        "sim.bench.memory_port",
        name=f"memory_port-{preset}",
        parameters={"config": config},
    )
