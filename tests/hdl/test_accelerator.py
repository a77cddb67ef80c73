"""The whole chip in cocotb against the golden model, memory compared byte by byte."""

import pytest

from hdl.accelerator import Accelerator
from hdl.config import PRESETS
from sim.bench import run

MODELS = {
    "plain": {},
    "odd": {"dim": 40, "hidden": 70, "heads": 4, "kv_heads": 2, "head_dim": 6, "vocab": 77},
    "wide-head": {"heads": 2, "kv_heads": 2, "head_dim": 48, "layers": 2},
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("preset", ["tiny"])
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_steps(preset, model, stall):
    config = PRESETS[preset]
    run(
        Accelerator(config),
        "sim.bench.accelerator_steps",
        name=f"accelerator-{preset}-{model}-{stall}",
        parameters={"config": config, "model": MODELS[model], "stall": stall, "steps": 6},
    )
