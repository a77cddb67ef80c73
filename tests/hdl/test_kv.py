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
    # The last page of the fault bench (2 heads of a block) misses one beat.
    "short": dataclasses.replace(
        PRESETS["tiny"], name="short", kv_on_chip_bytes=60 * 4 * 1056 - PRESETS["tiny"].port_bytes
    ),
    "on-chip": dataclasses.replace(PRESETS["tiny"], name="on-chip", kv_on_chip_bytes=1 << 19),
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


@pytest.mark.parametrize("name", ["ulx3s", "edge", "short"])
def test_faults(name):
    config = CONFIGS[name]
    run(
        KVUnit(config),
        "sim.bench.kv_faults",
        name=f"kv-faults-{name}",
        parameters={"config": config},
    )


@pytest.mark.parametrize("name", ["tiny", "edge"])
def test_throughput(name):
    config = CONFIGS[name]
    run(
        KVUnit(config), "sim.bench.kv_speed", name=f"kv-speed-{name}", parameters={"config": config}
    )
