"""KV unit: runs its benches."""

import dataclasses

import pytest

from hdl.config import PRESETS
from hdl.kv import KVUnit
from sim.bench import run

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "ulx3s": PRESETS["ulx3s"],
    "edge": PRESETS["edge"],
    "on-chip": dataclasses.replace(PRESETS["tiny"], name="on-chip", kv_on_chip_bytes=1 << 18),
}


@pytest.mark.parametrize("name", ["tiny", "edge", "on-chip"])
def test_steps(name):
    config = CONFIGS[name]
    worlds = {"tiny": 5, "edge": 5, "on-chip": 4}[name]
    run(
        KVUnit(config),
        "sim.bench.kv_unit",
        name=f"kv-{name}",
        parameters={"config": config, "worlds": worlds},
    )
