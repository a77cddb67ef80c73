"""The controller alone: registers, descriptors, dispatch, faults, counters."""

import pytest

from hdl.config import PRESETS
from hdl.control.controller import Controller
from sim.bench import run


@pytest.mark.parametrize("preset", PRESETS)
def test_controller(preset):
    config = PRESETS[preset]
    run(
        Controller(config),
        "sim.bench.control_step",
        name=f"control-{preset}",
        parameters={"config": config},
    )
